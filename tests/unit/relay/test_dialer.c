/* The supervisor's end: what it serves, how it comes back, how it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "foreign.h"
#include "relay/dialer.h"
#include "relay/wire.h"
#include "rig.h"

/* What the dialer's handlers and callbacks have seen. */
struct app {
	struct rig *rig;
	struct dialer *dialer;
	unsigned connected, disconnected, rejected, opened, closed;
	struct err why; /* of the last closed(), disconnected() or rejected() */
	char method[64], first[64], subject[64];
	uint64_t timeout_ms;
	bool half_closed, done;
};

struct channel_state {
	struct app *app;
	struct framed *framed;
};

/* RIG_ECHO: sends back what it gets, ends when the client does. A first message "silent"
 * is not answered; "fail" is, with a status. */

static void echo_payload(void *cookie, struct slice bytes)
{
	struct channel_state *c = cookie;
	size_t len = bytes.len;

	if (framed_write(c->framed, FRAMED_BYTES, bytes) != 0)
		slice_release(&bytes);
	framed_credit(c->framed, len);
}

static void echo_end(void *cookie, const struct err *status)
{
	struct channel_state *c = cookie;

	assert_null(status);
	framed_finish(c->framed, NULL);
}

static void echo_closed(void *cookie, const struct err *why)
{
	struct channel_state *c = cookie;

	c->app->closed++;
	c->app->why = *why;
	free(c);
}

static const struct framed_ops echo_ops = {
	.payload = echo_payload,
	.end = echo_end,
	.closed = echo_closed,
};

static void echo_open(struct framed *framed, const struct channel_request *request, void *cookie)
{
	struct channel_state *c = calloc(1, sizeof(*c));
	struct app *app = cookie;
	struct err e;

	assert_non_null(c);
	c->app = app;
	c->framed = framed;
	app->opened++;
	app->timeout_ms = request->timeout_ms;
	app->half_closed = request->half_closed;
	snprintf(app->method, sizeof(app->method), "%s", request->method);
	snprintf(app->subject, sizeof(app->subject), "%s", request->subject);
	snprintf(app->first, sizeof(app->first), "%.*s", (int)request->first_len,
	    (const char *)request->first_message);
	framed_bind(framed, &echo_ops, c);
	if (strcmp(app->first, "fail") != 0)
		return;
	err_set(&e, GRPC_ALREADY_EXISTS, "it is there");
	framed_finish(framed, &e);
}

static const struct channel_method rows[] = {
	{ .path = RIG_ECHO, .open = echo_open },
	{ .path = WIRE_FORWARD, .open = echo_open },
	{ .path = NULL },
};

static const struct channel_method no_rows[] = { { .path = NULL } };

static void on_connected(void *cookie)
{
	struct app *app = cookie;

	app->connected++;
}

static void on_disconnected(void *cookie, const struct err *why)
{
	struct app *app = cookie;

	app->disconnected++;
	app->why = *why;
}

static void on_rejected(void *cookie, const struct err *why)
{
	struct app *app = cookie;

	app->rejected++;
	app->why = *why;
}

static void dial(struct app *app, struct rig *rig, const char *url, const char *sandbox,
    const char *token, const struct channel_method *methods)
{
	struct err e;

	*app = (struct app){ .rig = rig };
	app->dialer = dialer_create(rig->loop,
	    &(struct dialer_options){
		.url = url,
		.sandbox_id = sandbox,
		.token = token,
		.instance_id = "dialer",
		.methods = methods,
		.app = app,
		.connected = on_connected,
		.disconnected = on_disconnected,
		.rejected = on_rejected,
	    },
	    &e);
	assert_non_null(app->dialer);
}

static void on_done(void *cookie)
{
	struct app *app = cookie;

	app->done = true;
}

static bool is_done(void *cookie)
{
	return ((struct app *)cookie)->done;
}

static void hang_up(struct app *app)
{
	dialer_close(app->dialer, on_done, app);
	assert_true(rig_until(app->rig, is_done, app));
	assert_int_equal(app->opened, app->closed);
}

struct expect {
	const struct app *app;
	const unsigned *count;
	unsigned want;
	uint32_t connections;
};

static bool count_is(void *cookie)
{
	const struct expect *x = cookie;

	return *x->count == x->want;
}

static bool until_count(struct app *app, const unsigned *count, unsigned want)
{
	struct expect x = { .app = app, .count = count, .want = want };

	return rig_until(app->rig, count_is, &x);
}

