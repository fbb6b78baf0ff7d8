/*
 * tests/unit/proto/tsv.h: the tables of OpenShell's API in tables/, read row by row.
 * The tables hold facts only (names, numbers, types) and are the measure of the .proto
 * files: a row is never changed to make a test pass.
 */
#ifndef TESTS_PROTO_TSV_H
#define TESTS_PROTO_TSV_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/leak.h"

#define TSV_COLUMNS_MAX 12

struct tsv {
	FILE *file;
	char *line;
	size_t line_size;
	unsigned number; /* of the line, for messages */
	char *columns[TSV_COLUMNS_MAX];
	size_t column_count;
};

/* Splits at tabs, in place. Empty columns count; missing ones are "". */
static inline void tsv_split(struct tsv *t)
{
	char *rest = t->line;

	t->line[strcspn(t->line, "\n")] = '\0';
	t->column_count = 0;
	while (rest != NULL && t->column_count < TSV_COLUMNS_MAX)
		t->columns[t->column_count++] = strsep(&rest, "\t");
}

static inline const char *tsv_column(const struct tsv *t, size_t i)
{
	return i < t->column_count ? t->columns[i] : "";
}

/* The next row, false at the end. */
static inline bool tsv_next(struct tsv *t)
{
	if (getline(&t->line, &t->line_size, t->file) < 0)
		return false;
	t->number++;
	tsv_split(t);
	return true;
}

/* Opens tables/${name} beside this file, behind its heading. */
static inline void tsv_open(struct tsv *t, const char *name)
{
	char path[4096];

	memset(t, 0, sizeof(*t));
	snprintf(path, sizeof(path), "%.*s/tables/%s", (int)(strrchr(__FILE__, '/') - __FILE__),
	    __FILE__, name);
	t->file = fopen(path, "re");
	if (t->file == NULL)
		fail_msg("cannot open %s", path);
	assert_true(tsv_next(t));
	assert_string_equal(tsv_column(t, 0), "api");
}

static inline void tsv_close(struct tsv *t)
{
	fclose(t->file);
	free(t->line);
}

/* Whether rows with this value of the column "api" are to be declared as they stand. */
static inline bool tsv_is_declared(const char *api)
{
	return strcmp(api, "0.1.5") == 0 || strcmp(api, "contract") == 0 ||
	    strcmp(api, "legacy") == 0;
}

/* Of a group of tests: no table is left open. */
static inline int tsv_setup(void **state)
{
	*state = leak_begin();
	return 0;
}

static inline int tsv_teardown(void **state)
{
	return leak_end(*state);
}

#endif
