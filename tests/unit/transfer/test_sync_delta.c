/* What of a file is there already: whatever way two files differ, one becomes the other. */
#include "transfer/sync/sync_delta.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/alloc.h"

#define SEED 0x5eedULL

static uint32_t random_state;

static uint32_t random32(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	return random_state;
}

struct bytes {
	uint8_t *data;
	size_t len;
};

static struct bytes make(size_t len)
{
	struct bytes b = { malloc(len + 1), len };

	assert_non_null(b.data);
	for (size_t i = 0; i < len; i++)
		b.data[i] = (uint8_t)random32();
	return b;
}

/* What is read, and what comes of it. */
struct patch {
	struct bytes basis, source, out;
	size_t at, step;
	uint64_t literal;
};

static ssize_t on_read(void *cookie, uint8_t *out, size_t len, struct err *err)
{
	struct patch *p = cookie;
	size_t n = p->source.len - p->at;

	(void)err;
	n = n < len ? n : len;
	n = n < p->step ? n : p->step;
	memcpy(out, p->source.data + p->at, n);
	p->at += n;
	return (ssize_t)n;
}

static int append(struct patch *p, const uint8_t *bytes, size_t len)
{
	assert_true(len <= p->source.len - p->out.len);
	memcpy(p->out.data + p->out.len, bytes, len);
	p->out.len += len;
	return 0;
}

static int on_literal(void *cookie, const uint8_t *bytes, size_t len, struct err *err)
{
	struct patch *p = cookie;

	(void)err;
	p->literal += len;
	return append(p, bytes, len);
}

static int on_copy(void *cookie, uint64_t offset, uint64_t len, struct err *err)
{
	struct patch *p = cookie;

	(void)err;
	assert_true(offset + len <= p->basis.len);
	return append(p, p->basis.data + offset, (size_t)len);
}

static const struct sync_delta_ops ops = { on_read, on_literal, on_copy };

static struct sync_sums *sum_up(struct bytes basis, size_t block, struct err *err)
{
	struct sync_sums *s = sync_sums_create(basis.len, block, SEED, err);
	uint8_t sum[SYNC_SUM_SIZE];

	for (size_t at = 0; s != NULL && at < basis.len; at += block) {
		size_t len = basis.len - at < block ? basis.len - at : block;
		assert_false(sync_sums_are_all(s));
		sync_sum(basis.data + at, len, SEED, sum);
		assert_int_equal(sync_sums_add(s, sum, sizeof(sum), err), 0);
	}
	return s;
}

/* Returns how many bytes were not found. */
static uint64_t becomes(struct bytes basis, struct bytes source, size_t block, size_t step)
{
	struct patch p = { .basis = basis, .source = source, .step = step };
	struct err err = { 0 };
	struct sync_sums *s = sum_up(basis, block, &err);

	p.out.data = malloc(source.len + 1);
	assert_non_null(s);
	assert_true(sync_sums_are_all(s));
	assert_int_equal(sync_delta(s, 0, &ops, &p, &err), 0);
	assert_int_equal(p.out.len, source.len);
	assert_memory_equal(p.out.data, source.data, source.len);
	free(p.out.data);
	sync_sums_free(s);
	return p.literal;
}

static void whatever_is_cut_in_comes_out(void **state)
{
	static const size_t sizes[] = { 1, 2047, 2048, 2049, 4096, 100000, 300000, 700001 };

	(void)state;
	random_state = 1;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct bytes basis = make(sizes[i]);
		for (int round = 0; round < 12; round++) {
			/* Part of it, something else, and another part. */
			struct bytes source = make(sizes[i] + 5000);
			size_t one = random32() % (basis.len + 1),
			       two = random32() % (basis.len + 1);
			size_t other = random32() % 5000;
			if (round == 0)
				one = basis.len, other = 0, two = basis.len;
			memcpy(source.data, basis.data, one);
			size_t rest = basis.len - two;
			rest = rest < source.len - one - other ? rest : source.len - one - other;
			memcpy(source.data + one + other, basis.data + two, rest);
			source.len = round == 1 ? 0 : one + other + rest;
			becomes(basis, source, SYNC_BLOCK_MIN, round % 2 == 0 ? 1000 : SIZE_MAX);
			free(source.data);
		}
		free(basis.data);
	}
}