static bool connections_are(void *cookie)
{
	const struct expect *x = cookie;
	struct dialer_stats stats;

	dialer_stats(x->app->dialer, &stats);
	return stats.connected && stats.connections == x->connections;
}

static bool until_connections(struct app *app, uint32_t connections)
{
	struct expect x = { .app = app, .connections = connections };

	return rig_until(app->rig, connections_are, &x);
}

/* A frame of the echo's stream: gRPC prefix and field 2. */
static void write_frame(struct rig_call *c, const char *text)
{
	size_t len = strlen(text);
	uint8_t frame[128] = { 0, 0, 0, 0, (uint8_t)(len + 2), 0x12, (uint8_t)len };

	assert_true(len + 7 <= sizeof(frame));
	memcpy(frame + 7, text, len);
	rig_write(c, frame, len + 7);
}

static void assert_echoed(struct rig_call *c, const char *text)
{
	assert_true(rig_got(c, strlen(text) + 7));
	assert_memory_equal(c->got + 7, text, strlen(text));
}

static void test_echo(void **state)
{
	struct rig *rig = rig_create(1, NULL);
	struct rpc_client *client = rig_connect(rig);
	struct rig_call call = { 0 };
	struct dialer_stats stats;
	struct app app;

	(void)state;
	dial(&app, rig, rig->url, "a", "a", rows);
	assert_true(until_connections(&app, 2));
	rig_route(rig, &call, client, "a", "hello");
	write_frame(&call, "one");
	assert_echoed(&call, "one");
	assert_string_equal(app.method, RIG_ECHO);
	assert_string_equal(app.first, "hello");
	assert_string_equal(app.subject, "tester");
	assert_false(app.half_closed);
	assert_int_equal(app.timeout_ms, RPC_DEADLINE_NONE);
	dialer_stats(app.dialer, &stats);
	assert_int_equal(stats.channels, 1);
	assert_int_equal(stats.opened, 1);
	rpc_call_end(call.call, NULL);
	rig_assert_status(&call, GRPC_OK, NULL);
	assert_true(rig_closed(&call));
	assert_true(until_count(&app, &app.closed, 1));
	assert_int_equal(app.why.code, GRPC_OK);
	assert_true(rig_settled(rig, 1, 0, 0));
	rig_call_free(&call);
	rpc_client_close(client);
	hang_up(&app);
	rig_free(rig);
}

static void test_answers_with_a_status(void **state)
{
	struct rig *rig = rig_create(1, NULL);
	struct rpc_client *client = rig_connect(rig);
	struct rig_call failing = { 0 }, unknown = { 0 };
	struct app app, other;

	(void)state;
	dial(&app, rig, rig->url, "a", "a", rows);
	dial(&other, rig, rig->url, "b", "b", no_rows);
	assert_true(until_connections(&app, 2) && until_connections(&other, 2));
	rig_route(rig, &failing, client, "a", "fail");
	rig_assert_status(&failing, GRPC_ALREADY_EXISTS, "it is there");
	rig_route(rig, &unknown, client, "b", "x");
	rig_assert_status(&unknown, GRPC_UNIMPLEMENTED, RIG_ECHO);
	assert_true(rig_closed(&failing) && rig_closed(&unknown));
	rig_call_free(&failing);
	rig_call_free(&unknown);
	rpc_client_close(client);
	hang_up(&app);
	hang_up(&other);
	rig_free(rig);
}

static void test_deadline(void **state)
{
	const char *const names[] = { "sandbox", "a", NULL };
	struct rig *rig = rig_create(1, NULL);
	struct rpc_client *client = rig_connect(rig);
	struct rig_call call = { 0 };
	struct app app;

	(void)state;
	dial(&app, rig, rig->url, "a", "a", rows);
	assert_true(until_connections(&app, 2));
	rig_start(rig, &call, client, RIG_ECHO, names, 200);
	assert_int_equal(rpc_call_send(call.call, "x", 1), 0);
	assert_true(rig_closed(&call));
	assert_in_range(app.timeout_ms, 1, 200);
	assert_true(until_count(&app, &app.closed, 1));
	assert_true(rig_settled(rig, 1, 0, 0));
	rig_call_free(&call);
	rpc_client_close(client);
	hang_up(&app);
	rig_free(rig);
}

