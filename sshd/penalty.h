/*
 * sshd/penalty.h: sources that fail are not listened to for a while.
 *
 * Each fault adds seconds, by its kind. While a source has more than PENALTY_MIN_MS before
 * it, its connections are closed unread; so one fault is forgiven and a row of them is
 * not. A source is an IPv4 address, or an IPv6 network of 64 bits. Processes that share a
 * table share what they know of sources.
 */
#ifndef SSHD_PENALTY_H
#define SSHD_PENALTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"
#include "sshd/penalty_table.h"

#define PENALTY_MIN_MS     15000
#define PENALTY_MAX_MS     600000 /* no source waits longer */
#define PENALTY_EXEMPT_MAX 64

enum penalty {
	PENALTY_NONE,
	PENALTY_NO_AUTH,  /* left without having tried to authenticate */
	PENALTY_AUTH,     /* tried, and failed */
	PENALTY_GRACE,    /* used up the time for it */
	PENALTY_PROTOCOL, /* spoke what is no SSH */
};

struct penalties;

/* ${fd}: as for penalty_table_open(). */
struct penalties *penalties_create(int fd, struct err *);
void penalties_free(struct penalties *); /* NULL is legal */

/* "192.0.2.0/24", "::1": never punished. INVALID_ARGUMENT names what is none. */
int penalties_exempt(struct penalties *, const char *network, struct err *);

void penalties_add(struct penalties *, const struct sockaddr *, enum penalty, uint64_t now_ms);

/* Whether a connection of the source is refused now. */
bool penalties_refuse(struct penalties *, const struct sockaddr *, uint64_t now_ms);

size_t penalties_count(const struct penalties *); /* sources remembered */

#endif
