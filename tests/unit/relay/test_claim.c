/* Channels: who may claim them, how long and how many may wait. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "relay/leg.h"
#include "relay/wire.h"
#include "rig.h"
#include "rpc/limits.h"
#include "support/lines.h"

/* Claiming. */

static void test_wrong_claimants(void **state)
{
	struct rig_scene s;
	struct rig_supervisor b;
	struct rig_call client = { 0 }, wrong[4] = { 0 }, right = { 0 };
	const Openshell__V1__RelayOpen *open;

	(void)state;
	rig_begin(&s, NULL);
	rig_greet(s.rig, &b, &(struct rig_hello){ .sandbox = "b" });
	assert_true(rig_accepted(&b));
	rig_route(s.rig, &client, s.client, "a", "x");
	open = rig_next_open(&s.super);
	assert_non_null(open);
	rig_claim(s.rig, &wrong[0], b.client, "b", b.session_id, open->channel_id);
	rig_assert_status(&wrong[0], GRPC_PERMISSION_DENIED, "another sandbox");
	rig_claim(s.rig, &wrong[1], s.super.client, "a", b.session_id, open->channel_id);
	rig_assert_status(&wrong[1], GRPC_PERMISSION_DENIED, "another session");
	rig_claim(s.rig, &wrong[2], s.super.client, "a", NULL, open->channel_id);
	rig_assert_status(&wrong[2], GRPC_PERMISSION_DENIED, "another session");
	rig_claim(s.rig, &wrong[3], s.super.client, "a", s.super.session_id,
	    "00000000-0000-4000-8000-000000000000");
	rig_assert_status(&wrong[3], GRPC_NOT_FOUND, NULL);
	assert_true(rig_settled(s.rig, 2, 1, 0));
	rig_claim(s.rig, &right, s.super.client, "a", s.super.session_id, open->channel_id);
	rig_write(&right, "mine", 4);
	rig_assert_got(&client, "mine");
	for (size_t i = 0; i < 4; i++)
		rig_call_free(&wrong[i]);
	rig_call_free(&client);
	rig_call_free(&right);
	rig_supervisor_free(&b);
	rig_end(&s);
}

static void test_two_claims_one_wins(void **state)
{
	struct rig_scene s;
	struct rpc_client *second;
	struct rig_call client = { 0 }, claim[2] = { 0 };
	const Openshell__V1__RelayOpen *open;
	unsigned lost = 0;

	(void)state;
	rig_begin(&s, NULL);
	second = rig_connect(s.rig);
	rig_route(s.rig, &client, s.client, "a", "x");
	open = rig_next_open(&s.super);
	assert_non_null(open);
	for (size_t i = 0; i < 2; i++)
		rig_claim(s.rig, &claim[i], i == 0 ? s.super.client : second, "a",
		    s.super.session_id, open->channel_id);
	assert_true(rig_settled(s.rig, 1, 0, 1));
	rig_run(s.rig, 50);
	for (size_t i = 0; i < 2; i++) {
		if (!claim[i].ended)
			continue;
		assert_int_equal(claim[i].status.code, GRPC_NOT_FOUND);
		lost++;
	}
	assert_int_equal(lost, 1);
	for (size_t i = 0; i < 2; i++)
		rig_call_free(&claim[i]);
	rig_call_free(&client);
	rpc_client_close(second);
	rig_end(&s);
}

static void test_guessing(void **state)
{
	struct rig_scene s;
	struct rig_call client = { 0 }, guess[64] = { 0 };
	char id[64];

	(void)state;
	rig_begin(&s, NULL);
	rig_route(s.rig, &client, s.client, "a", "x");
	assert_non_null(rig_next_open(&s.super));
	for (unsigned round = 0; round < 20; round++) {
		memset(guess, 0, sizeof(guess));
		for (unsigned i = 0; i < 64; i++) {
			snprintf(id, sizeof(id), "%08x-0000-4000-8000-%012x", round * 64 + i, i);
			rig_claim(s.rig, &guess[i], s.super.client, "a", s.super.session_id, id);
		}
		for (unsigned i = 0; i < 64; i++) {
			rig_assert_status(&guess[i], GRPC_NOT_FOUND, NULL);
			rig_call_free(&guess[i]);
		}
	}
	assert_true(rig_settled(s.rig, 1, 1, 0));
	rig_call_free(&client);
	rig_end(&s);
}

