#include "sshd/gate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "proto/codec.h"
#include "relay/backoff.h"
#include "rpc/client.h"
#include "rpc/meta.h"

#define AUTHENTICATE "/towline.v1.SshEndpoint/Authenticate"
#define ATTEND       "/towline.v1.SshEndpoint/Attend"
#define REPORT_MAX   512 /* bytes of a report: a peer's address is the longest in it */

static const struct log_area area = { "gate" };

struct gate {
	struct loop *loop;
	struct gate_options options; /* its strings are ours */
	struct rpc_meta meta;        /* what every call carries */
	struct rpc_client *client;   /* NULL: not connected */
	struct framed *attend;       /* NULL: not open */
	struct timer *retry;         /* until the next attempt at either */
	struct timer *lost;
	struct backoff backoff;
	struct post reject;
	struct err rejected; /* why the gateway does not have us */
	bool is_ready;       /* connected, not just connecting */
	bool is_up;          /* and reports are taken */
	void (*done)(void *cookie);
	void *cookie; /* of done() */
};

struct gate_ask {
	struct rpc_unary *unary;
	gate_answer *done;
	void *cookie;
};

static void gate_free(struct gate *g)
{
	loop_unpost(g->loop, &g->reject);
	timer_free(g->retry);
	timer_free(g->lost);
	rpc_meta_free(&g->meta);
	free((char *)g->options.url);
	free((char *)g->options.endpoint_id);
	free((char *)g->options.instance_id);
	free(g);
}

/* Whether the gateway would only say the same again. */
static bool is_final(const struct err *why)
{
	return why->code == GRPC_UNAUTHENTICATED || why->code == GRPC_PERMISSION_DENIED ||
	    why->code == GRPC_UNIMPLEMENTED;
}

static void tell_rejected(struct post *post)
{
	struct gate *g = (struct gate *)((char *)post - offsetof(struct gate, reject));

	g->options.rejected(g->options.app, &g->rejected);
}

static void try_later(struct gate *g)
{
	if (g->done == NULL && g->rejected.code == GRPC_OK)
		timer_start(g->retry, backoff_next(&g->backoff));
}

/* Not up any more, or not yet. */
static void is_down(struct gate *g, const struct err *why)
{
	if (g->is_up)
		log_warn(&area, "gateway_lost", LOG_ERR(why));
	else
		log_debug(&area, "gateway_unreached", LOG_ERR(why));
	g->is_up = false;
	if (g->done == NULL && !timer_is_running(g->lost))
		timer_start(g->lost, GATE_LOST_MS);
}

static void on_lost(void *cookie)
{
	struct gate *g = cookie;

	g->options.lost(g->options.app);
}

/* Attend. */

/* Headers may come only with the first event, so they are not waited for. */
static void attend_opened(void *cookie)
{
	struct gate *g = cookie;

	backoff_reset(&g->backoff);
}

static void come_up(struct gate *g)
{
	if (!g->is_ready || g->attend == NULL || g->is_up)
		return;
	g->is_up = true;
	timer_stop(g->lost);
	log_info(&area, "gateway_up", LOG_STR("endpoint", g->options.endpoint_id));
	g->options.up(g->options.app);
}

static void attend_message(void *cookie, const uint8_t *message, size_t len)
{
	struct gate *g = cookie;
	Towline__V1__SshEndpointEvent *event =
	    codec_unpack(&towline__v1__ssh_endpoint_event__descriptor, message, len, NULL);

	if (event != NULL && event->event_case == TOWLINE__V1__SSH_ENDPOINT_EVENT__EVENT_ENDED)
		g->options.ended(g->options.app, event->ended->session_id, event->ended->reason);
	codec_free(event);
}

static void attend_end(void *cookie, const struct err *status)
{
	struct gate *g = cookie;

	if (is_final(status) && g->rejected.code == GRPC_OK) {
		g->rejected = *status;
		loop_post(g->loop, &g->reject);
	}
	framed_end(g->attend);
}

static void attend_closed(void *cookie, const struct err *why)
{
	struct gate *g = cookie;

	g->attend = NULL;
	is_down(g, why);
	try_later(g);
}

static const struct framed_ops attend_ops = {
	.message = attend_message,
	.end = attend_end,
	.closed = attend_closed,
	.opened = attend_opened,
};

