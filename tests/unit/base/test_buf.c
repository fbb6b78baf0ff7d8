/* Blocks, pools and slices on one thread. */
#include "base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "deaths.h"
#include "leaks.h"

#define PAGE 4096

static struct pool_stats stats_of(struct pool *p)
{
	struct pool_stats s;

	pool_stats(p, &s);
	return s;
}

static void test_block_of_its_own(void **state)
{
	struct block *b = block_new(3);

	(void)state;
	assert_int_equal(block_size(b), 3);
	memcpy(block_data(b), "abc", 3);
	assert_true(block_is_unshared(b));
	block_ref(b);
	assert_false(block_is_unshared(b));
	block_unref(b);
	assert_true(block_is_unshared(b));
	assert_memory_equal(block_data(b), "abc", 3);
	block_unref(b);
	block_unref(NULL);
	assert_null(block_new(SIZE_MAX));
	assert_null(block_new(SIZE_MAX - 8));
	b = block_new(0);
	assert_int_equal(block_size(b), 0);
	block_unref(b);
}

static void test_pool_gives_pages(void **state)
{
	static const size_t sizes[][2] = { { 1, PAGE }, { PAGE, PAGE },
		{ PAGE + 1, (size_t)2 * PAGE } };

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct pool *p = pool_create(sizes[i][0], 2);
		struct block *b = block_get(p);

		assert_int_equal(block_size(b), sizes[i][1]);
		assert_int_equal(stats_of(p).block_size, sizes[i][1]);
		assert_int_equal((uintptr_t)block_data(b) % PAGE, 0);
		memset(block_data(b), 'x', block_size(b));
		block_unref(b);
		pool_free(p);
	}
	pool_free(NULL);
}

static void test_ceiling(void **state)
{
	struct pool *p = pool_create(PAGE, 3);
	struct block *b[3];

	(void)state;
	for (size_t i = 0; i < 3; i++)
		assert_non_null(b[i] = block_get(p));
	assert_int_equal(stats_of(p).live, 3);
	assert_int_equal(stats_of(p).full, 0);
	assert_null(block_get(p));
	assert_null(block_get(p));
	assert_int_equal(stats_of(p).full, 2);
	block_unref(b[1]);
	assert_int_equal(stats_of(p).live, 2);
	assert_int_equal(stats_of(p).spare, 1);
	assert_ptr_equal(block_get(p), b[1]);
	assert_int_equal(stats_of(p).spare, 0);
	assert_int_equal(stats_of(p).peak, 3);
	for (size_t i = 0; i < 3; i++)
		block_unref(b[i]);
	assert_int_equal(stats_of(p).live, 0);
	assert_int_equal(stats_of(p).peak, 3);
	assert_int_equal(stats_of(p).max_blocks, 3);
	pool_free(p);
}

/* A few blocks stay warm, the rest goes back to the system. */
static void test_spares(void **state)
{
	struct pool *p = pool_create(PAGE, 32);
	struct block *b[32];
	size_t kept;

	(void)state;
	for (size_t i = 0; i < 32; i++)
		b[i] = block_get(p);
	for (size_t i = 0; i < 32; i++)
		block_unref(b[i]);
	kept = stats_of(p).spare;
	assert_in_range(kept, 1, 8);
	pool_trim(p, kept);
	assert_int_equal(stats_of(p).spare, kept);
	pool_trim(p, 1);
	assert_int_equal(stats_of(p).spare, 1);
	pool_trim(p, 0);
	assert_int_equal(stats_of(p).spare, 0);
	assert_int_equal(stats_of(p).live, 0);
	/* All of the ceiling can be had again. */
	for (size_t i = 0; i < 32; i++)
		assert_non_null(b[i] = block_get(p));
	assert_null(block_get(p));
	for (size_t i = 0; i < 32; i++)
		block_unref(b[i]);
	pool_free(p);
}

/* The block goes back with its last slice, whichever that is. */
static void test_slices_hold_the_block(void **state)
{
	struct pool *p = pool_create(PAGE, 1);
	struct block *b = block_get(p);
	struct slice whole, dup, sub;

	(void)state;
	memcpy(block_data(b), "0123456789", 10);
	whole = slice_of(b, 1, 8);
	dup = slice_dup(&whole);
	sub = slice_sub(&dup, 2, 3);
	block_unref(b);
	slice_release(&whole);
	assert_null(whole.owner);
	assert_null(whole.data);
	assert_int_equal(whole.len, 0);
	slice_release(&whole);
	assert_null(block_get(p));
	assert_int_equal(dup.len, 8);
	assert_memory_equal(dup.data, "12345678", 8);
	slice_release(&dup);
	assert_int_equal(sub.len, 3);
	assert_memory_equal(sub.data, "345", 3);
	assert_ptr_equal(sub.data, block_data(b) + 3);
	assert_int_equal(stats_of(p).live, 1);
	assert_true(block_is_unshared(b));
	slice_release(&sub);
	assert_int_equal(stats_of(p).live, 0);
	pool_free(p);
}

static void test_slices_of_constants(void **state)
{
	static const uint8_t text[] = "constant";
	struct slice s = { .data = text, .len = 8 }, dup = slice_dup(&s), sub = slice_sub(&s, 8, 0);

	(void)state;
	assert_ptr_equal(dup.data, text);
	assert_int_equal(sub.len, 0);
	slice_release(&s);
	slice_release(&dup);
	slice_release(&sub);
	assert_memory_equal(text, "constant", 8);
}

static void test_copies_are_private(void **state)
{
	uint8_t text[] = "before";
	struct slice s = slice_copy(text, 6), none = slice_copy(NULL, 0);

	(void)state;
	memset(text, 0, sizeof(text));
	assert_memory_equal(s.data, "before", 6);
	assert_int_equal(s.len, 6);
	assert_non_null(none.owner);
	assert_int_equal(none.len, 0);
	slice_release(&s);
	slice_release(&none);
}

static void lose_a_block(void)
{
	struct pool *p = pool_create(PAGE, 1);

	block_get(p);
	pool_free(p);
}

static void slice_too_far(void)
{
	slice_of(block_new(10), 4, 7);
}

static void slice_around(void)
{
	slice_of(block_new(10), 4, SIZE_MAX - 2);
}

static void sub_too_far(void)
{
	struct slice s = slice_copy("0123456789", 10);

	slice_sub(&s, 11, 0);
}

static void sub_around(void)
{
	struct slice s = slice_copy("0123456789", 10);

	slice_sub(&s, 1, SIZE_MAX);
}

static void nothing_wrong(void)
{
	struct slice s = slice_copy("0123456789", 10), sub = slice_sub(&s, 4, 6);

	slice_release(&sub);
	slice_release(&s);
}

static void test_faults_end_the_program(void **state)
{
	(void)state;
	assert_true(deaths_abort(lose_a_block));
	assert_true(deaths_abort(slice_too_far));
	assert_true(deaths_abort(slice_around));
	assert_true(deaths_abort(sub_too_far));
	assert_true(deaths_abort(sub_around));
	assert_false(deaths_abort(nothing_wrong));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		leaks_test(test_block_of_its_own),
		leaks_test(test_pool_gives_pages),
		leaks_test(test_ceiling),
		leaks_test(test_spares),
		leaks_test(test_slices_hold_the_block),
		leaks_test(test_slices_of_constants),
		leaks_test(test_copies_are_private),
		leaks_test(test_faults_end_the_program),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
