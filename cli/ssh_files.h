/*
 * cli/ssh_files.h: what OpenSSH's tools read: a private key, the host key that is the right
 * one, and a configuration that names both. In a folder of their own, for one run of a tool,
 * with the state ($XDG_STATE_HOME/openshell/ssh). Everything here may block.
 */
#ifndef CLI_SSH_FILES_H
#define CLI_SSH_FILES_H

#include "base/err.h"
#include "cli/paths.h"
#include "openshell/v1/openshell.pb-c.h"

/* The name that the endpoint's host key is known by: its address may change, or be another
 * gateway's tomorrow. */
#define SSH_FILES_ALIAS "towline"

struct ssh_files {
	char dir[PATHS_MAX];
	char config[PATHS_MAX]; /* for -F */
};

int ssh_files_make(struct ssh_files *, struct err *);

/* From now on ${host} leads to the session. */
int ssh_files_add(struct ssh_files *, const char *host,
    const Openshell__V1__CreateSshSessionResponse *, struct err *);

/* Keys and all. A zeroed one is legal. */
void ssh_files_remove(struct ssh_files *);

/* Writes a private key for its owner alone. ALREADY_EXISTS: something is there. */
int ssh_files_write_key(const char *path, const char *private_key, struct err *);

/* The file of known hosts that stays, with this key and no other for ${alias}. */
int ssh_files_pin(
    const char *alias, const char *host_key, char path[static PATHS_MAX], struct err *);

#endif
