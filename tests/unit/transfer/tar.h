/* Hand-made tar headers: what no honest archiver writes. */
#ifndef TESTS_TRANSFER_TAR_H
#define TESTS_TRANSFER_TAR_H

#include <stddef.h>
#include <stdint.h>

struct tar {
	uint8_t bytes[1 << 20];
	size_t len;
};

/* One ustar entry (POSIX.1-1988): ${type} as in its typeflag, ${size} as the header is to
 * say; ${content} of ${len} bytes follows, padded. */
void tar_add(struct tar *, char type, const char *name, const char *link, unsigned mode,
    uint64_t size, const void *content, size_t len);
void tar_end(struct tar *);

#endif
