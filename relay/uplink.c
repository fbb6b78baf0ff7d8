#include "relay/uplink.h"

#include <stdbool.h>
#include <stdlib.h>

#include "relay/wire.h"
#include "rpc/reader.h"

enum uplink_state {
	UPLINK_GREETING, /* hello is out, or will be when the connection is there */
	UPLINK_UP,
	UPLINK_ENDING /* the connection is being closed */
};

struct uplink {
	struct loop *loop;
	struct uplink_options options; /* of its pointers only the callbacks are good */
	enum uplink_state state;
	struct rpc_client *client;
	struct rpc_call *call; /* NULL: over */
	struct rpc_reader reader;
	struct timer *timer; /* for the answer, then of the heartbeats */
	uint64_t period_ms, heard_ms;
	bool has_why;
	struct err why;
};

struct rpc_client *uplink_client(struct uplink *u)
{
	return u->client;
}

uint64_t uplink_period_ms(const struct uplink *u)
{
	return u->period_ms;
}

void uplink_close(struct uplink *u, const struct err *why)
{
	if (!u->has_why)
		u->why = *why;
	u->has_why = true;
	if (u->state == UPLINK_ENDING)
		return;
	u->state = UPLINK_ENDING;
	timer_stop(u->timer);
	rpc_client_close(u->client);
}

void uplink_send(struct uplink *u, const ProtobufCMessage *message)
{
	struct err e;

	if (u->state == UPLINK_ENDING || u->call == NULL || wire_send(u->call, message) == 0)
		return;
	err_set(&e, GRPC_UNAVAILABLE, "the gateway does not read its end of the session");
	uplink_close(u, &e);
}

static void uplink_beat(void *cookie)
{
	Openshell__V1__SupervisorHeartbeat beat = OPENSHELL__V1__SUPERVISOR_HEARTBEAT__INIT;
	Openshell__V1__SupervisorMessage message = OPENSHELL__V1__SUPERVISOR_MESSAGE__INIT;
	struct uplink *u = cookie;
	uint64_t silence = loop_now_ms(u->loop) - u->heard_ms;
	struct err e;

	if (u->state == UPLINK_GREETING || silence >= u->period_ms * UPLINK_HEARTBEATS_MISSED) {
		err_set(&e, GRPC_UNAVAILABLE, "nothing heard of the gateway for %llu ms",
		    (unsigned long long)silence);
		uplink_close(u, &e);
		return;
	}
	message.payload_case = OPENSHELL__V1__SUPERVISOR_MESSAGE__PAYLOAD_HEARTBEAT;
	message.heartbeat = &beat;
	timer_start(u->timer, u->period_ms);
	uplink_send(u, &message.base);
}

static uint64_t uplink_period(const Openshell__V1__SessionAccepted *accepted)
{
	const Google__Protobuf__Duration *d = accepted->heartbeat_interval;
	uint64_t ms = (uint64_t)accepted->heartbeat_interval_secs * 1000;

	if (d != NULL && d->seconds >= 0 && d->seconds < 86400 && d->nanos >= 0)
		ms = (uint64_t)d->seconds * 1000 + (uint64_t)d->nanos / 1000000;
	if (ms == 0)
		return UPLINK_HEARTBEAT_MS;
	if (ms < UPLINK_HEARTBEAT_MIN_MS)
		return UPLINK_HEARTBEAT_MIN_MS;
	return ms < UPLINK_HEARTBEAT_MAX_MS ? ms : UPLINK_HEARTBEAT_MAX_MS;
}

static void uplink_take_accepted(struct uplink *u, const Openshell__V1__SessionAccepted *accepted)
{
	u->state = UPLINK_UP;
	u->period_ms = uplink_period(accepted);
	timer_start(u->timer, u->period_ms);
	u->options.accepted(u->options.cookie,
	    &(struct uplink_terms){
		.session_id = accepted->session_id,
		.data_connections = accepted->data_connections,
		.loop = accepted->loop,
	    });
}

/* Hello says that we take no configuration, so that none should come. */
static void uplink_refuse_config(struct uplink *u, const Openshell__V1__ConfigUpdate *update)
{
	Openshell__V1__ConfigUpdateResult result = OPENSHELL__V1__CONFIG_UPDATE_RESULT__INIT;
	Openshell__V1__SupervisorMessage message = OPENSHELL__V1__SUPERVISOR_MESSAGE__INIT;

	result.update_id = update->update_id;
	result.outcome = OPENSHELL__V1__CONFIG_APPLY_OUTCOME__CONFIG_APPLY_OUTCOME_UNSUPPORTED;
	message.payload_case = OPENSHELL__V1__SUPERVISOR_MESSAGE__PAYLOAD_CONFIG_UPDATE_RESULT;
	message.config_update_result = &result;
	uplink_send(u, &message.base);
}

/* The status that follows says more than the message does. */
static void uplink_take_rejected(struct uplink *u, const Openshell__V1__SessionRejected *rejected)
{
	if (!u->has_why)
		err_set(&u->why, GRPC_UNAVAILABLE, "the gateway rejects the session: %s",
		    rejected->reason);
}

static int uplink_take_first(
    struct uplink *u, const Openshell__V1__GatewayMessage *message, struct err *e)
{
	switch (message->payload_case) {
	case OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_SESSION_ACCEPTED:
		uplink_take_accepted(u, message->session_accepted);
		return 0;
	case OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_SESSION_REJECTED:
		uplink_take_rejected(u, message->session_rejected);
		return 0;
	case OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_SESSION_REDIRECT:
		return err_set(e, GRPC_UNAVAILABLE,
		    "the gateway sends us to %s, which hello said we do not follow",
		    message->session_redirect->peer_endpoint);
	default:
		return err_set(
		    e, GRPC_INTERNAL, "the gateway's first message is no answer to hello");
	}
}

