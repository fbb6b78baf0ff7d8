/* The supervisor's end: what it serves, how it comes back, how it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "app.h"
#include "foreign.h"
#include "relay/wire.h"
#include "rig.h"

/* A frame of the echo's stream: gRPC prefix and field 2. */
static void write_frame(struct rig_call *c, const char *text)
{
	size_t len = strlen(text);
	uint8_t frame[128] = { 0, 0, 0, 0, (uint8_t)(len + 2), 0x12, (uint8_t)len };

	assert_true(len + 7 < sizeof(frame));
	memcpy(frame + 7, text, len + 1);
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
	app_dial(&app, rig, rig->url, "a", "a", app_rows);
	assert_true(app_connected(&app, 2));
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
	assert_true(app_until(rig, &app.closed, 1));
	assert_int_equal(app.why.code, GRPC_OK);
	assert_true(rig_settled(rig, 1, 0, 0));
	rig_call_free(&call);
	rpc_client_close(client);
	app_hang_up(&app);
	rig_free(rig);
}

/* A client that had ended before its call was routed: the handler knows from the start,
 * and both streams end without a reset. */
static void test_whole_call(void **state)
{
	const char *const names[] = { "sandbox", "a", "whole", "yes", NULL };
	struct rig *rig = rig_create(1, NULL);
	struct rpc_client *client = rig_connect(rig);
	struct rig_call call = { 0 };
	struct app app;

	(void)state;
	app_dial(&app, rig, rig->url, "a", "a", app_rows);
	assert_true(app_connected(&app, 2));
	rig_start(rig, &call, client, RIG_ECHO, names, 0);
	assert_int_equal(rpc_call_send(call.call, "fail", 4), 0);
	rpc_call_end(call.call, NULL);
	rig_assert_status(&call, GRPC_ALREADY_EXISTS, "it is there");
	assert_true(app.half_closed);
	assert_true(app_until(rig, &app.closed, 1));
	assert_int_equal(app.why.code, GRPC_OK);
	assert_true(rig_closed(&call));
	assert_int_equal(call.why.code, GRPC_OK);
	rig_call_free(&call);
	rpc_client_close(client);
	app_hang_up(&app);
	rig_free(rig);
}

static void test_answers_with_a_status(void **state)
{
	struct rig *rig = rig_create(1, NULL);
	struct rpc_client *client = rig_connect(rig);
	struct rig_call failing = { 0 }, unknown = { 0 };
	struct app app, other;

	(void)state;
	app_dial(&app, rig, rig->url, "a", "a", app_rows);
	app_dial(&other, rig, rig->url, "b", "b", app_no_rows);
	assert_true(app_connected(&app, 2) && app_connected(&other, 2));
	rig_route(rig, &failing, client, "a", "fail");
	rig_assert_status(&failing, GRPC_ALREADY_EXISTS, "it is there");
	rig_route(rig, &unknown, client, "b", "x");
	rig_assert_status(&unknown, GRPC_UNIMPLEMENTED, RIG_ECHO);
	assert_true(rig_closed(&failing) && rig_closed(&unknown));
	rig_call_free(&failing);
	rig_call_free(&unknown);
	rpc_client_close(client);
	app_hang_up(&app);
	app_hang_up(&other);
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
	app_dial(&app, rig, rig->url, "a", "a", app_rows);
	assert_true(app_connected(&app, 2));
	rig_start(rig, &call, client, RIG_ECHO, names, 200);
	assert_int_equal(rpc_call_send(call.call, "x", 1), 0);
	assert_true(rig_closed(&call));
	assert_in_range(app.timeout_ms, 1, 200);
	assert_true(app_until(rig, &app.closed, 1));
	assert_true(rig_settled(rig, 1, 0, 0));
	rig_call_free(&call);
	rpc_client_close(client);
	app_hang_up(&app);
	rig_free(rig);
}

