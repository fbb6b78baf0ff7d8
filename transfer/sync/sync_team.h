/*
 * transfer/sync/sync_team.h: the streams of one end of a sync. The first, which compares and
 * decides, leads; those that join carry files for it.
 *
 *	source                                   target
 *	leader   ---- DIRECTORY, DONE, ... --->  leader
 *	   | jobs                                   | how many items it has done
 *	   v                                        v
 *	member   ---- AFTER, FILE, ... ------->  member
 *	         <--- READY, RECEIPT ----------
 *
 * A member of the target waits for its leader, with AFTER, and never the other way until
 * the end: so a directory is there before what goes into it, and the streams cannot wait
 * for each other in a circle. One that is refused, or ends before it had a job, is not
 * missed; one that fails with a job ends the sync. The leader stays until the last
 * member has left. Any thread; private to the room.
 */
#ifndef TRANSFER_SYNC_SYNC_TEAM_H
#define TRANSFER_SYNC_SYNC_TEAM_H

#include "transfer/sync/sync_delta.h"
#include "transfer/sync/sync_dirs.h"
#include "transfer/sync/sync_joint.h"
#include "transfer/sync/sync_peer.h"
#include "transfer/sync/sync_split.h"

#define SYNC_JOBS_MAX  256 /* files that wait for a stream */
#define SYNC_JOBS_SUMS 4   /* of those, with the sums of what is there */

struct sync_team *sync_team_create(struct err *); /* NULL: no memory */
struct sync_team *sync_team_hold(struct sync_team *);
void sync_team_release(struct sync_team *); /* the last frees. NULL is legal */

/* The leader. What members use of it is borrowed until sync_team_end(). */

struct sync_lead {
	int root;
	const struct sync_options *opt;
	const struct sync_link *link;
	struct sync_dirs *dirs; /* these four: a target's */
	struct sync_joint *joint;
	void (*failed)(void *cookie, const char *path, const struct err *);
	void *cookie;
};
void sync_team_lead(struct sync_team *, const struct sync_lead *);

/* Stops the members that are still there and waits until they have left. Also of one that
 * could not be led; again it does nothing. */
void sync_team_end(struct sync_team *);

/* A file, to be sent by whoever comes first, or its ranges, one by one. */
struct sync_job {
	char *path;             /* NULL: this and its sums are in ${split} */
	uint64_t after;         /* items the leader of the target must have done before */
	struct sync_sums *sums; /* NULL: none */
	uint64_t basis;
	struct sync_split *split; /* NULL: the whole file */
	size_t range;             /* of those, the next */
};
void sync_job_free(struct sync_job *);

/* Of a source: whether more streams may come, and large files go in ranges. False at first. */
void sync_team_allow_ranges(struct sync_team *);
bool sync_team_may_split(struct sync_team *);

/* Of a source. Takes what is in it on success; -1: too many wait, send it yourself. */
int sync_team_give(struct sync_team *, struct sync_job *);

/* The next job: 1; 0: none waits, or with ${wait}, none will come. -1: it is over. Of a
 * member it is the first thing that makes it ${engaged}; NULL: of the leader. */
int sync_team_take(struct sync_team *, struct sync_job *, bool wait, bool *engaged, struct err *);

/* No more jobs will come; waits until those that were taken are done, and adds what members
 * have counted to ${counts}. */
int sync_team_finish(struct sync_team *, struct sync_counts *, struct err *);

/* Of a target. The leader has done so many items. */
void sync_team_advance(struct sync_team *, uint64_t items);
void sync_team_sum(struct sync_team *, struct sync_counts *); /* adds */

/* The members. */

/* Joins, when there is a leader; ${lead} gets what the leader said. FAILED_PRECONDITION: there is no leader any
 * more; RESOURCE_EXHAUSTED: SYNC_STREAMS_MAX. ${link} is borrowed until it leaves. */
int sync_team_join(
    struct sync_team *, const struct sync_link *, struct sync_lead *lead, struct err *);

/* From now on it has a part in the sync, if it has not yet. */
void sync_team_engage(struct sync_team *, bool *engaged);
/* Waits for the leader of a target. */
int sync_team_await(struct sync_team *, uint64_t items, struct err *);
/* Its part is done well. Once, and only the counts come from it after that. */
void sync_team_done(struct sync_team *, const struct sync_counts *);

/* ${missed}: it is engaged, and not done; it has failed, with ${why}, and with it the sync. */
void sync_team_leave(
    struct sync_team *, const struct sync_link *, bool missed, const struct err *why);

#endif