static int uplink_take(
    struct uplink *u, const Openshell__V1__GatewayMessage *message, struct err *e)
{
	if (u->state == UPLINK_GREETING)
		return uplink_take_first(u, message, e);
	switch (message->payload_case) {
	case OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_RELAY_OPEN:
		u->options.open(u->options.cookie, message->relay_open);
		return 0;
	case OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_RELAY_CLOSE:
		u->options.close(u->options.cookie, message->relay_close->channel_id,
		    message->relay_close->reason);
		return 0;
	case OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_CONFIG_UPDATE:
		uplink_refuse_config(u, message->config_update);
		return 0;
	case OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_SESSION_ACCEPTED:
		return err_set(e, GRPC_INTERNAL, "the gateway accepts the session a second time");
	default:
		return 0; /* a heartbeat, or what a newer gateway may say */
	}
}

static int uplink_take_bytes(struct uplink *u, const uint8_t *data, size_t len, struct err *e)
{
	Openshell__V1__GatewayMessage *message =
	    wire_unpack(&openshell__v1__gateway_message__descriptor, data, len, e);
	int result;

	if (message == NULL)
		return -1;
	result = uplink_take(u, message, e);
	codec_free(message);
	return result;
}

/* A callback may close the uplink, but its memory stays until ended(). */
static void uplink_data(void *cookie, struct slice bytes)
{
	struct uplink *u = cookie;
	const uint8_t *message;
	struct err e;
	size_t len;
	int got;

	rpc_call_credit(u->call, bytes.len);
	u->heard_ms = loop_now_ms(u->loop);
	got = rpc_reader_push(&u->reader, bytes, &e);
	while (got == 0 && u->state != UPLINK_ENDING) {
		got = rpc_reader_next(&u->reader, &message, &len, &e);
		if (got == 0)
			return;
		if (got > 0)
			got = uplink_take_bytes(u, message, len, &e);
	}
	if (got < 0)
		uplink_close(u, &e);
}

static void uplink_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	struct uplink *u = cookie;
	struct err e;

	(void)trailers;
	if (status->code != GRPC_OK) {
		uplink_close(u, status);
		return;
	}
	err_set(&e, GRPC_UNAVAILABLE, "the gateway has ended the session");
	uplink_close(u, u->why.code != GRPC_OK ? &u->why : &e);
}

static void uplink_call_closed(void *cookie, const struct err *why)
{
	struct uplink *u = cookie;

	u->call = NULL;
	uplink_close(u, why);
}

static const struct rpc_call_ops uplink_call_ops = {
	.data = uplink_data,
	.end = uplink_end,
	.closed = uplink_call_closed,
};

static void uplink_free(struct uplink *u)
{
	timer_free(u->timer);
	rpc_reader_free(&u->reader);
	free(u);
}

static void uplink_client_closed(void *cookie, const struct err *why)
{
	struct uplink *u = cookie;
	const struct uplink_options options = u->options;
	struct err end = u->has_why ? u->why : *why;

	uplink_free(u);
	options.ended(options.cookie, &end);
}

static int uplink_greet(struct uplink *u, struct err *e)
{
	Openshell__V1__SupervisorMessage message = OPENSHELL__V1__SUPERVISOR_MESSAGE__INIT;

	u->call = rpc_client_call(u->client,
	    &(struct rpc_client_call){
		.path = WIRE_CONNECT,
		.meta = u->options.meta,
		.ops = &uplink_call_ops,
		.cookie = u,
	    },
	    e);
	if (u->call == NULL)
		return -1;
	message.payload_case = OPENSHELL__V1__SUPERVISOR_MESSAGE__PAYLOAD_HELLO;
	message.hello = (Openshell__V1__SupervisorHello *)u->options.hello;
	if (wire_send(u->call, &message.base) != 0)
		return err_set(e, GRPC_RESOURCE_EXHAUSTED, "out of memory for hello");
	return 0;
}

struct uplink *uplink_create(struct loop *loop, const struct uplink_options *options, struct err *e)
{
	struct uplink *u = calloc(1, sizeof(*u));
	struct err greeting;

	if (u == NULL) {
		err_set(e, GRPC_RESOURCE_EXHAUSTED, "out of memory for a session");
		return NULL;
	}
	u->loop = loop;
	u->options = *options;
	u->heard_ms = loop_now_ms(loop);
	rpc_reader_init(&u->reader, WIRE_MESSAGE_MAX);
	u->timer = timer_create_on(loop, uplink_beat, u);
	if (u->timer == NULL)
		err_set(e, GRPC_RESOURCE_EXHAUSTED, "out of memory for a session");
	else
		u->client = rpc_client_connect_to(loop, options->address,
		    &(struct rpc_client_options){
			.tls = options->tls,
			.closed = uplink_client_closed,
			.cookie = u,
		    },
		    e);
	if (u->client == NULL) {
		uplink_free(u);
		return NULL;
	}
	timer_start(u->timer, options->answer_ms != 0 ? options->answer_ms : UPLINK_ANSWER_MS);
	if (uplink_greet(u, &greeting) != 0)
		uplink_close(u, &greeting);
	return u;
}
