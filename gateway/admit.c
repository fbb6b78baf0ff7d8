#include "gateway/admit.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "gateway/gateway.h"
#include "gateway/route.h"
#include "gateway/service.h"
#include "proto/methods.h"

/* The token of "authorization: Bearer TOKEN"; NULL when there is none. */
static const char *bearer(const struct rpc_call *call)
{
	const char *value = rpc_meta_get(rpc_call_meta(call), "authorization");

	if (value == NULL || strncasecmp(value, "Bearer ", 7) != 0)
		return NULL;
	return value + 7 + strspn(value + 7, " ");
}

int admit_supervisor(struct rpc_call *call, struct gateway *g,
    char sandbox_id[static NAMES_ID_MAX + 1], struct err *err)
{
	const char *token = bearer(call);

	if (token == NULL)
		return err_set(err, GRPC_UNAUTHENTICATED,
		    "%s is for supervisors: it needs \"authorization: Bearer\" and a sandbox's token",
		    rpc_call_path(call));
	if (ssh_endpoints_is_one(token))
		return admit_endpoint(call, g, sandbox_id, err);
	if (!tokens_verify(g->tokens, token, sandbox_id))
		return err_set(err, GRPC_UNAUTHENTICATED,
		    "the token is no sandbox's, or not any more: the sandbox was stopped, started anew or "
		    "deleted");
	return 0;
}

int admit_endpoint(
    struct rpc_call *call, struct gateway *g, char id[static NAMES_ID_MAX + 1], struct err *err)
{
	const char *token = bearer(call);

	if (token == NULL)
		return err_set(err, GRPC_UNAUTHENTICATED,
		    "%s is for SSH endpoints: it needs \"authorization: Bearer\" and an endpoint's token",
		    rpc_call_path(call));
	if (!ssh_endpoints_verify(g->ssh.endpoints, token, id))
		return err_set(err, GRPC_UNAUTHENTICATED,
		    "the token is no SSH endpoint's, or not any more: each start of one has its own");
	return 0;
}

/* An endpoint by itself is nobody: it acts for a session. */
static int admit_session(
    struct rpc_call *call, struct gateway *g, struct admit_user *user, struct err *err)
{
	const char *session = rpc_meta_get(rpc_call_meta(call), ADMIT_SESSION_KEY);
	char id[NAMES_ID_MAX + 1];

	if (admit_endpoint(call, g, id, err) != 0)
		return -1;
	if (session == NULL)
		return err_set(err, GRPC_PERMISSION_DENIED,
		    "%s: an SSH endpoint must name the session it acts for in \"" ADMIT_SESSION_KEY
		    "\"",
		    rpc_call_path(call));
	if (ssh_access_find(g->ssh.sessions, session, &user->session, err) != 0)
		return -1;
	user->is_session = true;
	snprintf(user->subject, sizeof(user->subject), "ssh:%s", user->session.id);
	return 0;
}

int admit_user(struct rpc_call *call, struct gateway *g, struct admit_user *user, struct err *err)
{
	char sandbox_id[NAMES_ID_MAX + 1];
	const char *token = bearer(call);

	*user = (struct admit_user){ .subject = GATEWAY_LOCAL_SUBJECT };
	if (token != NULL && ssh_endpoints_is_one(token))
		return admit_session(call, g, user, err);
	/* A sandbox must not act as a user. */
	if (token != NULL && tokens_verify(g->tokens, token, sandbox_id))
		return err_set(err, GRPC_PERMISSION_DENIED,
		    "%s is for users; the token is a sandbox's", rpc_call_path(call));
	return 0;
}

/* A session may call what leads to its sandbox, and of that what it permits. */
static int admit_bearer(struct rpc_call *call, struct gateway *g, struct err *err)
{
	const struct route *route = route_find(rpc_call_path(call));
	struct admit_user user;

	if (admit_user(call, g, &user, err) != 0)
		return -1;
	if (!user.is_session)
		return 0;
	if (route == NULL || route->permissions == 0)
		return err_set(err, GRPC_PERMISSION_DENIED,
		    "%s is nothing that an SSH session may do", rpc_call_path(call));
	if ((route->permissions & user.session.permissions) == 0)
		return err_set(err, GRPC_PERMISSION_DENIED, "the SSH session does not permit %s",
		    rpc_call_path(call));
	return 0;
}

int admit_call(struct rpc_call *call, void *gateway, struct err *err)
{
	const struct method_info *method = methods_find(rpc_call_path(call));
	char sandbox_id[NAMES_ID_MAX + 1];

	/* What is not served is said to be so to everybody. */
	if (method == NULL || !service_is_served(method->path))
		return 0;
	switch (method->auth) {
	case METHODS_AUTH_UNSTATED:
	case METHODS_AUTH_NONE:
		return 0;
	case METHODS_AUTH_BEARER:
		return admit_bearer(call, gateway, err);
	case METHODS_AUTH_SANDBOX:
		return admit_supervisor(call, gateway, sandbox_id, err);
	case METHODS_AUTH_PEER: /* of those only what is for SSH endpoints is served */
		return admit_endpoint(call, gateway, sandbox_id, err);
	case METHODS_AUTH_DUAL:
	case METHODS_AUTH_OPERATOR:
		break; /* no such method is served */
	}
	return err_set(err, GRPC_PERMISSION_DENIED, "nobody may call %s yet", rpc_call_path(call));
}
