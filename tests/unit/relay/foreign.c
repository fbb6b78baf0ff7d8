#include "foreign.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "relay/wire.h"

static void foreign_take(struct foreign *f, const Openshell__V1__SupervisorMessage *m)
{
	if (m->payload_case == OPENSHELL__V1__SUPERVISOR_MESSAGE__PAYLOAD_HEARTBEAT)
		f->heartbeats++;
	if (m->payload_case == OPENSHELL__V1__SUPERVISOR_MESSAGE__PAYLOAD_CONFIG_UPDATE_RESULT)
		f->unsupported += m->config_update_result->outcome ==
		    OPENSHELL__V1__CONFIG_APPLY_OUTCOME__CONFIG_APPLY_OUTCOME_UNSUPPORTED;
	if (m->payload_case != OPENSHELL__V1__SUPERVISOR_MESSAGE__PAYLOAD_RELAY_OPEN_RESULT)
		return;
	f->results++;
	assert_false(m->relay_open_result->success);
	snprintf(f->error, sizeof(f->error), "%s", m->relay_open_result->error);
}

static void foreign_control_data(void *cookie, struct slice bytes)
{
	struct foreign *f = cookie;
	const uint8_t *message;
	struct err e;
	size_t len;

	if (!f->ways.deaf)
		rpc_call_credit(f->control, bytes.len);
	assert_int_equal(rpc_reader_push(&f->reader, bytes, &e), 0);
	while (rpc_reader_next(&f->reader, &message, &len, &e) == 1) {
		Openshell__V1__SupervisorMessage *m =
		    wire_unpack(&openshell__v1__supervisor_message__descriptor, message, len, &e);
		assert_non_null(m);
		foreign_take(f, m);
		codec_free(m);
	}
}

static void foreign_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	struct foreign *f = cookie;

	(void)trailers;
	f->ended++;
	if (status != NULL)
		f->status = *status;
}

static void foreign_control_closed(void *cookie, const struct err *why)
{
	struct foreign *f = cookie;

	(void)why;
	f->control = NULL;
	rpc_reader_free(&f->reader);
}

static const struct rpc_call_ops foreign_control_ops = {
	.data = foreign_control_data,
	.end = foreign_end,
	.closed = foreign_control_closed,
};

static void foreign_accept(struct foreign *f)
{
	Google__Protobuf__Duration beat = GOOGLE__PROTOBUF__DURATION__INIT;
	Openshell__V1__SessionAccepted accepted = OPENSHELL__V1__SESSION_ACCEPTED__INIT;
	Openshell__V1__GatewayMessage m = OPENSHELL__V1__GATEWAY_MESSAGE__INIT;
	const struct foreign_ways *w = &f->ways;

	accepted.session_id = (char *)"theirs";
	accepted.heartbeat_interval_secs = w->beat_secs != 0 ? w->beat_secs : 1;
	if (w->beat_secs == UINT32_MAX)
		accepted.heartbeat_interval_secs = 0;
	beat.seconds = w->beat_ms / 1000;
	beat.nanos = (int32_t)(w->beat_ms % 1000) * 1000000;
	if (w->beat_ms != 0)
		accepted.heartbeat_interval = &beat;
	accepted.data_connections = w->lines;
	m.payload_case = OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_SESSION_ACCEPTED;
	m.session_accepted = &accepted;
	assert_int_equal(wire_send(f->control, &m.base), 0);
}

static void foreign_connect(struct rpc_call *call, void *app)
{
	struct foreign *f = app;

	f->connects++;
	f->control = call;
	rpc_reader_init(&f->reader, WIRE_MESSAGE_MAX);
	rpc_call_bind(call, &foreign_control_ops, f);
	if (f->ways.streams != 0)
		rpc_conn_allow_streams(rpc_call_conn(call), f->ways.streams);
	if (!f->ways.mute)
		foreign_accept(f);
}

static void foreign_relay_data(void *cookie, struct slice bytes)
{
	struct foreign *f = cookie;
	const uint8_t *message;
	struct err e;
	size_t len;

	if (f->stalled) {
		slice_release(&bytes);
		return;
	}
	rpc_call_credit(f->relay, bytes.len);
	assert_int_equal(rpc_reader_push(&f->relay_reader, bytes, &e), 0);
	while (rpc_reader_next(&f->relay_reader, &message, &len, &e) == 1) {
		Openshell__V1__RelayFrame *m =
		    wire_unpack(&openshell__v1__relay_frame__descriptor, message, len, &e);
		assert_non_null(m);
		if (m->payload_case == OPENSHELL__V1__RELAY_FRAME__PAYLOAD_INIT) {
			f->inits++;
			snprintf(f->channel_id, sizeof(f->channel_id), "%s", m->init->channel_id);
		} else {
			size_t at = strlen(f->got);
			assert_true(at + m->data.len < sizeof(f->got));
			memcpy(f->got + at, m->data.data, m->data.len);
		}
		codec_free(m);
	}
}