static void test_bad_relay_streams(void **state)
{
	const char *const names[] = { "authorization", "Bearer a", NULL };
	struct rig_scene s;
	struct rig_call no_init = { 0 }, empty = { 0 }, long_id = { 0 }, garbage = { 0 };
	struct rig_call long_init = { 0 };
	char id[200];

	(void)state;
	rig_begin(&s, NULL);
	rig_start(s.rig, &no_init, s.super.client, WIRE_RELAY, names, 0);
	rig_write(&no_init, "\0\0\0\0\3\x12\1x", 8); /* RelayFrame{data: "x"} */
	rig_assert_status(&no_init, GRPC_INVALID_ARGUMENT, "must be init");
	rig_start(s.rig, &empty, s.super.client, WIRE_RELAY, names, 0);
	rpc_call_end(empty.call, NULL);
	rig_assert_status(&empty, GRPC_INVALID_ARGUMENT, "before its init");
	memset(id, 'a', sizeof(id) - 1);
	id[sizeof(id) - 1] = '\0';
	rig_claim(s.rig, &long_id, s.super.client, "a", s.super.session_id, id);
	rig_assert_status(&long_id, GRPC_NOT_FOUND, NULL);
	rig_start(s.rig, &garbage, s.super.client, WIRE_RELAY, names, 0);
	rig_write(&garbage, "\0\0\0\0\4\xff\xff\xff\xff", 9);
	rig_assert_status(&garbage, GRPC_INVALID_ARGUMENT, NULL);
	rig_start(s.rig, &long_init, s.super.client, WIRE_RELAY, names, 0);
	rig_write(&long_init, "\0\0\0\x10\1", 5); /* CLAIM_INIT_MAX and a byte will come */
	rig_assert_status(&long_init, GRPC_RESOURCE_EXHAUSTED, "4097 bytes");
	rig_call_free(&long_init);
	rig_call_free(&no_init);
	rig_call_free(&empty);
	rig_call_free(&long_id);
	rig_call_free(&garbage);
	rig_end(&s);
}

static void test_probe(void **state)
{
	struct rig_scene s;
	struct rig_call probe = { 0 };

	(void)state;
	rig_begin(&s, NULL);
	assert_int_equal(s.super.data_connections, 1);
	rig_claim(s.rig, &probe, s.super.client, "a", NULL, "");
	rig_assert_status(&probe, GRPC_OK, NULL);
	assert_string_equal(probe.loop, "1");
	rig_call_free(&probe);
	rig_end(&s);
}

static void test_late_init(void **state)
{
	const char *const names[] = { "authorization", "Bearer a", NULL };
	struct rig_scene s;
	struct rig_call silent = { 0 };

	(void)state;
	rig_begin(&s, &(struct tunnel_options){ .claim_ms = 50 });
	rig_start(s.rig, &silent, s.super.client, WIRE_RELAY, names, 0);
	rig_assert_status(&silent, GRPC_DEADLINE_EXCEEDED, "no init");
	rig_call_free(&silent);
	rig_end(&s);
}

static void test_expiry(void **state)
{
	struct rig_scene s;
	struct rig_call client = { 0 }, late = { 0 };
	const Openshell__V1__RelayOpen *open;
	struct tunnel_stats stats;

	(void)state;
	rig_begin(&s, &(struct tunnel_options){ .claim_ms = 50 });
	rig_route(s.rig, &client, s.client, "a", "x");
	open = rig_next_open(&s.super);
	assert_non_null(open);
	rig_assert_status(&client, GRPC_DEADLINE_EXCEEDED, "did not answer");
	assert_true(rig_settled(s.rig, 1, 0, 0));
	tunnels_stats(s.rig->tunnels, &stats);
	assert_int_equal(stats.expired, 1);
	rig_claim(s.rig, &late, s.super.client, "a", s.super.session_id, open->channel_id);
	rig_assert_status(&late, GRPC_NOT_FOUND, "expired");
	rig_call_free(&client);
	rig_call_free(&late);
	rig_end(&s);
}

/* Limits. */

#define BURST (TUNNEL_UNCLAIMED_SANDBOX_MAX * 10)

