/* The half of rig.h that is about supervisors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "relay/wire.h"
#include "rig.h"
#include "support/alloc.h"

static void take_accepted(struct rig_supervisor *s, const Openshell__V1__SessionAccepted *a)
{
	s->accepted = true;
	snprintf(s->session_id, sizeof(s->session_id), "%s", a->session_id);
	s->data_connections = a->data_connections;
	s->heartbeat_secs = a->heartbeat_interval_secs;
	assert_non_null(a->heartbeat_interval);
	s->heartbeat_ms = (uint64_t)a->heartbeat_interval->seconds * 1000 +
	    (uint64_t)a->heartbeat_interval->nanos / 1000000;
	assert_true(a->loop > 0);
}

static void answer_heartbeat(struct rig_supervisor *s)
{
	Openshell__V1__SupervisorHeartbeat beat = OPENSHELL__V1__SUPERVISOR_HEARTBEAT__INIT;
	Openshell__V1__SupervisorMessage m = OPENSHELL__V1__SUPERVISOR_MESSAGE__INIT;

	s->heartbeats++;
	m.payload_case = OPENSHELL__V1__SUPERVISOR_MESSAGE__PAYLOAD_HEARTBEAT;
	m.heartbeat = &beat;
	if (!s->mute)
		rig_send(s, &m);
}

static void keep_open(struct rig_supervisor *s, Openshell__V1__GatewayMessage *m)
{
	if (s->open_count == s->open_cap) {
		s->open_cap = s->open_cap * 2 + 16;
		s->opens = realloc(s->opens, s->open_cap * sizeof(s->opens[0]));
		assert_non_null(s->opens);
	}
	s->opens[s->open_count++] = m;
}

static void take_message(struct rig_supervisor *s, Openshell__V1__GatewayMessage *m)
{
	if (m->payload_case == OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_RELAY_OPEN) {
		keep_open(s, m);
		return;
	}
	if (m->payload_case == OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_SESSION_ACCEPTED)
		take_accepted(s, m->session_accepted);
	else if (m->payload_case == OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_SESSION_REJECTED)
		s->rejected = true;
	else if (m->payload_case == OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_RELAY_CLOSE)
		s->closes++;
	else if (m->payload_case == OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_HEARTBEAT)
		answer_heartbeat(s);
	codec_free(m);
}

static void control_data(struct rig_call *c, struct slice *bytes)
{
	struct rig_supervisor *s = c->cookie;
	const uint8_t *message;
	struct err e;
	size_t len;

	if (!s->deaf)
		rpc_call_credit(c->call, bytes->len);
	alloc_hold();
	assert_int_equal(rpc_reader_push(&s->reader, *bytes, &e), 0);
	*bytes = (struct slice){ 0 };
	while (rpc_reader_next(&s->reader, &message, &len, &e) == 1) {
		Openshell__V1__GatewayMessage *m =
		    wire_unpack(&openshell__v1__gateway_message__descriptor, message, len, &e);
		assert_non_null(m);
		take_message(s, m);
	}
	alloc_release();
}

void rig_send(struct rig_supervisor *s, Openshell__V1__SupervisorMessage *m)
{
	alloc_hold();
	assert_int_equal(wire_send(s->control.call, &m->base), 0);
	alloc_release();
}

static void bearer(const char *sandbox, char out[static 64])
{
	snprintf(out, 64, "Bearer %s", sandbox);
}

void rig_greet(struct rig *rig, struct rig_supervisor *s, const struct rig_hello *options)
{
	Openshell__V1__SupervisorHello hello = OPENSHELL__V1__SUPERVISOR_HELLO__INIT;
	Openshell__V1__SupervisorMessage m = OPENSHELL__V1__SUPERVISOR_MESSAGE__INIT;
	char *features[] = { (char *)WIRE_FEATURE_CALL, (char *)WIRE_FEATURE_LINES };
	char token[64];

	*s = (struct rig_supervisor){ .rig = rig, .sandbox = options->sandbox };
	rig_connect_at(rig, &s->client);
	rpc_reader_init(&s->reader, WIRE_MESSAGE_MAX);
	s->control.on_data = control_data;
	s->control.cookie = s;
	s->control.discard = true;
	bearer(options->sandbox, token);
	rig_start(rig, &s->control, s->client, WIRE_CONNECT,
	    (const char *[]){ "authorization", token, NULL }, 0);
	hello.sandbox_id = (char *)(options->claims != NULL ? options->claims : options->sandbox);
	hello.instance_id = (char *)(options->instance != NULL ? options->instance : "one");
	hello.connection_epoch = options->epoch;
	hello.features = features;
	hello.n_features = options->foreign ? 0 : 2;
	m.payload_case = OPENSHELL__V1__SUPERVISOR_MESSAGE__PAYLOAD_HELLO;
	m.hello = &hello;
	if (s->control.call != NULL)
		rig_send(s, &m);
}

static bool is_accepted(void *cookie)
{
	return ((struct rig_supervisor *)cookie)->accepted;
}

bool rig_accepted(struct rig_supervisor *s)
{
	return rig_until(s->rig, is_accepted, s);
}

static bool is_gone(void *cookie)
{
	const struct rig_supervisor *s = cookie;

	return s->client == NULL && s->control.closed;
}

void rig_supervisor_free(struct rig_supervisor *s)
{
	if (s->client != NULL)
		rpc_client_close(s->client);
	assert_true(rig_until(s->rig, is_gone, s));
	rpc_reader_free(&s->reader);
	for (size_t i = 0; i < s->open_count; i++)
		codec_free(s->opens[i]);
	free(s->opens);
	rig_call_free(&s->control);
}

static bool has_open(void *cookie)
{
	const struct rig_supervisor *s = cookie;

	return s->open_next < s->open_count;
}

const Openshell__V1__RelayOpen *rig_next_open(struct rig_supervisor *s)
{
	if (!rig_until(s->rig, has_open, s))
		return NULL;
	return s->opens[s->open_next++]->relay_open;
}

void rig_claim(struct rig *rig, struct rig_call *c, struct rpc_client *client, const char *sandbox,
    const char *session, const char *channel_id)
{
	Openshell__V1__RelayInit init = OPENSHELL__V1__RELAY_INIT__INIT;
	Openshell__V1__RelayFrame frame = OPENSHELL__V1__RELAY_FRAME__INIT;
	char token[64];

	bearer(sandbox, token);
	rig_start(rig, c, client, WIRE_RELAY,
	    (const char *[]){
		"authorization", token, session != NULL ? WIRE_META_SESSION : NULL, session, NULL },
	    0);
	init.channel_id = (char *)channel_id;
	frame.payload_case = OPENSHELL__V1__RELAY_FRAME__PAYLOAD_INIT;
	frame.init = &init;
	if (c->call == NULL)
		return;
	alloc_hold();
	assert_int_equal(wire_send(c->call, &frame.base), 0);
	alloc_release();
}

void rig_join_many(
    struct rig_supervisor *s, struct rpc_client *client, struct rig_pair *pairs, size_t n)
{
	const Openshell__V1__RelayOpen *open;

	for (size_t i = 0; i < n; i++)
		rig_route(s->rig, &pairs[i].client, client, s->sandbox, "first");
	for (size_t i = 0; i < n; i++) {
		open = rig_next_open(s);
		assert_non_null(open);
		rig_claim(s->rig, &pairs[i].tunnel, s->client, s->sandbox, s->session_id,
		    open->channel_id);
	}
}

void rig_join(struct rig_supervisor *s, struct rpc_client *client, struct rig_pair *pair)
{
	rig_join_many(s, client, pair, 1);
}

void rig_pair_free(struct rig_pair *pair)
{
	rig_call_free(&pair->client);
	rig_call_free(&pair->tunnel);
}

/* Scenes. */

