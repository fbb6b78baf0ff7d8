/*
 * cli/ssh_tool.h: one run of a real tool (ssh, scp, sftp, rsync) with a session of its own
 * for each sandbox that its words name, revoked when it has ended.
 */
#ifndef CLI_SSH_TOOL_H
#define CLI_SSH_TOOL_H

#include "cli/cmd.h"

#define SSH_TOOL_SANDBOXES_MAX 16 /* that one command line may name */

/* How a tool's words name a sandbox. */
enum ssh_tool_names {
	SSH_TOOL_PATHS, /* NAME:PATH, anywhere */
	SSH_TOOL_HOST,  /* NAME or NAME:PATH, anywhere */
	SSH_TOOL_FIRST  /* NAME, the first word */
};

struct ssh_tool {
	const char *program; /* found in PATH */
	/* Before the words; "%s" is the path of the configuration. Ends with a NULL. */
	const char *const *before;
	enum ssh_tool_names names;
};

/* Returns the tool's exit code; CLI_EXIT_TRANSPORT when it could not be run. */
int ssh_tool_run(const struct cli *, const struct ssh_tool *, char *const *word, int count);

#endif
