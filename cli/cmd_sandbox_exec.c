/* towline sandbox exec */
#include <stdlib.h>

#include "cli/commands.h"
#include "cli/exec.h"
#include "cli/sandbox.h"

struct options {
	char *name, *workdir;
	uint64_t timeout_ms;
	enum cli_switch tty;
	bool no_login_shell, no_stdin;
	struct config_list_value env;
};

static const struct config_key keys[] = {
	{ .name = "name",
	    .letter = 'n',
	    .arg = "NAME",
	    .parse = config_string,
	    .offset = offsetof(struct options, name),
	    .help = "the sandbox; else the one used last" },
	{ .name = "workdir",
	    .letter = 'w',
	    .arg = "DIR",
	    .parse = config_string,
	    .offset = offsetof(struct options, workdir),
	    .help = "where to run; else the sandbox's working directory" },
	{ .name = "timeout",
	    .arg = "TIME",
	    .parse = config_duration,
	    .offset = offsetof(struct options, timeout_ms),
	    .help = "end it after so many seconds (or 500ms, 2m, 1h), with exit code 124" },
	{ .name = "tty",
	    .letter = 't',
	    .parse = cli_parse_switch,
	    .offset = offsetof(struct options, tty),
	    .help = "give it a terminal; --no-tty: none. Else it gets one if we have one" },
	{ .name = "no-login-shell",
	    .parse = config_bool,
	    .offset = offsetof(struct options, no_login_shell),
	    .help = "without the environment that a login shell sets up" },
	{ .name = "no-stdin",
	    .parse = config_bool,
	    .offset = offsetof(struct options, no_stdin),
	    .help = "leave our standard input alone" },
	{ .name = "env",
	    .letter = 'e',
	    .arg = "KEY=VALUE",
	    .parse = config_list,
	    .offset = offsetof(struct options, env),
	    .help = "set a variable; may be given again" },
	{ 0 },
};

static int exec_in(
    const struct cli *cli, struct exec_options *e, const char *given, int *code, struct err *err)
{
	struct session *s = session_open(cli, err);
	char *name = s != NULL ? sandbox_choose(s, given, err) : NULL;
	int r = -1;

	e->sandbox = name;
	if (name != NULL && (r = exec_run(s, e, code, err)) == 0)
		sandbox_remember(s, name);
	free(name);
	session_close(s);
	return r;
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	const struct options *o = options;
	const char *given = words->count > 0 ? words->word[0] : o->name;
	struct pairs environment;
	struct exec_options e = {
		.command = words->command,
		.command_count = (size_t)words->command_count,
		.workdir = o->workdir,
		.environment = &environment,
		.timeout_ms = o->timeout_ms,
		.tty = o->tty,
		.no_login_shell = o->no_login_shell,
		.no_stdin = o->no_stdin,
	};
	struct err err = { 0 };
	int code;

	if (words->command_count == 0)
		return cli_usage(cli,
		    "exec: a command is missing: towline sandbox exec -- COMMAND; "
		    "for a shell there is 'towline sandbox connect'");
	if (words->count > 0 && o->name != NULL)
		return cli_usage(cli, "exec: the sandbox is named twice");
	if (pairs_parse(&environment, &o->env, "--env", &err) != 0) {
		code = cli_usage(cli, "exec: %s", err.text);
	} else if (exec_in(cli, &e, given, &code, &err) != 0) {
		cli_fail(cli, &err);
		code = CLI_EXIT_TRANSPORT;
	}
	pairs_free(&environment);
	return code;
}

static const char *const examples[] = {
	"towline sandbox exec -n box -- ls -l",
	"towline sandbox exec -n box --timeout 30s -- sh -c 'make && make test'",
	"tar -c src | towline sandbox exec -n box -- tar -x",
	"towline sandbox exec -n box -t -- top",
	NULL,
};

const struct cmd cmd_sandbox_exec = {
	.name = "exec",
	.args = "[-n NAME] [--] COMMAND [ARGUMENT...]",
	.help = "run a command in a sandbox",
	.more =
	    "Standard input is passed on as it comes. The exit code is the command's; 255 if the\n"
	    "command could not be run or the connection was lost, 124 after --timeout, 128 and\n"
	    "the number if a signal ended either side. On a terminal \"~.\" at the beginning of a\n"
	    "line leaves.\n",
	.examples = examples,
	.keys = keys,
	.size = sizeof(struct options),
	.words_max = 1,
	.tail = CMD_TAIL_PROGRAM,
	.run = run,
};