static void only_what_differs_is_literal(void **state)
{
	struct bytes basis, source;

	(void)state;
	random_state = 2;
	basis = make(1 << 20);
	assert_int_equal(becomes(basis, basis, 2048, SIZE_MAX), 0);
	assert_int_equal(becomes(basis, basis, 4096, 777), 0);

	/* One byte more at the beginning moves all the rest. */
	source = make(basis.len + 1);
	memcpy(source.data + 1, basis.data, basis.len);
	assert_true(becomes(basis, source, 2048, SIZE_MAX) <= 2048);

	/* The last, shorter block is found behind what is new. */
	basis.len -= 1000;
	source.len = basis.len + 1;
	assert_true(becomes(basis, source, 2048, SIZE_MAX) <= 2048);
	memcpy(source.data, basis.data, basis.len);
	source.data[basis.len / 2] ^= 1;
	source.len = basis.len;
	assert_true(becomes(basis, source, 2048, SIZE_MAX) <= 2048);
	free(basis.data);
	free(source.data);
}

/* Files of zeros have blocks that are all alike, and sums that collide are no trouble. */
static void blocks_may_be_alike(void **state)
{
	struct bytes basis = { calloc(1, 1 << 20), 1 << 20 },
		     source = { calloc(1, 1 << 21), 1 << 21 };

	(void)state;
	assert_int_equal(becomes(basis, source, 2048, SIZE_MAX), 0);
	source.data[1 << 20] = 1;
	assert_true(becomes(basis, source, 2048, SIZE_MAX) <= 4096);
	free(basis.data);
	free(source.data);
}

static void sums_have_limits(void **state)
{
	struct err err = { 0 };
	uint8_t sums[3 * SYNC_SUM_SIZE] = { 0 };
	struct sync_sums *s;

	(void)state;
	assert_null(sync_sums_create(1 << 20, SYNC_BLOCK_MIN - 1, SEED, &err));
	assert_null(sync_sums_create(1 << 20, SYNC_BLOCK_MAX + 1, SEED, &err));
	assert_null(sync_sums_create(0, SYNC_BLOCK_MIN, SEED, &err));
	assert_null(sync_sums_create(
	    (uint64_t)SYNC_BLOCKS_MAX * SYNC_BLOCK_MIN + 1, SYNC_BLOCK_MIN, SEED, &err));
	s = sync_sums_create(SYNC_BLOCK_MIN * 2, SYNC_BLOCK_MIN, SEED, &err);
	assert_int_equal(sync_sums_add(s, sums, 5, &err), -1);
	assert_int_equal(sync_sums_add(s, sums, 3 * SYNC_SUM_SIZE, &err), -1);
	assert_int_equal(sync_sums_add(s, sums, 2 * SYNC_SUM_SIZE, &err), 0);
	assert_true(sync_sums_are_all(s));
	sync_sums_free(s);

	assert_int_equal(sync_block_of(0), SYNC_BLOCK_MIN);
	assert_int_equal(sync_block_of(1 << 30), 32 << 10);
	assert_int_equal(sync_block_of((uint64_t)1 << 40), SYNC_BLOCK_MAX);
	assert_int_equal(sync_block_of(((uint64_t)1 << 40) + 1), 0);
	assert_int_equal(sync_block_of(UINT64_MAX), 0);
}

static void try_without_memory(void *cookie)
{
	struct bytes *b = cookie;
	struct patch p = { .basis = *b, .source = *b, .step = SIZE_MAX };
	struct err err = { 0 };

	alloc_hold();
	p.out.data = malloc(b->len);
	alloc_release();
	struct sync_sums *s = sum_up(*b, SYNC_BLOCK_MIN, &err);
	int r = s != NULL ? sync_delta(s, 0, &ops, &p, &err) : -1;
	assert_int_equal(r, alloc_has_failed() ? -1 : 0);
	assert_int_equal(err.code, alloc_has_failed() ? GRPC_RESOURCE_EXHAUSTED : GRPC_OK);
	sync_sums_free(s);
	free(p.out.data);
}

static void no_memory(void **state)
{
	struct bytes b;

	(void)state;
	random_state = 3;
	b = make(100000);
	alloc_torture(try_without_memory, &b);
	free(b.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whatever_is_cut_in_comes_out),
		cmocka_unit_test(only_what_differs_is_literal),
		cmocka_unit_test(blocks_may_be_alike),
		cmocka_unit_test(sums_have_limits),
		cmocka_unit_test(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
