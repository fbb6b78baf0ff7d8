/*
 * supervisor/command.h: from a request to what a process is started with.
 */
#ifndef SUPERVISOR_COMMAND_H
#define SUPERVISOR_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "openshell/v1/openshell.pb-c.h"
#include "relay/dialer.h"
#include "supervisor/process.h"
#include "supervisor/supervisor.h"

#define COMMAND_ENVIRONMENT_MAX 4096 /* variables, the sandbox's own included */

struct command {
	Openshell__V1__ExecSandboxRequest *request; /* what everything else points into */
	void *message;                              /* the unpacked message that holds it */
	struct process_options process;
	char *shell_word;    /* of ExecShell: its command, or what the shell is called by */
	uint64_t timeout_ms; /* 0: none */
};

/* Checks the first message of ExecSandbox or ExecSandboxInteractive. Errors are
 * INVALID_ARGUMENT and say which field; a working directory that is none is NOT_FOUND. */
int command_parse(
    const struct supervisor *, const struct channel_request *, struct command *, struct err *);
void command_free(struct command *);

/* What cannot run because the sandbox's image lacks it, and what to do instead; it is the
 * command's failure, PROCESS_NOT_FOUND. False: nothing known to be missing. */
bool command_is_missing(const struct command *, struct err *);

#endif
