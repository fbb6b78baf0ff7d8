/*
 * transfer/across_state.h: what an earlier copy of a file from one sandbox to another has
 * left at the target, and whether it can be gone on with. Private to the room.
 *
 *	[AbortUpload ->] QueryUpload --some--> the source's digest of the whole file
 *	                      '--none, or the source has no digest--> from the beginning
 *
 * The digest is of the same file by its etag: with it the target refuses what is not, before
 * anything is put in place. All functions are called on the loop; callbacks come from it.
 */
#ifndef TRANSFER_ACROSS_STATE_H
#define TRANSFER_ACROSS_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "rpc/client.h"
#include "transfer/across.h"
#include "transfer/put_state.h"

struct across_state;

struct across_left {
	uint64_t durable;            /* from 0 on; 0: from the beginning */
	struct put_state there;      /* all of it */
	bool has_no_ids;             /* the target knows no such thing: it cannot be resumed */
	bool has_no_digest;          /* the source has none, and so nothing can be gone on with */
	bool by_target;              /* of a failure: it was there */
	uint8_t digest[DIGEST_SIZE]; /* of the whole file at the source, if anything is there */
};

struct across_state_options {
	struct rpc_client *client;
	struct across_place from, to;
	const char *workspace; /* of both; "": default */
	const char *id, *etag;
	uint64_t size;
	bool forget;   /* what was left is not to be used, and removed */
	bool pieces;   /* what is there behind a gap is of use */
	bool finished; /* the file may be in its place by an earlier attempt of ours */
	/* Once, last; across_state_free() inside or after. */
	void (*ended)(void *cookie, const struct across_left *, const struct err *);
	void *cookie;
};

/* Texts are lent until the end. NULL: no memory, or no call can be made. */
struct across_state *across_state_start(const struct across_state_options *, struct err *);
void across_state_free(struct across_state *); /* also before the end, which does not come then */

#endif
