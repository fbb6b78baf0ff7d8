/*
 * transfer/across.h: from one sandbox to another, a DownloadFile call onto an UploadFile
 * call. Private to the room.
 *
 *	source --get--> slices, digest --put--> target
 *	  ^                                       |
 *	  '-------- credit, as bytes leave -------'
 *
 * Nothing is kept on the way: what the target does not take the source does not send. The
 * put is ended, and so the file put in place, when the source's digest is that of what
 * has passed; the target's answer has to agree as well.
 *
 * A large file's upload has an id, of both places and the source's etag, so that who copies
 * the same file to the same place again goes on with what is durable there:
 *
 *	get: the header says what there is --small, or a tree--> put it all
 *	       | large: asked for anew
 *	     what is left of an earlier one (transfer/across_state.h)
 *	       |
 *	     get the rest, if the etag still is that --> put it behind what is there, with the
 *	     digest of the whole
 *
 * Or the rest goes some other way, in pieces say (transfer/put_pieces.h), and what is left to do
 * here is to put it in its place.
 *
 * One attempt; who tries again starts another. All functions are called on the loop;
 * callbacks come from it.
 */
#ifndef TRANSFER_ACROSS_H
#define TRANSFER_ACROSS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "rpc/client.h"
#include "towline/v1/files.pb-c.h"

struct across;

struct across_result {
	uint64_t bytes;   /* of content; of a tree as the target counts it */
	uint64_t wire;    /* that have passed */
	uint64_t entries; /* of a tree, as the source counts them */
	uint64_t files;
	bool has_digest;
	uint8_t
	    digest[DIGEST_SIZE]; /* of what has passed, or of the file of which it is the rest */
	uint64_t resumed;        /* bytes that were there from an earlier attempt */
	bool resumable;          /* it has an id, and so what is durable is kept */
	bool taken;              /* a sandbox has taken a call */
	bool ceded;              /* and nothing else was done */
	/* Of a failure. */
	bool by_target;
	bool asking; /* before anything was put */
	bool
	    matched; /* and the source was asked for what it had told of: it may be another by now */
};

struct across_place {
	const char *sandbox, *path;
};

/* The source's file, of whose upload this is. */
struct across_file {
	const char *id, *etag;
	uint64_t size;
	uint32_t mode;                  /* permission bits */
	const struct across_left *left; /* what is there of it */
};

/* An upload of which all is durable. */
struct across_durable {
	const char *id;        /* NULL: there is none */
	uint64_t writer;       /* of all its pieces, whose digests were compared; 0: */
	const uint8_t *digest; /* what the whole has to have */
};

struct across_options {
	struct rpc_client *client;
	struct across_place from, to;
	const char *workspace;      /* of both; "": default */
	bool tree;                  /* what is in the directory ${from}, into the directory ${to} */
	bool compress;              /* a tree, with zstd */
	const char *const *exclude; /* of a tree; ends with NULL; may be NULL */
	bool no_replace;            /* of a file: ALREADY_EXISTS */
	bool fresh;                 /* no id: nothing is gone on with, nor kept */
	bool forget;                /* what an earlier one has left is removed first */
	bool finished;              /* an earlier attempt's answer may have been lost */
	uint64_t resumable;         /* bytes; a file that has more gets an id */
	/* Nothing is sent: it is put in its place, if the source's file still is that of the id;
	 * else it is FAILED_PRECONDITION of the source. */
	struct across_durable durable;
	/* Asked of a file that gets an id, before anything is put. True: somebody else sends it,
	 * and ended() comes with ${ceded}. May be NULL. */
	bool (*cede)(void *cookie, const struct across_file *);
	/* Bytes that have left; ${total} 0: not known. */
	void (*moved)(void *cookie, uint64_t bytes, uint64_t total);
	/* What became of a tree's entries, of either end. */
	void (*report)(void *cookie, const Towline__V1__TreeReport *);
	/* Once, last; across_free() inside or after. code GRPC_OK: verified at both ends. With a
	 * resumed upload FAILED_PRECONDITION, OUT_OF_RANGE or DATA_LOSS ${by_target} says that
	 * what was there is not of this file: try again, with ${forget}. */
	void (*ended)(void *cookie, const struct across_result *, const struct err *);
	void *cookie;
};

/* Texts are lent until the end. NULL: no memory, or no call can be made. */
struct across *across_start(const struct across_options *, struct err *);

/* ended() comes with ${why}, inside: a file is not in place, of a tree what came stays. */
void across_stop(struct across *, const struct err *why);
void across_free(struct across *);

#endif
