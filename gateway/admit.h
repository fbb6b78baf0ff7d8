/*
 * gateway/admit.h: who may call what.
 *
 * Until users can authenticate, the gateway listens on loopback only and whoever
 * reaches it is its user. Supervisors prove whose they are with their sandbox's token,
 * and may call what is theirs and nothing else. SSH endpoints prove that they are such, and
 * may do for a live session what it permits, with its sandbox. Any loop.
 */
#ifndef GATEWAY_ADMIT_H
#define GATEWAY_ADMIT_H

#include <stdbool.h>

#include "base/err.h"
#include "gateway/names.h"
#include "gateway/ssh_access.h"
#include "rpc/call.h"

struct gateway;

/* For rpc_server_options.admit, with the gateway as the application. UNAUTHENTICATED: no
 * token, or none that is good; PERMISSION_DENIED: a good one, for something else. */
int admit_call(struct rpc_call *, void *gateway, struct err *);

/* Whose supervisor calls, or which SSH endpoint, which has a tunnel too. After admit_call()
 * for a supervisor's method; fails when the token has been revoked since. */
int admit_supervisor(
    struct rpc_call *, struct gateway *, char sandbox_id[static NAMES_ID_MAX + 1], struct err *);

/* Which SSH endpoint calls. */
int admit_endpoint(
    struct rpc_call *, struct gateway *, char id[static NAMES_ID_MAX + 1], struct err *);

/* Metadata that names the SSH session that an endpoint acts for. */
#define ADMIT_SESSION_KEY "towline-ssh-session"

struct admit_user {
	char subject[32]; /* for logs and supervisors */
	bool is_session;  /* an endpoint acts for the SSH session ${session} */
	struct ssh_grant session;
};

/* Who calls a user's method. UNAUTHENTICATED: the session has ended, or the token is no
 * endpoint's; PERMISSION_DENIED: a supervisor, or an endpoint for nobody. */
int admit_user(struct rpc_call *, struct gateway *, struct admit_user *, struct err *);

#endif
