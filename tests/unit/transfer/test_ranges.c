/* Ranges are the set of bytes that was put in, whatever the order. */
#include "transfer/ranges.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BYTES 48 /* of a file that is looked at byte by byte */

static bool has(const struct ranges *r, uint64_t byte)
{
	return ranges_overlap(r, (struct range){ byte, byte + 1 });
}

static void assert_is(const struct ranges *r, const bool model[BYTES])
{
	uint64_t sum = 0, prefix = 0;
	struct range gap;

	assert_true(ranges_are_sound(r));
	for (uint64_t i = 0; i < BYTES; i++) {
		assert_int_equal(has(r, i), model[i]);
		sum += model[i];
	}
	while (prefix < BYTES && model[prefix])
		prefix++;
	assert_int_equal(ranges_bytes(r), sum);
	assert_int_equal(ranges_prefix(r), prefix);
	assert_int_equal(ranges_gap(r, BYTES, &gap), prefix < BYTES);
	if (prefix == BYTES)
		return;
	assert_int_equal(gap.begin, prefix);
	for (uint64_t i = gap.begin; i < gap.end; i++)
		assert_false(model[i]);
	assert_true(gap.end == BYTES || model[gap.end]);
}

static void they_are_what_was_put_in(void **state)
{
	bool model[BYTES] = { false };
	struct ranges r = { 0 };

	(void)state;
	srand(1);
	for (size_t i = 0; i < 100000; i++) {
		uint64_t a = (uint64_t)rand() % (BYTES + 1), b = (uint64_t)rand() % (BYTES + 1);
		struct range range = { a < b ? a : b, a < b ? b : a };
		struct ranges before = r;
		bool add = rand() % 2 == 0;

		if (range.end - range.begin > 6)
			range.end = range.begin + 6;
		if (!(add ? ranges_add(&r, range) : ranges_remove(&r, range))) {
			assert_memory_equal(&before, &r, sizeof(r));
			assert_int_equal(r.count, RANGES_MAX);
			continue;
		}
		memset(model + range.begin, add, range.end - range.begin);
		assert_is(&r, model);
	}
}

static void there_are_not_too_many(void **state)
{
	struct ranges r = { 0 };

	(void)state;
	for (uint64_t i = 0; i < RANGES_MAX; i++)
		assert_true(ranges_add(&r, (struct range){ 10 * i, 10 * i + 5 }));
	assert_false(ranges_add(&r, (struct range){ 1000, 1001 }));
	assert_false(ranges_remove(&r, (struct range){ 2, 3 }));
	assert_true(ranges_add(&r, (struct range){ 5, 10 }));
	assert_int_equal(r.count, RANGES_MAX - 1);
	assert_true(ranges_add(&r, (struct range){ 1000, 1001 }));
	assert_int_equal(ranges_end(&r), 1001);
	assert_true(ranges_remove(&r, (struct range){ 0, UINT64_MAX }));
	assert_int_equal(r.count, 0);
	assert_int_equal(ranges_end(&r), 0);
}

static void what_touches_makes_none_more(void **state)
{
	struct ranges r = { .count = 2, .at = { { 5, 10 }, { 20, 30 } } };
	static const bool touched[] = {
		[5] = true, [6] = true, [10] = true, [20] = true, [30] = true, [31] = false
	};

	(void)state;
	for (uint64_t at = 0; at < sizeof(touched); at++) {
		bool inside = (at > 5 && at < 10) || (at > 20 && at < 30);
		assert_int_equal(ranges_touch(&r, at), touched[at] || inside);
	}
	assert_true(ranges_have(&r, (struct range){ 5, 10 }));
	assert_true(ranges_have(&r, (struct range){ 22, 30 }));
	assert_true(ranges_have(&r, (struct range){ 15, 15 }));
	assert_false(ranges_have(&r, (struct range){ 4, 6 }));
	assert_false(ranges_have(&r, (struct range){ 9, 21 }));
}

static void what_is_out_of_order_is_not_sound(void **state)
{
	static const struct ranges bad[] = {
		{ .count = RANGES_MAX + 1 },
		{ .count = 1, .at = { { 5, 5 } } },
		{ .count = 1, .at = { { 5, 4 } } },
		{ .count = 2, .at = { { 0, 5 }, { 5, 6 } } },
		{ .count = 2, .at = { { 10, 15 }, { 0, 5 } } },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(ranges_are_sound(&bad[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(they_are_what_was_put_in),
		cmocka_unit_test(there_are_not_too_many),
		cmocka_unit_test(what_touches_makes_none_more),
		cmocka_unit_test(what_is_out_of_order_is_not_sound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