static void report(struct gate *g, const Towline__V1__SshEndpointReport *r)
{
	uint8_t packed[REPORT_MAX];
	size_t len = codec_size(&r->base);

	if (g->attend == NULL || len > sizeof(packed))
		return;
	codec_pack(&r->base, packed);
	if (framed_queued(g->attend) < GATE_REPORTS_MAX && framed_send(g->attend, packed, len) == 0)
		return;
	struct err err;
	err_set(&err, GRPC_RESOURCE_EXHAUSTED, "the gateway does not read reports");
	framed_cancel(g->attend, &err);
	attend_closed(g, &err);
}

static int attend(struct gate *g, struct err *err)
{
	const struct rpc_client_call call = { .path = ATTEND, .meta = &g->meta };
	const struct framed_options options = { .whole = true };
	Towline__V1__SshEndpointReport r = TOWLINE__V1__SSH_ENDPOINT_REPORT__INIT;
	Towline__V1__SshEndpointHello hello = TOWLINE__V1__SSH_ENDPOINT_HELLO__INIT;

	if ((g->attend = framed_call(g->client, &call, &options, &attend_ops, g, err)) == NULL)
		return -1;
	hello.instance_id = (char *)g->options.instance_id;
	r.report_case = TOWLINE__V1__SSH_ENDPOINT_REPORT__REPORT_HELLO;
	r.hello = &hello;
	report(g, &r);
	return 0;
}

/* The connection. */

static void client_closed(void *cookie, const struct err *why)
{
	struct gate *g = cookie;

	g->client = NULL;
	g->is_ready = false;
	if (g->done != NULL) {
		void (*done)(void *) = g->done;
		void *of = g->cookie;

		gate_free(g);
		done(of);
		return;
	}
	is_down(g, why);
	try_later(g);
}

static void client_ready(void *cookie)
{
	struct gate *g = cookie;

	g->is_ready = true;
	come_up(g);
}

static int connect_and_attend(struct gate *g, struct err *err)
{
	const struct rpc_client_options options = {
		.tls = g->options.tls, .ready = client_ready, .closed = client_closed, .cookie = g
	};

	if (g->client == NULL &&
	    (g->client = rpc_client_connect(g->loop, g->options.url, &options, err)) == NULL)
		return -1;
	if (g->attend == NULL && attend(g, err) != 0)
		return -1;
	come_up(g);
	return 0;
}

static void on_retry(void *cookie)
{
	struct gate *g = cookie;
	struct err err;

	if (g->done == NULL && connect_and_attend(g, &err) != 0) {
		is_down(g, &err);
		try_later(g);
	}
}

