/* Channels: joined, ended, given up; supervisors and clients made by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "relay/wire.h"
#include "rig.h"

/* Joining and ending. */

static void test_bytes_and_both_ends(void **state)
{
	struct rig_scene s;
	struct rig_pair p = { 0 };

	(void)state;
	rig_begin(&s, NULL);
	rig_join(&s.super, s.client, &p);
	rig_write(&p.client, "up", 2);
	rig_assert_got(&p.tunnel, "up");
	rig_write(&p.tunnel, "down", 4);
	rig_assert_got(&p.client, "down");
	assert_true(rig_settled(s.rig, 1, 0, 1));
	rpc_call_end(p.client.call, NULL);
	rig_assert_status(&p.tunnel, GRPC_OK, NULL);
	rig_write(&p.tunnel, "later", 5);
	rig_assert_got(&p.client, "downlater");
	rig_end_with(&p.tunnel, GRPC_OK, NULL);
	rig_assert_status(&p.client, GRPC_OK, NULL);
	assert_true(rig_closed(&p.client) && rig_closed(&p.tunnel));
	assert_int_equal(p.client.why.code, GRPC_OK);
	assert_int_equal(p.tunnel.why.code, GRPC_OK);
	assert_true(rig_settled(s.rig, 1, 0, 0));
	rig_pair_free(&p);
	rig_end(&s);
}

/* A service that has shut down its sending side still reads. */
static void test_sandbox_ends_first(void **state)
{
	struct rig_scene s;
	struct rig_pair p = { 0 };

	(void)state;
	rig_begin(&s, NULL);
	rig_join(&s.super, s.client, &p);
	rig_write(&p.tunnel, "all", 3);
	rig_end_with(&p.tunnel, GRPC_OK, NULL);
	rig_assert_status(&p.client, GRPC_OK, NULL);
	rig_assert_got(&p.client, "all");
	assert_false(p.client.closed);
	rig_write(&p.client, "still here", 10);
	rig_assert_got(&p.tunnel, "still here");
	rpc_call_end(p.client.call, NULL);
	assert_true(rig_closed(&p.tunnel) && rig_closed(&p.client));
	assert_int_equal(p.tunnel.why.code, GRPC_OK);
	rig_pair_free(&p);
	rig_end(&s);
}

/* A supervisor that is done with the call resets behind its trailers. */
static void test_sandbox_wants_no_more(void **state)
{
	const struct err none = { 0 };
	struct rig_scene s;
	struct rig_pair p = { 0 };

	(void)state;
	rig_begin(&s, NULL);
	rig_join(&s.super, s.client, &p);
	rig_write(&p.tunnel, "result", 6);
	rig_end_with(&p.tunnel, GRPC_OK, NULL);
	rig_assert_status(&p.client, GRPC_OK, NULL);
	rpc_call_cancel(p.tunnel.call, &none);
	p.tunnel.call = NULL;
	assert_true(rig_settled(s.rig, 1, 0, 0));
	rig_assert_got(&p.client, "result");
	rig_pair_free(&p);
	rig_end(&s);
}

static void test_status_passes(void **state)
{
	struct rig_scene s;
	struct rig_pair p = { 0 };

	(void)state;
	rig_begin(&s, NULL);
	rig_join(&s.super, s.client, &p);
	rig_write(&p.tunnel, "part", 4);
	rig_end_with(&p.tunnel, GRPC_NOT_FOUND, "no such file: /tmp/caf\xc3\xa9 100%");
	rig_assert_status(&p.client, GRPC_NOT_FOUND, "no such file: /tmp/caf\xc3\xa9 100%");
	rig_assert_got(&p.client, "part");
	assert_true(rig_settled(s.rig, 1, 0, 0));
	rig_pair_free(&p);
	rig_end(&s);
}

static void test_missing_status_is_failure(void **state)
{
	struct rig_scene s;
	struct rig_pair p = { 0 };

	(void)state;
	rig_begin(&s, NULL);
	rig_join(&s.super, s.client, &p);
	rig_write(&p.tunnel, "part", 4);
	rpc_call_end(p.tunnel.call, NULL);
	rig_assert_status(&p.client, GRPC_UNAVAILABLE, "without a status");
	rig_pair_free(&p);
	rig_end(&s);
}

