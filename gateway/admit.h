/*
 * gateway/admit.h: who may call what.
 *
 * Until users can authenticate, the gateway listens on loopback only and whoever
 * reaches it is its user. Supervisors prove whose they are with their sandbox's token,
 * and may call what is theirs and nothing else. Any loop.
 */
#ifndef GATEWAY_ADMIT_H
#define GATEWAY_ADMIT_H

#include "base/err.h"
#include "gateway/names.h"
#include "rpc/call.h"

struct gateway;

/* For rpc_server_options.admit, with the gateway as the application. UNAUTHENTICATED: no
 * token, or none that is good; PERMISSION_DENIED: a good one, for something else. */
int admit_call(struct rpc_call *, void *gateway, struct err *);

/* Whose supervisor calls. After admit_call() for a supervisor's method; fails when the
 * token has been revoked since. */
int admit_supervisor(
    struct rpc_call *, struct gateway *, char sandbox_id[static NAMES_ID_MAX + 1], struct err *);

#endif