static void test_burst_hurts_only_its_maker(void **state)
{
	static struct rig_call burst[BURST];
	struct rig_scene s;
	struct rig_supervisor b;
	struct rig_pair p = { 0 };
	struct tunnel_stats stats;
	unsigned refused = 0, expired = 0;

	(void)state;
	memset(burst, 0, sizeof(burst));
	rig_begin(&s, &(struct tunnel_options){ .claim_ms = 1000 });
	rig_greet(s.rig, &b, &(struct rig_hello){ .sandbox = "b" });
	assert_true(rig_accepted(&b));
	for (unsigned i = 0; i < BURST; i++)
		rig_route(s.rig, &burst[i], s.client, "a", "x");
	assert_true(rig_settled(s.rig, 2, TUNNEL_UNCLAIMED_SANDBOX_MAX, 0));
	rig_join(&b, s.client, &p);
	rig_write(&p.tunnel, "well", 4);
	rig_assert_got(&p.client, "well");
	for (unsigned i = 0; i < BURST; i++) {
		assert_true(rig_ended(&burst[i]));
		refused += burst[i].status.code == GRPC_RESOURCE_EXHAUSTED;
		expired += burst[i].status.code == GRPC_DEADLINE_EXCEEDED;
		rig_call_free(&burst[i]);
	}
	assert_int_equal(expired, TUNNEL_UNCLAIMED_SANDBOX_MAX);
	assert_int_equal(refused, BURST - TUNNEL_UNCLAIMED_SANDBOX_MAX);
	tunnels_stats(s.rig->tunnels, &stats);
	assert_int_equal(stats.refused, refused);
	assert_true(rig_settled(s.rig, 2, 0, 1));
	rig_pair_free(&p);
	rig_supervisor_free(&b);
	rig_end(&s);
}

static void test_limit_of_all(void **state)
{
	struct rig_scene s;
	struct rig_call calls[6] = { 0 };
	unsigned refused = 0;

	(void)state;
	rig_begin(&s, &(struct tunnel_options){ .claim_ms = 100, .unclaimed_max = 4 });
	for (unsigned i = 0; i < 6; i++)
		rig_route(s.rig, &calls[i], s.client, "a", "x");
	for (unsigned i = 0; i < 6; i++) {
		assert_true(rig_ended(&calls[i]));
		refused += calls[i].status.code == GRPC_RESOURCE_EXHAUSTED;
		rig_call_free(&calls[i]);
	}
	assert_int_equal(refused, 2);
	rig_end(&s);
}

static void test_limit_of_all_that_are_open(void **state)
{
	struct rig_scene s;
	struct rig_pair pairs[3] = { 0 };
	struct rig_call refused = { 0 };
	struct tunnel_stats stats;
	int lines = lines_open();

	(void)state;
	log_setup(lines, LOG_FORMAT_LOGFMT, LOG_LEVEL_INFO);
	rig_begin(&s, &(struct tunnel_options){ .channels_max = 2 });
	rig_join(&s.super, s.client, &pairs[0]);
	rig_join(&s.super, s.client, &pairs[1]);
	assert_true(rig_settled(s.rig, 1, 0, 2));
	rig_route(s.rig, &refused, s.client, "a", "x");
	rig_assert_status(&refused, GRPC_RESOURCE_EXHAUSTED, "has 2 calls open already");
	tunnels_stats(s.rig->tunnels, &stats);
	assert_int_equal(stats.refused, 1);
	assert_int_equal(lines_count(lines, "event=relay_refused"), 1);
	rig_pair_free(&pairs[0]);
	assert_true(rig_settled(s.rig, 1, 0, 1));
	rig_join(&s.super, s.client, &pairs[2]);
	assert_true(rig_settled(s.rig, 1, 0, 2));
	for (size_t i = 1; i < 3; i++)
		rig_pair_free(&pairs[i]);
	rig_call_free(&refused);
	rig_end(&s);
	log_setup(STDERR_FILENO, LOG_FORMAT_LOGFMT, LOG_LEVEL_ERROR);
	close(lines);
}

#define FEW 16 /* at once, so that none is refused for waiting */

