#include "relay/channel.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "openshell/v1/openshell.pb-c.h"
#include "relay/session.h"
#include "relay/splice.h"
#include "relay/wire.h"

static const struct log_area area = { "relay" };

enum channel_state { CHANNEL_ASKED, CHANNEL_UNCLAIMED, CHANNEL_CLAIMED, CHANNEL_OVER };

struct channel {
	struct tunnels *tunnels;
	char id[37]; /* 122 random bits: who knows it was told */
	uint64_t born_us;

	/* Constant from birth; in one piece of memory behind this struct. */
	const char *sandbox_id, *method, *subject, *tcp_host;
	uint32_t tcp_port;
	bool half_closed;
	uint64_t deadline_us; /* RPC_DEADLINE_NONE: none */

	struct loop *loop; /* the client's */
	struct leg *client;
	struct splice *splice;
	struct splice_result result;
	bool was_spliced;

	/* The first loop. */
	enum channel_state state;
	struct sandbox *sandbox;
	TAILQ_ENTRY(channel) of_sandbox, by_age;
	uint64_t expires_ms;
	uint8_t *first_message; /* until it is claimed */
	size_t first_len;
	bool as_call;          /* how it was offered */
	const struct err *why; /* once; NULL: nothing has ended it */

	struct post ask, withdraw; /* client's loop to first */
	struct post refuse, abort; /* first loop to client's */
	struct post over;          /* any loop to first */
	atomic_uint refs;          /* the registry, each post under way but over */
};

#define CHANNEL_OF(post, member) \
	((struct channel *)((char *)(post)-offsetof(struct channel, member)))

static void channel_ref(struct channel *c)
{
	atomic_fetch_add(&c->refs, 1);
}

static void channel_unref(struct channel *c)
{
	if (atomic_fetch_sub(&c->refs, 1) != 1)
		return;
	splice_free(c->splice);
	free(c->first_message);
	err_drop(c->why);
	free(c);
}

static void channel_log(const struct channel *c)
{
	const struct splice_result *r = &c->result;
	const struct err *status = c->was_spliced ? r->status : c->why;

	if (status == NULL)
		status = &err_none;

	log_info(&area, "relay_close", LOG_STR("relay", c->id), LOG_STR("sandbox", c->sandbox_id),
	    LOG_STR("method", c->method), LOG_STR("subject", c->subject),
	    LOG_U64("bytes_up", r->bytes_up), LOG_U64("bytes_down", r->bytes_down),
	    LOG_U64("stalls_up", r->stalls_up), LOG_U64("stalls_down", r->stalls_down),
	    LOG_U64("duration_ms", (loop_now_us() - c->born_us) / 1000),
	    LOG_STR("code", err_code_name(status->code)), LOG_STR("reason", status->text),
	    LOG_STR("cross_loop", r->cross_loop ? "true" : "false"));
}

/* The registry's lists. */

static void channel_arm_expiry(struct tunnels *t)
{
	const struct channel *oldest = TAILQ_FIRST(&t->by_age);
	uint64_t now = loop_now_ms(t->first);

	if (oldest == NULL)
		timer_stop(t->expiry);
	else
		timer_start(t->expiry, oldest->expires_ms > now ? oldest->expires_ms - now : 0);
}

