/*
 * gateway/ssh_endpoints.h: the towline-sshd processes that may act for SSH sessions, and
 * what they prove with that they are.
 *
 * An endpoint has an id, "sshd-NAME", and a token "sshd-NAME.SECRET", of which the gateway
 * keeps the hash. What it reports and is told is in ssh_attend.h. Any thread, but for what
 * is said otherwise.
 */
#ifndef GATEWAY_SSH_ENDPOINTS_H
#define GATEWAY_SSH_ENDPOINTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "gateway/names.h"

#define SSH_ENDPOINTS_MAX         128 /* of our own and of others together */
#define SSH_ENDPOINTS_NAME_MAX    31  /* characters behind "sshd-" */
#define SSH_ENDPOINTS_SECRET_SIZE 32  /* bytes */
#define SSH_ENDPOINTS_TOKEN_SIZE  (NAMES_ID_MAX + 1 + 2 * SSH_ENDPOINTS_SECRET_SIZE + 1)

_Static_assert(5 + SSH_ENDPOINTS_NAME_MAX == NAMES_ID_MAX, "an endpoint's id is one of a tunnel");

struct ssh_endpoints;

struct ssh_endpoints *ssh_endpoints_create(struct err *);
void ssh_endpoints_free(struct ssh_endpoints *);

/* A new token for the endpoint of that number, "sshd-1" the first; the one it had is good
 * no more. The caller wipes the text. */
int ssh_endpoints_renew(struct ssh_endpoints *, unsigned number,
    char token[static SSH_ENDPOINTS_TOKEN_SIZE], struct err *);

/* Reads the tokens of endpoints that others start, one a line, "#" begins a comment. The
 * file must be its owner's alone; a name of digits only is one of our own. */
int ssh_endpoints_read(struct ssh_endpoints *, const char *path, struct err *);

/* Has the form of an endpoint's id or token. */
bool ssh_endpoints_is_one(const char *text);

/* Whose token it is; false: nobody's. Takes the same time for every secret. */
bool ssh_endpoints_verify(
    struct ssh_endpoints *, const char *token, char id[static NAMES_ID_MAX + 1]);

/* Its tunnel has come or gone: connections that come through the gateway can reach it. */
void ssh_endpoints_set_up(struct ssh_endpoints *, const char *id, bool up);

/* A stream of Attend has begun or ended, at ${now_ms} of the monotonic clock. */
void ssh_endpoints_attends(struct ssh_endpoints *, const char *id, bool begun, uint64_t now_ms);

/* When the last of its streams ended; 0: never. UINT64_MAX: there is one. */
uint64_t ssh_endpoints_left_ms(struct ssh_endpoints *, const char *id);

/* It has so many connections more or less. */
void ssh_endpoints_add_connections(struct ssh_endpoints *, const char *id, int by);

/* The one with the fewest connections whose tunnel is up; UNAVAILABLE: there is none. */
int ssh_endpoints_choose(struct ssh_endpoints *, char id[static NAMES_ID_MAX + 1], struct err *);

/* Calls ${each} for every id, under no lock. First loop. */
void ssh_endpoints_each(
    struct ssh_endpoints *, void (*each)(void *cookie, const char *id), void *cookie);

#endif
