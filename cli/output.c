#include "cli/output.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define CELL_MAX ((size_t)64 << 10) /* bytes; a longer cell is cut */
#define GAP      2                  /* columns between columns */

void output_table_init(struct output_table *t, size_t columns)
{
	*t = (struct output_table){ .columns = columns };
}

void output_table_free(struct output_table *t)
{
	for (size_t i = 0; i < t->count; i++)
		free(t->cells[i]);
	free(t->cells);
	*t = (struct output_table){ .columns = t->columns };
}

static bool make_room(struct output_table *t)
{
	size_t cap = t->cap > 0 ? 2 * t->cap : 64;
	char **cells;

	if (t->count < t->cap)
		return true;
	if ((cells = realloc(t->cells, cap * sizeof(*cells))) == NULL)
		return false;
	t->cells = cells;
	t->cap = cap;
	return true;
}

void output_table_add(struct output_table *t, const char *cell)
{
	struct text plain;
	size_t len;

	text_init(&plain, 4 * CELL_MAX + 4); /* a byte may become \xNN */
	if (cell == NULL || cell[0] == '\0')
		cell = "-";
	len = strlen(cell);
	text_add_plain(&plain, cell, len < CELL_MAX ? len : CELL_MAX);
	if (len > CELL_MAX)
		text_add(&plain, "...", 3);
	if (plain.failed || !make_room(t)) {
		t->failed = true;
		text_free(&plain);
		return;
	}
	t->cells[t->count++] = plain.data;
}

int output_table_print(const struct output_table *t, FILE *out, struct err *err)
{
	size_t width[OUTPUT_COLUMNS_MAX] = { 0 };

	if (t->failed)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	for (size_t i = 0; i < t->count; i++) {
		size_t len = strlen(t->cells[i]);

		if (len > width[i % t->columns])
			width[i % t->columns] = len;
	}
	for (size_t i = 0; i < t->count; i++) {
		bool last = (i + 1) % t->columns == 0;
		int pad = last ? 0 : (int)(width[i % t->columns] + GAP);

		fprintf(out, "%-*s%s", pad, t->cells[i], last ? "\n" : "");
	}
	errno = 0;
	return fflush(out) == 0 ? 0 : err_sys(err, errno, "standard output");
}

int output_json(json_t *json, FILE *out, struct err *err)
{
	int r;

	if (json == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	errno = 0;
	r = json_dumpf(json, out, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_ENSURE_ASCII);
	json_decref(json);
	fputc('\n', out);
	return r == 0 && fflush(out) == 0 ? 0 : err_sys(err, errno, "standard output");
}

json_t *output_json_text(const char *text)
{
	json_t *json = json_string(text);
	char *copy;

	if (json != NULL || (copy = strdup(text)) == NULL)
		return json;
	for (char *at = copy; *at != '\0'; at++)
		if ((unsigned char)*at >= 0x80)
			*at = '?';
	json = json_string(copy);
	free(copy);
	return json;
}

void output_size(uint64_t bytes, char out[static OUTPUT_SIZE_MAX])
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	size_t unit = 0;

	if (bytes < 1024) {
		snprintf(out, OUTPUT_SIZE_MAX, "%" PRIu64 " B", bytes);
		return;
	}
	/* What would be shown as 1024.0 is one of the next unit. */
	value /= 1024;
	while (value >= 1023.95) {
		value /= 1024;
		unit++;
	}
	snprintf(out, OUTPUT_SIZE_MAX, "%.1f %s", value, units[unit]);
}
