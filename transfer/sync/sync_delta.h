/*
 * transfer/sync/sync_delta.h: what of a file is there already, block by block.
 *
 * The way of rsync (Tridgell, 1996): the target sums up its file in blocks, with a weak
 * sum that can be rolled along byte by byte and a strong one; the source looks for those
 * blocks at every offset of its own. docs/transfer.md says why librsync is not used.
 * The weak sum is a polynomial in 32 bits, the strong one XXH3-64 with a seed that the
 * target draws for each file, so that nobody can prepare blocks that agree; that the
 * whole file is right is checked by its digest, not by these. No file system.
 */
#ifndef TRANSFER_SYNC_SYNC_DELTA_H
#define TRANSFER_SYNC_SYNC_DELTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define SYNC_BLOCK_MIN  ((size_t)2 << 10)
#define SYNC_BLOCK_MAX  ((size_t)4 << 20)
#define SYNC_BLOCKS_MAX ((size_t)1 << 18) /* of a file: 5 MiB of sums */
#define SYNC_SUM_SIZE   12                /* bytes of a block's two sums on the wire */

/* The block for a file: about the square root of its size, a power of two. 0: the file is
 * too large to be summed up. */
size_t sync_block_of(uint64_t size);

uint32_t sync_weak(const uint8_t *, size_t);

/* ${out} gets the sums of one block. */
void sync_sum(const uint8_t *block, size_t len, uint64_t seed, uint8_t out[static SYNC_SUM_SIZE]);

struct sync_sums;

/* Of a file of ${size} bytes. INVALID_ARGUMENT: no such block is possible. */
struct sync_sums *sync_sums_create(uint64_t size, size_t block, uint64_t seed, struct err *);
void sync_sums_free(struct sync_sums *); /* NULL is legal */

/* Sums in the order of their blocks, whole. INVALID_ARGUMENT: more than there are. */
int sync_sums_add(struct sync_sums *, const uint8_t *, size_t len, struct err *);
bool sync_sums_are_all(const struct sync_sums *);

struct sync_delta_ops {
	/* The next bytes; 0 at the end. */
	ssize_t (*read)(void *cookie, uint8_t *, size_t, struct err *);
	int (*literal)(void *cookie, const uint8_t *, size_t, struct err *);
	/* Bytes of the file that was summed up. */
	int (*copy)(void *cookie, uint64_t offset, uint64_t len, struct err *);
};

/* Says how to make what is read from what was summed up. What is read is from the offset
 * ${from} on: there it is expected to be the same. */
int sync_delta(const struct sync_sums *, uint64_t from, const struct sync_delta_ops *, void *cookie,
    struct err *);

#endif
