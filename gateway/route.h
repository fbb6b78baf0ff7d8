/*
 * gateway/route.h: calls that a sandbox's supervisor answers.
 *
 * The gateway reads the first message of such a call, finds out which sandbox it is
 * for and whether that takes calls, writes the sandbox's id in place of its name, and
 * hands the call over to the tunnel. It looks at no message after that. A forward to a
 * sandbox's SSH goes to the tunnel of an SSH endpoint instead, with the session's id in place
 * of its token. Any loop.
 */
#ifndef GATEWAY_ROUTE_H
#define GATEWAY_ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "openshell/datamodel/v1/datamodel.pb-c.h"
#include "rpc/call.h"

#define ROUTE_FIRST_MS 30000 /* for the first message of a stream to come */

struct gateway;

/* What a first message says about where the call goes. */
struct route_target {
	char **sandbox;        /* the message's own field */
	const char *workspace; /* NULL: none was named */
	const char *tcp_host;  /* for supervisors that know TCP only; else NULL */
	uint32_t tcp_port;
	char **ssh_token;     /* the sandbox's SSH endpoint is meant, with this; else NULL */
	uint32_t permissions; /* of an SSH session, that this very call needs; 0: the route's */
};

/* One row a routed call. */
struct route {
	const char *path;
	const char *first; /* what a stream begins with, in the proto's words; NULL: no stream */
	size_t first_max;  /* bytes of the first message */
	int (*target)(void *message, struct route_target *, struct err *);
	uint32_t permissions; /* of an SSH session: one of them must be there; 0: none may */
};

/* NULL: not a routed call. */
const struct route *route_find(const char *path);

/* Where the first message, packed, leads; ${message} is the decoded one, which the
 * caller frees with codec_free(). INVALID_ARGUMENT says which message was expected. */
int route_decode(const struct route *, const uint8_t *data, size_t len, void **message,
    struct route_target *, struct err *);

/* For rpc_method.request of those that send one message, and .open of the others. */
void route_request(struct rpc_call *, void *gateway, const uint8_t *message, size_t len);
void route_open(struct rpc_call *, void *gateway);

#endif