static void test_client_vanishes(void **state)
{
	struct rig *rig = rig_create(1, NULL);
	struct rpc_client *client = rig_connect(rig);
	struct rig_call call = { 0 };
	struct app app;

	(void)state;
	app_dial(&app, rig, rig->url, "a", "a", app_rows);
	assert_true(app_connected(&app, 2));
	rig_route(rig, &call, client, "a", "x");
	write_frame(&call, "one");
	assert_echoed(&call, "one");
	rpc_client_close(client);
	assert_true(app_until(rig, &app.closed, 1));
	assert_int_equal(app.why.code, GRPC_CANCELLED);
	assert_true(rig_closed(&call));
	assert_true(rig_settled(rig, 1, 0, 0));
	rig_call_free(&call);
	app_hang_up(&app);
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
	app_dial(&app, rig, rig->url, "a", "a", app_rows);
	assert_true(app_connected(&app, 2));
	rig_route(rig, &before, client, "a", "x");
	write_frame(&before, "one");
	assert_echoed(&before, "one");
	loop_post(rig->loops[0], &dropping.post);
	rig_assert_status(&before, GRPC_UNAVAILABLE, "a pause");
	assert_true(app_until(rig, &app.disconnected, 1));
	assert_true(app_until(rig, &app.connected, 2));
	assert_int_equal(app.closed, 1);
	rig_route(rig, &after, client, "a", "y");
	write_frame(&after, "two");
	assert_echoed(&after, "two");
	dialer_stats(app.dialer, &stats);
	assert_int_equal(stats.reconnects, 1);
	rig_call_free(&before);
	rig_call_free(&after);
	rpc_client_close(client);
	app_hang_up(&app);
	rig_free(rig);
}

static void test_rejected(void **state)
{
	struct rig *rig = rig_create(1, NULL);
	struct app liar, old, new;
	struct dialer_stats stats;

	(void)state;
	app_dial(&liar, rig, rig->url, "a", "somebody else's", app_rows);
	assert_true(app_until(rig, &liar.rejected, 1));
	assert_int_equal(liar.why.code, GRPC_PERMISSION_DENIED);
	app_dial(&old, rig, rig->url, "b", "b", app_rows);
	assert_true(app_connected(&old, 2));
	app_dial(&new, rig, rig->url, "b", "b", app_rows);
	assert_true(app_until(rig, &old.rejected, 1));
	assert_int_equal(old.why.code, GRPC_ABORTED);
	rig_run(rig, DIALER_BACKOFF_MIN_MS + DIALER_BACKOFF_MIN_MS / 2);
	dialer_stats(new.dialer, &stats);
	assert_true(stats.connected);
	assert_int_equal(old.disconnected, 0);
	app_hang_up(&liar);
	app_hang_up(&old);
	app_hang_up(&new);
	rig_free(rig);
}

static void test_nobody_there(void **state)
{
	struct rig *rig = rig_create(1, NULL);
	struct app app;

	(void)state;
	app_dial(&app, rig, "http://127.0.0.1:1", "a", "a", app_rows);
	rig_run(rig, 100);
	assert_int_equal(app.connected + app.disconnected + app.rejected, 0);
	app_hang_up(&app);
	rig_free(rig);
}

static void test_closes_at_any_time(void **state)
{
	struct rig *rig = rig_create(1, &(struct tunnel_options){ .claim_ms = 200 });
	struct rpc_client *client = rig_connect(rig);
	struct app app;

	(void)state;
	for (uint32_t ms = 0; ms < 12; ms++) {
		struct rig_call call = { 0 };

		app_dial(&app, rig, rig->url, "a", "a", app_rows);
		rig_run(rig, ms);
		rig_route(rig, &call, client, "a", "x");
		rig_run(rig, ms % 3);
		app_hang_up(&app);
		assert_true(rig_ended(&call));
		assert_int_equal(call.status.code, GRPC_UNAVAILABLE);
		rig_call_free(&call);
		assert_true(rig_settled(rig, 0, 0, 0));
	}
	rpc_client_close(client);
	rig_free(rig);
}