static int channel_enlist(struct channel *c, struct sandbox *sandbox, struct err *e)
{
	struct tunnels *t = c->tunnels;

	if (map_put(t->waiting, c->id, c) != 0)
		return err_set(e, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
	c->state = CHANNEL_UNCLAIMED;
	c->sandbox = sandbox;
	c->expires_ms = loop_now_ms(t->first) + t->claim_ms;
	TAILQ_INSERT_TAIL(&sandbox->unclaimed, c, of_sandbox);
	TAILQ_INSERT_TAIL(&t->by_age, c, by_age);
	sandbox->unclaimed_count++;
	atomic_fetch_add(&t->unclaimed, 1);
	atomic_fetch_add(&t->opened, 1);
	if (!timer_is_running(t->expiry))
		channel_arm_expiry(t);
	return 0;
}

/* It does not wait any more. The timer finds out by itself. */
static void channel_unlist(struct channel *c)
{
	struct tunnels *t = c->tunnels;

	map_remove(t->waiting, c->id);
	TAILQ_REMOVE(&c->sandbox->unclaimed, c, of_sandbox);
	TAILQ_REMOVE(&t->by_age, c, by_age);
	c->sandbox->unclaimed_count--;
	atomic_fetch_sub(&t->unclaimed, 1);
	free(c->first_message);
	c->first_message = NULL;
}

/* Leaves the registry; its slots are free. */
static void channel_leave(struct channel *c)
{
	if (c->state == CHANNEL_UNCLAIMED) {
		channel_unlist(c);
	} else if (c->state == CHANNEL_CLAIMED) {
		TAILQ_REMOVE(&c->sandbox->claimed, c, of_sandbox);
		c->sandbox->claimed_count--;
		atomic_fetch_sub(&c->tunnels->channels, 1);
	}
	c->state = CHANNEL_OVER;
	if (c->sandbox != NULL)
		registry_settle(c->tunnels, c->sandbox);
	c->sandbox = NULL;
}

/* The end: on the first loop, when nothing of the call is left. */
static void channel_run_over(struct post *post)
{
	struct channel *c = CHANNEL_OF(post, over);

	channel_leave(c);
	if (c->was_spliced && c->result.cross_loop)
		atomic_fetch_add(&c->tunnels->cross_loop, 1);
	channel_log(c);
	channel_unref(c);
}

static void channel_spliced(void *cookie, const struct splice_result *result)
{
	struct channel *c = cookie;

	c->result = *result;
	c->was_spliced = true;
	loop_post(c->tunnels->first, &c->over);
}

/* Endings of a channel that is not spliced. */

/* On the client's loop. */
static void channel_run_refuse(struct post *post)
{
	struct channel *c = CHANNEL_OF(post, refuse);
	struct leg *client = c->client;

	c->client = NULL;
	leg_refuse(client, c->why);
	registry_run(c->tunnels, &c->over);
}

static void channel_set_why(struct channel *c, const struct err *why)
{
	if (c->why == NULL) /* else the client's loop may be reading it */
		c->why = err_keep(why);
}

static void channel_end_wait(struct channel *c, const struct err *why)
{
	channel_set_why(c, why);
	channel_leave(c);
	registry_run_on(c->loop, &c->refuse);
}

static void channel_refuse(struct channel *c, const struct err *why)
{
	atomic_fetch_add(&c->tunnels->refused, 1);
	channel_end_wait(c, why);
}

/* On the client's loop. */
static void channel_run_abort(struct post *post)
{
	struct channel *c = CHANNEL_OF(post, abort);

	leg_abort(c->client, c->why);
	channel_unref(c);
}

static void channel_drop(struct channel *c, const struct err *why)
{
	if (c->state == CHANNEL_UNCLAIMED) {
		channel_refuse(c, why);
		return;
	}
	if (c->why != NULL)
		return;
	channel_set_why(c, why);
	channel_ref(c);
	registry_run_on(c->loop, &c->abort);
}

void channel_drop_all(struct registry_channels *channels, const struct err *why)
{
	struct channel *c, *next;

	for (c = TAILQ_FIRST(channels); c != NULL; c = next) {
		next = TAILQ_NEXT(c, of_sandbox);
		channel_drop(c, why);
	}
}

/* The client has gone while the channel waited. */
static void channel_run_withdraw(struct post *post)
{
	Openshell__V1__RelayClose close = OPENSHELL__V1__RELAY_CLOSE__INIT;
	Openshell__V1__GatewayMessage message = OPENSHELL__V1__GATEWAY_MESSAGE__INIT;
	struct channel *c = CHANNEL_OF(post, withdraw);

	if (c->state == CHANNEL_UNCLAIMED) {
		close.channel_id = c->id;
		close.reason = (char *)"the client has gone";
		message.payload_case = OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_RELAY_CLOSE;
		message.relay_close = &close;
		if (c->sandbox->session != NULL)
			(void)session_send(c->sandbox->session, &message.base, c->id);
		channel_set_why(c, leg_verdict(c->client));
		leg_free(c->client);
		registry_run(c->tunnels, &c->over);
	}
	channel_unref(c);
}

/* On the client's loop. */
static void channel_gone(void *cookie, const struct err *why)
{
	struct channel *c = cookie;

	(void)why;
	channel_ref(c);
	registry_run(c->tunnels, &c->withdraw);
}

void channel_give_up(
    struct tunnels *t, const char *sandbox_id, const char *channel_id, const struct err *why)
{
	struct sandbox *sandbox = registry_find(t, sandbox_id);
	struct channel *c = map_get(t->waiting, channel_id);

	if (sandbox == NULL)
		return;
	if (c != NULL && c->sandbox == sandbox) {
		channel_refuse(c, why);
		return;
	}
	TAILQ_FOREACH(c, &sandbox->claimed, of_sandbox)
	{
		if (strcmp(c->id, channel_id) == 0) {
			channel_drop(c, why);
			return;
		}
	}
}

void channel_expire(struct tunnels *t)
{
	uint64_t now = loop_now_ms(t->first);
	struct channel *c;
	struct err why;

	while ((c = TAILQ_FIRST(&t->by_age)) != NULL && c->expires_ms <= now) {
		if (c->sandbox->session == NULL)
			err_set(&why, GRPC_UNAVAILABLE,
			    "the sandbox's supervisor went away; try again when it is back");
		else
			err_set(&why, GRPC_DEADLINE_EXCEEDED,
			    "the sandbox's supervisor did not answer within %u ms", t->claim_ms);
		atomic_fetch_add(&t->expired, 1);
		channel_end_wait(c, &why);
	}
	channel_arm_expiry(t);
}

/* Asking. */

static void channel_send_open(struct channel *c, Openshell__V1__RelayOpen *open)
{
	Openshell__V1__GatewayMessage message = OPENSHELL__V1__GATEWAY_MESSAGE__INIT;
	struct err why;

	open->channel_id = c->id;
	open->loop = loop_index(c->loop) + 1;
	message.payload_case = OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_RELAY_OPEN;
	message.relay_open = open;
	if (session_send(c->sandbox->session, &message.base, c->id) == 0)
		return;
	err_set(&why, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
	channel_refuse(c, &why);
}

static void channel_offer_call(struct channel *c)
{
	Google__Protobuf__Duration left = GOOGLE__PROTOBUF__DURATION__INIT;
	Towline__V1__CallTarget call = TOWLINE__V1__CALL_TARGET__INIT;
	Openshell__V1__RelayOpen open = OPENSHELL__V1__RELAY_OPEN__INIT;
	uint64_t now = loop_now_us();
	uint64_t left_us = c->deadline_us > now ? c->deadline_us - now : 1;

	call.method = (char *)c->method;
	call.subject = (char *)c->subject;
	call.first_message = (ProtobufCBinaryData){ .len = c->first_len, .data = c->first_message };
	call.half_closed = c->half_closed;
	left.seconds = (int64_t)(left_us / 1000000);
	left.nanos = (int32_t)(left_us % 1000000 * 1000);
	if (c->deadline_us != RPC_DEADLINE_NONE)
		call.deadline = &left;
	open.target_case = OPENSHELL__V1__RELAY_OPEN__TARGET_CALL;
	open.call = &call;
	channel_send_open(c, &open);
}

static void channel_offer_tcp(struct channel *c)
{
	Openshell__V1__TcpRelayTarget tcp = OPENSHELL__V1__TCP_RELAY_TARGET__INIT;
	Openshell__V1__RelayOpen open = OPENSHELL__V1__RELAY_OPEN__INIT;

	tcp.host = (char *)c->tcp_host;
	tcp.port = c->tcp_port;
	open.target_case = OPENSHELL__V1__RELAY_OPEN__TARGET_TCP;
	open.tcp = &tcp;
	channel_send_open(c, &open);
}

/* The channel may be over when this returns. */
static void channel_offer(struct channel *c)
{
	struct err why;

	c->as_call = session_hello(c->sandbox->session)->has_call;
	if (c->as_call) {
		channel_offer_call(c);
	} else if (c->tcp_host != NULL) {
		channel_offer_tcp(c);
	} else {
		err_set(&why, GRPC_UNIMPLEMENTED, "the sandbox's supervisor does not serve %s",
		    c->method);
		channel_refuse(c, &why);
	}
}

void channel_offer_all(struct sandbox *sandbox)
{
	struct channel *c, *next;

	for (c = TAILQ_FIRST(&sandbox->unclaimed); c != NULL; c = next) {
		next = TAILQ_NEXT(c, of_sandbox);
		channel_offer(c);
	}
}

/* Whether the gateway has room for one more. Any thread. */
static int channel_has_room(const struct tunnels *t, struct err *e)
{
	unsigned unclaimed = atomic_load(&t->unclaimed);

	if (unclaimed >= t->unclaimed_max)
		return err_set(e, GRPC_RESOURCE_EXHAUSTED,
		    "%u calls wait for their sandboxes already; try again", t->unclaimed_max);
	if (unclaimed + atomic_load(&t->channels) >= t->channels_max)
		return err_set(e, GRPC_RESOURCE_EXHAUSTED,
		    "the gateway has %u calls open already; try again", t->channels_max);
	return 0;
}

/* Whether the sandbox can take one more. First loop. */
static int channel_admit(const struct tunnels *t, const char *sandbox_id, struct err *e)
{
	const struct sandbox *sandbox = registry_find(t, sandbox_id);

	if (t->shut)
		return err_set(e, GRPC_UNAVAILABLE, "the gateway is shutting down");
	if (sandbox == NULL || sandbox->session == NULL)
		return err_set(
		    e, GRPC_UNAVAILABLE, "the sandbox's supervisor is not connected; try again");
	if (sandbox->unclaimed_count >= t->unclaimed_sandbox_max)
		return err_set(e, GRPC_RESOURCE_EXHAUSTED,
		    "%u calls wait for this sandbox already; try again", t->unclaimed_sandbox_max);
	if (sandbox->unclaimed_count + sandbox->claimed_count >= TUNNEL_CHANNELS_SANDBOX_MAX)
		return err_set(e, GRPC_RESOURCE_EXHAUSTED,
		    "this sandbox has %d calls open already; end some",
		    TUNNEL_CHANNELS_SANDBOX_MAX);
	return channel_has_room(t, e);
}

static void channel_run_ask(struct post *post)
{
	struct channel *c = CHANNEL_OF(post, ask);
	struct err e;

	if (channel_admit(c->tunnels, c->sandbox_id, &e) != 0 ||
	    channel_enlist(c, registry_find(c->tunnels, c->sandbox_id), &e) != 0)
		channel_refuse(c, &e);
	else
		channel_offer(c);
}

static char *channel_keep(char **end, const char *text)
{
	char *copy = *end;
	size_t size = strlen(text) + 1;

	memcpy(copy, text, size);
	*end += size;
	return copy;
}

static size_t channel_strings_size(const struct tunnel_request *r)
{
	return strlen(r->sandbox_id) + strlen(r->method) + strlen(r->subject) +
	    (r->tcp_host != NULL ? strlen(r->tcp_host) + 1 : 0) + 3;
}

static void channel_copy_request(struct channel *c, const struct tunnel_request *r)
{
	char *end = (char *)(c + 1);

	c->sandbox_id = channel_keep(&end, r->sandbox_id);
	c->method = channel_keep(&end, r->method);
	c->subject = channel_keep(&end, r->subject);
	if (r->tcp_host != NULL)
		c->tcp_host = channel_keep(&end, r->tcp_host);
	c->tcp_port = r->tcp_port;
	c->half_closed = r->half_closed;
	c->first_len = r->first_len;
	if (r->first_len > 0)
		memcpy(c->first_message, r->first_message, r->first_len);
}

static struct channel *channel_create(
    struct tunnels *t, const struct rpc_call *call, const struct tunnel_request *r)
{
	struct channel *c = calloc(1, sizeof(*c) + channel_strings_size(r));
	uint64_t left_ms = rpc_call_time_left_ms(call);

	if (c == NULL)
		return NULL;
	c->first_message = malloc(r->first_len > 0 ? r->first_len : 1);
	if (c->first_message == NULL) {
		free(c);
		return NULL;
	}
	channel_copy_request(c, r);
	random_uuid(c->id);
	c->tunnels = t;
	c->loop = rpc_call_loop(call);
	c->born_us = loop_now_us();
	c->deadline_us = RPC_DEADLINE_NONE;
	if (left_ms < (RPC_DEADLINE_NONE - c->born_us) / 1000)
		c->deadline_us = c->born_us + left_ms * 1000;
	c->ask.run = channel_run_ask;
	c->withdraw.run = channel_run_withdraw;
	c->refuse.run = channel_run_refuse;
	c->abort.run = channel_run_abort;
	c->over.run = channel_run_over;
	atomic_init(&c->refs, 1);
	return c;
}

/* A call that did not even become a channel. */
static void channel_turn_away(
    struct tunnels *t, struct rpc_call *call, const struct tunnel_request *r, const struct err *why)
{
	atomic_fetch_add(&t->refused, 1);
	log_info(&area, "relay_refused", LOG_STR("sandbox", r->sandbox_id),
	    LOG_STR("method", r->method), LOG_STR("subject", r->subject), LOG_ERR(why));
	wire_refuse(call, why);
}

/* Limits come before memory as far as they can be seen from here; channel_run_ask()
 * sees all of them. */
static int channel_precheck(const struct tunnels *t, const char *sandbox_id, struct err *e)
{
	return loop_is_current(t->first) ? channel_admit(t, sandbox_id, e) : channel_has_room(t, e);
}

void channel_route(
    struct tunnels *t, struct rpc_call *call, const struct tunnel_request *r, struct bufq *rest)
{
	struct channel *c = NULL;
	struct err e;

	if (channel_precheck(t, r->sandbox_id, &e) == 0) {
		c = channel_create(t, call, r);
		if (c == NULL)
			err_set(&e, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
	}
	if (c == NULL) {
		if (rest != NULL)
			bufq_free(rest);
		channel_turn_away(t, call, r, &e);
		return;
	}
	c->client = leg_create(LEG_CLIENT, call, rest, channel_gone, c);
	if (c->client == NULL) {
		channel_unref(c);
		return;
	}
	if (r->half_closed)
		leg_set_ended(c->client);
	registry_run(t, &c->ask);
}

/* Claiming. */

static int channel_may_claim(
    const struct channel *c, const char *sandbox_id, const char *session_id, struct err *e)
{
	const struct session_hello *hello;

	if (strcmp(c->sandbox_id, sandbox_id) != 0)
		return err_set(
		    e, GRPC_PERMISSION_DENIED, "RelayStream: the channel is of another sandbox");
	if (c->sandbox->session == NULL)
		return err_set(
		    e, GRPC_PERMISSION_DENIED, "RelayStream: the session of this channel is over");
	hello = session_hello(c->sandbox->session);
	if (session_id == NULL ? hello->has_lines : strcmp(session_id, hello->id) != 0)
		return err_set(
		    e, GRPC_PERMISSION_DENIED, "RelayStream: the channel is of another session");
	return 0;
}

struct channel *channel_claim(struct tunnels *t, const char *channel_id, const char *sandbox_id,
    const char *session_id, struct err *e)
{
	struct channel *c = map_get(t->waiting, channel_id);

	if (c == NULL) {
		err_set(e, GRPC_NOT_FOUND,
		    "RelayStream: no channel of that id waits; it was claimed or has expired");
		return NULL;
	}
	if (channel_may_claim(c, sandbox_id, session_id, e) != 0)
		return NULL;
	channel_unlist(c);
	c->state = CHANNEL_CLAIMED;
	TAILQ_INSERT_TAIL(&c->sandbox->claimed, c, of_sandbox);
	c->sandbox->claimed_count++;
	atomic_fetch_add(&t->channels, 1);
	return c;
}

/* On the first loop: the join has failed. */
static void channel_run_unjoined(struct post *post)
{
	struct channel *c = CHANNEL_OF(post, ask);
	struct err e;

	err_set(&e, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
	channel_refuse(c, &e);
}

void channel_join(struct channel *c, struct leg *tunnel)
{
	struct err e;

	c->splice = splice_join(c->client, tunnel, c->as_call, channel_spliced, c);
	if (c->splice != NULL)
		return;
	err_set(&e, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
	leg_refuse(tunnel, &e);
	c->ask.run = channel_run_unjoined;
	registry_run(c->tunnels, &c->ask);
}
