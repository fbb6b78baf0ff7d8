#include "gateway/admit.h"

#include <string.h>
#include <strings.h>

#include "gateway/gateway.h"
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
	if (!tokens_verify(g->tokens, token, sandbox_id))
		return err_set(err, GRPC_UNAUTHENTICATED,
		    "the token is no sandbox's, or not any more: the sandbox was stopped, started anew or "
		    "deleted");
	return 0;
}

/* A sandbox must not act as a user. */
static int admit_user(struct rpc_call *call, struct gateway *g, struct err *err)
{
	char sandbox_id[NAMES_ID_MAX + 1];
	const char *token = bearer(call);

	if (token != NULL && tokens_verify(g->tokens, token, sandbox_id))
		return err_set(err, GRPC_PERMISSION_DENIED,
		    "%s is for users; the token is a sandbox's", rpc_call_path(call));
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
		return admit_user(call, gateway, err);
	case METHODS_AUTH_SANDBOX:
		return admit_supervisor(call, gateway, sandbox_id, err);
	case METHODS_AUTH_DUAL:
	case METHODS_AUTH_PEER:
	case METHODS_AUTH_OPERATOR:
		break; /* no such method is served */
	}
	return err_set(err, GRPC_PERMISSION_DENIED, "nobody may call %s yet", rpc_call_path(call));
}
