/*
 * transfer/pass.h: what a DownloadFile call brings, onto another call. Private to the room.
 *
 *	source --slices, digest--> call
 *	  ^                          |
 *	  '-- credit, as they leave -'
 *
 * Nothing is kept on the way: what the other call does not take the source does not send.
 * It was all, and right, when the source has said so with the size and the digest of what
 * has passed. All functions are called on the loop; callbacks come from it, and the pass may
 * be freed inside of each.
 */
#ifndef TRANSFER_PASS_H
#define TRANSFER_PASS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "openshell/v1/openshell.pb-c.h"
#include "relay/framed.h"
#include "rpc/client.h"
#include "transfer/across.h"

struct pass;

struct pass_options {
	struct rpc_client *client;
	struct across_place from;
	const char *workspace;      /* "": default */
	bool tree, compress;        /* what is in a directory; with zstd */
	const char *const *exclude; /* of a tree; ends with NULL; may be NULL */
	const char *etag;           /* of a file that has to be this one; NULL: whichever */
	uint64_t offset, length;    /* of a file; 0 bytes are all behind ${offset} */
	/* The source has taken the call; may be NULL. */
	void (*opened)(void *cookie);
	/* What is to come, before any of it. */
	void (*header)(void *cookie, const Openshell__V1__DownloadFileHeader *);
	/* What came was all, and right; the call has not ended yet. May be NULL. */
	void (*trailer)(void *cookie, const Openshell__V1__DownloadFileTrailer *);
	/* Once, last, unless it was stopped. ${whole}: trailer() has come; an error is then about
	 * single entries of a tree. Errors name the sandbox. */
	void (*ended)(void *cookie, bool whole, const struct err *);
	void *cookie;
};

/* Makes the call. Texts are lent until the end. */
struct pass *pass_start(const struct pass_options *, struct err *);

/* What comes goes to this call, which is lent until pass_stop() or the end; without one
 * whatever comes is an error. */
void pass_onto(struct pass *, struct framed *to);

void pass_sent(struct pass *, size_t bytes); /* from framed_ops.sent of that call */
void pass_stop(struct pass *, const struct err *why);
void pass_free(struct pass *); /* at any time; NULL is legal */

bool pass_is_over(const struct pass *);                                    /* stopped, or ended */
uint64_t pass_bytes(const struct pass *);                                  /* that came */
uint64_t pass_left(const struct pass *);                                   /* and have left again */
void pass_digest(const struct pass *, uint8_t digest[static DIGEST_SIZE]); /* of what came */

#endif
