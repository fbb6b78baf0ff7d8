/*
 * transfer/flow.h: content between the file system and a call, either way, either a
 * file or a tree. Both ends of a transfer are made of these: what is served as a
 * download and what the client sends as an upload are the same outflow.
 *
 *	outflow:  file --worker--> blocks ----\
 *		  tree --thread, tree_pack--> framed_write()
 *
 *	inflow:	  slices --worker, place--> file
 *		  slices --thread, tree_unpack--> tree
 *
 * All functions are called on the loop; callbacks come from it. Blocking work is done
 * on workers (files) or a thread of the flow's own (trees). ended() runs exactly once,
 * last, after which the owner frees the flow; it may do so inside.
 */
#ifndef TRANSFER_FLOW_H
#define TRANSFER_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/worker.h"
#include "relay/framed.h"
#include "transfer/place.h"
#include "transfer/tree/tree.h"

#define FLOW_CHUNK ((size_t)1 << 20) /* bytes of one message sent */
#define FLOW_FIRST_CHUNK \
	((size_t)64 << 10)            /* so that the first byte does not wait for the millionth */
#define FLOW_WINDOW ((size_t)2 << 20) /* bytes read ahead of what has left */

/* Holes of a file that are told instead of sent: a smaller one costs more as a message
 * than as zeros, a larger one is told in parts, so that a worker comes back. */
#define FLOW_HOLE_MIN ((uint64_t)64 << 10)
#define FLOW_HOLE_MAX ((uint64_t)64 << 20)

struct flow_env {
	struct loop *loop;
	struct workers *workers;
	void (*ended)(void *cookie, const struct err *err); /* code GRPC_OK: all of it went well */
	void (*note)(void *cookie, const char *text); /* for people; any thread; may be NULL */
	void *cookie;
};

struct flow_result {
	uint64_t bytes;                    /* of content */
	uint64_t wire;                     /* bytes that went through the call */
	uint64_t entries;                  /* of a tree */
	uint64_t files;                    /* of a tree: those that are no directories */
	uint64_t skipped, ignored, failed; /* as in struct tree_result */
	bool unread;                       /* there is no digest: place_is_unread() */
	bool same;     /* nothing was written: a file of that content was there */
	bool complete; /* of a tree: the stream came to its end, though entries may have failed */
	uint8_t digest[DIGEST_SIZE]; /* XXH3-128 of the bytes that went through the call */
};

/* Out: onto a call's payload messages. */

struct outflow;

/* Takes ${fd}, open where reading is to start. Sends ${bytes} of it, or with
 * UINT64_MAX all until its end. */
struct outflow *outflow_file(const struct flow_env *, struct framed *, int fd, uint64_t bytes,
    const char *name, struct err *);

/* A part of a file. */
struct outflow_range {
	uint64_t offset, bytes;
	uint64_t prefix; /* bytes before ${offset} that the digest covers too */
	bool sparse;     /* holes are sent as hole_bytes, of a download */
};
struct outflow *outflow_range(const struct flow_env *, struct framed *, int fd,
    const struct outflow_range *, const char *name, struct err *);

/* As in struct tree_pack. */
struct outflow_tree {
	const char *name; /* copied */
	enum tree_compression compression;
	struct ignore *exclude; /* taken in any case; may be NULL */
	bool git_ignore, follow_links;
};

/* Takes ${root}. A tree without a file in it is FAILED_PRECONDITION: who meant it knows
 * why, and who did not has named the wrong directory. */
struct outflow *outflow_tree(
    const struct flow_env *, struct framed *, int root, const struct outflow_tree *, struct err *);

void outflow_sent(struct outflow *, size_t bytes); /* from framed_ops.sent */

/* The call is gone or failing: it is not touched any more. ended() comes with
 * CANCELLED, at once or when the blocking work lets go, but never from inside. */
void outflow_stop(struct outflow *);
void outflow_result(const struct outflow *, struct flow_result *);
void outflow_free(struct outflow *); /* in ended() or after */

/* In: from a call's payload. */

struct inflow;

struct inflow_env {
	struct flow_env flow;
	void (*used)(void *cookie, size_t bytes); /* give credit */
};

/* The paths in ${options} are copied. Until ended() with OK the old file is there. */
struct inflow *inflow_file(const struct inflow_env *, const struct place_options *, struct err *);

/* Straight to a descriptor (a pipe, a terminal), which is borrowed. */
struct inflow *inflow_fd(const struct inflow_env *, int fd, struct err *);

/* ${open} gives the directory to unpack into, on the flow's thread; ${arg} must live
 * until ended(). */
struct inflow *inflow_tree(
    const struct inflow_env *, int (*open)(void *arg, struct err *), void *arg, struct err *);

/* What the SHA-256 of a tree's stream must be (DATA_LOSS); before any of it comes. */
int inflow_expect_sha256(struct inflow *, const uint8_t digest[static 32], struct err *);

void inflow_push(struct inflow *, struct slice); /* takes it, always */

/* All has come. ${digest}, if not NULL, must be that of what came (DATA_LOSS). */
void inflow_eof(struct inflow *, const uint8_t digest[DIGEST_SIZE]);

/* Undo; ended() comes with ${why} when nothing is left. */
void inflow_abort(struct inflow *, const struct err *why);
void inflow_result(const struct inflow *, struct flow_result *);
void inflow_free(struct inflow *); /* in ended() or after */

#endif
