/*
 * cli/output.h: results on standard output, as a table or as one JSON document. Text of
 * others has its control characters escaped.
 */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

#define OUTPUT_COLUMNS_MAX 12

/* Rows of cells; columns are as wide as their widest. */
struct output_table {
	size_t columns;
	char **cells;
	size_t count, cap;
	bool failed; /* no memory: printing says so */
};

void output_table_init(struct output_table *, size_t columns);
void output_table_free(struct output_table *);

/* The next cell, row by row; NULL and "" become "-". Copied. */
void output_table_add(struct output_table *, const char *cell);
int output_table_print(const struct output_table *, FILE *, struct err *);

/* Prints the document and drops it. NULL means that it could not be made. */
int output_json(json_t *, FILE *, struct err *);

/* A string of whatever bytes: what is no UTF-8 is replaced. */
json_t *output_json_text(const char *);

/* "12 B", "3.4 KiB", "256.0 MiB". */
#define OUTPUT_SIZE_MAX 24
void output_size(uint64_t bytes, char out[static OUTPUT_SIZE_MAX]);

#endif
