/* Tokens: whose they are, and that nobody else's are good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "gateway/tokens.h"

struct two {
	struct tokens *tokens;
	char id[2][NAMES_ID_MAX + 1];
	char text[2][TOKENS_TEXT_SIZE];
	uint8_t hash[2][CRYPTO_SHA256_SIZE];
};

static int setup(void **state)
{
	struct two *t = calloc(1, sizeof(*t));
	struct err err;

	t->tokens = tokens_create(&err);
	for (int i = 0; i < 2; i++) {
		random_uuid(t->id[i]);
		tokens_make(t->id[i], t->text[i], t->hash[i]);
		tokens_set(t->tokens, t->id[i], t->hash[i], &err);
	}
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct two *t = *state;

	tokens_free(t->tokens);
	free(t);
	return 0;
}

static void test_own(void **state)
{
	struct two *t = *state;
	char id[NAMES_ID_MAX + 1];

	assert_int_equal(strlen(t->text[0]), TOKENS_TEXT_SIZE - 1);
	assert_memory_not_equal(t->hash[0], t->hash[1], CRYPTO_SHA256_SIZE);
	for (int i = 0; i < 2; i++) {
		assert_true(tokens_verify(t->tokens, t->text[i], id));
		assert_string_equal(id, t->id[i]);
	}
}

/* The hash that is stored opens nothing. */
static void test_wrong(void **state)
{
	struct two *t = *state;
	char id[NAMES_ID_MAX + 1], text[TOKENS_TEXT_SIZE + 1];

	assert_false(tokens_verify(t->tokens, "", id));
	assert_false(tokens_verify(t->tokens, t->id[0], id));
	for (size_t i = 0; i < TOKENS_TEXT_SIZE - 1; i++) {
		memcpy(text, t->text[0], TOKENS_TEXT_SIZE);
		text[i] = text[i] == 'a' ? 'b' : 'a';
		assert_false(tokens_verify(t->tokens, text, id));
	}
	snprintf(text, sizeof(text), "%s0", t->text[0]);
	assert_false(tokens_verify(t->tokens, text, id));
	text[TOKENS_TEXT_SIZE - 2] = '\0';
	assert_false(tokens_verify(t->tokens, text, id));
}

/* One sandbox's secret under another's name. */
static void test_swapped(void **state)
{
	struct two *t = *state;
	char id[NAMES_ID_MAX + 1], text[TOKENS_TEXT_SIZE];

	memcpy(text, t->text[0], TOKENS_TEXT_SIZE);
	memcpy(text, t->id[1], NAMES_ID_MAX);
	assert_false(tokens_verify(t->tokens, text, id));
}

static void test_replaced_and_revoked(void **state)
{
	struct two *t = *state;
	char id[NAMES_ID_MAX + 1], text[TOKENS_TEXT_SIZE];
	uint8_t hash[CRYPTO_SHA256_SIZE];
	struct err err;

	tokens_make(t->id[0], text, hash);
	assert_false(tokens_verify(t->tokens, text, id)); /* made, not yet set */
	assert_int_equal(tokens_set(t->tokens, t->id[0], hash, &err), 0);
	assert_true(tokens_verify(t->tokens, text, id));
	assert_false(tokens_verify(t->tokens, t->text[0], id));
	tokens_revoke(t->tokens, t->id[0]);
	tokens_revoke(t->tokens, t->id[0]);
	assert_false(tokens_verify(t->tokens, text, id));
	assert_true(tokens_verify(t->tokens, t->text[1], id));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_own, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wrong, setup, teardown),
		cmocka_unit_test_setup_teardown(test_swapped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replaced_and_revoked, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
