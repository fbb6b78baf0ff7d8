/* gateway/ssh_session.h: one SSH session, for ssh_sessions.c and ssh_access.c. */
#ifndef GATEWAY_SSH_SESSION_H
#define GATEWAY_SSH_SESSION_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "base/map.h"
#include "gateway/ssh_sessions.h"
#include "gateway/store_ssh.h"

/* Connections that were admitted and not reported yet. They are taken for failed when none
 * has been admitted for SSH_ACCESS_GRANT_MS. */
struct ssh_count {
	uint32_t open, granted;
	uint64_t granted_ms; /* monotonic; the last */
};

/* A sandbox that has sessions, live or ended. */
struct ssh_owner {
	char id[NAMES_ID_MAX + 1];
	char name[NAMES_SANDBOX_MAX + 1];
	char workspace[NAMES_WORKSPACE_MAX + 1];
	size_t sessions, live;
	struct ssh_count count;
};

struct ssh_session {
	TAILQ_ENTRY(ssh_session) all;
	TAILQ_ENTRY(ssh_session) over;    /* when it has ended */
	TAILQ_ENTRY(ssh_session) changed; /* when ${unwritten} */
	char id[SSH_NAME_ID_MAX + 1];
	struct ssh_owner *owner;
	char *subject;
	uint64_t serial;
	uint8_t token_hash[CRYPTO_SHA256_SIZE];
	uint8_t *key;
	size_t key_len;
	uint32_t permissions;
	int64_t created_ms, expires_ms, ended_ms;
	uint64_t deadline_ms; /* monotonic */
	enum ssh_end why;
	bool used;        /* somebody was let in */
	atomic_bool late; /* somebody saw that its time was up */
	bool unwritten;   /* among the changed */
	size_t live_at;   /* its place among the live */
	struct ssh_count count;
	uint64_t bytes_in, bytes_out;
};

TAILQ_HEAD(ssh_list, ssh_session);

/* What a sweep looks at, beside each other in memory. */
struct ssh_live {
	int64_t expires_ms;
	uint64_t deadline_ms;
	struct ssh_session *session;
};

struct ssh_sessions {
	struct ssh_sessions_options opt;
	struct timer *sweep;

	/*
	 * The first loop alone changes which sessions there are and whether they have
	 * ended, and holds the lock to write meanwhile. Counts change on any loop, under
	 * the same lock.
	 */
	pthread_rwlock_t lock;
	struct map *by_id;
	struct map *owners;
	struct ssh_list all;     /* by serial */
	struct ssh_list over;    /* by when they ended */
	struct ssh_list changed; /* memory is ahead of the store */
	struct ssh_live *live;
	size_t live_count, live_cap, over_count;
	atomic_bool any_late;            /* of the live; for the next sweep */
	struct ssh_sessions_stats stats; /* of what is counted only */
};

/* Why it is no more: it has ended, or its time is up, which then is for good, whatever
 * becomes of the clocks before the next sweep. Under the lock. */
enum ssh_end ssh_session_over(struct ssh_sessions *, struct ssh_session *);

/* It differs from its row: to be written soon. Under the lock. */
void ssh_session_note(struct ssh_sessions *, struct ssh_session *);

int64_t ssh_session_wall(const struct ssh_sessions *);
uint64_t ssh_session_monotonic(const struct ssh_sessions *);

#endif