void rig_begin(struct rig_scene *s, const struct tunnel_options *limits)
{
	s->rig = rig_create(1, limits);
	s->client = rig_connect(s->rig);
	rig_greet(s->rig, &s->super, &(struct rig_hello){ .sandbox = "a" });
	assert_true(rig_accepted(&s->super));
}

void rig_end(struct rig_scene *s)
{
	rig_supervisor_free(&s->super);
	rpc_client_close(s->client);
	assert_true(rig_settled(s->rig, 0, 0, 0));
	rig_free(s->rig);
}

void rig_end_with(struct rig_call *c, enum grpc_code code, const char *text)
{
	struct err e = { 0 };

	if (code != GRPC_OK)
		err_set(&e, code, "%s", text);
	rpc_call_end(c->call, &e);
}

void rig_assert_status(struct rig_call *c, enum grpc_code code, const char *part)
{
	assert_true(rig_ended(c));
	if (c->status.code != code)
		print_message("status %d: %s\n", (int)c->status.code, c->status.text);
	assert_int_equal(c->status.code, code);
	if (part != NULL && strstr(c->status.text, part) == NULL)
		fail_msg("\"%s\" is not in \"%s\"", part, c->status.text);
}

void rig_assert_got(struct rig_call *c, const char *text)
{
	assert_true(rig_got(c, strlen(text)));
	assert_int_equal(c->len, strlen(text));
	assert_memory_equal(c->got, text, strlen(text));
}
