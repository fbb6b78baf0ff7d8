/*
 * transfer/sync/sync_peer.h: the two ends of a sync, each a function that blocks.
 *
 *	source                                   target
 *	walks its tree                           walks its tree
 *	  |  <---- ENTRIES, LISTED ----------------  |   (a thread: lists and signs)
 *	  |  merges the two
 *	  |  ---- DIRECTORY, LINK, FILE, TOUCH --->  |   (a thread: applies)
 *	  |  ---- SIGN ------------------------->    |
 *	  |  <--- SIGNATURE, BLOCKS --------------   |
 *	  |  ---- FILE, COPY, LITERAL, END ------>   |
 *	  |  ---- PRUNE, DONE ------------------->   |
 *	  |  <--- FAILED, RECEIPT ----------------   |
 *
 * Who applies never waits for who lists to send, so however full the way back is, the
 * way there moves: the two ends cannot wait for each other. Run on threads of a sync's
 * own; either end can be the client of the call.
 */
#ifndef TRANSFER_SYNC_SYNC_PEER_H
#define TRANSFER_SYNC_SYNC_PEER_H

#include "transfer/sync/sync_wire.h"

#define SYNC_STREAMS_MAX  16                  /* of one sync */
#define SYNC_SIGNS_MAX    4096                /* files that wait for their signature */
#define SYNC_NAMES_QUEUED ((size_t)1 << 20)   /* bytes of names in such a queue */
#define SYNC_DELETES_MAX  ((size_t)16 << 20)  /* bytes of names that wait to be deleted */
#define SYNC_TOLD_MAX     1000                /* failures told by name to the other end */
#define SYNC_TOLD_BYTES   ((size_t)512 << 10) /* of these names, and why they failed */
#define SYNC_LISTED_MAX   10000000            /* entries of a tree */

enum sync_act { SYNC_ACT_MAKE, SYNC_ACT_SEND, SYNC_ACT_TOUCH, SYNC_ACT_DELETE };

struct sync_counts {
	uint64_t items;       /* what the source wanted done */
	uint64_t files;       /* sent, whole or as what differs */
	uint64_t bytes;       /* that they have */
	uint64_t literal;     /* bytes of content that went over */
	uint64_t directories; /* made, or made so */
	uint64_t links;
	uint64_t touched; /* whose mode or time was set */
	uint64_t deleted;
	uint64_t same;           /* entries that were left as they are */
	uint64_t skipped;        /* left out with a note: devices, links that lead out */
	uint64_t failed;         /* entries, of either end */
	uint64_t sent, received; /* bytes of records */
};

/* How an end speaks with the other; all block. */
struct sync_link {
	sync_pull *pull;
	sync_push *push;
	/* Another thread of this end has failed: both of the above shall, with ${why}. */
	void (*stop)(void *cookie, const struct err *why);
	bool (*stopped)(void *cookie); /* whether that is so; NULL: nobody knows */
	void *cookie;
};

struct sync_team;

struct sync_options {
	bool prune; /* --delete */
	bool dry_run;
	bool checksum;
	bool safe_links; /* target: links that lead out are skipped */
	/* Same at both ends: what a pattern names is neither sent, nor listed, nor touched. */
	bool (*excluded)(void *cookie, const char *path, bool directory);
	/* For people, from any thread; each may be NULL. */
	void (*note)(void *cookie, const char *text);
	void (*item)(void *cookie, enum sync_act, const struct sync_entry *);
	/* More streams would be of use: sync_*_stream() on each, at both ends. NULL: that is
	 * the other end's to see to. */
	void (*spread)(void *cookie);
	struct sync_team *team; /* NULL: nobody can join */
	void *cookie;
};

/* ${root} is borrowed; the target's may be -1 in a dry run: nothing is there. 0 when the
 * receipt agrees, whatever failed of single entries; that is counted and was noted. */
int sync_source(int root, const struct sync_options *, const struct sync_link *,
    struct sync_counts *, struct err *);
int sync_target(int root, const struct sync_options *, const struct sync_link *,
    struct sync_counts *, struct err *);

/* One more stream of the sync that ${team} has, which ends with it. On a thread of its own,
 * which can do nothing else after. A failure ends the sync if it matters to it. */
int sync_source_stream(
    struct sync_team *, const struct sync_link *, struct sync_counts *, struct err *);
int sync_target_stream(
    struct sync_team *, const struct sync_link *, struct sync_counts *, struct err *);

/* For both ends. */

/* "x: why", escaped, to note(). */
void sync_note(const struct sync_options *, const char *path, const char *why);

/* A queue of names with an end, first in first out. */
struct sync_names {
	char *data;
	size_t at, len, cap, max, count;
};
int sync_names_add(struct sync_names *, const char *name); /* -1: full, or no memory */
int sync_names_add_two(struct sync_names *, const char *name, const char *other); /* or none */
const char *sync_names_first(const struct sync_names *);                          /* NULL: none */
void sync_names_drop(struct sync_names *);
void sync_names_free(struct sync_names *);

#endif
