/* Two calls joined: what goes in comes out, in every pattern of sizes and stalls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "flow.h"
#include "rig.h"

static void test_tiny_pieces(void **state)
{
	(void)state;
	flow_pattern(1, 20000, 20000, 7);
}

static void test_small_pieces(void **state)
{
	(void)state;
	flow_pattern(1, 1 << 20, 3 << 20, 16 << 10);
}

static void test_large_pieces(void **state)
{
	(void)state;
	flow_pattern(1, 48 << 20, 16 << 20, 1 << 20);
}

static void test_one_direction_only(void **state)
{
	(void)state;
	flow_pattern(1, 8 << 20, 0, 256 << 10);
	flow_pattern(1, 0, 8 << 20, 256 << 10);
}

/* One stream that nobody reads among many: it fills its window and no more, and the
 * others do not notice. */
#define MANY  1000
#define BATCH 25 /* fewer than may wait to be claimed */
#define EACH  ((size_t)64 << 10)

static void write_block(struct rig_call *c, size_t len)
{
	static const uint8_t zeros[1 << 16];

	for (; len > sizeof(zeros); len -= sizeof(zeros))
		rig_write(c, zeros, sizeof(zeros));
	rig_write(c, zeros, len);
}

static void test_one_of_many_stalls(void **state)
{
	static struct rig_pair pairs[MANY];
	struct rig *rig = rig_create(1, NULL);
	struct rpc_client *client = rig_connect(rig);
	struct rig_supervisor super;

	(void)state;
	memset(pairs, 0, sizeof(pairs));
	rig_greet(rig, &super, &(struct rig_hello){ .sandbox = "a" });
	assert_true(rig_accepted(&super));
	for (size_t i = 0; i < MANY; i++)
		pairs[i].tunnel.discard = true;
	for (size_t i = 0; i < MANY; i += BATCH) {
		rig_join_many(&super, client, &pairs[i], BATCH);
		assert_true(rig_settled(rig, 1, 0, (uint32_t)(i + BATCH)));
	}
	pairs[0].tunnel.stalled = true;
	write_block(&pairs[0].client, 4 * RPC_WINDOW);
	for (size_t i = 1; i < MANY; i++)
		write_block(&pairs[i].client, EACH);
	for (size_t i = 1; i < MANY; i++)
		assert_true(rig_got(&pairs[i].tunnel, EACH));
	/* At most a window here, one in the gateway's queue, and one that waits at the client. */
	assert_true(pairs[0].tunnel.total <= RPC_WINDOW);
	assert_true(rpc_call_queued(pairs[0].client.call) >= RPC_WINDOW);
	rig_resume(&pairs[0].tunnel);
	assert_true(rig_got(&pairs[0].tunnel, 4 * RPC_WINDOW));
	for (size_t i = 0; i < MANY; i++)
		rig_pair_free(&pairs[i]);
	rpc_client_close(client);
	rig_supervisor_free(&super);
	assert_true(rig_settled(rig, 0, 0, 0));
	rig_free(rig);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_tiny_pieces),
		TEST(test_small_pieces),
		TEST(test_large_pieces),
		TEST(test_one_direction_only),
		TEST(test_one_of_many_stalls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