static int copy_options(struct gate *g, const struct gate_options *o, struct err *err)
{
	char bearer[512];

	g->options = *o;
	g->options.url = strdup(o->url);
	g->options.endpoint_id = strdup(o->endpoint_id);
	g->options.instance_id = strdup(o->instance_id);
	g->options.token = NULL;
	rpc_meta_init(&g->meta);
	if (g->options.url == NULL || g->options.endpoint_id == NULL ||
	    g->options.instance_id == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	int len = snprintf(bearer, sizeof(bearer), "Bearer %s", o->token);
	if (len < 0 || (size_t)len >= sizeof(bearer))
		return err_set(err, GRPC_INVALID_ARGUMENT, "the endpoint's token is too long");
	int r = rpc_meta_add_text(&g->meta, "authorization", bearer, err);
	explicit_bzero(bearer, sizeof(bearer));
	return r;
}

struct gate *gate_create(struct loop *loop, const struct gate_options *o, struct err *err)
{
	struct gate *g = calloc(1, sizeof(*g));

	if (g == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	g->loop = loop;
	g->reject.run = tell_rejected;
	g->backoff =
	    (struct backoff){ .min_ms = GATE_BACKOFF_MIN_MS, .max_ms = GATE_BACKOFF_MAX_MS };
	g->retry = timer_create_on(loop, on_retry, g);
	g->lost = timer_create_on(loop, on_lost, g);
	if (g->retry == NULL || g->lost == NULL)
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	else if (copy_options(g, o, err) == 0) {
		timer_start(g->lost, GATE_LOST_MS);
		timer_start(g->retry, 0);
		return g;
	}
	gate_free(g);
	return NULL;
}

void gate_close(struct gate *g, void (*done)(void *cookie), void *cookie)
{
	g->done = done;
	g->cookie = cookie;
	timer_stop(g->lost);
	if (g->client != NULL) {
		rpc_client_close(g->client);
		return;
	}
	gate_free(g);
	done(cookie);
}

bool gate_is_up(const struct gate *g)
{
	return g->is_up;
}

/* Calls. */

static int check_up(const struct gate *g, struct err *err)
{
	if (g->client != NULL)
		return 0;
	return err_set(err, GRPC_UNAVAILABLE, "the gateway cannot be reached; try again later");
}

static void ask_done(void *cookie, const uint8_t *reply, size_t len, const struct err *why)
{
	struct gate_ask ask = *(struct gate_ask *)cookie;
	Towline__V1__AuthenticateSshResponse *answer = NULL;
	struct err err;

	free(cookie);
	if (reply != NULL &&
	    (answer = codec_unpack(
		 &towline__v1__authenticate_ssh_response__descriptor, reply, len, NULL)) == NULL) {
		err_set(&err, GRPC_INTERNAL, "the gateway's answer cannot be read");
		why = &err;
	} else if (reply == NULL && why->code == GRPC_OK) {
		answer = codec_unpack(
		    &towline__v1__authenticate_ssh_response__descriptor, NULL, 0, NULL);
	}
	ask.done(ask.cookie, answer, why);
	codec_free(answer);
}

struct gate_ask *gate_authenticate(struct gate *g, const Towline__V1__AuthenticateSshRequest *q,
    gate_answer *done, void *cookie, struct err *err)
{
	struct gate_ask *ask = calloc(1, sizeof(*ask));
	size_t len;
	uint8_t *packed = codec_pack_new(&q->base, &len);

	if (ask == NULL || packed == NULL)
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	else if (check_up(g, err) == 0) {
		ask->done = done;
		ask->cookie = cookie;
		ask->unary = rpc_client_unary(g->client, AUTHENTICATE, &g->meta, GATE_ASK_MS,
		    packed, len, ask_done, ask, err);
	}
	free(packed);
	if (ask != NULL && ask->unary != NULL)
		return ask;
	free(ask);
	return NULL;
}

void gate_ask_cancel(struct gate_ask *ask)
{
	if (ask == NULL)
		return;
	rpc_unary_cancel(ask->unary);
	free(ask);
}

struct framed *gate_call(struct gate *g, const char *session_id, const char *path,
    const struct framed_options *options, const struct framed_ops *ops, void *cookie,
    struct err *err)
{
	struct rpc_client_call call = { .path = path };
	struct rpc_meta meta;
	struct framed *made = NULL;

	if (check_up(g, err) != 0)
		return NULL;
	rpc_meta_init(&meta);
	if (rpc_meta_add_text(
		&meta, "authorization", rpc_meta_get(&g->meta, "authorization"), err) == 0 &&
	    rpc_meta_add_text(&meta, "towline-ssh-session", session_id, err) == 0) {
		call.meta = &meta;
		made = framed_call(g->client, &call, options, ops, cookie, err);
	}
	rpc_meta_free(&meta);
	return made;
}

/* Reports. */

void gate_opened(struct gate *g, uint64_t connection, const char *session_id, const char *peer)
{
	Towline__V1__SshEndpointReport r = TOWLINE__V1__SSH_ENDPOINT_REPORT__INIT;
	Towline__V1__SshConnectionOpened opened = TOWLINE__V1__SSH_CONNECTION_OPENED__INIT;

	opened.connection = connection;
	opened.session_id = (char *)session_id;
	opened.peer = (char *)peer;
	r.report_case = TOWLINE__V1__SSH_ENDPOINT_REPORT__REPORT_OPENED;
	r.opened = &opened;
	report(g, &r);
}

void gate_usage(struct gate *g, uint64_t connection, uint64_t in, uint64_t out)
{
	Towline__V1__SshEndpointReport r = TOWLINE__V1__SSH_ENDPOINT_REPORT__INIT;
	Towline__V1__SshConnectionUsage usage = TOWLINE__V1__SSH_CONNECTION_USAGE__INIT;

	if (g->attend != NULL && framed_queued(g->attend) > GATE_REPORTS_HIGH)
		return;
	usage.connection = connection;
	usage.bytes_in = in;
	usage.bytes_out = out;
	r.report_case = TOWLINE__V1__SSH_ENDPOINT_REPORT__REPORT_USAGE;
	r.usage = &usage;
	report(g, &r);
}

void gate_closed(struct gate *g, uint64_t connection)
{
	Towline__V1__SshEndpointReport r = TOWLINE__V1__SSH_ENDPOINT_REPORT__INIT;
	Towline__V1__SshConnectionClosed closed = TOWLINE__V1__SSH_CONNECTION_CLOSED__INIT;

	closed.connection = connection;
	r.report_case = TOWLINE__V1__SSH_ENDPOINT_REPORT__REPORT_CLOSED;
	r.closed = &closed;
	report(g, &r);
}
