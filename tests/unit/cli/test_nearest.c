/* Which word was meant. */
#include "cli/nearest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/leak.h"

static int setup(void **state)
{
	*state = leak_begin();
	return 0;
}

static int teardown(void **state)
{
	return leak_end(*state);
}

static const char *meant(const char *word)
{
	static const char *const words[] = { "gateway", "gateway-endpoint", "list", "get", "exec",
		"create", "delete", "output", "download", "upload" };
	struct nearest n;

	nearest_begin(&n, word, strlen(word));
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		nearest_try(&n, words[i]);
	return n.best != NULL ? n.best : "";
}

static void test_words(void **state)
{
	static const char *const cases[][2] = {
		{ "lst", "list" },         /* one is missing */
		{ "lisst", "list" },       /* one too many */
		{ "lizt", "list" },        /* another one */
		{ "lsit", "list" },        /* swapped */
		{ "outptu", "output" },    /* swapped, at the end */
		{ "gatway", "gateway" },   /* the nearer of two */
		{ "dwnload", "download" }, /* and not upload */
		{ "down", "download" },    /* begins so */
		{ "gateway-e", "gateway-endpoint" },
		{ "g", "" }, /* too little to tell */
		{ "xyzzy", "" },
		{ "", "" },
		{ "a-word-that-is-longer-than-any-of-the-words-it-could-be", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(meant(cases[i][0]), cases[i][1]);
}

/* The same word is near itself, unless it is too long to be looked at. */
static void test_long_words(void **state)
{
	char word[NEAREST_LEN_MAX + 2] = { 0 };
	struct nearest n;

	(void)state;
	memset(word, 'w', NEAREST_LEN_MAX + 1);
	nearest_begin(&n, word, NEAREST_LEN_MAX + 1);
	nearest_try(&n, word);
	assert_null(n.best);
	nearest_begin(&n, word, NEAREST_LEN_MAX);
	nearest_try(&n, word);
	assert_null(n.best);
	word[NEAREST_LEN_MAX] = '\0';
	nearest_try(&n, word);
	assert_ptr_equal(n.best, word);
}

static void test_a_word_without_an_end(void **state)
{
	struct nearest n;

	(void)state;
	nearest_begin(&n, "outptu=json", 6);
	nearest_try(&n, "output");
	assert_string_equal(n.best, "output");
	assert_int_equal(n.distance, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_words, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_words, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_word_without_an_end, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
