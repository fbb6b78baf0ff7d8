/* The kernel's random numbers: within bounds, evenly, and never twice. */
#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "leaks.h"

#define DRAWS 30000

/* Every byte asked for is written and none beside it. That one stays as it was in 24 rounds by
 * chance is less likely than 1 in 2^180. */
static void test_bytes(void **state)
{
	(void)state;
	for (size_t n = 0; n <= 300; n += n < 20 ? 1 : 70) {
		uint8_t bytes[302] = { 0 }, changed[302] = { 0 };

		for (unsigned round = 0; round < 24; round++) {
			random_bytes(bytes + 1, n);
			for (size_t i = 0; i < sizeof(bytes); i++)
				changed[i] |= bytes[i];
		}
		for (size_t i = 0; i < sizeof(bytes); i++)
			assert_int_equal(changed[i] != 0, i >= 1 && i <= n);
	}
}

/* More than the kernel gives in one call that a signal may interrupt. */
static void test_many_bytes(void **state)
{
	static uint8_t bytes[1 << 20];
	unsigned counts[256] = { 0 };

	(void)state;
	random_bytes(bytes, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++)
		counts[bytes[i]]++;
	for (size_t i = 0; i < 256; i++)
		assert_in_range(counts[i], 4096 - 1024, 4096 + 1024); /* 16 deviations */
}

static void test_below(void **state)
{
	unsigned counts[3] = { 0 };

	(void)state;
	for (unsigned i = 0; i < DRAWS; i++) {
		uint64_t n = random_below(3);

		assert_true(n < 3);
		counts[n]++;
		assert_int_equal(random_below(1), 0);
	}
	for (size_t i = 0; i < 3; i++)
		assert_in_range(counts[i], DRAWS / 3 - 1000, DRAWS / 3 + 1000); /* 12 deviations */
}

/* Of 3/4 of all numbers the lowest third is no likelier than the others: taking the
 * remainder alone would give it half. */
static void test_below_is_even(void **state)
{
	unsigned low = 0;

	(void)state;
	for (unsigned i = 0; i < DRAWS; i++) {
		uint64_t n = random_below(UINT64_C(3) << 62);

		assert_true(n < UINT64_C(3) << 62);
		low += n < UINT64_C(1) << 62;
	}
	assert_in_range(low, DRAWS / 3 - 1000, DRAWS / 3 + 1000);
}

static bool is_uuid(const char *text)
{
	static const char form[] = "xxxxxxxx-xxxx-4xxx-vxxx-xxxxxxxxxxxx";

	for (size_t i = 0; i < sizeof(form); i++) {
		const char *allowed = form[i] == 'x' ? "0123456789abcdef"
		    : form[i] == 'v'                 ? "89ab"
						     : (char[]){ form[i], '\0' };

		if (text[i] != form[i] && (text[i] == '\0' || strchr(allowed, text[i]) == NULL))
			return false;
	}
	return true;
}

static void test_uuid(void **state)
{
	static char texts[200][37];
	bool seen[37]['g'] = { { false } };

	(void)state;
	for (size_t i = 0; i < 200; i++) {
		random_uuid(texts[i]);
		assert_true(is_uuid(texts[i]));
		for (size_t j = 0; j < i; j++)
			assert_string_not_equal(texts[i], texts[j]);
		for (size_t j = 0; j < 36; j++)
			seen[j][(unsigned char)texts[i][j]] = true;
	}
	for (size_t j = 0; j < 36; j++) {
		unsigned kinds = 0;

		for (size_t c = 0; c < 'g'; c++)
			kinds += seen[j][c];
		if (j == 8 || j == 13 || j == 14 || j == 18 || j == 23)
			assert_int_equal(kinds, 1);
		else if (j == 19)
			assert_int_equal(kinds, 4);
		else
			assert_in_range(kinds, 12, 16);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		leaks_test(test_bytes),
		leaks_test(test_many_bytes),
		leaks_test(test_below),
		leaks_test(test_below_is_even),
		leaks_test(test_uuid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
