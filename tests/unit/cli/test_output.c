/* Tables and JSON, with the text of others in them. */
#include "cli/output.h"

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

/* What is printed; the caller frees it. */
static char *print_table(const struct output_table *t)
{
	struct err err = { 0 };
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	assert_int_equal(output_table_print(t, out, &err), 0);
	fclose(out);
	return text;
}

static void test_columns(void **state)
{
	static const char *const cells[] = { "NAME", "PHASE", "a-long-name", "READY", "b", NULL, "",
		"x" };
	struct output_table t;
	char *text;

	(void)state;
	output_table_init(&t, 2);
	for (size_t i = 0; i < sizeof(cells) / sizeof(cells[0]); i++)
		output_table_add(&t, cells[i]);
	text = print_table(&t);
	assert_string_equal(text,
	    "NAME         PHASE\n"
	    "a-long-name  READY\n"
	    "b            -\n"
	    "-            x\n");
	free(text);
	output_table_free(&t);
}

/* A peer's text moves no cursor and makes no line. */
static void test_control_characters(void **state)
{
	struct output_table t;
	char *text;

	(void)state;
	output_table_init(&t, 1);
	output_table_add(&t, "a\033[2Jb\nc\r\x7f");
	text = print_table(&t);
	for (const char *at = text; *at != '\0'; at++)
		assert_true((*at >= ' ' && *at != 0x7f) || at[1] == '\0');
	free(text);
	output_table_free(&t);
}

/* Whoever sent it: it is shown as far as it goes. */
static void test_long_cells(void **state)
{
	const size_t most = (size_t)64 << 10;
	struct output_table t;
	char *cell = malloc(most + 2), *text;

	(void)state;
	assert_non_null(cell);
	for (size_t more = 0; more < 2; more++) {
		memset(cell, '\n', most + more);
		cell[most + more] = '\0';
		output_table_init(&t, 1);
		output_table_add(&t, cell);
		text = print_table(&t);
		assert_int_equal(strlen(text), 4 * most + (more > 0 ? 3 : 0) + 1);
		assert_string_equal(text + strlen(text) - 5, more > 0 ? "a...\n" : "\\x0a\n");
		free(text);
		output_table_free(&t);
	}
	free(cell);
}

static void test_many_rows(void **state)
{
	struct output_table t;
	size_t lines = 0;
	char *text;

	(void)state;
	output_table_init(&t, OUTPUT_COLUMNS_MAX);
	for (int i = 0; i < 1000 * OUTPUT_COLUMNS_MAX; i++)
		output_table_add(&t, "cell");
	text = print_table(&t);
	for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++)
		lines++;
	assert_int_equal(lines, 1000);
	free(text);
	output_table_free(&t);
}

static void test_a_full_disk(void **state)
{
	FILE *full = fopen("/dev/full", "w");
	struct output_table t;
	struct err err = { 0 };

	(void)state;
	assert_non_null(full);
	output_table_init(&t, 1);
	output_table_add(&t, "x");
	assert_int_equal(output_table_print(&t, full, &err), -1);
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	output_table_free(&t);
	fclose(full);
}

static void test_sizes(void **state)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} sizes[] = {
		{ 0, "0 B" },
		{ 1023, "1023 B" },
		{ 1024, "1.0 KiB" },
		{ 1536, "1.5 KiB" },
		{ (1U << 20) - 1, "1.0 MiB" },
		{ 256U << 20, "256.0 MiB" },
		{ UINT64_C(1) << 40, "1.0 TiB" },
		{ UINT64_MAX, "16.0 EiB" },
	};
	char text[OUTPUT_SIZE_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		output_size(sizes[i].bytes, text);
		assert_string_equal(text, sizes[i].text);
	}
}

static void test_json_of_any_bytes(void **state)
{
	static const char *const cases[][2] = {
		{ "plain", "plain" },
		{ "\xc3\xa9\xe2\x82\xac", "\xc3\xa9\xe2\x82\xac" },
		{ "latin \xfc!", "latin ?!" },
		{ "", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *json = output_json_text(cases[i][0]);

		assert_string_equal(json_string_value(json), cases[i][1]);
		json_decref(json);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_columns, setup, teardown),
		cmocka_unit_test_setup_teardown(test_control_characters, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_cells, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_rows, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_full_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_json_of_any_bytes, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
