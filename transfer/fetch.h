/*
 * transfer/fetch.h: a file of a sandbox into a file here, by DownloadFile calls: in one
 * range or in several at a time, tried again when the way breaks, gone on with from what
 * an earlier one left (transfer/stash.h).
 *
 *	look for a stash --none--> ask: a call from the beginning, whose header says
 *	      |			   what there is; a large file is asked for anew in ranges
 *	    found				|
 *	      '--> a call for each range, from where it is, its beginning in the digest
 *		       |  UNAVAILABLE: later again
 *		       |  another file by now, or what was here is wrong: from the beginning
 *		   all verified --> in place
 *
 * All functions are called on the loop; callbacks come from it.
 */
#ifndef TRANSFER_FETCH_H
#define TRANSFER_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/worker.h"
#include "rpc/client.h"

#define FETCH_RANGE_MIN    ((uint64_t)64 << 20) /* bytes; a smaller one is not worth a call */
#define FETCH_TRIES_MAX    8                    /* in which nothing comes */
#define FETCH_RESTARTS_MAX 3                    /* from the beginning, since it was another file */
#define FETCH_DELAY_MS     250  /* before the second try; then twice as long each time */
#define FETCH_DELAY_MAX    4000 /* ms */

struct fetch;

struct fetch_result {
	uint64_t bytes; /* of the file */
	uint64_t wire;  /* that came; holes did not */
	uint64_t kept;  /* of a failed one: that need not come again */
	bool has_digest;
	uint8_t digest[DIGEST_SIZE];
};

struct fetch_options {
	struct loop *loop;
	struct workers *workers;
	struct rpc_client *client; /* outlives the fetch; not used if there is again() */
	/* The connection for a call of range ${number}, another one if the last has ended; NULL
	 * as its result: not now. As the function: there is but ${client}, and nothing is tried
	 * again. */
	struct rpc_client *(*again)(void *cookie, size_t number, struct err *);
	const char *sandbox, *workspace, *remote;
	const char *path; /* absolute */
	int slash;        /* borrowed */
	size_t streams;   /* at a time, at most STASH_RANGES_MAX */
	bool fresh;       /* what an earlier one left is not used */
	bool no_replace;  /* ALREADY_EXISTS, at the beginning or at the end */
	/* How far it is. */
	void (*moved)(void *cookie, uint64_t bytes, uint64_t total);
	/* Once, last; fetch_free() inside or after. code GRPC_OK: verified and in its place. */
	void (*ended)(void *cookie, const struct fetch_result *, const struct err *);
	void *cookie;
};

/* Texts are lent until the end. NULL: no memory. */
struct fetch *fetch_start(const struct fetch_options *, struct err *);

/* ended() comes with ${why} when what has come is kept or removed; never from inside. */
void fetch_stop(struct fetch *, const struct err *why);
void fetch_free(struct fetch *);

#endif
