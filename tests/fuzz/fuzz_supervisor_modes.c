/* Terminal modes as a client sends them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/modes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct termios t, before;
	struct err err;

	memset(&t, 0, sizeof(t));
	before = t;
	if (modes_apply(data, size, &t, &err) != 0 && memcmp(&t, &before, sizeof(t)) != 0)
		abort();
	return 0;
}
