/*
 * gateway/ssh_sessions.h: keys and tokens that open SSH to one sandbox for a while.
 *
 *	            time is up, Revoke, sandbox deleted
 *	made ──▶ live ──────────────────────────────────▶ ended ── a day later ──▶ forgotten
 *
 * All are in memory and in the store; what needs no keeping (how many connections, since
 * when by the monotonic clock) in memory only. A session's end is an instant on two clocks,
 * and whichever comes first counts: a wall clock that is set back revives nothing. Ending
 * is final, and is in memory before it is in the store; what could not be written is
 * written later.
 *
 * The table is changed on the first loop. What the others ask is in ssh_access.h.
 */
#ifndef GATEWAY_SSH_SESSIONS_H
#define GATEWAY_SSH_SESSIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "gateway/names.h"
#include "gateway/ssh_name.h"
#include "gateway/store.h"
#include "rpc/ssh_key.h"

#define SSH_SESSIONS_MAX         65536     /* live, in all; each costs about 1 KiB */
#define SSH_SESSIONS_SANDBOX_MAX 16384     /* live, of one sandbox */
#define SSH_SESSIONS_ENDED_MAX   16384     /* ended and not forgotten; the oldest go first */
#define SSH_SESSIONS_KEPT_MS     86400000L /* for lists, after the end */
#define SSH_SESSIONS_SWEEP_MS    500       /* from one look at all ends to the next */
#define SSH_SESSIONS_BATCH       1024      /* rows written or removed in one sweep */

enum ssh_end {
	SSH_END_NONE, /* live */
	SSH_END_EXPIRED,
	SSH_END_REVOKED,
	SSH_END_DELETED /* the sandbox was */
};

/* A sentence for whoever is cut off. */
const char *ssh_end_text(enum ssh_end);

struct ssh_sessions;

struct ssh_sessions_options {
	struct loop *loop;
	struct store *store;
	uint32_t connections_max;         /* of one session */
	uint32_t connections_sandbox_max; /* of all sessions of a sandbox */

	/* A session that somebody may have a connection by has ended. First loop. */
	void (*ended)(void *cookie, const char *id, enum ssh_end);
	void *cookie;

	/* For tests; NULL: the machine's clocks. Milliseconds. */
	int64_t (*wall)(void *cookie);
	uint64_t (*monotonic)(void *cookie);
	void *clock_cookie;
};

struct ssh_sessions *ssh_sessions_create(const struct ssh_sessions_options *, struct err *);
void ssh_sessions_free(struct ssh_sessions *); /* writes what is left to write */

/* Reads the store. Sessions of sandboxes that ${exists} does not know are ended. */
int ssh_sessions_load(struct ssh_sessions *, bool (*exists)(void *cookie, const char *sandbox_id),
    void *cookie, struct err *);

struct ssh_wanted {
	const char *sandbox_id, *sandbox, *workspace;
	const char *subject;
	int64_t ttl_ms;
	uint32_t permissions; /* see ssh_access.h */
	const struct ssh_key *key;
};

struct ssh_made {
	char id[SSH_NAME_ID_MAX + 1];
	char user[SSH_NAME_USER_MAX + 1];
	char token[SSH_NAME_TOKEN_SIZE]; /* the caller wipes it */
	int64_t expires_ms;
};

/* A new session, which is in the store when this returns. RESOURCE_EXHAUSTED: too many. */
int ssh_sessions_make(
    struct ssh_sessions *, const struct ssh_wanted *, struct ssh_made *, struct err *);

/* Ends one. NOT_FOUND: there is none, or it has ended before. Another failure: it has
 * ended, but a gateway that is killed now would not know. */
int ssh_sessions_revoke(struct ssh_sessions *, const char *id, struct err *);
int ssh_sessions_revoke_token(struct ssh_sessions *, const char *token, struct err *);

/* Ends all of a sandbox. */
void ssh_sessions_drop_sandbox(struct ssh_sessions *, const char *sandbox_id);

/* One of the table. Pointers are good until ${each} returns. */
struct ssh_shown {
	uint64_t serial;
	const char *id, *sandbox_id, *sandbox, *workspace, *subject;
	const uint8_t *key;
	size_t key_len;
	uint32_t permissions;
	int64_t created_ms, expires_ms, ended_ms;
	enum ssh_end why;
	uint32_t connections;
	uint64_t bytes_in, bytes_out;
};

/* Calls ${each} for those behind ${after}, by serial, until it answers false. First loop. */
void ssh_sessions_each(struct ssh_sessions *, uint64_t after,
    bool (*each)(void *cookie, const struct ssh_shown *), void *cookie);

struct ssh_sessions_stats {
	size_t live, ended;
	uint32_t connections;
	uint64_t made, expired, revoked, refused;
};
void ssh_sessions_stats(struct ssh_sessions *, struct ssh_sessions_stats *); /* any thread */

#endif
