/* SHA-256 against the vectors of FIPS 180, and comparison. */
#include "rpc/crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct {
	const char *text, *hex;
} vectors[] = {
	{ "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
	{ "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
	{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	    "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
};

static void assert_hex(const uint8_t digest[CRYPTO_SHA256_SIZE], const char *hex)
{
	char text[2 * CRYPTO_SHA256_SIZE + 1];

	for (size_t i = 0; i < CRYPTO_SHA256_SIZE; i++)
		snprintf(text + 2 * i, 3, "%02x", (unsigned)digest[i]);
	assert_string_equal(text, hex);
}

static void hashes_in_one_go(void **state)
{
	uint8_t digest[CRYPTO_SHA256_SIZE];

	(void)state;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		crypto_sha256(vectors[i].text, strlen(vectors[i].text), digest);
		assert_hex(digest, vectors[i].hex);
	}
}

static void hashes_in_pieces(void **state)
{
	const char *text = vectors[2].text;
	uint8_t digest[CRYPTO_SHA256_SIZE];

	(void)state;
	for (size_t cut = 0; cut <= strlen(text); cut++) {
		struct crypto_sha256 *sha = crypto_sha256_create();

		assert_non_null(sha);
		crypto_sha256_update(sha, text, cut);
		crypto_sha256_update(sha, text + cut, strlen(text) - cut);
		crypto_sha256_value(sha, digest);
		crypto_sha256_free(sha);
		assert_hex(digest, vectors[2].hex);
	}
	crypto_sha256_free(NULL);
}

static void compares_every_byte(void **state)
{
	uint8_t a[33] = { 0 }, b[33] = { 0 };

	(void)state;
	assert_true(crypto_equal(a, b, sizeof(a)));
	assert_true(crypto_equal(a, b, 0));
	for (size_t i = 0; i < sizeof(a); i++) {
		b[i] = 1;
		assert_false(crypto_equal(a, b, sizeof(a)));
		assert_true(crypto_equal(a, b, i));
		b[i] = 0;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hashes_in_one_go),
		cmocka_unit_test(hashes_in_pieces),
		cmocka_unit_test(compares_every_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
