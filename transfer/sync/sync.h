/*
 * transfer/sync/sync.h: makes a directory in a sandbox as a local one is, or the other way.
 *
 * One operation: start, progress, one done. Only what differs goes over, in one call or in
 * several; docs/transfer.md, "Sync", has what is promised. Nothing a sandbox sends can leave the local directory.
 */
#ifndef TRANSFER_SYNC_SYNC_H
#define TRANSFER_SYNC_SYNC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "rpc/client.h"

struct sync;

struct sync_result {
	uint64_t files;   /* sent */
	uint64_t bytes;   /* that they have */
	uint64_t literal; /* of those, what went over */
	uint64_t made;    /* directories and links */
	uint64_t touched; /* whose mode or time was set */
	uint64_t deleted;
	uint64_t same;           /* left as they were */
	uint64_t skipped;        /* devices, links that lead out; each told through note() */
	uint64_t failed;         /* entries; each told, up to SYNC_TOLD_MAX of the sandbox's */
	uint64_t sent, received; /* bytes on the wire */
};

/* What is done to an entry, or would be. */
enum sync_change { SYNC_CHANGE_MAKE, SYNC_CHANGE_SEND, SYNC_CHANGE_TOUCH, SYNC_CHANGE_DELETE };

struct sync_ops {
	/* About every 100 ms: bytes so far, both ways. May be NULL. */
	void (*progress)(void *cookie, uint64_t bytes);
	/* A line for a person, escaped; any thread. May be NULL. */
	void (*note)(void *cookie, const char *text);
	/* An entry that is changed; ${path} is as it is, not escaped; any thread, one at a
	 * time. May be NULL. */
	void (*change)(void *cookie, enum sync_change, const char *path, bool directory);
	/* Another connection, for stream ${number}, from 1; NULL as its result: this stream is
	 * done without. May be NULL: all share one. */
	struct rpc_client *(*another)(void *cookie, size_t number, struct err *);
	/* Once, last. code GRPC_OK: both ends agree on what was done; see failed. */
	void (*done)(void *cookie, const struct sync_result *, const struct err *);
};

struct sync_request {
	struct rpc_client *client;
	const char *sandbox;
	const char *workspace; /* NULL or "": default */
	const char *local;     /* a directory; it must be there, but for a dry run's target */
	const char *remote;    /* a directory; a target's is made */
	bool download;         /* the sandbox is the source */
	bool prune;            /* what the source does not have goes */
	bool dry_run, checksum;
	const char *const *exclude; /* patterns as in .gitignore, ends with NULL; may be NULL */
	size_t streams;             /* at a time, if there is enough to do; 0: 1 */
	const struct sync_ops *ops;
	void *cookie;
};

/* Start; strings are copied. NULL: the request is malformed, or want of memory. */
struct sync *sync_start(struct loop *, const struct sync_request *, struct err *);

/* Stops; done runs with CANCELLED when no part file is left. */
void sync_cancel(struct sync *);

#endif
