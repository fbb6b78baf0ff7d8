/* The line that says how far a transfer is. */
#include "cli/progress.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

#define MIB (UINT64_C(1) << 20)

static void test_lines(void **state)
{
	static const struct {
		struct progress_view view;
		unsigned columns;
		const char *line;
	} cases[] = {
		{ { "f", 0, 0, 0 }, 80, "f  0 B" },
		{ { "f", 5 * MIB, 0, 0 }, 80, "f  5.0 MiB" },
		{ { "f", 5 * MIB, 10 * MIB, 0 }, 80, "f  5.0 MiB / 10.0 MiB   50%" },
		{ { "f", 5 * MIB, 10 * MIB, MIB }, 80,
		    "f  5.0 MiB / 10.0 MiB   50%  1.0 MiB/s  ETA 0:05" },
		{ { "f", 0, 36000 * MIB, 10 * MIB }, 80,
		    "f  0 B / 35.2 GiB    0%  10.0 MiB/s  ETA 1:00:00" },
		{ { "f", 12 * MIB, 10 * MIB, MIB }, 80, "f  12.0 MiB / 10.0 MiB  100%  1.0 MiB/s" },
		{ { "a/long/path/name", MIB, 0, 0 }, 20, "...ath/name  1.0 MiB" },
		{ { "a/long/path/name", MIB, 0, 0 }, 12, "1.0 MiB" },
		{ { "a/long/path/name", MIB, 0, 0 }, 4, "1.0 " },
	};
	char line[128];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		progress_format(&cases[i].view, cases[i].columns, line, sizeof(line));
		assert_string_equal(line, cases[i].line);
	}
}

static void test_never_too_long(void **state)
{
	const struct progress_view v = { "some/name", 5 * MIB, 10 * MIB, MIB };
	char line[64];

	(void)state;
	for (unsigned columns = 1; columns < 200; columns++) {
		progress_format(&v, columns, line, sizeof(line));
		assert_true(strlen(line) <= columns && strlen(line) < sizeof(line));
	}
}

static void test_json(void **state)
{
	const struct progress_view v = { "a\"\n", 5 * MIB, 10 * MIB, MIB };
	const struct progress_view unknown = { "a", 5, 0, 0 };
	char line[256], small[20];

	(void)state;
	progress_format_json(&v, line, sizeof(line));
	assert_string_equal(line,
	    "{\"event\":\"progress\",\"name\":\"a\\\"\\n\",\"bytes\":5242880,\"rate\":1048576,"
	    "\"total\":10485760,\"percent\":50.0,\"eta_seconds\":5}");
	progress_format_json(&unknown, line, sizeof(line));
	assert_string_equal(line, "{\"event\":\"progress\",\"name\":\"a\",\"bytes\":5,\"rate\":0}");
	progress_format_json(&v, small, sizeof(small));
	assert_true(strlen(small) < sizeof(small));
}

static void test_styles(void **state)
{
	enum progress_style style;
	struct err err;

	(void)state;
	assert_int_equal(progress_parse_style(&style, "json", &err), 0);
	assert_int_equal(style, PROGRESS_STYLE_JSON);
	assert_int_equal(progress_parse_style(&style, "loud", &err), -1);
	assert_non_null(strstr(err.text, "plain"));
}

/* What notes leave on standard error. */
static void note(unsigned verbose, int count, char *said, size_t size)
{
	const struct cli cli = { .verbose = verbose };
	struct err err;
	FILE *file = tmpfile();
	struct loop *loop = loop_create(0, &err);
	struct progress *p = progress_create(loop, &cli, PROGRESS_STYLE_NONE, &err);
	int before = dup(STDERR_FILENO);
	char text[32];

	assert_true(file != NULL && p != NULL && before >= 0);
	fflush(stderr);
	dup2(fileno(file), STDERR_FILENO);
	for (int i = 1; i <= count; i++) {
		snprintf(text, sizeof(text), "left out %d", i);
		progress_note(p, text);
	}
	progress_free(p);
	dup2(before, STDERR_FILENO);
	rewind(file);
	said[fread(said, 1, size - 1, file)] = '\0';
	fclose(file);
	close(before);
	loop_free(loop);
}

static size_t lines_of(const char *text)
{
	size_t n = 0;

	for (; *text != '\0'; text++)
		n += *text == '\n';
	return n;
}

static void test_notes(void **state)
{
	char said[4096];

	(void)state;
	note(0, PROGRESS_NOTES_MAX, said, sizeof(said));
	assert_int_equal(lines_of(said), PROGRESS_NOTES_MAX);
	assert_non_null(strstr(said, "towline: left out 20\n"));
	note(0, PROGRESS_NOTES_MAX + 30, said, sizeof(said));
	assert_int_equal(lines_of(said), PROGRESS_NOTES_MAX + 1);
	assert_non_null(strstr(said, "left out 20\ntowline: there are more; --verbose"));
	note(1, PROGRESS_NOTES_MAX + 30, said, sizeof(said));
	assert_int_equal(lines_of(said), PROGRESS_NOTES_MAX + 30);
}

/* The first loop of a program makes a pipe that is kept to its end. */
static int setup_group(void **state)
{
	struct err err;

	(void)state;
	loop_free(loop_create(0, &err));
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(test_never_too_long, setup, teardown),
		cmocka_unit_test_setup_teardown(test_json, setup, teardown),
		cmocka_unit_test_setup_teardown(test_styles, setup, teardown),
		cmocka_unit_test_setup_teardown(test_notes, setup, teardown),
	};

	return cmocka_run_group_tests(tests, setup_group, NULL);
}