static void test_client_vanishes(void **state)
{
	struct rig *rig = rig_create(1, NULL);
	struct rpc_client *client = rig_connect(rig);
	struct rig_call call = { 0 };
	struct app app;

	(void)state;
	dial(&app, rig, rig->url, "a", "a", rows);
	assert_true(until_connections(&app, 2));
	rig_route(rig, &call, client, "a", "x");
	write_frame(&call, "one");
	assert_echoed(&call, "one");
	rpc_client_close(client);
	assert_true(until_count(&app, &app.closed, 1));
	assert_int_equal(app.why.code, GRPC_CANCELLED);
	assert_true(rig_closed(&call));
	assert_true(rig_settled(rig, 1, 0, 0));
	rig_call_free(&call);
	hang_up(&app);
	rig_free(rig);
}

struct dropping {
	struct post post;
	struct rig *rig;
};

static void run_drop(struct post *post)
{
	const struct err why = { .code = GRPC_UNAVAILABLE, .text = "a pause" };

	tunnels_drop(((struct dropping *)post)->rig->tunnels, "a", &why);
}

static void test_comes_back(void **state)
{
	struct rig *rig = rig_create(1, NULL);
	struct rpc_client *client = rig_connect(rig);
	struct rig_call before = { 0 }, after = { 0 };
	struct dropping dropping = { .post.run = run_drop, .rig = rig };
	struct dialer_stats stats;
	struct app app;

	(void)state;
	dial(&app, rig, rig->url, "a", "a", rows);
	assert_true(until_connections(&app, 2));
	rig_route(rig, &before, client, "a", "x");
	write_frame(&before, "one");
	assert_echoed(&before, "one");
	loop_post(rig->loops[0], &dropping.post);
	rig_assert_status(&before, GRPC_UNAVAILABLE, "a pause");
	assert_true(until_count(&app, &app.disconnected, 1));
	assert_true(until_count(&app, &app.connected, 2));
	assert_int_equal(app.closed, 1);
	rig_route(rig, &after, client, "a", "y");
	write_frame(&after, "two");
	assert_echoed(&after, "two");
	dialer_stats(app.dialer, &stats);
	assert_int_equal(stats.reconnects, 1);
	rig_call_free(&before);
	rig_call_free(&after);
	rpc_client_close(client);
	hang_up(&app);
	rig_free(rig);
}

static void test_rejected(void **state)
{
	struct rig *rig = rig_create(1, NULL);
	struct app liar, old, new;
	struct dialer_stats stats;

	(void)state;
	dial(&liar, rig, rig->url, "a", "somebody else's", rows);
	assert_true(until_count(&liar, &liar.rejected, 1));
	assert_int_equal(liar.why.code, GRPC_PERMISSION_DENIED);
	dial(&old, rig, rig->url, "b", "b", rows);
	assert_true(until_connections(&old, 2));
	dial(&new, rig, rig->url, "b", "b", rows);
	assert_true(until_count(&old, &old.rejected, 1));
	assert_int_equal(old.why.code, GRPC_ABORTED);
	rig_run(rig, DIALER_BACKOFF_MIN_MS + DIALER_BACKOFF_MIN_MS / 2);
	dialer_stats(new.dialer, &stats);
	assert_true(stats.connected);
	assert_int_equal(old.disconnected, 0);
	hang_up(&liar);
	hang_up(&old);
	hang_up(&new);
	rig_free(rig);
}

static void test_nobody_there(void **state)
{
	struct rig *rig = rig_create(1, NULL);
	struct app app;

	(void)state;
	dial(&app, rig, "http://127.0.0.1:1", "a", "a", rows);
	rig_run(rig, 100);
	assert_int_equal(app.connected + app.disconnected + app.rejected, 0);
	hang_up(&app);
	rig_free(rig);
}

static void test_closes_at_any_time(void **state)
{
	struct rig *rig = rig_create(1, NULL);
	struct rpc_client *client = rig_connect(rig);
	struct app app;

	(void)state;
	for (uint32_t ms = 0; ms < 12; ms++) {
		struct rig_call call = { 0 };

		dial(&app, rig, rig->url, "a", "a", rows);
		rig_run(rig, ms);
		rig_route(rig, &call, client, "a", "x");
		rig_run(rig, ms % 3);
		hang_up(&app);
		assert_true(rig_ended(&call));
		assert_int_equal(call.status.code, GRPC_UNAVAILABLE);
		rig_call_free(&call);
		assert_true(rig_settled(rig, 0, 0, 0));
	}
	rpc_client_close(client);
	rig_free(rig);
}

/* A gateway that is not ours. */

static bool until_foreign(struct foreign *f, const unsigned *count, unsigned want)
{
	struct expect x = { .count = count, .want = want };

	return rig_until(f->rig, count_is, &x);
}

static bool foreign_has_text(void *cookie)
{
	return strcmp(((struct foreign *)cookie)->got, "ping") == 0;
}

