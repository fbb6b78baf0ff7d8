/*
 * transfer/part.h: the part file beside a target, and its journal if it is to outlive
 * the transfer.
 *
 *	.NAME.towline-12345678                     of a transfer without an id
 *	.NAME.towline-0123456789abcdef             of one with an id: of id and NAME
 *	.NAME.towline-0123456789abcdef.journal     struct journal, two slots
 *
 * A part file is locked (flock) while somebody writes it, so that what nobody writes any
 * more can be told from what somebody does. All functions block: on a worker.
 */
#ifndef TRANSFER_PART_H
#define TRANSFER_PART_H

#include <stdbool.h>
#include <stdint.h>

#include "base/beneath.h"
#include "base/err.h"
#include "transfer/journal.h"

struct part {
	int dir;     /* the target's directory; borrowed */
	int fd;      /* -1: none */
	int journal; /* -1: of a transfer without an id */
	bool named;  /* the names are known to be durable */
	struct journal state;
	char name[BENEATH_NAME_MAX];
	char journal_name[BENEATH_NAME_MAX];
};

#define PART_NONE                                  \
	{                                          \
		.dir = -1, .fd = -1, .journal = -1 \
	}

/* An empty one, locked. */
int part_make(struct part *, int dir, const char *target, struct err *);

/* The one of ${wanted}'s id, made or gone on with at ${offset}: bytes behind that are cut
 * off. ${wanted}'s boot is written down with each sync. FAILED_PRECONDITION: it was begun with another size or digest; OUT_OF_RANGE:
 * ${offset} is past what is durable; ABORTED: somebody writes it. */
int part_resume(struct part *, int dir, const char *target, const struct journal *wanted,
    uint64_t offset, struct err *);

/* The same, to be written in pieces: nothing is cut off. ${wanted} has a size and a writer. */
int part_join(
    struct part *, int dir, const char *target, const struct journal *wanted, struct err *);

/* Whether ${wanted} is what it was begun with: FAILED_PRECONDITION. One that was begun without
 * a promise has ${wanted}'s from then on, if that is to be added. */
int part_check(struct part *, const char *target, const struct journal *wanted, struct err *);

/* What has been written becomes durable; part_note() says so of a range in the journal, and
 * part_unnote() takes it back. May run while others write. */
int part_flush(const struct part *, struct err *);
int part_note(struct part *, struct range, struct err *);
int part_unnote(struct part *, struct range, struct err *);

/* It becomes the target, durably; ALREADY_EXISTS unless ${replace} when something has
 * that name. On failure it is a part file still. */
int part_publish(struct part *, const char *target, bool replace, struct err *);

/* Renames in ${dir}; without ${replace} never over what is there, but fails with EEXIST. -1:
 * errno says why. */
int part_rename(int dir, const char *from, const char *to, bool replace);

/* Closes; one that nobody can go on with is removed. */
void part_leave(struct part *);
void part_remove(struct part *); /* closes and removes */

/* What is durable of an upload: of one that nobody knows NOT_FOUND. */
int part_query(int dir, const char *target, const char *id, struct journal *, struct err *);

/* Removes it. NOT_FOUND; ABORTED while somebody writes it. */
int part_forget(int dir, const char *target, const char *id, struct err *);

/* Whether ${name} is a part file's or a journal's. */
bool part_is_name(const char *name);

/* Removes what is left under ${name} (part_is_name()) if nobody writes it and, of an upload
 * that can be resumed, nobody has for ${expiry_ms}: by the clock of ${boot} (clock_boot()) if it was written
 * in the same one, else by the wall clock. True: removed. */
bool part_expire(int dir, const char *name, uint64_t expiry_ms, uint64_t boot);

#endif
