#include "cli/ssh_tool.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/ssh.h"
#include "cli/ssh_files.h"

#define NAME_MAX_BYTES 19 /* of a sandbox's name */
#define BEFORE_MAX     8
#define WORD_BYTES     (PATHS_MAX + 64)

/* One run. */
struct run {
	const struct cli *cli;
	const struct ssh_tool *tool;
	struct ssh_files files;
	char name[SSH_TOOL_SANDBOXES_MAX][NAME_MAX_BYTES + 1];
	char *id[SSH_TOOL_SANDBOXES_MAX]; /* of its session; NULL: it has none, it is no sandbox */
	size_t count, sessions;
};

/* Which sandboxes. */

/* The bytes of a word that may be a sandbox's name; 0: it names none. */
static size_t name_in(enum ssh_tool_names names, const char *word)
{
	size_t n = strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789-");

	if (n == 0 || n > NAME_MAX_BYTES || word[0] < 'a')
		return 0;
	if (word[n] == ':' && word[n + 1] != ':')
		return n;
	return names != SSH_TOOL_PATHS && word[n] == '\0' ? n : 0;
}

static bool is_known(const struct run *r, const char *name)
{
	for (size_t i = 0; i < r->count; i++)
		if (strcmp(r->name[i], name) == 0)
			return true;
	return false;
}

/* A word that looks like a sandbox's may be something else: then there is no session, and
 * the tool says what it thinks of it. */
static int try_word(struct run *r, struct session *s, const char *word, struct err *err)
{
	size_t n = name_in(r->tool->names, word);
	Openshell__V1__CreateSshSessionResponse *reply;
	char name[NAME_MAX_BYTES + 1];
	struct ssh_wish wish = { .sandbox = name, .seconds = SSH_RUN_SECONDS };

	snprintf(name, sizeof(name), "%.*s", (int)n, word);
	if (n == 0 || is_known(r, name))
		return 0;
	if (r->count == SSH_TOOL_SANDBOXES_MAX)
		return err_set(err, GRPC_INVALID_ARGUMENT, "more than %d sandboxes are named",
		    SSH_TOOL_SANDBOXES_MAX);
	snprintf(r->name[r->count++], sizeof(r->name[0]), "%s", name);
	if (ssh_create(s, &wish, &reply, err) != 0)
		return err->code == GRPC_NOT_FOUND ? 0 : -1;
	r->id[r->count - 1] = strdup(reply->session_id);
	r->sessions++;
	int result = r->id[r->count - 1] != NULL
	    ? ssh_files_add(&r->files, name, reply, err)
	    : err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	ssh_reply_free(reply);
	return result;
}

static int make_sessions(struct run *r, char *const *word, int count, struct err *err)
{
	struct session *s = session_open(r->cli, err);
	int result = s != NULL ? ssh_files_make(&r->files, err) : -1;
	int last = r->tool->names == SSH_TOOL_FIRST ? 1 : count;

	for (int i = 0; i < last && result == 0; i++)
		result = try_word(r, s, word[i], err);
	session_close(s);
	if (result != 0 || r->sessions > 0)
		return result;
	if (r->count == 0)
		return err_set(err, GRPC_INVALID_ARGUMENT, "no word names a sandbox, as %s does",
		    r->tool->names == SSH_TOOL_PATHS ? "NAME:PATH" : "NAME");
	return -1; /* the last NOT_FOUND */
}

/* On a connection of its own: the tool may have run for hours. */
static void revoke_sessions(struct run *r)
{
	struct err err = { 0 };
	struct session *s = r->sessions > 0 ? session_open(r->cli, &err) : NULL;

	for (size_t i = 0; i < r->count; i++) {
		if (r->id[i] != NULL && (s == NULL || ssh_revoke(s, r->id[i], NULL, &err) != 0))
			cli_say(r->cli, "the session %s of %s could not be revoked: %s", r->id[i],
			    r->name[i], err.text);
		free(r->id[i]);
	}
	session_close(s);
}

/* The tool. */

static pid_t tool_pid; /* for the handler; 0: it does not run */

static void pass_on(int number)
{
	if (tool_pid > 0)
		kill(tool_pid, number);
}

static void on(int number, void (*handler)(int))
{
	const struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESTART };

	sigaction(number, &action, NULL);
}

/* What the terminal sends, the tool gets itself; the rest is passed on. */
static void set_signals(void (*terminal)(int), void (*other)(int))
{
	on(SIGINT, terminal);
	on(SIGQUIT, terminal);
	on(SIGTERM, other);
	on(SIGHUP, other);
}

static int wait_for_tool(void)
{
	int status;

	while (waitpid(tool_pid, &status, 0) < 0)
		if (errno != EINTR)
			return CLI_EXIT_TRANSPORT;
	tool_pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : CLI_EXIT_SIGNAL + WTERMSIG(status);
}

static int run_program(const char *program, char **argv, struct err *err)
{
	int code;

	fflush(NULL);
	set_signals(SIG_IGN, pass_on);
	tool_pid = fork();
	if (tool_pid == 0) {
		set_signals(SIG_DFL, SIG_DFL);
		on(SIGPIPE, SIG_DFL);
		execvp(program, argv);
		dprintf(STDERR_FILENO, "towline: %s: %s\n", program, strerror(errno));
		_exit(errno == ENOENT ? 127 : 126);
	}
	code =
	    tool_pid > 0 ? wait_for_tool() : (err_sys(err, errno, "a process for %s", program), -1);
	set_signals(SIG_DFL, SIG_DFL);
	return code;
}

static int run_tool(struct run *r, char *const *word, int count, struct err *err)
{
	char before[BEFORE_MAX][WORD_BYTES];
	char **argv = calloc((size_t)count + BEFORE_MAX + 2, sizeof(*argv));
	int n = 0, code;

	if (argv == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	argv[n++] = (char *)r->tool->program;
	for (size_t i = 0; i < BEFORE_MAX && r->tool->before[i] != NULL; i++) {
		const char *given = r->tool->before[i], *at = strstr(given, "%s");

		snprintf(before[i], WORD_BYTES, "%.*s%s%s",
		    (int)(at != NULL ? (size_t)(at - given) : strlen(given)), given,
		    at != NULL ? r->files.config : "", at != NULL ? at + 2 : "");
		argv[n++] = before[i];
	}
	for (int i = 0; i < count; i++)
		argv[n++] = word[i];
	code = run_program(r->tool->program, argv, err);
	free(argv);
	return code;
}

int ssh_tool_run(const struct cli *cli, const struct ssh_tool *tool, char *const *word, int count)
{
	struct run r = { .cli = cli, .tool = tool };
	struct err err = { 0 };
	int code = -1;

	if (make_sessions(&r, word, count, &err) == 0)
		code = run_tool(&r, word, count, &err);
	revoke_sessions(&r);
	ssh_files_remove(&r.files);
	if (code >= 0)
		return code;
	cli_fail(cli, &err);
	return CLI_EXIT_TRANSPORT;
}