static void test_foreign_gateway(void **state)
{
	Openshell__V1__RelayOpen ssh = OPENSHELL__V1__RELAY_OPEN__INIT;
	Openshell__V1__SshRelayTarget target = OPENSHELL__V1__SSH_RELAY_TARGET__INIT;
	Openshell__V1__ConfigUpdate update = OPENSHELL__V1__CONFIG_UPDATE__INIT;
	Openshell__V1__GatewayMessage m = OPENSHELL__V1__GATEWAY_MESSAGE__INIT;
	struct rig *rig = rig_create(1, NULL);
	struct foreign f;
	struct app app;

	(void)state;
	foreign_create(&f, rig);
	dial(&app, rig, f.url, "a", "a", rows);
	assert_true(until_connections(&app, 1));
	foreign_open_tcp(&f);
	assert_true(until_foreign(&f, &f.inits, 1));
	assert_string_equal(f.channel_id, "tcp-1");
	assert_string_equal(app.method, WIRE_FORWARD);
	assert_int_equal(rpc_call_copy(f.relay, "\0\0\0\0\6\x12\4ping", 11), 0);
	assert_true(rig_until(rig, foreign_has_text, &f));
	rpc_call_end(f.relay, NULL);
	assert_true(until_foreign(&f, &f.ended, 1));
	assert_int_equal(f.status.code, GRPC_OK);

	ssh.channel_id = (char *)"ssh-1";
	ssh.target_case = OPENSHELL__V1__RELAY_OPEN__TARGET_SSH;
	ssh.ssh = &target;
	foreign_send_open(&f, &ssh);
	assert_true(until_foreign(&f, &f.results, 1));
	assert_non_null(strstr(f.error, "SSH"));
	ssh.target_case = OPENSHELL__V1__RELAY_OPEN__TARGET__NOT_SET;
	foreign_send_open(&f, &ssh);
	assert_true(until_foreign(&f, &f.results, 2));

	m.payload_case = OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_CONFIG_UPDATE;
	m.config_update = &update;
	assert_int_equal(wire_send(f.control, &m.base), 0);
	assert_true(until_foreign(&f, &f.unsupported, 1));
	assert_true(until_foreign(&f, &f.heartbeats, 1));
	assert_int_equal(app.disconnected, 0);
	hang_up(&app);
	foreign_free(&f);
	rig_free(rig);
}

/* A gateway that says nothing for three intervals is gone. */
static void test_silent_gateway(void **state)
{
	struct rig *rig = rig_create(1, NULL);
	struct foreign f;
	struct app app;

	(void)state;
	foreign_create(&f, rig);
	dial(&app, rig, f.url, "a", "a", rows);
	assert_true(until_connections(&app, 1));
	assert_true(until_count(&app, &app.disconnected, 1));
	assert_int_equal(app.why.code, GRPC_UNAVAILABLE);
	assert_non_null(strstr(app.why.text, "nothing heard"));
	hang_up(&app);
	foreign_free(&f);
	rig_free(rig);
}

static void test_relay_close(void **state)
{
	Openshell__V1__RelayClose close = OPENSHELL__V1__RELAY_CLOSE__INIT;
	Openshell__V1__GatewayMessage m = OPENSHELL__V1__GATEWAY_MESSAGE__INIT;
	struct rig *rig = rig_create(1, NULL);
	struct foreign f;
	struct app app;

	(void)state;
	foreign_create(&f, rig);
	dial(&app, rig, f.url, "a", "a", rows);
	assert_true(until_connections(&app, 1));
	foreign_open_tcp(&f);
	assert_true(until_foreign(&f, &f.inits, 1));
	close.channel_id = (char *)"tcp-1";
	close.reason = (char *)"enough";
	m.payload_case = OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_RELAY_CLOSE;
	m.relay_close = &close;
	assert_int_equal(wire_send(f.control, &m.base), 0);
	assert_true(until_foreign(&f, &f.ended, 1));
	assert_int_equal(f.status.code, GRPC_CANCELLED);
	assert_true(until_count(&app, &app.closed, 1));
	hang_up(&app);
	foreign_free(&f);
	rig_free(rig);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_echo),
		TEST(test_answers_with_a_status),
		TEST(test_deadline),
		TEST(test_client_vanishes),
		TEST(test_comes_back),
		TEST(test_rejected),
		TEST(test_nobody_there),
		TEST(test_closes_at_any_time),
		TEST(test_foreign_gateway),
		TEST(test_silent_gateway),
		TEST(test_relay_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