/* What the client sends while nobody has claimed the channel, and what comes with init. */
static void test_early_bytes(void **state)
{
	struct rig_scene s;
	struct rig_call client = { 0 }, tunnel = { 0 };
	const Openshell__V1__RelayOpen *open;

	(void)state;
	rig_begin(&s, NULL);
	rig_route(s.rig, &client, s.client, "a", "hello");
	rig_write(&client, "early", 5);
	rpc_call_end(client.call, NULL);
	open = rig_next_open(&s.super);
	assert_non_null(open);
	assert_int_equal(open->target_case, OPENSHELL__V1__RELAY_OPEN__TARGET_CALL);
	assert_string_equal(open->call->method, RIG_ECHO);
	assert_string_equal(open->call->subject, "tester");
	assert_int_equal(open->call->first_message.len, 5);
	assert_memory_equal(open->call->first_message.data, "hello", 5);
	assert_null(open->call->deadline);
	assert_int_equal(open->loop, 1);
	rig_run(s.rig, 20);
	rig_claim(s.rig, &tunnel, s.super.client, "a", s.super.session_id, open->channel_id);
	rig_write(&tunnel, "answer", 6);
	rig_end_with(&tunnel, GRPC_OK, NULL);
	rig_assert_status(&client, GRPC_OK, NULL);
	rig_assert_got(&client, "answer");
	rig_assert_status(&tunnel, GRPC_OK, NULL);
	rig_assert_got(&tunnel, "early");
	assert_true(rig_closed(&client) && rig_closed(&tunnel));
	rig_call_free(&client);
	rig_call_free(&tunnel);
	rig_end(&s);
}

static void test_foreign_supervisor(void **state)
{
	const char *const names[] = { "sandbox", "b", "tcp", "localhost", NULL };
	struct rig_scene s;
	struct rig_supervisor foreign;
	struct rig_call client = { 0 }, other = { 0 }, tunnel = { 0 };
	const Openshell__V1__RelayOpen *open;

	(void)state;
	rig_begin(&s, NULL);
	rig_greet(s.rig, &foreign, &(struct rig_hello){ .sandbox = "b", .foreign = true });
	assert_true(rig_accepted(&foreign));
	assert_int_equal(foreign.data_connections, 0);
	rig_start(s.rig, &client, s.client, RIG_ECHO, names, 0);
	assert_int_equal(rpc_call_send(client.call, "x", 1), 0);
	open = rig_next_open(&foreign);
	assert_non_null(open);
	assert_int_equal(open->target_case, OPENSHELL__V1__RELAY_OPEN__TARGET_TCP);
	assert_string_equal(open->tcp->host, "localhost");
	assert_int_equal(open->tcp->port, 80);
	rig_claim(s.rig, &tunnel, foreign.client, "b", NULL, open->channel_id);
	rig_write(&tunnel, "banner", 6);
	rig_assert_got(&client, "banner");
	rpc_call_end(tunnel.call, NULL);
	rig_assert_status(&client, GRPC_OK, NULL);
	rpc_call_end(client.call, NULL);
	assert_true(rig_closed(&client) && rig_closed(&tunnel));

	rig_route(s.rig, &other, s.client, "b", "x"); /* has no tcp form */
	rig_assert_status(&other, GRPC_UNIMPLEMENTED, RIG_ECHO);
	rig_call_free(&client);
	rig_call_free(&other);
	rig_call_free(&tunnel);
	rig_supervisor_free(&foreign);
	rig_end(&s);
}

/* Refusals. */

static void test_no_session(void **state)
{
	struct rig_scene s;
	struct rig_call client = { 0 };

	(void)state;
	rig_begin(&s, NULL);
	rig_route(s.rig, &client, s.client, "nobody", "x");
	rig_assert_status(&client, GRPC_UNAVAILABLE, "not connected");
	rig_call_free(&client);
	rig_end(&s);
}

static void refuse_channel(struct rig_supervisor *s, const char *id, const char *text)
{
	Openshell__V1__RelayOpenResult result = OPENSHELL__V1__RELAY_OPEN_RESULT__INIT;
	Openshell__V1__SupervisorMessage m = OPENSHELL__V1__SUPERVISOR_MESSAGE__INIT;

	result.channel_id = (char *)id;
	result.error = (char *)text;
	m.payload_case = OPENSHELL__V1__SUPERVISOR_MESSAGE__PAYLOAD_RELAY_OPEN_RESULT;
	m.relay_open_result = &result;
	rig_send(s, &m);
}

