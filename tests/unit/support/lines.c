#include "lines.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int lines_open(void)
{
	int lines = memfd_create("lines", MFD_CLOEXEC);

	if (lines < 0) {
		perror("lines: memfd_create");
		exit(1);
	}
	return lines;
}

unsigned lines_count(int lines, const char *part)
{
	struct stat st;
	unsigned n = 0;

	if (fstat(lines, &st) != 0 || st.st_size == 0)
		return 0;
	char *text = calloc(1, (size_t)st.st_size + 1);
	if (text == NULL || pread(lines, text, (size_t)st.st_size, 0) != st.st_size) {
		perror("lines: pread");
		exit(1);
	}
	for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL;)
		n += strstr(line, part) != NULL;
	free(text);
	return n;
}
