/*
 * transfer/place.h: putting a file in its place, as a transaction.
 *
 *	place_open() -> place_write()* -> place_commit()   or place_abort()
 *
 * The bytes go to a part file beside the target (".NAME.towline-XXXXXXXX"), which is
 * preallocated, hashed as it is written, checked, synced and renamed, and its
 * directory synced. Until the rename the old file is untouched; after abort, or any
 * failure, no part file remains. All functions block: on a worker, one at a time.
 */
#ifndef TRANSFER_PLACE_H
#define TRANSFER_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "base/buf.h"
#include "base/err.h"

struct place;

enum place_digest { PLACE_DIGEST_NONE, PLACE_DIGEST_XXH3_128, PLACE_DIGEST_SHA256 };

struct place_options {
	int workdir, slash; /* where relative and absolute paths start; borrowed */
	const char *path;
	bool make_parents;
	bool size_known;
	uint64_t size;
	mode_t mode; /* 0: what the target has, else 0644 */
	bool has_mtime;
	struct timespec mtime;
	enum place_digest digest; /* what ${expected} is */
	uint8_t expected[32];
};

/* FAILED_PRECONDITION: a directory is there; RESOURCE_EXHAUSTED: no space;
 * NOT_FOUND: a parent is missing; PERMISSION_DENIED: a relative path leads out. */
struct place *place_open(const struct place_options *, struct err *);

/* Appends. RESOURCE_EXHAUSTED on a full disk, DATA_LOSS past the promised size. */
int place_write(struct place *, const void *, size_t, struct err *);

/* What the XXH3-128 must be, when it is known only at the end. */
void place_expect(struct place *, const uint8_t digest[static 16]);

/* Verifies (DATA_LOSS), syncs, renames. Frees in either case. ${digest} gets the
 * XXH3-128 of the file. */
int place_commit(struct place *, uint64_t *bytes, uint8_t digest[static 16], struct err *);
void place_abort(struct place *);

#endif
