/*
 * transfer/prefix_digest.h: the digest of the beginning of a file in a sandbox, computed there:
 * a download from where it ends, whose digest is of all before that. Private to the room.
 *
 * All functions are called on the loop; callbacks come from it.
 */
#ifndef TRANSFER_PREFIX_DIGEST_H
#define TRANSFER_PREFIX_DIGEST_H

#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "rpc/client.h"

struct prefix_digest;

struct prefix_digest_options {
	struct rpc_client *client;
	const char *sandbox, *path; /* lent until the start returns, like those below */
	const char *workspace;      /* "": default */
	const char *etag;           /* of the file that is meant */
	uint64_t bytes;             /* from its beginning */
	/* Once, last; the handle is dead. ${digest}: DIGEST_SIZE bytes, or NULL: ${err} says why,
	 * or, with GRPC_OK, the supervisor is one that knows no such digests. FAILED_PRECONDITION
	 * and OUT_OF_RANGE: it is another file by now. */
	void (*ended)(void *cookie, const uint8_t *digest, const struct err *err);
	void *cookie;
};

/* NULL: no memory, or no call can be made. */
struct prefix_digest *prefix_digest_start(const struct prefix_digest_options *, struct err *);
void prefix_digest_cancel(struct prefix_digest *); /* no callback after */

#endif
