/*
 * transfer/sync/sync_split.h: a large file of a source, which goes in ranges: each is sent by
 * whichever stream comes first. What is the same at the target, at the same place, is held
 * back until something of the file differs, or all has been looked at: then nothing goes.
 * Who is done with the last range does the rest. Any thread. Private to the room.
 */
#ifndef TRANSFER_SYNC_SYNC_SPLIT_H
#define TRANSFER_SYNC_SYNC_SPLIT_H

#include <pthread.h>
#include <sys/stat.h>

#include "transfer/sync/sync_delta.h"
#include "transfer/sync/sync_wire.h"

struct sync_split {
	/* These do not change. */
	char *path;
	struct stat st; /* what each range is of */
	uint64_t number, range;
	size_t count;
	struct sync_sums *sums; /* NULL: it is all new */
	uint64_t basis;         /* bytes at the target */

	pthread_mutex_t lock; /* over what follows, until sync_split_done() says true */
	size_t holders;
	size_t left;    /* ranges that are not done */
	uint64_t begun; /* a bit for each that something was sent of */
	uint64_t kept;  /* and for each that is held back */
	struct err err; /* the first thing that went wrong */
	uint8_t digests[SYNC_RANGES_MAX][DIGEST_SIZE]; /* of those held back */
};

/* Of a file that is ${st} and has a sync_range_size(). NULL: no memory. */
struct sync_split *sync_split_create(const char *path, const struct stat *st, uint64_t number);
struct sync_split *sync_split_hold(struct sync_split *);
void sync_split_release(struct sync_split *); /* the last frees; NULL is legal */

struct sync_range sync_split_range(const struct sync_split *, size_t n);
uint64_t sync_split_end(const struct sync_split *, size_t n); /* the offset behind it */

/* FILE of range ${n} is about to go. True: it is the first. */
bool sync_split_begin(struct sync_split *, size_t n);

/* The range is the same there, and has that digest. True: it is held back. */
bool sync_split_keep(struct sync_split *, size_t n, const uint8_t digest[static DIGEST_SIZE]);

/* Something differs, and a range is held back: that is ${n}, which the caller sends now. */
bool sync_split_take_kept(struct sync_split *, size_t *n);

void sync_split_fail(struct sync_split *, const struct err *why);
bool sync_split_has_failed(struct sync_split *);

/* A range is done, whatever came of it. True: it was the last. */
bool sync_split_done(struct sync_split *);

#endif
