#include "relay/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "openshell/v1/openshell.pb-c.h"
#include "relay/channel.h"
#include "relay/wire.h"
#include "rpc/limits.h"
#include "rpc/reader.h"

static const struct log_area area = { "relay" };

enum session_state {
	SESSION_NEW, /* hello has not come */
	SESSION_UP,  /* it has; the registry decides */
	SESSION_OVER /* finished, or lost */
};

struct session {
	struct tunnels *tunnels;
	char *sandbox_id;
	struct session_hello hello; /* constant once the registry knows the session */

	/* The stream's loop. */
	struct loop *loop;
	struct rpc_call *call; /* NULL: gone */
	struct rpc_reader reader;
	struct timer *timer; /* for hello, then of the heartbeats */
	uint64_t heard_ms;
	enum session_state state;
	struct err lost_why;

	/* The first loop. */
	bool ending;
	struct err end_why;

	struct post greet, lost; /* to the first loop */
	struct post end;         /* from it */
	atomic_uint notes;       /* to the first loop, under way */
	atomic_uint refs;        /* the stream, the registry, each post under way */
};

/* A message on its way to the stream's loop. */
struct session_letter {
	struct post post;
	struct session *session;
	char channel_id[37]; /* "": of none */
	size_t len;
	uint8_t message[];
};

/* What a supervisor said of a channel, on its way to the first loop. */
struct session_note {
	struct post post;
	struct session *session;
	char channel_id[37];
	struct err why;
};

#define SESSION_OF(post, member) \
	((struct session *)((char *)(post)-offsetof(struct session, member)))

void session_ref(struct session *s)
{
	atomic_fetch_add(&s->refs, 1);
}

void session_unref(struct session *s)
{
	if (atomic_fetch_sub(&s->refs, 1) != 1)
		return;
	free(s->hello.instance_id);
	free(s->hello.version);
	free(s->sandbox_id);
	free(s);
}

const struct session_hello *session_hello(const struct session *s)
{
	return &s->hello;
}

const char *session_sandbox(const struct session *s)
{
	return s->sandbox_id;
}

/* To the first loop. */

static void session_run_greet(struct post *post)
{
	struct session *s = SESSION_OF(post, greet);

	registry_greet(s->tunnels, s);
	session_unref(s);
}

static void session_run_lost(struct post *post)
{
	struct session *s = SESSION_OF(post, lost);

	s->ending = true;
	registry_lost(s->tunnels, s, &s->lost_why);
	session_unref(s);
}

static void session_run_note(struct post *post)
{
	struct session_note *note = (struct session_note *)post;
	struct session *s = note->session;

	atomic_fetch_sub(&s->notes, 1);
	channel_give_up(s->tunnels, s->sandbox_id, note->channel_id, &note->why);
	session_unref(s);
	free(note);
}

static void session_note(struct session *s, const char *channel_id, const struct err *why)
{
	struct session_note *note = calloc(1, sizeof(*note));

	if (note == NULL)
		return; /* the channel will expire */
	note->session = s;
	note->post.run = session_run_note;
	note->why = *why;
	memccpy(note->channel_id, channel_id, '\0', sizeof(note->channel_id) - 1);
	atomic_fetch_add(&s->notes, 1);
	session_ref(s);
	loop_post(s->tunnels->first, &note->post);
}

/* The stream's loop. */

/* The session is over here; the registry hears of it once. */
static void session_lose(struct session *s, const struct err *why)
{
	bool known = s->state == SESSION_UP;

	s->state = SESSION_OVER;
	timer_stop(s->timer);
	s->lost_why = *why;
	if (!known)
		return;
	session_ref(s);
	registry_run(s->tunnels, &s->lost);
}

static void session_stop(struct session *s, const struct err *why)
{
	if (s->state == SESSION_OVER)
		return;
	rpc_call_finish(s->call, why);
	session_lose(s, why);
}

