/* Patterns as in .gitignore, and the paths they are asked about: a file's text, a NUL, a path. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "transfer/tree/ignore.h"

#define PATH_BYTES 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	size_t len = strnlen(text, size);
	size_t rest = len < size ? size - len - 1 : 0;
	char path[PATH_BYTES] = "";
	struct err err;
	struct ignore *g = ignore_parse(text, len, &err);

	if (g == NULL)
		return 0;
	memcpy(path, text + size - rest, rest < sizeof(path) ? rest : sizeof(path) - 1);
	bool covered = ignore_covers(g, path, true);
	if (ignore_match(g, path, true) == IGNORE_OUT && !covered)
		abort();
	ignore_free(g);
	return 0;
}
