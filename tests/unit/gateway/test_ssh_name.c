/* User names and tokens of SSH sessions: the form, to the letter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/ssh_name.h"

#define ID "0123456789abcdef"

static void test_users(void **state)
{
	static const char *const good[] = { "b." ID, "my-box-2." ID, "abcdefghijklmnopqrs." ID,
		"-." ID, "0." ID };
	char sandbox[NAMES_SANDBOX_MAX + 1], id[SSH_NAME_ID_MAX + 1];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		size_t len = strlen(good[i]);

		assert_true(ssh_name_parse(good[i], len, sandbox, id));
		assert_string_equal(id, ID);
		assert_int_equal(strlen(sandbox), len - 17);
		assert_memory_equal(sandbox, good[i], len - 17);
	}
}

static void test_bad_users(void **state)
{
	static const char *const bad[] = { "", ".", "." ID, "box", "box.", "box." ID "0",
		"box.0123456789abcde", "box.0123456789abcdeF", "box.0123456789abcdeg",
		"box..0123456789abcde", "Box." ID, "b_x." ID, "b x." ID, "box." ID " ", " box." ID,
		"abcdefghijklmnopqrst." ID, "b.x." ID, "box@" ID, "../x." ID, "b\xc3\xa4x." ID, ID,
		"x" ID, "root" };
	char sandbox[NAMES_SANDBOX_MAX + 1] = "?", id[SSH_NAME_ID_MAX + 1] = "?";

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (ssh_name_parse(bad[i], strlen(bad[i]), sandbox, id))
			fail_msg("taken: \"%s\"", bad[i]);
	assert_false(ssh_name_parse("box\0." ID, 21, sandbox, id));
	assert_false(ssh_name_parse("box." ID "\0", 21, sandbox, id));
	assert_string_equal(sandbox, "?");
	assert_string_equal(id, "?");
}

static void test_tokens(void **state)
{
	char id[SSH_NAME_ID_MAX + 1], got[SSH_NAME_ID_MAX + 1], token[SSH_NAME_TOKEN_SIZE];
	char other[SSH_NAME_TOKEN_SIZE], longer[SSH_NAME_TOKEN_SIZE + 1];
	uint8_t hash[CRYPTO_SHA256_SIZE], again[CRYPTO_SHA256_SIZE];

	(void)state;
	ssh_name_make_id(id);
	ssh_name_make_token(id, token, hash);
	ssh_name_make_token(id, other, again);
	assert_memory_not_equal(hash, again, sizeof(hash));
	assert_true(ssh_name_parse_token(token, got, again));
	assert_string_equal(got, id);
	assert_memory_equal(hash, again, sizeof(hash));

	for (size_t at = 0; at < strlen(token); at++) {
		memcpy(other, token, sizeof(other));
		other[at] = other[at] == 'a' ? 'b' : 'a';
		if (ssh_name_parse_token(other, got, again) && strcmp(got, id) == 0)
			assert_memory_not_equal(hash, again, sizeof(hash));
		other[at] = '\0';
		assert_false(ssh_name_parse_token(other, got, again));
	}
	snprintf(longer, sizeof(longer), "%s0", token);
	assert_false(ssh_name_parse_token(longer, got, again));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_users),
		cmocka_unit_test(test_bad_users),
		cmocka_unit_test(test_tokens),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