static void session_beat(void *cookie)
{
	const Openshell__V1__GatewayHeartbeat beat = OPENSHELL__V1__GATEWAY_HEARTBEAT__INIT;
	Openshell__V1__GatewayMessage message = OPENSHELL__V1__GATEWAY_MESSAGE__INIT;
	struct session *s = cookie;
	uint64_t period = s->tunnels->heartbeat_ms;
	uint64_t silence = loop_now_ms(s->loop) - s->heard_ms;
	struct err e;

	if (s->state == SESSION_NEW) {
		err_set(&e, GRPC_DEADLINE_EXCEEDED, "ConnectSupervisor: no hello within %llu ms",
		    (unsigned long long)silence);
		session_stop(s, &e);
		return;
	}
	if (silence >= period * TUNNEL_HEARTBEATS_MISSED) {
		err_set(&e, GRPC_UNAVAILABLE, "no heartbeat of the supervisor for %llu ms",
		    (unsigned long long)silence);
		session_stop(s, &e);
		return;
	}
	message.payload_case = OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_HEARTBEAT;
	message.heartbeat = (Openshell__V1__GatewayHeartbeat *)&beat;
	(void)wire_send(s->call, &message.base); /* a full queue shows by its own silence */
	timer_start(s->timer, period);
}

static bool session_has_feature(const Openshell__V1__SupervisorHello *hello, const char *name)
{
	for (size_t i = 0; i < hello->n_features; i++)
		if (strcmp(hello->features[i], name) == 0)
			return true;
	return false;
}

static int session_read_hello(
    struct session *s, const Openshell__V1__SupervisorHello *hello, struct err *e)
{
	const char *agent = rpc_meta_get(rpc_call_meta(s->call), "user-agent");

	if (s->state != SESSION_NEW)
		return err_set(e, GRPC_INVALID_ARGUMENT, "ConnectSupervisor: a second hello");
	if (strcmp(hello->sandbox_id, s->sandbox_id) != 0)
		return err_set(e, GRPC_PERMISSION_DENIED,
		    "hello names sandbox %s, but the token is of another one", hello->sandbox_id);
	random_uuid(s->hello.id);
	s->hello.instance_id = strdup(hello->instance_id);
	s->hello.version = strdup(agent != NULL ? agent : "");
	if (s->hello.instance_id == NULL || s->hello.version == NULL)
		return err_set(e, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
	s->hello.epoch = hello->connection_epoch;
	s->hello.has_call = session_has_feature(hello, WIRE_FEATURE_CALL);
	s->hello.has_lines = session_has_feature(hello, WIRE_FEATURE_LINES);
	return 0;
}

static int session_take_hello(
    struct session *s, const Openshell__V1__SupervisorHello *hello, struct err *e)
{
	if (session_read_hello(s, hello, e) != 0)
		return -1;
	s->state = SESSION_UP;
	timer_start(s->timer, s->tunnels->heartbeat_ms);
	session_ref(s);
	registry_run(s->tunnels, &s->greet);
	return 0;
}

/* The supervisor will not serve a channel, or gives one up. */
static int session_take_note(
    struct session *s, const char *channel_id, const char *what, const char *text, struct err *e)
{
	struct err why;

