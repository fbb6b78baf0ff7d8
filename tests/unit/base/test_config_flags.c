/* The command line: forms of flags, and words among them. */
#include "base/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "options.h"

static void test_forms_of_flags(void **state)
{
	static const char *const forms[] = { "--name x", "--name=x", "-n x", "-nx", "-n=x" };
	struct options_fixture *f = *state;

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		options_start_again(f);
		assert_true(options_give_flags(f, forms[i]) > 0);
		assert_string_equal(f->o.name, "x");
	}
	options_start_again(f);
	assert_true(options_give_flags(f, "--name --tls") > 0);
	assert_string_equal(f->o.name, "--tls");
	assert_false(f->o.tls);
	options_start_again(f);
	assert_true(options_give_flags(f, "--name=") > 0);
	assert_string_equal(f->o.name, "");
	assert_true(options_give_flags(f, "--tag=a=b") > 0);
	assert_string_equal(f->o.tags.item[0], "a=b");
}

static void test_switches(void **state)
{
	static const struct {
		const char *line;
		bool tls;
	} rows[] = {
		{ "--tls", true },
		{ "-t", true },
		{ "--tls=true", true },
		{ "--tls=off", false },
		{ "--no-tls", false },
		{ "--tls --no-tls", false },
		{ "--no-tls --tls", true },
		{ "--tls --tls", true },
	};
	struct options_fixture *f = *state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		options_start_again(f);
		f->o.tls = !rows[i].tls;
		assert_true(options_give_flags(f, rows[i].line) > 0);
		assert_int_equal(f->o.tls, rows[i].tls);
	}
	/* A switch takes no word behind it. */
	assert_int_equal(options_give_flags(f, "--dry false"), 2);
	assert_true(f->o.dry);
}

static void test_bad_flags(void **state)
{
	static const struct {
		const char *line, *text;
	} rows[] = {
		{ "--nam x", "unknown option --nam; see --help" },
		{ "--names x", "unknown option --names; see --help" },
		{ "-x", "unknown option -x; see --help" },
		{ "--no-name", "unknown option --no-name; see --help" },
		{ "--no-", "unknown option --no-; see --help" },
		{ "--=x", "unknown option --; see --help" },
		{ "--no-tls=true", "unknown option --no-tls; see --help" },
		{ "--no-tls=false", "unknown option --no-tls; see --help" },
		{ "--name", "--name needs a value: NAME" },
		{ "--tls -n", "-n needs a value: NAME" },
		{ "--name a -n b", "--name: given twice" },
		{ "--name a --name true", "--name: given twice" },
		{ "--loops 1 --loops 1", "--loops: given twice" },
		{ "--tls=maybe", "--tls: \"maybe\" is neither true nor false" },
		{ "-tl", "-l needs a value: N" },
	};
	struct options_fixture *f = *state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		options_start_again(f);
		assert_int_equal(options_give_flags(f, rows[i].line), -1);
		options_assert_error(f, rows[i].text);
	}
}

static void assert_words(char **argv, const char *joined)
{
	char text[256] = "";
	size_t len = 0;

	for (; *argv != NULL; argv++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, " %s", *argv);
	assert_string_equal(text + 1, joined);
}

/* Flags go in front, words behind them, each in their order. */
static void test_words(void **state)
{
	static const struct {
		const char *line;
		bool first_word;
		int rest;
		const char *words;
	} rows[] = {
		{ "", false, 1, "program" },
		{ "a b", false, 1, "program a b" },
		{ "--tls a b", false, 2, "program --tls a b" },
		{ "a --name x b -t c", false, 4, "program --name x -t a b c" },
		{ "a b --loops 3 --size=4 c", false, 4, "program --loops 3 --size=4 a b c" },
		{ "a --tls -- --name x", false, 3, "program --tls -- a --name x" },
		{ "-- a", false, 2, "program -- a" },
		{ "--", false, 2, "program --" },
		{ "- --tls", false, 2, "program --tls -" },
		{ "--tls run --name x", true, 2, "program --tls run --name x" },
		{ "--tls", true, 2, "program --tls" },
		{ "--tls -- run --x", true, 3, "program --tls -- run --x" },
	};
	struct options_fixture *f = *state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *argv[OPTIONS_WORDS_MAX + 1];

		options_start_again(f);
		assert_int_equal(
		    options_give_words(f, rows[i].line, rows[i].first_word, argv), rows[i].rest);
		assert_words(argv, rows[i].words);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		options_test(test_forms_of_flags),
		options_test(test_switches),
		options_test(test_bad_flags),
		options_test(test_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
