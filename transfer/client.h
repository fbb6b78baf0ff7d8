/*
 * transfer/client.h: files and trees between this machine and a sandbox, or two of them.
 *
 * One operation: start, progress, one done. A download lands in a part file beside
 * its target and is renamed when size and digest agree; one of a file that was broken off
 * goes on from there (transfer/fetch.h). A tree is unpacked by the same writer the
 * supervisor uses, so nothing the other side sends can leave the directory that was named.
 */
#ifndef TRANSFER_CLIENT_H
#define TRANSFER_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/worker.h"
#include "rpc/client.h"

struct transfer;

struct transfer_progress {
	uint64_t bytes;   /* content moved so far */
	uint64_t total;   /* 0: not known */
	uint64_t entries; /* of an archive */
};

/* What is done about a file that is there. */
enum transfer_exists {
	TRANSFER_EXISTS_REPLACE,
	TRANSFER_EXISTS_FAIL,        /* ALREADY_EXISTS */
	TRANSFER_EXISTS_SKIP_IF_SAME /* both are read first, and it is sent if they differ */
};

struct transfer_result {
	uint64_t bytes;      /* of content */
	uint64_t wire_bytes; /* what was sent or received, archives' headers included */
	uint64_t entries;    /* of an archive, its root too */
	uint64_t files;      /* those that are no directories */
	uint64_t skipped;    /* entries left out, each told through note() */
	uint64_t kept;       /* of a download that failed: bytes the same one need not move again */
	uint64_t ignored;    /* left out by patterns; a directory and all in it are one */
	uint64_t failed;     /* entries lost, each told; the others are there */
	uint64_t resumed;    /* bytes of an upload that were there from an earlier one */
	bool same;           /* TRANSFER_EXISTS_SKIP_IF_SAME: nothing was moved */
	bool has_digest;
	uint8_t digest[16]; /* XXH3-128, verified on both ends */
};

struct transfer_ops {
	/* About every 100 ms while bytes move; may be NULL. */
	void (*progress)(void *cookie, const struct transfer_progress *);
	/* Something a person should know ("skipped x: a socket"); may be NULL. */
	void (*note)(void *cookie, const char *text);
	/* The connection for another call, when one has failed with UNAVAILABLE; NULL as its
	 * result: not now, try later. May be NULL: then nothing is tried again. */
	struct rpc_client *(*again)(void *cookie, struct err *);
	/* Another connection, for stream ${number} of a file that goes or comes in several; 0 is
	 * that of again(). May be NULL: all share one. */
	struct rpc_client *(*another)(void *cookie, size_t number, struct err *);
	/* Once, last. code GRPC_OK: done and verified. */
	void (*done)(void *cookie, const struct transfer_result *, const struct err *);
};

struct transfer_request {
	struct rpc_client *client;
	struct workers *workers;
	const char *sandbox;
	const char *workspace;  /* NULL or "": default */
	const char *local;      /* path; "-" with fd set */
	const char *to_sandbox; /* transfer_across: where ${local} is */
	int fd;                 /* -1, or a descriptor to read from or write to instead of a file */
	const char *remote;
	bool recursive;              /* upload: local is a tree. Download: as_archive */
	uint64_t offset, length;     /* download of a range; 0, 0: all */
	bool fresh;                  /* download of a file: what an earlier one left is not used */
	size_t streams;              /* and so many ranges of it at a time; 0: one */
	const char *const *exclude;  /* patterns as in .gitignore, ends with NULL; may be NULL */
	uint32_t mode;               /* upload: permission bits, 0: of the local file */
	bool git_ignore;             /* upload of a tree: heed .gitignore; leave .git out */
	bool follow_links;           /* upload of a tree: what they lead to instead of links */
	bool compress;               /* of a tree: with zstd */
	enum transfer_exists exists; /* of a file; a tree's entries replace */
	const struct transfer_ops *ops;
	void *cookie;
};

/* Start; strings are copied. An upload of a large file goes on where an earlier one of the
 * same file to the same path was interrupted, and by itself when the way to the sandbox
 * breaks and comes back. NULL: the request is malformed, or want of memory. */
struct transfer *transfer_upload(struct loop *, const struct transfer_request *, struct err *);
struct transfer *transfer_download(struct loop *, const struct transfer_request *, struct err *);

/* ${remote} in ${sandbox} to ${local} in ${to_sandbox}, both of ${workspace}, and nothing of it
 * on a disk here. A large file goes on as an upload does; a tree that is broken off begins anew. */
struct transfer *transfer_across(struct loop *, const struct transfer_request *, struct err *);

/* Stops; part files are removed (may take a moment of the workers; done runs with
 * CANCELLED when all is clean). */
void transfer_cancel(struct transfer *);

#endif
