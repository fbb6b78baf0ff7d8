/*
 * transfer/claims.h: who is writing to which target, and what has lately been finished.
 *
 * An upload claims its target before it does anything to it: while it has it, another to
 * the same target, however its path is spelt, is refused with ABORTED. A finished upload
 * with an id is remembered for a while, so that a client that has lost the answer gets it
 * again. Any thread.
 */
#ifndef TRANSFER_CLAIMS_H
#define TRANSFER_CLAIMS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/digest.h"
#include "base/err.h"

#define CLAIMS_KEPT 64 /* finished uploads that are remembered */

struct claims;

/* A name in a directory. */
struct claim_target {
	dev_t device;
	ino_t directory;
	uint8_t name[DIGEST_SIZE];
};

/* Embedded in what makes it; zeroed, it is none. */
struct claim {
	struct claim *next;
	struct claims *owner; /* NULL: not taken */
	struct claim_target target;
};

/* What a finished upload has left, as its answer says it. */
struct claim_record {
	char id[65]; /* "": none */
	struct claim_target target;
	uint64_t size;
	bool has_digest;
	uint8_t digest[DIGEST_SIZE];
	ino_t inode; /* with ${changed}: it still is that file */
	struct timespec changed;
};

struct claims *claims_create(void); /* NULL: no memory */
void claims_free(struct claims *);  /* asserts that nothing is claimed; NULL is legal */

int claim_target_of(struct claim_target *, int dir, const char *name, struct err *);
bool claim_target_is(const struct claim_target *, const struct claim_target *);

/* ABORTED: somebody has it. */
int claims_take(struct claims *, struct claim *, const struct claim_target *, struct err *);
void claims_drop(struct claim *); /* also one that was not taken */

/* The upload ${id} to ${target} has become the file ${st}; the oldest record goes. ${digest}
 * may be NULL: nobody has it. */
void claims_finished(struct claims *, const struct claim_target *, const char *id,
    const struct stat *st, const uint8_t *digest);

/* Whether ${id} has been finished; the caller compares with the file that is there. */
bool claims_find(
    struct claims *, const struct claim_target *, const char *id, struct claim_record *);

#endif
