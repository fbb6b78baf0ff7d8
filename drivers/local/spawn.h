/*
 * drivers/local/spawn.h: starts a supervisor in the strongest isolation the kernel
 * grants: user, mount and PID namespaces; mount and PID; none.
 */
#ifndef DRIVERS_LOCAL_SPAWN_H
#define DRIVERS_LOCAL_SPAWN_H

#include <stddef.h>

#include "base/err.h"
#include "drivers/local/process.h"

#define SPAWN_TIMEOUT_MS 10000

struct spawn_options {
	const char *supervisor;  /* absolute path */
	const char *work_dir;    /* absolute; becomes the current directory */
	const char *private_dir; /* hidden inside, but for work_dir; NULL: nothing is */
	int dir;                 /* where supervisor.pid is written, before it runs */
	int log_fd;              /* standard output and error */
	int token_fd;            /* becomes descriptor 3, read as /dev/fd/3 */
	int timeout_ms;          /* for the child to reach its exec: SPAWN_TIMEOUT_MS */
	char *const *argv;
	char *const *envp;
};

/*
 * Blocks until the supervisor's program runs (exec has succeeded) or nothing does.
 * ${p} comes with the instance and gets the rest; the result is its pidfd (CLOEXEC), and the
 * process is a child of the caller's process: reap with waitid(P_PIDFD). -1 on error. What
 * takes too long is not tried with less isolation: it is the machine that is slow.
 */
int spawn_supervisor(const struct spawn_options *, struct process *p, struct err *);

#endif