static void close_channel(struct rig_supervisor *s, const char *id, const char *text)
{
	Openshell__V1__RelayClose close = OPENSHELL__V1__RELAY_CLOSE__INIT;
	Openshell__V1__SupervisorMessage m = OPENSHELL__V1__SUPERVISOR_MESSAGE__INIT;

	close.channel_id = (char *)id;
	close.reason = (char *)text;
	m.payload_case = OPENSHELL__V1__SUPERVISOR_MESSAGE__PAYLOAD_RELAY_CLOSE;
	m.relay_close = &close;
	rig_send(s, &m);
}

static void test_supervisor_refuses(void **state)
{
	struct rig_scene s;
	struct rig_supervisor b;
	struct rig_call client = { 0 };
	struct rig_pair p = { 0 };
	const Openshell__V1__RelayOpen *open;

	(void)state;
	rig_begin(&s, NULL);
	rig_greet(s.rig, &b, &(struct rig_hello){ .sandbox = "b" });
	assert_true(rig_accepted(&b));
	rig_route(s.rig, &client, s.client, "a", "x");
	open = rig_next_open(&s.super);
	assert_non_null(open);
	refuse_channel(&b, open->channel_id, "not yours"); /* changes nothing */
	rig_run(s.rig, 30);
	assert_false(client.ended);
	refuse_channel(&s.super, open->channel_id, "no ssh here");
	rig_assert_status(&client, GRPC_UNAVAILABLE, "no ssh here");

	rig_join(&s.super, s.client, &p);
	assert_true(rig_settled(s.rig, 2, 0, 1));
	close_channel(&s.super, s.super.opens[1]->relay_open->channel_id, "it broke");
	rig_assert_status(&p.client, GRPC_UNAVAILABLE, "it broke");
	assert_true(rig_closed(&p.tunnel));
	rig_pair_free(&p);
	rig_call_free(&client);
	rig_supervisor_free(&b);
	rig_end(&s);
}

/* Who goes away. */

static void test_client_cancels(void **state)
{
	struct rig_scene s;
	struct rig_pair p = { 0 };

	(void)state;
	rig_begin(&s, NULL);
	rig_join(&s.super, s.client, &p);
	rig_write(&p.tunnel, "x", 1);
	rig_assert_got(&p.client, "x");
	rig_cancel(&p.client);
	assert_true(rig_closed(&p.tunnel));
	assert_int_equal(p.tunnel.why.code, GRPC_CANCELLED);
	assert_true(rig_settled(s.rig, 1, 0, 0));
	rig_pair_free(&p);
	rig_end(&s);
}

static void test_client_vanishes(void **state)
{
	struct rig_scene s;
	struct rpc_client *gone;
	struct rig_pair p = { 0 };

	(void)state;
	rig_begin(&s, NULL);
	gone = rig_connect(s.rig);
	rig_join(&s.super, gone, &p);
	rig_write(&p.tunnel, "x", 1);
	rig_assert_got(&p.client, "x");
	rpc_client_close(gone);
	assert_true(rig_closed(&p.tunnel));
	assert_int_equal(p.tunnel.why.code, GRPC_CANCELLED);
	assert_true(rig_closed(&p.client));
	rig_pair_free(&p);
	rig_end(&s);
}

static void test_client_goes_while_it_waits(void **state)
{
	struct rig_scene s;
	struct rig_call client = { 0 }, late = { 0 };
	const Openshell__V1__RelayOpen *open;

	(void)state;
	rig_begin(&s, NULL);
	rig_route(s.rig, &client, s.client, "a", "x");
	open = rig_next_open(&s.super);
	assert_non_null(open);
	rig_cancel(&client);
	assert_true(rig_settled(s.rig, 1, 0, 0));
	rig_claim(s.rig, &late, s.super.client, "a", s.super.session_id, open->channel_id);
	rig_assert_status(&late, GRPC_NOT_FOUND, NULL);
	assert_int_equal(s.super.closes, 1);
	rig_call_free(&client);
	rig_call_free(&late);
	rig_end(&s);
}

