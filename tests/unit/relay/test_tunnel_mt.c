/* A gateway with a thread a loop: relays on one loop and across two. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "app.h"
#include "flow.h"
#include "relay/wire.h"
#include "rig.h"

static void test_bytes_cross(void **state)
{
	(void)state;
	flow_pattern(2, 20000, 20000, 7);
	flow_pattern(2, 4 << 20, 2 << 20, 64 << 10);
	flow_pattern(3, 6 << 20, 6 << 20, 1 << 20);
}

static void test_status_crosses(void **state)
{
	struct err e;
	struct rig *rig = rig_create(2, NULL);
	struct rpc_client *clients[2];
	struct rig_supervisor super;
	struct rig_pair p[2] = { 0 };

	(void)state;
	rig_greet(rig, &super, &(struct rig_hello){ .sandbox = "a" });
	assert_true(rig_accepted(&super));
	assert_int_equal(super.data_connections, 2);
	err_set(&e, GRPC_NOT_FOUND, "no such file");
	for (size_t i = 0; i < 2; i++) {
		clients[i] = rig_connect(rig);
		rig_join(&super, clients[i], &p[i]);
		rig_write(&p[i].tunnel, "part", 4);
		rpc_call_end(p[i].tunnel.call, &e);
		assert_true(rig_ended(&p[i].client));
		assert_int_equal(p[i].client.status.code, GRPC_NOT_FOUND);
		assert_int_equal(p[i].client.total, 4);
	}
	assert_true(rig_settled(rig, 1, 0, 0));
	for (size_t i = 0; i < 2; i++) {
		rig_pair_free(&p[i]);
		rpc_client_close(clients[i]);
	}
	rig_supervisor_free(&super);
	rig_free(rig);
}

/* Every way to go, over and over: what one loop tears down the other one is using. */
enum departure {
	CLIENT_CANCELS,
	CLIENT_CLOSES,
	TUNNEL_CANCELS,
	SUPERVISOR_CLOSES,
	GATEWAY_DROPS,
	DEPARTURES
};

struct drop {
	struct post post;
	struct rig *rig;
};

static void run_drop(struct post *post)
{
	const struct err why = { .code = GRPC_FAILED_PRECONDITION, .text = "stopped" };

	tunnels_drop(((struct drop *)post)->rig->tunnels, "a", &why);
}

static void depart(struct rig *rig, enum departure how, size_t bytes)
{
	static uint8_t block[1 << 16];
	struct drop drop = { .post.run = run_drop, .rig = rig };
	struct rpc_client *clients[2];
	struct rig_supervisor super;
	struct rig_pair p[2] = { 0 };

	rig_greet(rig, &super, &(struct rig_hello){ .sandbox = "a" });
	assert_true(rig_accepted(&super));
	for (size_t i = 0; i < 2; i++) {
		clients[i] = rig_connect(rig);
		rig_join(&super, clients[i], &p[i]);
	}
	for (size_t n = 0; n < bytes; n += sizeof(block))
		for (size_t i = 0; i < 2; i++) {
			rig_write(&p[i].client, block, sizeof(block));
			rig_write(&p[i].tunnel, block, sizeof(block));
		}
	/* A client whose channel was not claimed in time is to wait for another claim. */
	if (how == TUNNEL_CANCELS || how == SUPERVISOR_CLOSES)
		assert_true(rig_settled(rig, 1, 0, 2));
	for (size_t i = 0; i < 2; i++)
		if (how == CLIENT_CANCELS)
			rig_cancel(&p[i].client);
		else if (how == CLIENT_CLOSES)
			rpc_client_close(clients[i]);
		else if (how == TUNNEL_CANCELS)
			rig_cancel(&p[i].tunnel);
	if (how == SUPERVISOR_CLOSES) {
		rpc_client_close(super.client);
		super.client = NULL;
	} else if (how == GATEWAY_DROPS) {
		loop_post(rig->loops[0], &drop.post);
	}
	for (size_t i = 0; i < 2; i++) {
		assert_true(rig_closed(&p[i].client));
		assert_true(rig_closed(&p[i].tunnel));
		rig_pair_free(&p[i]);
		if (how != CLIENT_CLOSES)
			rpc_client_close(clients[i]);
	}
	rig_supervisor_free(&super);
	assert_true(rig_settled(rig, 0, 0, 0));
}

static void test_departures(void **state)
{
	struct rig *rig = rig_create(2, NULL);

	(void)state;
	for (unsigned round = 0; round < 4; round++)
		for (int how = 0; how < DEPARTURES; how++)
			depart(rig, (enum departure)how, (size_t)round << 18);
	rig_free(rig);
}

