/*
 * sshd/sshd.h: the endpoint, as its parts share it. Made by main; lives as long as the
 * process. All on one loop.
 */
#ifndef SSHD_SSHD_H
#define SSHD_SSHD_H

#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "relay/dialer.h"
#include "sshd/gate.h"
#include "sshd/library.h"
#include "sshd/penalty.h"

struct client;
struct admission;

#define SSHD_TICK_MS  250   /* how late an expiry or a keepalive may be */
#define SSHD_USAGE_MS 10000 /* between two reports of a connection's bytes */

/* What options set; docs/limits.md has the defaults. */
struct sshd_limits {
	unsigned startups_start, startups_rate, startups_full; /* as OpenSSH's MaxStartups */
	unsigned connections;                                  /* in all */
	unsigned auth_tries;
	uint64_t login_grace_ms;
	uint64_t keepalive_ms;
	uint64_t idle_ms; /* without a channel; 0: any time */
};

struct sshd_counters {
	uint64_t accepted;       /* connections */
	uint64_t tunnelled;      /* of these, through the gateway */
	uint64_t opened;         /* authenticated */
	uint64_t refused_full;   /* closed unread: too many connections */
	uint64_t refused_early;  /* closed unread: random early drop */
	uint64_t refused_source; /* closed unread: the source's penalty */
	uint64_t evicted;        /* old ones that did not get on, for new ones */
	uint64_t auth_failed;    /* requests that were refused */
	uint64_t gated;          /* messages in a state that has none of them */
};

struct sshd {
	struct loop *loop;
	struct library *library;
	struct gate *gate;
	struct dialer *dialer;
	struct admission *admission;
	struct penalties *penalties;
	struct sshd_limits limits;
	struct sshd_counters counters;
	struct client *oldest, *newest; /* all there are */
	size_t clients;
	size_t unauthenticated; /* of these, before they are open; without tunnelled ones */
	uint64_t last_id;
};

#endif
