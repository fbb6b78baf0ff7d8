/*
 * gateway/ssh_spawn.h: starts one towline-sshd process.
 *
 * It gets its standard error, /dev/null, and five descriptors, and nothing else of the
 * gateway's; of the environment what begins with TOWLINE_SSHD_; no capability. It is killed
 * when the gateway is.
 */
#ifndef GATEWAY_SSH_SPAWN_H
#define GATEWAY_SSH_SPAWN_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

/* Their numbers in the new process. */
enum ssh_spawn_fd {
	SSH_SPAWN_TOKEN = 3,
	SSH_SPAWN_HOST_KEY,
	SSH_SPAWN_LISTENER,
	SSH_SPAWN_PARENT, /* the reading end of a pipe that closes with the gateway */
	SSH_SPAWN_PENALTIES,
	SSH_SPAWN_END
};

struct ssh_spawn {
	const char *program;   /* absolute */
	int fd[SSH_SPAWN_END]; /* lent; of those above */
	char *const *argv;     /* ends with NULL */
};

/* A pidfd, or -1. On the thread that lives as long as the gateway. Does not wait for the exec:
 * ${report} is for ssh_spawn_failed() when the process has ended, and the caller's to close. */
int ssh_spawn(const struct ssh_spawn *, pid_t *pid, int *report, struct err *);

/* Whether it ended without having become ${program}, and in ${err} why. */
bool ssh_spawn_failed(int report, const char *program, struct err *);

/* The text as a file without a name, from its beginning; -1 on error. */
int ssh_spawn_lend(const char *text, size_t len, struct err *);

/* An empty file without a name, that may be given a size for ever; -1 on error. */
int ssh_spawn_share(struct err *);

#endif
