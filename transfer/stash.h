/*
 * transfer/stash.h: what has come of a download, in a file beside its target.
 *
 *	".NAME.towline-get":  the content, ${total} bytes | who it is, and how far each range is
 *
 * It outlives a command that is interrupted, and the next one of the same source and
 * target goes on with it if the source's etag is the same. Nothing here says that what is
 * in it is right: the digests of the ranges do, from their beginnings, whenever they end.
 * The target is not touched until stash_commit(). While it is open nobody else can open
 * it (flock). All functions block: on a worker. Ranges may be written from several at a
 * time, each from one.
 */
#ifndef TRANSFER_STASH_H
#define TRANSFER_STASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "base/digest.h"
#include "base/err.h"

#define STASH_RANGES_MAX 16
#define STASH_ETAG_MAX   128                 /* bytes with the NUL; a longer one is no one's */
#define STASH_KEEP_MIN   ((uint64_t)1 << 20) /* bytes; fewer are not worth a file that stays */

struct stash_range {
	uint64_t begin, end;
	uint64_t done; /* bytes from its beginning that are there */
};

/* Of its one source. */
struct stash_source {
	uint8_t key[DIGEST_SIZE]; /* of its names */
	char etag[STASH_ETAG_MAX];
	uint64_t total;
};

struct stash;

/* What an earlier command left of the source with that key. NULL with code GRPC_OK:
 * nothing of use, and nothing is left of it. ABORTED: another download has it. ${path} is
 * absolute, ${slash} is "/"; both are borrowed until it returns. FAILED_PRECONDITION: a
 * directory is at ${path}. With ${fresh} what is there is removed. */
struct stash *stash_find(
    int slash, const char *path, const uint8_t key[static DIGEST_SIZE], bool fresh, struct err *);

/* A new one, of ${count} ranges of about the same size. Without ${sparse} the room is
 * reserved: RESOURCE_EXHAUSTED. */
struct stash *stash_create(int slash, const char *path, const struct stash_source *, size_t count,
    bool sparse, struct err *);

const struct stash_source *stash_source(const struct stash *);
size_t stash_count(const struct stash *);
struct stash_range stash_range(const struct stash *, size_t range);

/* Adds what is there of a range to a digest, ${len} bytes from ${offset} of it. */
int stash_digest(
    struct stash *, size_t range, uint64_t offset, uint64_t len, struct digest *, struct err *);

/* Appends to a range; of a hole nothing is written. The caller sees to its end. */
int stash_write(struct stash *, size_t range, const void *, size_t, struct err *);
void stash_skip(struct stash *, size_t range, uint64_t len);

/* The last byte of a range that is not empty is to come again. */
void stash_rewind(struct stash *, size_t range);

/* Notes how far a range is, for who comes after us. */
int stash_mark(struct stash *, size_t range, struct err *);

/* Mode and time, durable, then in its place; ALREADY_EXISTS unless ${replace} when
 * something is there. Frees in either case; after a failure nothing is left. */
int stash_commit(struct stash *, mode_t, const struct timespec *mtime, bool replace, struct err *);

/* For the next command: how many bytes are kept; 0: too few, and nothing is left. Frees. */
uint64_t stash_keep(struct stash *);
void stash_remove(struct stash *); /* frees; NULL is legal */

#endif
