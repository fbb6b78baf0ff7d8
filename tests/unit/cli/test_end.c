/* Which side of a copy a word means. */
#include "cli/end.h"

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

static void test_words(void **state)
{
	static const struct {
		const char *word;
		enum end_kind kind;
		const char *sandbox, *path;
	} rows[] = {
		{ "f", END_KIND_LOCAL, NULL, "f" },
		{ "", END_KIND_LOCAL, NULL, "" },
		{ "-", END_KIND_STREAM, NULL, "-" },
		{ "./-", END_KIND_LOCAL, NULL, "./-" },
		{ "box:f", END_KIND_REMOTE, "box", "f" },
		{ "box:", END_KIND_REMOTE, "box", "." },
		{ "box:/f", END_KIND_REMOTE, "box", "/f" },
		{ "box:a:b", END_KIND_REMOTE, "box", "a:b" },
		{ "box:-", END_KIND_REMOTE, "box", "-" },
		{ ":f", END_KIND_LOCAL, NULL, ":f" },
		{ "./a:b", END_KIND_LOCAL, NULL, "./a:b" },
		{ "d/a:b", END_KIND_LOCAL, NULL, "d/a:b" },
		{ "/x:y", END_KIND_LOCAL, NULL, "/x:y" },
		{ "..:y", END_KIND_LOCAL, NULL, "..:y" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct end end;
		struct err err;

		assert_int_equal(end_parse(rows[i].word, &end, &err), 0);
		assert_int_equal(end.kind, rows[i].kind);
		assert_string_equal(end.path, rows[i].path);
		if (rows[i].sandbox == NULL)
			assert_null(end.sandbox);
		else
			assert_string_equal(end.sandbox, rows[i].sandbox);
		end_free(&end);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_words, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