/* A gateway that is not ours. */

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
	app_dial(&app, rig, f.url, "a", "a", app_rows);
	assert_true(app_connected(&app, 1));
	foreign_open_tcp(&f);
	assert_true(app_until(rig, &f.inits, 1));
	assert_string_equal(f.channel_id, "tcp-1");
	assert_string_equal(app.method, WIRE_FORWARD);
	assert_int_equal(rpc_call_copy(f.relay, "\0\0\0\0\6\x12\4ping", 11), 0);
	assert_true(rig_until(rig, foreign_has_text, &f));
	rpc_call_end(f.relay, NULL);
	assert_true(app_until(rig, &f.ended, 1));
	assert_int_equal(f.status.code, GRPC_OK);

	ssh.channel_id = (char *)"ssh-1";
	ssh.target_case = OPENSHELL__V1__RELAY_OPEN__TARGET_SSH;
	ssh.ssh = &target;
	foreign_send_open(&f, &ssh);
	assert_true(app_until(rig, &f.results, 1));
	assert_non_null(strstr(f.error, "SSH"));
	ssh.target_case = OPENSHELL__V1__RELAY_OPEN__TARGET__NOT_SET;
	foreign_send_open(&f, &ssh);
	assert_true(app_until(rig, &f.results, 2));

	m.payload_case = OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_CONFIG_UPDATE;
	m.config_update = &update;
	assert_int_equal(wire_send(f.control, &m.base), 0);
	assert_true(app_until(rig, &f.unsupported, 1));
	assert_true(app_until(rig, &f.heartbeats, 1));
	assert_int_equal(app.disconnected, 0);
	app_hang_up(&app);
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
	app_dial(&app, rig, f.url, "a", "a", app_rows);
	assert_true(app_connected(&app, 1));
	assert_true(app_until(rig, &app.disconnected, 1));
	assert_int_equal(app.why.code, GRPC_UNAVAILABLE);
	assert_non_null(strstr(app.why.text, "nothing heard"));
	app_hang_up(&app);
	foreign_free(&f);
	rig_free(rig);
}

static void give_up(struct foreign *f)
{
	Openshell__V1__RelayClose close = OPENSHELL__V1__RELAY_CLOSE__INIT;
	Openshell__V1__GatewayMessage m = OPENSHELL__V1__GATEWAY_MESSAGE__INIT;

	close.channel_id = (char *)"tcp-1";
	close.reason = (char *)"enough";
	m.payload_case = OPENSHELL__V1__GATEWAY_MESSAGE__PAYLOAD_RELAY_CLOSE;
	m.relay_close = &close;
	assert_int_equal(wire_send(f->control, &m.base), 0);
}

/* Its handler is told at once, even when nothing that it has sent can leave. */
static void test_relay_close(void **state)
{
	static const uint8_t zeros[RPC_WINDOW];

	(void)state;
	for (unsigned stalled = 0; stalled < 2; stalled++) {
		struct rig *rig = rig_create(1, NULL);
		struct foreign f;
		struct app app;

		foreign_create(&f, rig);
		app_dial(&app, rig, f.url, "a", "a", app_rows);
		assert_true(app_connected(&app, 1));
		foreign_open_tcp(&f);
		assert_true(app_until(rig, &f.inits, 1));
		f.stalled = stalled == 1;
		for (unsigned i = 0; i < 2 * stalled; i++) { /* echoed: more than it may send */
			uint8_t head[] = { 0, 0, 0x10, 0, 4, 0x12, 0x80, 0x80, 0x40 };
			assert_int_equal(rpc_call_copy(f.relay, head, sizeof(head)), 0);
			assert_int_equal(rpc_call_copy(f.relay, zeros, RPC_WINDOW), 0);
			rig_run(rig, 20);
		}
		give_up(&f);
		assert_true(app_until(rig, &app.closed, 1));
		assert_int_equal(app.why.code, GRPC_CANCELLED);
		assert_true(app_until(rig, &f.closed, 1));
		assert_int_equal(f.closed_why.code, GRPC_CANCELLED);
		assert_int_equal(app.disconnected, 0);
		app_hang_up(&app);
		foreign_free(&f);
		rig_free(rig);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_echo),
		TEST(test_whole_call),
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
