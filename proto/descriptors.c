#include "proto/descriptors.h"

#include <stdlib.h>
#include <string.h>

#include "proto/tables.h"

static int compare_file(const void *name, const void *entry)
{
	return strcmp(name, (*(const struct descriptors_file *const *)entry)->name);
}

static int compare_symbol(const void *name, const void *symbol)
{
	return strcmp(name, ((const struct tables_symbol *)symbol)->name);
}

const struct descriptors_file *descriptors_find_file(const char *name)
{
	const struct descriptors_file *const *found =
	    bsearch(name, tables_files, tables_file_count, sizeof(tables_files[0]), compare_file);

	return found != NULL ? *found : NULL;
}

const struct descriptors_file *descriptors_find_symbol(const char *symbol)
{
	const struct tables_symbol *found = bsearch(
	    symbol, tables_symbols, tables_symbol_count, sizeof(tables_symbols[0]), compare_symbol);

	return found != NULL ? found->file : NULL;
}

const struct descriptors_file *descriptors_find_extension(const char *type, int32_t number)
{
	for (size_t i = 0; i < tables_extension_count; i++) {
		const struct tables_extension *x = &tables_extensions[i];

		if (x->number == number && strcmp(x->type, type) == 0)
			return x->file;
	}
	return NULL;
}

size_t descriptors_extensions(const char *type, int32_t *numbers, size_t max)
{
	size_t n = 0;

	for (size_t i = 0; i < tables_extension_count; i++) {
		if (strcmp(tables_extensions[i].type, type) != 0)
			continue;
		if (n < max)
			numbers[n] = tables_extensions[i].number;
		n++;
	}
	return n;
}

size_t descriptors_service_count(void)
{
	return tables_service_count;
}

const char *descriptors_service_at(size_t index)
{
	return tables_services[index];
}
