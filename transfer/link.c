#include "transfer/link.h"

#include <string.h>

bool link_stays_inside(const char *path, const char *target)
{
	long depth = 0;

	if (target[0] == '/')
		return false;
	for (const char *p = strchr(path, '/'); p != NULL; p = strchr(p + 1, '/'))
		depth++;
	while (*target != '\0') {
		size_t n = strcspn(target, "/");
		if (n == 2 && target[0] == '.' && target[1] == '.')
			depth--;
		else if (n > 0 && !(n == 1 && target[0] == '.'))
			depth++;
		if (depth < 0)
			return false;
		target += n + (target[n] == '/');
	}
	return true;
}
