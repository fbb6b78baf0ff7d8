/*
 * cli/ssh.h: SSH sessions of a sandbox as the verbs make, show and revoke them.
 */
#ifndef CLI_SSH_H
#define CLI_SSH_H

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/session.h"
#include "openshell/v1/openshell.pb-c.h"
#include "towline/v1/ssh.pb-c.h"

/* Of a session made for one run of a tool, which revokes it when it ends: the longest. */
#define SSH_RUN_SECONDS 86400

struct ssh_wish {
	const char *sandbox;
	uint32_t seconds;       /* to live; 0: as the gateway has it */
	const char *public_key; /* one line; NULL: a key is made */
	const Towline__V1__SshPermission *permissions;
	size_t permission_count; /* 0: all */
};

/* ${reply} is freed with ssh_reply_free(), which wipes what opens the session. */
int ssh_create(struct session *, const struct ssh_wish *,
    Openshell__V1__CreateSshSessionResponse **reply, struct err *);
void ssh_reply_free(Openshell__V1__CreateSshSessionResponse *);

/* By its id; that it is gone already is fine. ${found}: it was there; may be NULL. */
int ssh_revoke(struct session *, const char *id, bool *found, struct err *);

/* "exec"; never NULL. */
const char *ssh_permission_name(Towline__V1__SshPermission);

/* UNSPECIFIED: there is none of that name. */
Towline__V1__SshPermission ssh_permission_find(const char *name);

#endif
