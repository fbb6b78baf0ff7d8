/* towline sandbox connect */
#include <stdlib.h>

#include "cli/commands.h"
#include "cli/exec.h"
#include "cli/sandbox.h"

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	struct err err = { 0 };
	struct session *s = session_open(cli, &err);
	char *name =
	    s != NULL ? sandbox_choose(s, words->count > 0 ? words->word[0] : NULL, &err) : NULL;
	struct exec_options shell = { .sandbox = name, .tty = CLI_SWITCH_ON };
	int code = CLI_EXIT_TRANSPORT, r = -1;

	(void)options;
	if (name != NULL && (r = exec_run(s, &shell, &code, &err)) == 0)
		sandbox_remember(s, name);
	free(name);
	session_close(s);
	if (r == 0)
		return code;
	cli_fail(cli, &err);
	return CLI_EXIT_TRANSPORT;
}

static const char *const examples[] = {
	"towline sandbox connect box",
	NULL,
};

const struct cmd cmd_sandbox_connect = {
	.name = "connect",
	.args = "[NAME]",
	.help = "a shell in a sandbox, on this terminal",
	.more =
	    "It ends with the shell, whose exit code it has. \"~.\" at the beginning of a line\n"
	    "leaves at once, and ends the shell.\n",
	.examples = examples,
	.words_max = 1,
	.run = run,
};
