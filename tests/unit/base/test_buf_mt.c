/* Blocks that are released on other threads than their pool's. */
#include "base/buf.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "leaks.h"

#define THREADS 4
#define ROUNDS  20000
#define PAGE    4096

/* Each thread makes slices of one block and drops them, the owner too. */
static void *share(void *arg)
{
	const struct slice *s = arg;
	uintptr_t wrong = 0;

	for (unsigned i = 0; i < ROUNDS; i++) {
		struct slice dup = slice_dup(s), sub = slice_sub(&dup, 1, 2);

		slice_release(&dup);
		wrong += memcmp(sub.data, "bc", 2) != 0;
		slice_release(&sub);
	}
	return (void *)wrong;
}

static void test_counts_hold(void **state)
{
	struct pool *p = pool_create(PAGE, 1);
	struct block *b = block_get(p);
	struct pool_stats stats;
	struct slice s;
	pthread_t threads[THREADS];
	void *wrong;

	(void)state;
	memcpy(block_data(b), "abcd", 4);
	s = slice_of(b, 0, 4);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, share, &s), 0);
	assert_null(share(&s));
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(threads[i], &wrong);
		assert_null(wrong);
	}
	slice_release(&s);
	assert_true(block_is_unshared(b));
	block_unref(b);
	pool_stats(p, &stats);
	assert_int_equal(stats.live, 0);
	pool_free(p);
}

/* A place for one slice between the owner's thread and another. */
struct place {
	pthread_t thread;
	_Atomic(struct block *) block;
	atomic_bool end;
	unsigned wrong;
};

#define NUMBERS (PAGE / sizeof(unsigned))

/* Checks what came, and lets go of it: with luck the last to do so. */
static void *receive(void *arg)
{
	struct place *place = arg;

	for (;;) {
		bool end = atomic_load(&place->end);
		struct block *b = atomic_exchange(&place->block, NULL);

		if (b != NULL) {
			const unsigned *numbers = (const unsigned *)(void *)block_data(b);

			for (size_t i = 1; i < NUMBERS; i++)
				place->wrong += numbers[i] != numbers[0];
			block_unref(b);
		} else if (end) {
			return NULL;
		} else {
			sched_yield();
		}
	}
}

static void fill(struct block *b, unsigned number)
{
	unsigned *numbers = (unsigned *)(void *)block_data(b);

	for (size_t i = 0; i < NUMBERS; i++)
		numbers[i] = number;
}

/* A block that comes back is written anew only when nobody reads it, and the ceiling holds. */
static void test_blocks_go_round(void **state)
{
	struct pool *p = pool_create(PAGE, 6);
	struct place places[THREADS] = { 0 };
	struct pool_stats stats;
	unsigned given = 0;

	(void)state;
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&places[i].thread, NULL, receive, &places[i]), 0);
	while (given < ROUNDS) {
		struct block *b = block_get(p), *none = NULL;

		pool_stats(p, &stats);
		assert_in_range(stats.live + stats.spare, 0, 6);
		if (b == NULL) {
			sched_yield();
			continue;
		}
		fill(b, given);
		if (atomic_compare_exchange_strong(&places[given % THREADS].block, &none, b))
			given++;
		else
			block_unref(b);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		atomic_store(&places[i].end, true);
		pthread_join(places[i].thread, NULL);
		assert_int_equal(places[i].wrong, 0);
	}
	pool_stats(p, &stats);
	assert_int_equal(stats.live, 0);
	assert_in_range(stats.peak, 1, 6);
	pool_free(p);
}

static void *release(void *arg)
{
	block_unref(arg);
	return NULL;
}

/* The whole of a pool released elsewhere, then had again. */
static void test_all_come_back(void **state)
{
	struct pool *p = pool_create(PAGE, 16);
	struct block *blocks[16];
	struct pool_stats stats;
	pthread_t threads[16];

	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		for (unsigned i = 0; i < 16; i++)
			assert_non_null(blocks[i] = block_get(p));
		assert_null(block_get(p));
		for (unsigned i = 0; i < 16; i++)
			pthread_create(&threads[i], NULL, release, blocks[i]);
		for (unsigned i = 0; i < 16; i++)
			pthread_join(threads[i], NULL);
	}
	pool_stats(p, &stats);
	assert_int_equal(stats.live, 0);
	assert_int_equal(stats.full, 20);
	pool_free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		leaks_test(test_counts_hold),
		leaks_test(test_blocks_go_round),
		leaks_test(test_all_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
