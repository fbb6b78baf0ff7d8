#include "cli/ssh.h"

#include <string.h>

#include "proto/codec.h"

int ssh_create(struct session *s, const struct ssh_wish *w,
    Openshell__V1__CreateSshSessionResponse **reply, struct err *err)
{
	Openshell__V1__CreateSshSessionRequest r = OPENSHELL__V1__CREATE_SSH_SESSION_REQUEST__INIT;
	void *got;

	r.sandbox = (char *)w->sandbox;
	r.workspace_scope = session_scope(s);
	r.ttl_seconds = w->seconds;
	if (w->public_key != NULL)
		r.public_key = (char *)w->public_key;
	r.permissions = (Towline__V1__SshPermission *)w->permissions;
	r.n_permissions = w->permission_count;
	if (session_call(s, "CreateSshSession", &r.base,
		&openshell__v1__create_ssh_session_response__descriptor, &got, err) != 0)
		return -1;
	*reply = got;
	if ((*reply)->username[0] != '\0' && (*reply)->host_key[0] != '\0')
		return 0;
	ssh_reply_free(*reply);
	return err_set(err, GRPC_UNIMPLEMENTED,
	    "the gateway has no SSH endpoint that tells its host key and a user name");
}

static void wipe(char *text)
{
	explicit_bzero(text, strlen(text));
}

void ssh_reply_free(Openshell__V1__CreateSshSessionResponse *reply)
{
	if (reply == NULL)
		return;
	if (reply->private_key[0] != '\0')
		wipe(reply->private_key);
	if (reply->token[0] != '\0')
		wipe(reply->token);
	codec_free(reply);
}

int ssh_revoke(struct session *s, const char *id, bool *found, struct err *err)
{
	Openshell__V1__RevokeSshSessionRequest r = OPENSHELL__V1__REVOKE_SSH_SESSION_REQUEST__INIT;
	Openshell__V1__RevokeSshSessionResponse *reply;
	void *got;

	r.session_id = (char *)id;
	r.allow_missing = true;
	if (session_call(s, "RevokeSshSession", &r.base,
		&openshell__v1__revoke_ssh_session_response__descriptor, &got, err) != 0)
		return -1;
	reply = got;
	if (found != NULL)
		*found = reply->revoked;
	codec_free(reply);
	return 0;
}

static const struct {
	const char *name;
	Towline__V1__SshPermission permission;
} permissions[] = {
	{ "exec", TOWLINE__V1__SSH_PERMISSION__SSH_PERMISSION_EXEC },
	{ "pty", TOWLINE__V1__SSH_PERMISSION__SSH_PERMISSION_PTY },
	{ "sftp", TOWLINE__V1__SSH_PERMISSION__SSH_PERMISSION_SFTP },
	{ "forward", TOWLINE__V1__SSH_PERMISSION__SSH_PERMISSION_FORWARD },
};

#define PERMISSIONS (sizeof(permissions) / sizeof(permissions[0]))

const char *ssh_permission_name(Towline__V1__SshPermission permission)
{
	for (size_t i = 0; i < PERMISSIONS; i++)
		if (permissions[i].permission == permission)
			return permissions[i].name;
	return "unknown";
}

Towline__V1__SshPermission ssh_permission_find(const char *name)
{
	for (size_t i = 0; i < PERMISSIONS; i++)
		if (strcmp(permissions[i].name, name) == 0)
			return permissions[i].permission;
	return TOWLINE__V1__SSH_PERMISSION__SSH_PERMISSION_UNSPECIFIED;
}