static void foreign_relay_closed(void *cookie, const struct err *why)
{
	struct foreign *f = cookie;

	f->closed++;
	f->closed_why = *why;
	f->relay = NULL;
	rpc_reader_free(&f->relay_reader);
}

static const struct rpc_call_ops foreign_relay_ops = {
	.data = foreign_relay_data,
	.end = foreign_end,
	.closed = foreign_relay_closed,
};

/* Relays that are not looked into. */

static void foreign_held_data(void *cookie, struct slice bytes)
{
	(void)cookie;
	slice_release(&bytes);
}

static void foreign_held_closed(void *cookie, const struct err *why)
{
	struct foreign *f = cookie;

	f->closed++;
	f->closed_why = *why;
}

static const struct rpc_call_ops foreign_held_ops = {
	.data = foreign_held_data,
	.end = foreign_end,
	.closed = foreign_held_closed,
};

static void foreign_place(struct rpc_call *call)
{
	struct rpc_meta meta;

	rpc_meta_init(&meta);
	assert_int_equal(rpc_meta_add_text(&meta, WIRE_META_LOOP, "1", NULL), 0);
	assert_int_equal(rpc_call_headers(call, &meta, NULL), 0);
	rpc_meta_free(&meta);
	rpc_call_finish(call, NULL);
}

static void foreign_relay(struct rpc_call *call, void *app)
{
	struct foreign *f = app;

	f->relays++;
	if (f->ways.manner != FOREIGN_RELAYS) {
		rpc_call_bind(call, &foreign_held_ops, f);
		if (f->ways.manner == FOREIGN_PLACES)
			foreign_place(call);
		return;
	}
	f->relay = call;
	rpc_reader_init(&f->relay_reader, WIRE_MESSAGE_MAX);
	rpc_call_bind(call, &foreign_relay_ops, f);
}

static const struct rpc_method foreign_methods[] = {
	{ .path = WIRE_CONNECT, .open = foreign_connect },
	{ .path = WIRE_RELAY, .open = foreign_relay },
};

void foreign_create(struct foreign *f, struct rig *rig)
{
	char bound[200];
	struct err e;

	*f = (struct foreign){ .rig = rig, .loop = rig->loop };
	f->server = rpc_server_create(
	    &(struct rpc_server_options){
		.loops = &f->loop,
		.loop_count = 1,
		.methods = foreign_methods,
		.method_count = 2,
		.app = f,
	    },
	    &e);
	assert_non_null(f->server);
	assert_int_equal(
	    rpc_server_listen(f->server, "127.0.0.1:0", NULL, bound, sizeof(bound), &e), 0);
	snprintf(f->url, sizeof(f->url), "http://%s", bound);
}

static void foreign_drained(void *cookie)
{
	((struct foreign *)cookie)->drained = true;
}

static bool foreign_is_drained(void *cookie)
{
	return ((struct foreign *)cookie)->drained;
}

void foreign_free(struct foreign *f)
{
	rpc_server_drain(f->server, 1000, foreign_drained, f);
	assert_true(rig_until(f->rig, foreign_is_drained, f));
	rpc_server_free(f->server);
}

void foreign_send_open(struct foreign *f, Openshell__V1__RelayOpen *open)
{
	Openshell__V1__GatewayMessage m = OPENSHELL__V1__GATEWAY_MESSAGE__INIT;

	m.payload_case = OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_RELAY_OPEN;
	m.relay_open = open;
	assert_int_equal(wire_send(f->control, &m.base), 0);
}

void foreign_open_tcp(struct foreign *f)
{
	Openshell__V1__TcpRelayTarget tcp = OPENSHELL__V1__TCP_RELAY_TARGET__INIT;
	Openshell__V1__RelayOpen open = OPENSHELL__V1__RELAY_OPEN__INIT;

	tcp.host = (char *)"127.0.0.1";
	tcp.port = 8080;
	open.channel_id = (char *)"tcp-1";
	open.target_case = OPENSHELL__V1__RELAY_OPEN__TARGET_TCP;
	open.tcp = &tcp;
	foreign_send_open(f, &open);
}