static void test_deadline(void **state)
{
	const char *const names[] = { "sandbox", "a", NULL };
	struct rig_scene s;
	struct rig_call client = { 0 }, tunnel = { 0 };
	const Openshell__V1__RelayOpen *open;

	(void)state;
	rig_begin(&s, NULL);
	rig_start(s.rig, &client, s.client, RIG_ECHO, names, 300);
	assert_int_equal(rpc_call_send(client.call, "x", 1), 0);
	open = rig_next_open(&s.super);
	assert_non_null(open);
	assert_non_null(open->call->deadline);
	assert_int_equal(open->call->deadline->seconds, 0);
	assert_in_range(open->call->deadline->nanos, 1, 300000000);
	rig_claim(s.rig, &tunnel, s.super.client, "a", s.super.session_id, open->channel_id);
	assert_true(rig_closed(&tunnel));
	assert_true(rig_closed(&client));
	assert_int_equal(client.why.code, GRPC_DEADLINE_EXCEEDED);
	assert_true(rig_settled(s.rig, 1, 0, 0));
	rig_call_free(&client);
	rig_call_free(&tunnel);
	rig_end(&s);
}

static void test_supervisor_killed(void **state)
{
	struct rig_scene s;
	struct rig_pair p = { 0 };

	(void)state;
	rig_begin(&s, NULL);
	rig_join(&s.super, s.client, &p);
	rig_write(&p.tunnel, "part", 4);
	rig_assert_got(&p.client, "part");
	rpc_client_close(s.super.client);
	s.super.client = NULL;
	rig_assert_status(&p.client, GRPC_UNAVAILABLE, "tunnel");
	assert_true(rig_settled(s.rig, 0, 0, 0));
	assert_int_equal(atomic_load(&s.rig->downs), 1);
	assert_true(rig_closed(&p.tunnel));
	rig_pair_free(&p);
	rig_end(&s);
}

static void test_supervisor_resets_the_stream(void **state)
{
	struct rig_scene s;
	struct rig_pair p = { 0 };

	(void)state;
	rig_begin(&s, NULL);
	rig_join(&s.super, s.client, &p);
	rig_write(&p.tunnel, "part", 4);
	rig_assert_got(&p.client, "part");
	rig_cancel(&p.tunnel);
	rig_assert_status(&p.client, GRPC_UNAVAILABLE, "gave the call up");
	assert_true(rig_settled(s.rig, 1, 0, 0));
	rig_pair_free(&p);
	rig_end(&s);
}

/* An unclaimed call outlives the session for as long as it may wait. */
static void test_supervisor_comes_back(void **state)
{
	struct rig_scene s;
	struct rig_supervisor again;
	struct rig_call client = { 0 }, tunnel = { 0 };
	const Openshell__V1__RelayOpen *open;

	(void)state;
	rig_begin(&s, NULL);
	rig_route(s.rig, &client, s.client, "a", "x");
	assert_non_null(rig_next_open(&s.super));
	rpc_client_close(s.super.client);
	s.super.client = NULL;
	assert_true(rig_settled(s.rig, 0, 1, 0));
	rig_greet(s.rig, &again, &(struct rig_hello){ .sandbox = "a", .instance = "two" });
	open = rig_next_open(&again);
	assert_non_null(open);
	rig_claim(s.rig, &tunnel, again.client, "a", again.session_id, open->channel_id);
	rig_write(&tunnel, "back", 4);
	rig_assert_got(&client, "back");
	rig_call_free(&client);
	rig_call_free(&tunnel);
	rig_supervisor_free(&again);
	rig_end(&s);
}

static void test_supervisor_stays_away(void **state)
{
	struct rig_scene s;
	struct rig_call client = { 0 };

	(void)state;
	rig_begin(&s, &(struct tunnel_options){ .claim_ms = 100 });
	rig_route(s.rig, &client, s.client, "a", "x");
	assert_non_null(rig_next_open(&s.super));
	rpc_client_close(s.super.client);
	s.super.client = NULL;
	rig_assert_status(&client, GRPC_UNAVAILABLE, "went away");
	rig_call_free(&client);
	rig_end(&s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_bytes_and_both_ends),
		TEST(test_sandbox_ends_first),
		TEST(test_sandbox_wants_no_more),
		TEST(test_status_passes),
		TEST(test_missing_status_is_failure),
		TEST(test_early_bytes),
		TEST(test_foreign_supervisor),
		TEST(test_no_session),
		TEST(test_supervisor_refuses),
		TEST(test_client_cancels),
		TEST(test_client_vanishes),
		TEST(test_client_goes_while_it_waits),
		TEST(test_deadline),
		TEST(test_supervisor_killed),
		TEST(test_supervisor_resets_the_stream),
		TEST(test_supervisor_comes_back),
		TEST(test_supervisor_stays_away),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
