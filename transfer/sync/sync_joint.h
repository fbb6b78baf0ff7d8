/*
 * transfer/sync/sync_joint.h: files of a target that come in ranges, each maybe over another
 * stream, into one part file. Who brings the last range puts the file in its place, or
 * undoes it if any of them has failed. Any thread. Private to the room.
 */
#ifndef TRANSFER_SYNC_SYNC_JOINT_H
#define TRANSFER_SYNC_SYNC_JOINT_H

#include "transfer/sync/sync_part.h"
#include "transfer/sync/sync_wire.h"

#define SYNC_JOINTS_MAX    32     /* files that are begun at a time */
#define SYNC_JOINT_WAIT_MS 600000 /* of a sync: its peer may be slow */

struct sync_joint; /* all of a sync's */

struct sync_joint_file {
	struct sync_joint_file *next;
	struct sync_joint *joint;
	struct sync_part part; /* to be written at any offset; none: it has failed */
	uint64_t number, size, range;
	char *path;
	uint64_t missing; /* a bit for each range that has not been begun */
	size_t writers;
	bool failed;
};

/* Who waits for a range does so for ${wait_ms} in which none begins or ends. NULL: no memory. */
struct sync_joint *sync_joint_create(uint64_t wait_ms, struct err *);
void sync_joint_free(struct sync_joint *); /* undoes what is there; NULL is legal */

/* Who brings a range. */
struct sync_joint_user {
	/* Makes the part file of a file whose first range it is; who has that fail spoils the
	 * file. With a lock held. */
	void (*make)(void *cookie, struct sync_part *);
	bool (*stopped)(void *cookie); /* whoever sends it is gone: it need not wait */
	void *cookie;
};

/*
 * A range of ${e} is begun. Ranges come on each stream in the order of their files' numbers.
 * One of a further file waits while SYNC_JOINTS_MAX are begun and any of these comes before
 * it: what it waits for is never behind it on its own stream, and so comes. NULL:
 * INVALID_ARGUMENT, it does not go with the ranges that were begun before, RESOURCE_EXHAUSTED,
 * numbers are out of order, or no memory, DEADLINE_EXCEEDED, the wait is over, or CANCELLED.
 */
struct sync_joint_file *sync_joint_enter(struct sync_joint *, const struct sync_entry *e,
    const struct sync_range *, const struct sync_joint_user *, struct err *);

void sync_joint_stop(struct sync_joint *); /* nobody waits from now on */

/* It has failed; true: nothing of it had before. */
bool sync_joint_spoil(struct sync_joint_file *);

/* A range is over. True: it was the last one, and the file is the caller's to put in its
 * place, unless it has failed, and to drop. */
bool sync_joint_leave(struct sync_joint_file *);
void sync_joint_drop(struct sync_joint_file *); /* undoes what is not in its place */

#endif