static void test_limit_of_a_sandbox(void **state)
{
	static struct rig_pair pairs[TUNNEL_CHANNELS_SANDBOX_MAX];
	struct rpc_client *clients[TUNNEL_CHANNELS_SANDBOX_MAX / RPC_MAX_STREAMS + 1];
	const size_t client_count = sizeof(clients) / sizeof(clients[0]);
	struct rig_call one_more = { 0 };
	struct rig_scene s;

	(void)state;
	memset(pairs, 0, sizeof(pairs));
	rig_begin(&s, NULL);
	for (size_t i = 0; i < client_count; i++)
		clients[i] = rig_connect(s.rig);
	for (uint32_t i = 0; i < TUNNEL_CHANNELS_SANDBOX_MAX; i += FEW) {
		rig_join_many(&s.super, clients[i / RPC_MAX_STREAMS], &pairs[i], FEW);
		assert_true(rig_settled(s.rig, 1, 0, i + FEW));
	}
	rig_route(s.rig, &one_more, s.client, "a", "x");
	rig_assert_status(&one_more, GRPC_RESOURCE_EXHAUSTED, "calls open");
	rig_call_free(&one_more);
	for (size_t i = 0; i < TUNNEL_CHANNELS_SANDBOX_MAX; i++)
		rig_pair_free(&pairs[i]);
	for (size_t i = 0; i < client_count; i++)
		rpc_client_close(clients[i]);
	rig_end(&s);
}

/* Bytes in messages of one, before anybody has claimed the channel. */
struct typing {
	struct post post;
	struct rig_call *call;
	unsigned left;
};

static void run_typing(struct post *post)
{
	struct typing *t = (struct typing *)post;
	const uint8_t byte = (uint8_t)(t->left % 251);

	rig_write(t->call, &byte, 1);
	if (--t->left > 0) /* behind what frames and writes it */
		loop_post(t->call->rig->loop, &t->post);
}

static bool is_typed(void *cookie)
{
	return ((struct typing *)cookie)->left == 0;
}

static void test_more_slices_than_are_kept(void **state)
{
	enum { TYPED = LEG_EARLY_SLICES + 100 };
	struct rig_scene s;
	struct rig_call client = { 0 }, claim = { 0 };
	struct typing typing = { .post.run = run_typing, .call = &client, .left = TYPED };
	const Openshell__V1__RelayOpen *open;

	(void)state;
	rig_begin(&s, NULL);
	rig_route(s.rig, &client, s.client, "a", "x");
	open = rig_next_open(&s.super);
	assert_non_null(open);
	loop_post(s.rig->loop, &typing.post);
	assert_true(rig_until(s.rig, is_typed, &typing));
	rig_run(s.rig, 20);
	rig_claim(s.rig, &claim, s.super.client, "a", s.super.session_id, open->channel_id);
	assert_true(rig_got(&claim, TYPED));
	for (unsigned i = 0; i < TYPED; i++)
		assert_int_equal(claim.got[i], (TYPED - i) % 251);
	rig_call_free(&client);
	rig_call_free(&claim);
	rig_end(&s);
}

static void test_too_many_answers(void **state)
{
	struct rig_scene s;
	Openshell__V1__RelayOpenResult result = OPENSHELL__V1__RELAY_OPEN_RESULT__INIT;
	Openshell__V1__SupervisorMessage m = OPENSHELL__V1__SUPERVISOR_MESSAGE__INIT;

	(void)state;
	rig_begin(&s, NULL);
	m.payload_case = OPENSHELL__V1__SUPERVISOR_MESSAGE__PAYLOAD_RELAY_OPEN_RESULT;
	m.relay_open_result = &result;
	for (unsigned i = 0; i < 20000 && s.super.control.call != NULL; i++)
		rig_send(&s.super, &m);
	rig_assert_status(&s.super.control, GRPC_RESOURCE_EXHAUSTED, "answers");
	rig_end(&s);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_wrong_claimants),
		TEST(test_two_claims_one_wins),
		TEST(test_guessing),
		TEST(test_bad_relay_streams),
		TEST(test_probe),
		TEST(test_late_init),
		TEST(test_expiry),
		TEST(test_burst_hurts_only_its_maker),
		TEST(test_limit_of_all),
		TEST(test_limit_of_all_that_are_open),
		TEST(test_limit_of_a_sandbox),
		TEST(test_more_slices_than_are_kept),
		TEST(test_too_many_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
