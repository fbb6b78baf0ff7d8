/*
 * gateway/ssh_access.h: who gets in by an SSH session, and how often.
 *
 * What the endpoints ask, on whichever loop they are served. Any thread.
 */
#ifndef GATEWAY_SSH_ACCESS_H
#define GATEWAY_SSH_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "gateway/ssh_sessions.h"

#define SSH_ACCESS_CONNECTIONS_MAX         32    /* of one session, unless configured */
#define SSH_ACCESS_CONNECTIONS_SANDBOX_MAX 256   /* of one sandbox, unless configured */
#define SSH_ACCESS_GRANT_MS                10000 /* from admission to the report of a connection */

/* Bits, by the API's numbers. */
#define SSH_ACCESS_BIT(permission) (1u << (permission))
#define SSH_ACCESS_ALL             ((1u << 1) | (1u << 2) | (1u << 3) | (1u << 4))

/* What a live session is good for. */
struct ssh_grant {
	char id[SSH_NAME_ID_MAX + 1];
	char sandbox_id[NAMES_ID_MAX + 1];
	char sandbox[NAMES_SANDBOX_MAX + 1];
	char workspace[NAMES_WORKSPACE_MAX + 1];
	uint32_t permissions;
	int64_t expires_ms;
	uint64_t left_ms; /* whichever clock says less */
};

/* A user name and a key as SSH encodes it, of a peer. UNAUTHENTICATED, with a reason for the
 * log, unless the session is live and the key is its own. When ${proven}, a connection is
 * about to be: RESOURCE_EXHAUSTED if there are too many. */
int ssh_access_key(struct ssh_sessions *, const char *user, const uint8_t *key, size_t key_len,
    bool proven, struct ssh_grant *, struct err *);

/* A connection is about to be that has shown the session's token to the gateway. */
int ssh_access_id(struct ssh_sessions *, const char *id, struct ssh_grant *, struct err *);

/* The session of a token, if a further connection may be. */
int ssh_access_token(struct ssh_sessions *, const char *token, struct ssh_grant *, struct err *);

/* A live session by its id; no connection is to be. UNAUTHENTICATED says why not. */
int ssh_access_find(struct ssh_sessions *, const char *id, struct ssh_grant *, struct err *);

/* What became of connections. A session that has ended is SSH_END_* from opened(), and what
 * it had is counted all the same; one that is forgotten is passed over. */
enum ssh_end ssh_access_opened(struct ssh_sessions *, const char *id);
void ssh_access_closed(struct ssh_sessions *, const char *id);
void ssh_access_count(struct ssh_sessions *, const char *id, uint64_t bytes_in, uint64_t bytes_out);

#endif