/* Clients that leave while their channel is being claimed. */
static void test_races_for_a_channel(void **state)
{
	struct rig *rig = rig_create(2, NULL);
	struct rpc_client *clients[2];
	struct rig_supervisor super;
	struct rig_call client[2] = { 0 }, tunnel[2] = { 0 };
	const Openshell__V1__RelayOpen *open;

	(void)state;
	rig_greet(rig, &super, &(struct rig_hello){ .sandbox = "a" });
	assert_true(rig_accepted(&super));
	clients[0] = rig_connect(rig);
	clients[1] = rig_connect(rig);
	for (unsigned round = 0; round < 100; round++) {
		memset(client, 0, sizeof(client));
		memset(tunnel, 0, sizeof(tunnel));
		for (size_t i = 0; i < 2; i++)
			rig_route(rig, &client[i], clients[i], "a", "x");
		for (size_t i = 0; i < 2; i++) {
			open = rig_next_open(&super);
			assert_non_null(open);
			rig_claim(
			    rig, &tunnel[i], super.client, "a", super.session_id, open->channel_id);
		}
		if (round % 2 == 1)
			rig_run(rig, round % 3);
		rig_cancel(&client[round % 4 < 2]);
		rig_run(rig, round % 2);
		rig_cancel(&client[round % 4 >= 2]);
		for (size_t i = 0; i < 2; i++) {
			assert_true(rig_closed(&tunnel[i]));
			rig_call_free(&client[i]);
			rig_call_free(&tunnel[i]);
		}
		assert_true(rig_settled(rig, 1, 0, 0));
	}
	rpc_client_close(clients[0]);
	rpc_client_close(clients[1]);
	rig_supervisor_free(&super);
	rig_free(rig);
}

/* The dialer's data connections: one on each loop, so that nothing has to cross. */
static void test_lines_cover_the_loops(void **state)
{
	struct rig *rig = rig_create(3, NULL);
	struct rpc_client *clients[3];
	struct rig_call calls[3] = { 0 };
	struct tunnel_stats stats;
	struct app app;

	(void)state;
	app_dial(&app, rig, rig->url, "a", "a", app_rows);
	assert_true(app_connected(&app, 4));
	for (size_t i = 0; i < 3; i++) {
		clients[i] = rig_connect(rig);
		rig_route(rig, &calls[i], clients[i], "a", "fail");
		assert_true(rig_ended(&calls[i]));
		assert_int_equal(calls[i].status.code, GRPC_ALREADY_EXISTS);
	}
	assert_true(rig_settled(rig, 1, 0, 0));
	tunnels_stats(rig->tunnels, &stats);
	assert_int_equal(stats.opened, 3);
	assert_int_equal(stats.cross_loop, 0);
	for (size_t i = 0; i < 3; i++) {
		rig_call_free(&calls[i]);
		rpc_client_close(clients[i]);
	}
	app_hang_up(&app);
	rig_free(rig);
}

/* Many short calls, from all loops at once. */
static void test_storm(void **state)
{
	static struct rig_call calls[24];
	struct rig *rig = rig_create(2, NULL);
	struct rpc_client *clients[4];
	struct app app;

	(void)state;
	app_dial(&app, rig, rig->url, "a", "a", app_rows);
	assert_true(app_connected(&app, 3));
	for (size_t i = 0; i < 4; i++)
		clients[i] = rig_connect(rig);
	for (unsigned round = 0; round < 20; round++) {
		memset(calls, 0, sizeof(calls));
		for (size_t i = 0; i < 24; i++) {
			rig_route(rig, &calls[i], clients[i % 4], "a", i % 3 == 0 ? "fail" : "x");
			if (i % 3 == 1)
				rpc_call_end(calls[i].call, NULL);
		}
		for (size_t i = 0; i < 24; i++) {
			if (i % 3 == 2)
				rig_cancel(&calls[i]);
			assert_true(rig_closed(&calls[i]));
			if (i % 3 == 1)
				assert_int_equal(calls[i].status.code, GRPC_OK);
			rig_call_free(&calls[i]);
		}
	}
	assert_true(rig_settled(rig, 1, 0, 0));
	for (size_t i = 0; i < 4; i++)
		rpc_client_close(clients[i]);
	app_hang_up(&app);
	rig_free(rig);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_bytes_cross),
		TEST(test_status_crosses),
		TEST(test_departures),
		TEST(test_races_for_a_channel),
		TEST(test_lines_cover_the_loops),
		TEST(test_storm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
