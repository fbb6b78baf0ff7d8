/*
 * transfer/pieces.h: an upload whose file is written in several pieces at a time.
 *
 *	board --> work: one upload, its claim and its part file --> pieces, apart from each other
 *
 * Pieces of one upload (target and id) that one writer sends share the part file, and while
 * there is any of them nobody else gets it: another upload is refused with ABORTED, and so
 * is another writer, and a piece that overlaps one that is being written. What is durable
 * of each is noted in the journal of all. A piece that ends puts nothing in place: that is
 * done by an upload that goes on from the end of the file (transfer/place.h).
 * All functions block, on a worker; any thread.
 */
#ifndef TRANSFER_PIECES_H
#define TRANSFER_PIECES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "transfer/claims.h"
#include "transfer/journal.h"
#include "transfer/ranges.h"

struct pieces_board; /* of a sandbox */
struct pieces_work;

struct pieces_board *pieces_board_create(void); /* NULL: no memory */
void pieces_board_free(struct pieces_board *);  /* asserts that it is empty; NULL is legal */

/* Embedded in what writes it; zeroed, it is none. */
struct piece {
	struct piece *next;
	struct pieces_work *work; /* NULL: not joined */
	struct range range;
	int fd; /* of the part file; borrowed until it leaves; for pwrite() */
};

struct pieces_wanted {
	struct claims *claims;
	int dir;              /* of the target; borrowed for the call */
	const char *target;   /* its name there */
	struct journal begun; /* with an id, a size and who sends */
	struct range range;
};

/* ABORTED: somebody else has the target, or that range. FAILED_PRECONDITION: it was begun
 * with another size or digest. RESOURCE_EXHAUSTED: what is durable would be in more than
 * RANGES_MAX ranges. True in ${first}: there was no other piece of it. */
int pieces_join(
    struct pieces_board *, struct piece *, const struct pieces_wanted *, bool *first, struct err *);

/* What was written of it up to the offset ${upto} of the file becomes durable. May run while
 * it is written on. After a failure nothing of the file is believed any more: it is removed
 * when its last piece leaves. */
int piece_sync(struct piece *, uint64_t upto, struct err *);

/* What was written of it is wrong. */
void piece_forget(struct piece *);
void piece_leave(struct piece *); /* also one that has not joined */

#endif
