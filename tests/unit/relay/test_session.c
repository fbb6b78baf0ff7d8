/* Sessions: hello, heartbeats, which of two is served. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "relay/wire.h"
#include "rig.h"
#include "support/lines.h"

#define LARGE (RPC_WINDOW - 64)                /* of a message: it arrives whole */
#define KEPT  (RPC_CALL_QUEUE_MAX / LARGE + 1) /* and one is on its way */
#define MANY  (KEPT + 8)

static void test_newest_supersedes(void **state)
{
	struct rig_scene s;
	struct rig_supervisor newer;
	struct rig_pair p = { 0 };
	struct rig_call waiting = { 0 }, old_claim = { 0 }, claim = { 0 };
	const Openshell__V1__RelayOpen *open;

	(void)state;
	rig_begin(&s, NULL);
	rig_join(&s.super, s.client, &p);
	assert_true(rig_settled(s.rig, 1, 0, 1));
	rig_route(s.rig, &waiting, s.client, "a", "x");
	assert_non_null(rig_next_open(&s.super));
	rig_greet(s.rig, &newer, &(struct rig_hello){ .sandbox = "a", .instance = "two" });
	assert_true(rig_accepted(&newer));
	rig_assert_status(&s.super.control, GRPC_ABORTED, "superseded");
	rig_assert_status(&p.client, GRPC_UNAVAILABLE, "replaced");
	assert_int_equal(atomic_load(&s.rig->ups), 2);
	assert_int_equal(atomic_load(&s.rig->downs), 0);
	open = rig_next_open(&newer);
	assert_non_null(open);
	rig_claim(s.rig, &old_claim, s.super.client, "a", s.super.session_id, open->channel_id);
	rig_assert_status(&old_claim, GRPC_PERMISSION_DENIED, "session");
	rig_claim(s.rig, &claim, newer.client, "a", newer.session_id, open->channel_id);
	rig_write(&claim, "new", 3);
	rig_assert_got(&waiting, "new");
	rig_pair_free(&p);
	rig_call_free(&waiting);
	rig_call_free(&old_claim);
	rig_call_free(&claim);
	rig_supervisor_free(&newer);
	rig_end(&s);
}

static void test_flapping_pair_leaks_nothing(void **state)
{
	static struct rig_supervisor pair[2];
	struct rig_scene s;

	(void)state;
	rig_begin(&s, NULL);
	for (unsigned i = 0; i < 60; i++) {
		if (i >= 2)
			rig_supervisor_free(&pair[i % 2]);
		rig_greet(s.rig, &pair[i % 2],
		    &(struct rig_hello){ .sandbox = "a", .instance = i % 2 ? "x" : "y" });
		assert_true(rig_accepted(&pair[i % 2]));
	}
	assert_true(rig_settled(s.rig, 1, 0, 0));
	rig_supervisor_free(&pair[0]);
	rig_supervisor_free(&pair[1]);
	rig_end(&s);
}

static void test_late_hello_of_an_older_connection(void **state)
{
	struct rig_scene s;
	struct rig_supervisor newer, older;

	(void)state;
	rig_begin(&s, NULL);
	rig_greet(s.rig, &newer, &(struct rig_hello){ .sandbox = "b", .epoch = 7 });
	assert_true(rig_accepted(&newer));
	rig_greet(s.rig, &older, &(struct rig_hello){ .sandbox = "b", .epoch = 6 });
	rig_assert_status(&older.control, GRPC_UNAVAILABLE, "newer");
	assert_true(older.rejected && !older.accepted);
	assert_false(newer.control.ended);
	rig_supervisor_free(&older);
	rig_supervisor_free(&newer);
	rig_end(&s);
}

static void test_bad_hellos(void **state)
{
	const char *const names[] = { "authorization", "Bearer b", NULL };
	Openshell__V1__SupervisorHeartbeat beat = OPENSHELL__V1__SUPERVISOR_HEARTBEAT__INIT;
	Openshell__V1__SupervisorHello hello = OPENSHELL__V1__SUPERVISOR_HELLO__INIT;
	Openshell__V1__SupervisorMessage m = OPENSHELL__V1__SUPERVISOR_MESSAGE__INIT;
	struct rig_scene s;
	struct rig_supervisor liar;
	struct rig_call no_hello = { 0 };

	(void)state;
	rig_begin(&s, NULL);
	rig_greet(s.rig, &liar, &(struct rig_hello){ .sandbox = "b", .claims = "a" });
	rig_assert_status(&liar.control, GRPC_PERMISSION_DENIED, "another one");
	assert_false(liar.accepted);
	rig_start(s.rig, &no_hello, s.client, WIRE_CONNECT, names, 0);
	m.payload_case = OPENSHELL__V1__SUPERVISOR_MESSAGE__PAYLOAD_HEARTBEAT;
	m.heartbeat = &beat;
	assert_int_equal(wire_send(no_hello.call, &m.base), 0);
	rig_assert_status(&no_hello, GRPC_INVALID_ARGUMENT, "must be hello");
	hello.sandbox_id = (char *)"a";
	m.payload_case = OPENSHELL__V1__SUPERVISOR_MESSAGE__PAYLOAD_HELLO;
	m.hello = &hello;
	rig_send(&s.super, &m);
	rig_assert_status(&s.super.control, GRPC_INVALID_ARGUMENT, "second hello");
	rig_call_free(&no_hello);
	rig_supervisor_free(&liar);
	rig_end(&s);
}

