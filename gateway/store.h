/*
 * gateway/store.h: what outlives the gateway: sandboxes, workspaces, answered requests
 * and a few settings, in one SQLite database.
 *
 * Write-ahead log with synchronous NORMAL: what a call returned from survives the
 * gateway's death; the last instants before a power failure may be lost, the database
 * is whole in either case. Each call is one transaction and may block for a disk's
 * moment. One thread.
 */
#ifndef GATEWAY_STORE_H
#define GATEWAY_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "gateway/names.h"
#include "rpc/crypto.h"

#define STORE_REQUESTS_MAX 4096 /* request ids remembered; the oldest go first */

struct store;

/* Opens the database at ${path}, mode 0600, makes it if there is none, and brings it
 * to the present schema. FAILED_PRECONDITION: a newer program made it. */
struct store *store_open(const char *path, struct err *);
void store_close(struct store *);

/* A row of a sandbox. What is not a column is in ${body}, which the store does not
 * look into. Lent in both directions. */
struct store_sandbox {
	const char *id;
	const char *workspace;
	const char *name;
	int phase;
	const char *reason;        /* of the phase, one word */
	const char *message;       /* and a sentence; "" for none */
	uint64_t version;          /* grows with each change */
	int64_t changed_ms;        /* when the phase last changed */
	const uint8_t *token_hash; /* CRYPTO_SHA256_SIZE bytes, NULL: no token is good */
	const uint8_t *body;
	size_t body_len;
};

/* A change is one that a client asked for with a request id, or NULL. */
struct store_request {
	const char *method; /* "CreateSandbox" */
	const char *workspace;
	const char *request_id;
	const char *subject; /* what it was done to: an id */
};

/* ALREADY_EXISTS: the name is taken in the workspace. */
int store_sandbox_insert(
    struct store *, const struct store_sandbox *, const struct store_request *, struct err *);

/* Replaces all but id, workspace and name, if the row still has ${expected} as its
 * version; ABORTED if not, NOT_FOUND if it is gone. */
int store_sandbox_update(struct store *, const struct store_sandbox *, uint64_t expected,
    const struct store_request *, struct err *);
int store_sandbox_remove(struct store *, const char *id, struct err *);

/* Calls ${each} for every row, sorted by workspace and name; -1 from it ends the walk
 * and is returned. */
int store_sandbox_each(struct store *,
    int (*each)(void *cookie, const struct store_sandbox *, struct err *), void *cookie,
    struct err *);

struct store_workspace {
	const char *name;
	const char *id;
	uint64_t version;
	const uint8_t *body;
	size_t body_len;
};

int store_workspace_insert(
    struct store *, const struct store_workspace *, const struct store_request *, struct err *);
int store_workspace_remove(
    struct store *, const char *name, const struct store_request *, struct err *);
int store_workspace_each(struct store *,
    int (*each)(void *cookie, const struct store_workspace *, struct err *), void *cookie,
    struct err *);

/* What an earlier request of that method, workspace and id was done to: 1 and the
 * subject, 0 when there was none, -1 on error. */
int store_request_find(struct store *, const struct store_request *,
    char subject[static NAMES_WORKSPACE_MAX + 1], struct err *);

/* Remembers a request that changed nothing else. */
int store_request_put(struct store *, const struct store_request *, struct err *);

/* A setting's text, which the caller frees; NULL and no error when it was never set. */
int store_setting_get(struct store *, const char *name, char **value, struct err *);
int store_setting_set(struct store *, const char *name, const char *value, struct err *);

/* The last write failed: what is promised from now on may not last. */
bool store_is_failing(const struct store *);

#endif
