/* A command of a client: is it scp's other end? */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sshd/scp_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct scp_line l;
	char *line = malloc(size + 1);

	if (line == NULL)
		return 0;
	memcpy(line, data, size);
	line[size] = '\0';
	if (scp_line_parse(line, &l)) {
		if (l.count == 0 || l.count > SCP_LINE_PATHS_MAX || (l.sink && l.count != 1))
			abort();
		scp_line_free(&l);
	}
	free(line);
	return 0;
}