	if (atomic_load(&s->notes) >= SESSION_NOTES_MAX)
		return err_set(e, GRPC_RESOURCE_EXHAUSTED,
		    "ConnectSupervisor: more than %d answers at once", SESSION_NOTES_MAX);
	err_set(&why, GRPC_UNAVAILABLE, "the sandbox's supervisor %s: %s", what, text);
	session_note(s, channel_id, &why);
	return 0;
}

static int session_take(
    struct session *s, const Openshell__V1__SupervisorMessage *message, struct err *e)
{
	if (s->state == SESSION_NEW &&
	    message->payload_case != OPENSHELL__V1__SUPERVISOR_MESSAGE__PAYLOAD_HELLO)
		return err_set(
		    e, GRPC_INVALID_ARGUMENT, "ConnectSupervisor: the first message must be hello");
	switch (message->payload_case) {
	case OPENSHELL__V1__SUPERVISOR_MESSAGE__PAYLOAD_HELLO:
		return session_take_hello(s, message->hello, e);
	case OPENSHELL__V1__SUPERVISOR_MESSAGE__PAYLOAD_RELAY_OPEN_RESULT:
		if (message->relay_open_result->success)
			return 0;
		return session_take_note(s, message->relay_open_result->channel_id,
		    "refused the channel", message->relay_open_result->error, e);
	case OPENSHELL__V1__SUPERVISOR_MESSAGE__PAYLOAD_RELAY_CLOSE:
		return session_take_note(s, message->relay_close->channel_id, "closed the channel",
		    message->relay_close->reason, e);
	default:
		return 0; /* a heartbeat, or what a newer supervisor may say */
	}
}

static int session_take_bytes(struct session *s, const uint8_t *data, size_t len, struct err *e)
{
	Openshell__V1__SupervisorMessage *message =
	    wire_unpack(&openshell__v1__supervisor_message__descriptor, data, len, e);
	int result;

	if (message == NULL)
		return -1;
	result = session_take(s, message, e);
	codec_free(message);
	return result;
}

static void session_data(void *cookie, struct slice bytes)
{
	struct session *s = cookie;
	const uint8_t *message;
	struct err e;
	size_t len;
	int got;

	if (s->state == SESSION_OVER) {
		slice_release(&bytes);
		return;
	}
	rpc_call_credit(s->call, bytes.len);
	s->heard_ms = loop_now_ms(s->loop);
	got = rpc_reader_push(&s->reader, bytes, &e);
	while (got == 0 && s->state != SESSION_OVER) {
		got = rpc_reader_next(&s->reader, &message, &len, &e);
		if (got == 0)
			return;
		if (got > 0)
			got = session_take_bytes(s, message, len, &e);
	}
	if (got < 0)
		session_stop(s, &e);
}

static void session_end_of_stream(
    void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	struct session *s = cookie;
	struct err e;

	(void)trailers;
	err_set(&e, GRPC_UNAVAILABLE, "the supervisor has ended its session%s%s",
	    status != NULL && status->code != GRPC_OK ? ": " : "",
	    status != NULL ? status->text : "");
	session_stop(s, &e);
}

static void session_closed(void *cookie, const struct err *why)
{
	struct session *s = cookie;

	s->call = NULL;
	if (s->state != SESSION_OVER)
		session_lose(s, why);
	timer_free(s->timer);
	s->timer = NULL;
	rpc_reader_free(&s->reader);
	session_unref(s);
}

static const struct rpc_call_ops session_ops = {
	.data = session_data,
	.end = session_end_of_stream,
	.closed = session_closed,
};

static void session_run_end(struct post *post)
{
	struct session *s = SESSION_OF(post, end);

	session_stop(s, &s->end_why);
	session_unref(s);
}

static struct session *session_create(
    struct tunnels *t, struct rpc_call *call, const char *sandbox_id)
{
	struct session *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->tunnels = t;
	s->loop = rpc_call_loop(call);
	s->call = call;
	s->greet.run = session_run_greet;
	s->lost.run = session_run_lost;
	s->end.run = session_run_end;
	atomic_init(&s->refs, 1);
	rpc_reader_init(&s->reader, SESSION_MESSAGE_MAX);
	s->sandbox_id = strdup(sandbox_id);
	s->timer = timer_create_on(s->loop, session_beat, s);
	if (s->sandbox_id == NULL || s->timer == NULL) {
		timer_free(s->timer);
		rpc_reader_free(&s->reader);
		session_unref(s);
		return NULL;
	}
	return s;
}

void session_serve(struct tunnels *t, struct rpc_call *call, const char *sandbox_id)
{
	struct session *s = session_create(t, call, sandbox_id);
	struct err e;

	if (s == NULL) {
		err_set(&e, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
		wire_refuse(call, &e);
		return;
	}
	rpc_conn_allow_streams(rpc_call_conn(call), RPC_MAX_TUNNEL_STREAMS);
	rpc_call_bind(call, &session_ops, s);
	s->heard_ms = loop_now_ms(s->loop);
	timer_start(s->timer, t->claim_ms);
}

/* From the first loop. */

/* On the first loop. */
static void session_run_unsent(struct post *post)
{
	struct session_letter *letter = (struct session_letter *)post;
	struct session *s = letter->session;
	struct err e;

	if (letter->channel_id[0] != '\0') {
		err_set(
		    &e, GRPC_RESOURCE_EXHAUSTED, "the tunnel to the sandbox is busy; try again");
		channel_give_up(s->tunnels, s->sandbox_id, letter->channel_id, &e);
	} else {
		err_set(
		    &e, GRPC_RESOURCE_EXHAUSTED, "the gateway could not answer hello; try again");
		session_end(s, &e);
	}
	session_unref(s);
	free(letter);
}

/* On the stream's loop. A supervisor that does not read must not hold up its clients: the
 * letter comes back, which needs no memory. Never by a plain call: the registry may be on
 * the stack, sending. */
static void session_run_letter(struct post *post)
{
	struct session_letter *letter = (struct session_letter *)post;
	struct session *s = letter->session;

	if (s->state == SESSION_UP && rpc_call_send(s->call, letter->message, letter->len) != 0) {
		log_warn(&area, "session_full", LOG_STR("sandbox", s->sandbox_id),
		    LOG_U64("queued", rpc_call_queued(s->call)));
		letter->post.run = session_run_unsent;
		loop_post(s->tunnels->first, &letter->post);
		return;
	}
	session_unref(s);
	free(letter);
}

int session_send(struct session *s, const ProtobufCMessage *message, const char *channel_id)
{
	size_t len = codec_size(message);
	struct session_letter *letter = calloc(1, sizeof(*letter) + len);

	if (letter == NULL)
		return -1;
	letter->session = s;
	letter->post.run = session_run_letter;
	letter->len = codec_pack(message, letter->message);
	if (channel_id != NULL)
		memccpy(letter->channel_id, channel_id, '\0', sizeof(letter->channel_id) - 1);
	session_ref(s);
	registry_run_on(s->loop, &letter->post);
	return 0;
}

void session_accept(struct session *s)
{
	const uint64_t period = s->tunnels->heartbeat_ms;
	Google__Protobuf__Duration interval = GOOGLE__PROTOBUF__DURATION__INIT;
	Openshell__V1__SessionAccepted accepted = OPENSHELL__V1__SESSION_ACCEPTED__INIT;
	Openshell__V1__GatewayMessage message = OPENSHELL__V1__GATEWAY_MESSAGE__INIT;
	struct err e;

	interval.seconds = (int64_t)(period / 1000);
	interval.nanos = (int32_t)(period % 1000 * 1000000);
	accepted.session_id = s->hello.id;
	accepted.heartbeat_interval = &interval;
	accepted.heartbeat_interval_secs = (uint32_t)((period + 999) / 1000);
	accepted.loop = loop_index(s->loop) + 1;
	if (s->hello.has_lines)
		accepted.data_connections = (uint32_t)s->tunnels->loop_count;
	message.payload_case = OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_SESSION_ACCEPTED;
	message.session_accepted = &accepted;
	if (session_send(s, &message.base, NULL) == 0)
		return;
	err_set(&e, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
	session_end(s, &e);
}

void session_reject(struct session *s, const struct err *why)
{
	Openshell__V1__SessionRejected rejected = OPENSHELL__V1__SESSION_REJECTED__INIT;
	Openshell__V1__GatewayMessage message = OPENSHELL__V1__GATEWAY_MESSAGE__INIT;

	rejected.reason = (char *)why->text;
	message.payload_case = OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_SESSION_REJECTED;
	message.session_rejected = &rejected;
	(void)session_send(s, &message.base, NULL); /* the status says the same */
	session_end(s, why);
}

void session_end(struct session *s, const struct err *why)
{
	if (s->ending)
		return;
	s->ending = true;
	s->end_why = *why;
	session_ref(s);
	registry_run_on(s->loop, &s->end);
}
