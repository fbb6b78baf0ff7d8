#include "tar.h"

#include <stdio.h>
#include <string.h>

#define BLOCK ((size_t)512)

void tar_add(struct tar *t, char type, const char *name, const char *link, unsigned mode,
    uint64_t size, const void *content, size_t len)
{
	uint8_t *h = t->bytes + t->len;
	unsigned sum = 0;

	memset(h, 0, BLOCK);
	snprintf((char *)h, 100, "%s", name);
	snprintf((char *)h + 100, 8, "%07o", mode);
	snprintf((char *)h + 108, 8, "%07o", 0);
	snprintf((char *)h + 116, 8, "%07o", 0);
	snprintf((char *)h + 124, 12, "%011llo", (unsigned long long)size);
	snprintf((char *)h + 136, 12, "%011o", 1000000000);
	h[156] = (uint8_t)type;
	snprintf((char *)h + 157, 100, "%s", link);
	static const char magic[8] = { 'u', 's', 't', 'a', 'r', '\0', '0', '0' };
	memcpy(h + 257, magic, sizeof(magic));
	snprintf((char *)h + 329, 8, "%07o", 1);
	snprintf((char *)h + 337, 8, "%07o", 3);
	memset(h + 148, ' ', 8);
	for (size_t i = 0; i < BLOCK; i++)
		sum += h[i];
	snprintf((char *)h + 148, 8, "%06o", sum);
	t->len += BLOCK;
	if (len > 0)
		memcpy(t->bytes + t->len, content, len);
	t->len += (len + BLOCK - 1) / BLOCK * BLOCK;
}

void tar_end(struct tar *t)
{
	memset(t->bytes + t->len, 0, 2 * BLOCK);
	t->len += 2 * BLOCK;
}
