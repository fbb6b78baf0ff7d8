/*
 * base/buf.h: counted blocks, slices of them, bounded queues of slices.
 *
 * A byte that is received stays where it was received until it has been sent:
 * what moves is a slice (block, pointer, length). A block is counted; the count
 * is atomic, so a slice may be handed to another thread by message and released
 * there. A pool belongs to one loop: block_get() and pool_*() only on its
 * thread; releases may come from any.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct pool;
struct block;

/* A view of bytes. Holding a slice with an owner holds a reference on it; a
 * slice without one is a view of memory that outlives everybody (a constant). */
struct slice {
	struct block *owner;
	const uint8_t *data;
	size_t len;
};

struct pool_stats {
	size_t block_size; /* bytes */
	size_t max_blocks;
	size_t live;   /* blocks somebody holds */
	size_t spare;  /* blocks kept for the next block_get() */
	size_t peak;   /* the most that were live */
	uint64_t full; /* how often block_get() found the ceiling */
};

/* Blocks of ${block_size} bytes (rounded up to pages), page-aligned, mapped
 * when first needed. NULL: no memory. */
struct pool *pool_create(size_t block_size, size_t max_blocks);

/* Frees the pool; asserts that every block is back. */
void pool_free(struct pool *);

/* Gives the memory of spare blocks beyond ${keep} back to the system. */
void pool_trim(struct pool *, size_t keep);
void pool_stats(struct pool *, struct pool_stats *);

/* A block with one reference, the caller's. NULL: at the ceiling, or no memory. */
struct block *block_get(struct pool *);

/* A block of its own outside any pool, for small or odd sizes. NULL: no memory. */
struct block *block_new(size_t size);

void block_ref(struct block *);
void block_unref(struct block *);
uint8_t *block_data(struct block *);
size_t block_size(const struct block *);

/* Nobody but the caller holds a reference: the block may be written anew. */
bool block_is_unshared(const struct block *);

/* A view of part of a block; takes a reference of its own. */
struct slice slice_of(struct block *, size_t off, size_t len);

/* A new view of the same bytes, or of ${len} of them from ${off}; takes a
 * reference of its own. */
struct slice slice_dup(const struct slice *);
struct slice slice_sub(const struct slice *, size_t off, size_t len);

/* A private copy of ${len} bytes. owner NULL and data NULL: no memory. */
struct slice slice_copy(const void *data, size_t len);

/* Drops the reference and clears the slice; twice is harmless. */
void slice_release(struct slice *);

/* A first-in first-out queue of slices with an end: at most ${max_bytes} bytes
 * in at most ${max_slices} slices. Not thread-safe. */
struct bufq {
	struct slice *ring;
	size_t head, count, cap, max_slices;
	size_t bytes, max_bytes;
};

/* Allocates nothing until the first push. */
void bufq_init(struct bufq *, size_t max_slices, size_t max_bytes);

/* Releases what is queued, and the ring. Legal twice. */
void bufq_free(struct bufq *);

/* A push of ${len} bytes would be refused. */
bool bufq_full(const struct bufq *, size_t len);

/* Takes over the caller's reference, or returns -1 (full, or no memory) and
 * takes nothing. An empty slice is released and counts as pushed. */
int bufq_push(struct bufq *, struct slice);

/* Moves out up to ${max} bytes of the head as one slice, which the caller owns;
 * an empty slice when nothing is queued. */
struct slice bufq_pop(struct bufq *, size_t max);

/* Describes the head without moving it: fills at most ${n} vectors with at most
 * ${max} bytes in all, returns how many. Good until the queue changes. */
size_t bufq_peek(const struct bufq *, struct iovec *, size_t n, size_t max);

/* Drops ${bytes} from the head; asserts that they are there. */
void bufq_drop(struct bufq *, size_t bytes);

/* Moves everything into ${to}; -1 (nothing moved) if it does not fit. */
int bufq_move(struct bufq *to, struct bufq *from);

/* Replaces what is queued by private copies no larger than needed, so that it
 * holds no pool block any more. -1: no memory, the queue is as it was. */
int bufq_settle(struct bufq *);

#endif
