/* XXH3-128, by answers known from elsewhere, and the same however the bytes come. */
#include "base/digest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/text.h"
#include "leaks.h"

#define BYTES_MAX 4096

/* The buffer of xxHash's own sanity check. */
static const uint8_t *sanity_buffer(void)
{
	static uint8_t bytes[BYTES_MAX];
	uint64_t generator = 2654435761U;

	for (size_t i = 0; i < BYTES_MAX; i++) {
		bytes[i] = (uint8_t)(generator >> 56);
		generator *= UINT64_C(11400714785074694797);
	}
	return bytes;
}

static const char *hex_of(const struct digest *d)
{
	static char text[2 * DIGEST_SIZE + 1];
	uint8_t value[DIGEST_SIZE];

	digest_value(d, value);
	text_hex(value, DIGEST_SIZE, text);
	return text;
}

/* Its answers without a seed: each length takes another path through the algorithm. */
static void test_known_answers(void **state)
{
	static const struct {
		size_t len;
		const char *hex;
	} rows[] = {
		{ 0, "99aa06d3014798d86001c324468d497f" },
		{ 1, "a6cd5e9392000f6ac44bdff4074eecdb" },
		{ 6, "082afe0b8162d12a3e7039bdda43cfc6" },
		{ 12, "6e3efd8fc7802b18061a192713f69ad9" },
		{ 24, "0ce966e4678d37611e7044d28b1b901d" },
		{ 48, "a002ac4e5478227ef942219aed80f67b" },
		{ 81, "4952f58181ab00425e8bafb9f95fb803" },
		{ 222, "337e09641b948717f1aebd597cec6b3a" },
		{ 403, "1b6de21e332dd73dcdeb804d65c6dea4" },
		{ 512, "18d2d110dcc9bca1617e49599013cb6b" },
		{ 2048, "f736557fd47073a5dd59e2c3a5f038e0" },
		{ 2240, "ccb134fbfa7ce49d6e73a90539cf2948" },
		{ 2367, "e89c0f6ff369b427cb37aeb9e5d361ed" },
	};
	struct digest *d = digest_create();

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		digest_reset(d);
		digest_update(d, sanity_buffer(), rows[i].len);
		assert_string_equal(hex_of(d), rows[i].hex);
	}
	digest_free(d);
}

static void test_of_text(void **state)
{
	struct digest *d = digest_create();

	(void)state;
	assert_string_equal(hex_of(d), "99aa06d3014798d86001c324468d497f");
	digest_update(d, "a", 1);
	assert_string_equal(hex_of(d), "a96faf705af16834e6c632b61e964e1f");
	digest_update(d, "bc", 2);
	assert_string_equal(hex_of(d), "06b05ab6733a618578af5f94892f3950");
	digest_free(d);
	digest_free(NULL);
}

static void test_pieces(void **state)
{
	static const size_t steps[] = { 1, 7, 64, 255, 256, 257, 1000, BYTES_MAX };
	struct digest *d = digest_create();
	char whole[2 * DIGEST_SIZE + 1];

	(void)state;
	digest_update(d, sanity_buffer(), BYTES_MAX);
	memcpy(whole, hex_of(d), sizeof(whole));
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		digest_reset(d);
		for (size_t at = 0, n; at < BYTES_MAX; at += n) {
			n = steps[i] < BYTES_MAX - at ? steps[i] : BYTES_MAX - at;
			digest_update(d, sanity_buffer() + at, n);
			digest_update(d, NULL, 0);
		}
		assert_string_equal(hex_of(d), whole);
		assert_string_equal(hex_of(d), whole); /* asking changes nothing */
	}
	digest_update(d, "x", 1);
	assert_string_not_equal(hex_of(d), whole);
	digest_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		leaks_test(test_known_answers),
		leaks_test(test_of_text),
		leaks_test(test_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
