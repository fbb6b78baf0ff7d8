/*
 * transfer/place.h: putting a file in its place, as a transaction.
 *
 *	place_open() -> place_prepare()* -> place_write()* -> place_commit()
 *	                                     or place_suspend(), place_abort()
 *
 * The bytes go to a part file beside the target (transfer/part.h), which is
 * preallocated, hashed as it is written, checked, synced and renamed, and its
 * directory synced. Until the rename the old file is untouched; after abort, or any
 * failure, no part file remains. With an ${id} what is durable outlives place_suspend()
 * and the process, and a later place_open() with that id goes on from there.
 * All functions block: on a worker, one at a time; but for place_sync().
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
#include "transfer/claims.h"
#include "transfer/ranges.h"

struct place;
struct pieces_board;

enum place_digest { PLACE_DIGEST_NONE, PLACE_DIGEST_XXH3_128, PLACE_DIGEST_SHA256 };
enum place_exists { PLACE_EXISTS_REPLACE, PLACE_EXISTS_FAIL, PLACE_EXISTS_SKIP_IF_SAME };

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
	bool adds_digest;         /* with an id: also to what was begun without one */
	enum place_exists exists; /* SKIP_IF_SAME needs a digest */
	const char *id;           /* NULL, or makes it resumable: journal_id_is_valid() */
	uint64_t offset;          /* with an id: where the first byte written belongs */
	uint64_t expiry_ms;       /* with an id: what in the directory is older is removed */
	uint64_t boot;            /* clock_boot() */
	struct claims *claims;    /* NULL: nobody else is kept from the target */

	/* With an id and a size: only so many bytes from ${offset} on, which others write as
	 * well (transfer/pieces.h). What place_commit() tells is of those, and it puts
	 * nothing in place. 0: all that is behind ${offset}. */
	uint64_t piece_bytes;
	struct pieces_board *board;

	/* Who sends pieces. Of an upload that goes on from its end: who has sent all of it so,
	 * and compared the digests, wants the file in its place without its being read once
	 * more; it has no digest then. 0: nobody. */
	uint64_t writer;
};

/* FAILED_PRECONDITION: a directory is there, or ${id} was begun with another size or
 * digest, or somebody else than ${writer} has sent some of it; RESOURCE_EXHAUSTED: no space; NOT_FOUND: a parent is missing;
 * PERMISSION_DENIED: a relative path leads out; ALREADY_EXISTS; ABORTED: another upload
 * has the target or the id; OUT_OF_RANGE: ${offset} is past what is durable. */
struct place *place_open(const struct place_options *, struct err *);

/* What has to be read before the first write: the target that may be the same, the bytes
 * that are there already. Each call does a share of it, until place_is_ready(). */
bool place_is_ready(const struct place *);
int place_prepare(struct place *, struct err *);

/* PLACE_EXISTS_SKIP_IF_SAME has found the same: nothing is to be written, and
 * place_commit() tells what is there. */
bool place_is_same(const struct place *);

/* What place_commit() gives for a digest is none. */
bool place_is_unread(const struct place *);

bool place_is_resumable(const struct place *);

/* Appends. RESOURCE_EXHAUSTED on a full disk, DATA_LOSS past the promised size. */
int place_write(struct place *, const void *, size_t, struct err *);

/* The first ${upto} bytes of the file, written before, become durable and can be resumed
 * from. It may run on one thread while place_write() runs on another. */
int place_sync(struct place *, uint64_t upto, struct err *);

/* What the XXH3-128 must be, when it is known only at the end. */
void place_expect(struct place *, const uint8_t digest[static 16]);

/* Verifies (DATA_LOSS), syncs, renames (ALREADY_EXISTS if the target has come since and
 * must not be replaced). Frees in either case. ${digest} gets the XXH3-128 of the file.
 * If what came is less than was promised, or it is right and cannot be put in its place for want
 * of space or the like, a resumable one is suspended. */
int place_commit(struct place *, uint64_t *bytes, uint8_t digest[static 16], struct err *);

/* Frees; one without an id is aborted. Of others it makes durable what was written, if
 * nothing of it is yet: disks are slow, and the target is claimed until this is done. */
void place_suspend(struct place *);
void place_abort(struct place *);

/* About uploads that may or may not run. ${o} has workdir, slash, path, id and claims. */
struct place_state {
	uint64_t durable, size;
	struct ranges ranges; /* all that is durable; of one that is complete, none */
	bool complete;        /* the file is in place */
};
int place_query(const struct place_options *, struct place_state *, struct err *);
int place_forget(const struct place_options *, struct err *);

#endif
