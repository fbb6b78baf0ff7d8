/*
 * cli/exec.h: a command in a sandbox, joined to our own standard input, output and error,
 * or to the terminal.
 */
#ifndef CLI_EXEC_H
#define CLI_EXEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/cli.h"
#include "cli/pairs.h"
#include "cli/session.h"

struct exec_options {
	const char *sandbox;
	char *const *command;
	size_t command_count;            /* 0: a login shell, which needs a terminal */
	const char *workdir;             /* NULL: the sandbox's */
	const struct pairs *environment; /* NULL: none */
	uint64_t timeout_ms;             /* 0: none */
	enum cli_switch tty;             /* AUTO: if both standard input and output are terminals */
	bool no_login_shell;
	bool no_stdin;
};

/* Whether there would be a terminal. */
bool exec_wants_tty(enum cli_switch);

/*
 * Runs it to its end. ${code} is the command's exit code; or 128 and a signal's number,
 * when one ended us or the reader of our output left. -1: not the command failed but we
 * did. The terminal is as it was, whatever the result.
 */
int exec_run(struct session *, const struct exec_options *, int *code, struct err *);

#endif