static void test_heartbeats(void **state)
{
	struct rig_scene s;
	struct rig_supervisor mute;
	struct rig_pair p = { 0 };

	(void)state;
	rig_begin(&s, &(struct tunnel_options){ .heartbeat_ms = 40 });
	assert_int_equal(s.super.heartbeat_ms, 40);
	assert_int_equal(s.super.heartbeat_secs, 1);
	rig_greet(s.rig, &mute, &(struct rig_hello){ .sandbox = "b" });
	mute.mute = true;
	assert_true(rig_accepted(&mute));
	rig_join(&mute, s.client, &p);
	rig_assert_status(&mute.control, GRPC_UNAVAILABLE, "no heartbeat");
	rig_assert_status(&p.client, GRPC_UNAVAILABLE, "no heartbeat");
	assert_true(mute.heartbeats >= TUNNEL_HEARTBEATS_MISSED - 1);
	rig_run(s.rig, 40 * (TUNNEL_HEARTBEATS_MISSED + 2));
	assert_false(s.super.control.ended);
	assert_true(rig_settled(s.rig, 1, 0, 0));
	rig_pair_free(&p);
	rig_supervisor_free(&mute);
	rig_end(&s);
}

static void test_message_that_is_too_long(void **state)
{
	const uint8_t head[] = { 0, 0, 1, 0, 1 }; /* SESSION_MESSAGE_MAX and a byte will come */
	struct rig_scene s;
	struct rig_pair p = { 0 };

	(void)state;
	rig_begin(&s, NULL);
	rig_join(&s.super, s.client, &p);
	assert_true(rig_settled(s.rig, 1, 0, 1));
	rig_write(&s.super.control, head, sizeof(head));
	rig_assert_status(&s.super.control, GRPC_RESOURCE_EXHAUSTED, "65537 bytes");
	rig_assert_status(&p.client, GRPC_UNAVAILABLE, "tunnel");
	assert_true(rig_settled(s.rig, 0, 0, 0));
	assert_int_equal(atomic_load(&s.rig->downs), 1);
	rig_pair_free(&p);
	rig_end(&s);
}

static bool some_are_refused(void *calls)
{
	const struct rig_call *c = calls;
	unsigned n = 0;

	for (size_t i = 0; i < MANY; i++)
		n += c[i].ended;
	return n >= MANY - KEPT;
}

/* What it is told waits, up to a limit; then its clients are told. Nobody else's are. */
static void test_supervisor_that_does_not_read(void **state)
{
	static struct rig_call calls[MANY];
	int lines = lines_open();
	char *first = malloc(LARGE + 1);
	struct rig_supervisor other;
	struct rig_pair p = { 0 };
	struct rig_scene s;

	(void)state;
	assert_non_null(first);
	memset(first, 'x', LARGE);
	first[LARGE] = '\0';
	log_setup(lines, LOG_FORMAT_LOGFMT, LOG_LEVEL_INFO);
	rig_begin(&s,
	    &(struct tunnel_options){ .claim_ms = RIG_WAIT_MS, .unclaimed_sandbox_max = 2 * MANY });
	rig_greet(s.rig, &other, &(struct rig_hello){ .sandbox = "b" });
	assert_true(rig_accepted(&other));
	s.super.deaf = true;
	for (size_t i = 0; i < MANY; i++)
		rig_route(s.rig, &calls[i], s.client, "a", first);
	assert_true(rig_until(s.rig, some_are_refused, calls));
	for (size_t i = 0; i < MANY; i++)
		if (calls[i].ended)
			rig_assert_status(
			    &calls[i], GRPC_RESOURCE_EXHAUSTED, "tunnel to the sandbox is busy");
	assert_int_not_equal(lines_count(lines, "event=session_full sandbox=a"), 0);
	assert_false(s.super.control.ended);
	rig_join(&other, s.client, &p);
	rig_write(&p.tunnel, "well", 4);
	rig_assert_got(&p.client, "well");
	for (size_t i = 0; i < MANY; i++)
		rig_call_free(&calls[i]);
	rig_pair_free(&p);
	rig_supervisor_free(&other);
	rig_end(&s);
	free(first);
	log_setup(STDERR_FILENO, LOG_FORMAT_LOGFMT, LOG_LEVEL_ERROR);
	close(lines);
}

static void test_drop(void **state)
{
	const struct err why = { .code = GRPC_FAILED_PRECONDITION,
		.text = "the sandbox is stopped" };
	struct rig_scene s;
	struct rig_pair p = { 0 };
	struct rig_call waiting = { 0 };

	(void)state;
	rig_begin(&s, NULL);
	rig_join(&s.super, s.client, &p);
	assert_true(rig_settled(s.rig, 1, 0, 1));
	rig_route(s.rig, &waiting, s.client, "a", "x");
	assert_non_null(rig_next_open(&s.super));
	assert_true(tunnels_is_up(s.rig->tunnels, "a"));
	tunnels_drop(s.rig->tunnels, "a", &why);
	assert_false(tunnels_is_up(s.rig->tunnels, "a"));
	rig_assert_status(&p.client, GRPC_FAILED_PRECONDITION, "stopped");
	rig_assert_status(&waiting, GRPC_FAILED_PRECONDITION, "stopped");
	rig_assert_status(&s.super.control, GRPC_FAILED_PRECONDITION, "stopped");
	assert_true(rig_closed(&p.tunnel));
	assert_true(rig_settled(s.rig, 0, 0, 0));
	rig_pair_free(&p);
	rig_call_free(&waiting);
	rig_end(&s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_newest_supersedes),
		TEST(test_flapping_pair_leaks_nothing),
		TEST(test_late_hello_of_an_older_connection),
		TEST(test_bad_hellos),
		TEST(test_heartbeats),
		TEST(test_message_that_is_too_long),
		TEST(test_supervisor_that_does_not_read),
		TEST(test_drop),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
