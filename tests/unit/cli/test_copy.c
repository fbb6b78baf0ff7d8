/* Where a copy goes: the table of docs/cli.md, row by row. */
#include "cli/copy.h"

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

#define NONE      COPY_KIND_NONE
#define FILE_     COPY_KIND_FILE
#define DIRECTORY COPY_KIND_DIRECTORY

struct row {
	const char *source;
	enum copy_kind source_kind;
	const char *dest;
	enum copy_kind dest_kind;
	bool exact;
	const char *target; /* NULL: refused */
};

static const struct row single[] = {
	{ "a/f", FILE_, NULL, NONE, false, "./f" },
	{ "a/f", FILE_, "", NONE, false, "./f" },
	{ "a/f", FILE_, "d/", NONE, false, "d/f" },
	{ "a/f", FILE_, "d//", NONE, false, "d/f" },
	{ "a/f", FILE_, ".", DIRECTORY, false, "./f" },
	{ "a/f", FILE_, "..", DIRECTORY, false, "../f" },
	{ "a/f", FILE_, "/", DIRECTORY, false, "/f" },
	{ "a/f", FILE_, "x", DIRECTORY, false, "x/f" },
	{ "a/f", FILE_, "x", FILE_, false, "x" },
	{ "a/f", FILE_, "x", NONE, false, "x" },
	{ "a/f", FILE_, "x", DIRECTORY, true, "x" },
	{ "a/t", DIRECTORY, NULL, NONE, false, "./t" },
	{ "a/t/", DIRECTORY, NULL, NONE, false, "./t" },
	{ "a/t", DIRECTORY, "d/", NONE, false, "d/t" },
	{ "a/t", DIRECTORY, "x", DIRECTORY, false, "x/t" },
	{ "a/t", DIRECTORY, "x", FILE_, false, NULL },
	{ "a/t", DIRECTORY, "x", FILE_, true, NULL },
	{ "a/t", DIRECTORY, "x", NONE, false, "x" },
	{ "a/t", DIRECTORY, "x", DIRECTORY, true, "x" },
	{ "a/t/.", DIRECTORY, "x", DIRECTORY, false, "x" },
	{ "a/t/.", DIRECTORY, "x", NONE, false, "x" },
	{ "a/t/.", DIRECTORY, NULL, NONE, false, "." },
	{ "..", DIRECTORY, "x", NONE, false, "x" },
	{ "/", DIRECTORY, "x", NONE, false, "x" },
	{ "-", FILE_, "x", NONE, true, "x" },
};

/* One of several sources. */
static const struct row several[] = {
	{ "a/f", FILE_, "x", DIRECTORY, false, "x/f" },
	{ "a/f", FILE_, "x/", NONE, false, "x/f" },
	{ "a/f", FILE_, "x", NONE, false, NULL },
	{ "a/f", FILE_, "x", FILE_, false, NULL },
	{ "a/t", DIRECTORY, "x", NONE, false, NULL },
};

static void check_rows(const struct row *rows, size_t count, bool is_several)
{
	for (size_t i = 0; i < count; i++) {
		const struct copy_case c = { rows[i].source, rows[i].source_kind, rows[i].dest,
			rows[i].dest_kind, rows[i].exact, is_several };
		struct err err = { 0 };
		char *target = copy_target(&c, &err);

		if (rows[i].target == NULL) {
			assert_null(target);
			assert_int_equal(err.code, GRPC_FAILED_PRECONDITION);
			assert_non_null(strstr(err.text, rows[i].dest));
		} else {
			assert_non_null(target);
			assert_string_equal(target, rows[i].target);
		}
		free(target);
	}
}

static void test_rows(void **state)
{
	(void)state;
	check_rows(single, sizeof(single) / sizeof(single[0]), false);
	check_rows(several, sizeof(several) / sizeof(several[0]), true);
}

/* What is at DEST is not asked when its name decides. */
static void test_what_is_asked(void **state)
{
	static const struct {
		const char *dest;
		bool exact, of_file, of_tree;
	} asked[] = {
		{ NULL, false, false, false },
		{ "d/", false, false, false },
		{ ".", false, false, false },
		{ "x", false, true, true },
		{ "x", true, false, true },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
		struct copy_case c = { .source = "s",
			.source_kind = FILE_,
			.dest = asked[i].dest,
			.exact = asked[i].exact };

		assert_int_equal(copy_asks(&c), asked[i].of_file);
		c.source_kind = DIRECTORY;
		assert_int_equal(copy_asks(&c), asked[i].of_tree);
	}
}

static void test_folder_names(void **state)
{
	static const char *const yes[] = { "", "d/", "/", ".", "..", "a/.", "a/..", "./" };
	static const char *const no[] = { "d", "a/d", ".d", "..d", "/d", "d." };

	(void)state;
	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
		assert_true(copy_is_folder_name(yes[i]));
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		assert_false(copy_is_folder_name(no[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_rows, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_asked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_folder_names, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
