#include "supervisor/command.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "proto/codec.h"
#include "supervisor/login.h"

#define INTERACTIVE "/openshell.v1.OpenShell/ExecSandboxInteractive"

static int unpack_request(const struct channel_request *r, struct command *c, struct err *err)
{
	enum guard_result why;
	bool interactive = strcmp(r->method, INTERACTIVE) == 0;

	c->message = codec_unpack(interactive ? &openshell__v1__exec_sandbox_input__descriptor
					      : &openshell__v1__exec_sandbox_request__descriptor,
	    r->first_message, r->first_len, &why);
	if (c->message == NULL)
		return err_set(err, (enum grpc_code)guard_status(why), "ExecSandboxRequest: %s",
		    guard_text(why));
	c->request = c->message;
	if (interactive) {
		Openshell__V1__ExecSandboxInput *input = c->message;
		if (input->payload_case != OPENSHELL__V1__EXEC_SANDBOX_INPUT__PAYLOAD_START)
			return err_set(err, GRPC_INVALID_ARGUMENT,
			    "the first message of ExecSandboxInteractive must be start");
		c->request = input->start;
	}
	return 0;
}

/* What the sandbox has set about itself is not a request's to change; other OPENSHELL_
 * names are (the SDK passes a function to exec_python in one). */
static bool is_reserved(char *const *sandbox, const char *key)
{
	size_t len = strlen(key);

	if (strncmp(key, "OPENSHELL_", 10) != 0)
		return false;
	for (; *sandbox != NULL; sandbox++)
		if (strncmp(*sandbox, key, len) == 0 && (*sandbox)[len] == '=')
			return true;
	return false;
}

/* POSIX names, and none of those that are the sandbox's own to set. */
static int check_key(char *const *sandbox, const char *key, struct err *err)
{
	bool good = isalpha((unsigned char)key[0]) || key[0] == '_';

	for (const char *p = key; good && *p != '\0'; p++)
		good = isalnum((unsigned char)*p) || *p == '_';
	if (!good)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "environment: \"%s\" is not a name of letters, digits and _", key);
	if (is_reserved(sandbox, key))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "environment: %s is reserved; the sandbox sets it", key);
	return 0;
}

/* Puts "KEY=VALUE" in the place of an older one. */
static bool replace_variable(char **envp, size_t count, char *entry)
{
	size_t len = strcspn(entry, "=") + 1;

	for (size_t i = 0; i < count; i++) {
		if (strncmp(envp[i], entry, len) == 0) {
			free(envp[i]);
			envp[i] = entry;
			return true;
		}
	}
	return false;
}

static int too_many_variables(struct err *err)
{
	return err_set(err, GRPC_INVALID_ARGUMENT, "environment: more than %d variables",
	    COMMAND_ENVIRONMENT_MAX);
}

/* ${key} NULL: ${value} is "KEY=VALUE". */
static int add_variable(
    char **envp, size_t *count, const char *key, const char *value, struct err *err)
{
	char *entry;

	if ((key == NULL ? (entry = strdup(value)) == NULL
			 : asprintf(&entry, "%s=%s", key, value) < 0))
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	if (replace_variable(envp, *count, entry))
		return 0;
	if (*count >= COMMAND_ENVIRONMENT_MAX) {
		free(entry);
		return too_many_variables(err);
	}
	envp[(*count)++] = entry;
	return 0;
}

/* What a login makes known of the user; weaker than what the sandbox was given. */
static int add_login(char **envp, size_t *count, struct err *err)
{
	const struct login *user = login_user();
	const struct {
		const char *key, *value;
	} known[] = { { "SHELL", user->shell }, { "USER", user->name }, { "LOGNAME", user->name },
		{ "HOME", user->home } };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].value[0] != '\0' &&
		    add_variable(envp, count, known[i].key, known[i].value, err) != 0)
			return -1;
	return 0;
}

/* A shell that reads its profile itself starts from before it. */
static char *const *environment_before(const struct supervisor *s, const struct command *c)
{
	const Openshell__V1__ExecSandboxRequest *r = c->request;
	bool is_login = r->shell != NULL && r->shell->command.len == 0;

	return r->no_login_shell || is_login ? s->environment : s->login_environment;
}

/* The sandbox's, then the request's; a terminal has a TERM. */
static int build_environment(const struct supervisor *s, struct command *c, struct err *err)
{
	const Openshell__V1__ExecSandboxRequest *r = c->request;
	char *const *from = environment_before(s, c);
	char **envp = calloc(COMMAND_ENVIRONMENT_MAX + 1, sizeof(*envp));
	size_t count = 0;

	if (envp == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	c->process.envp = envp;
	if (r->n_environment > COMMAND_ENVIRONMENT_MAX) /* of one name, too: each is looked for */
		return too_many_variables(err);
	if (add_variable(envp, &count, "PATH", PROCESS_PATH, err) != 0 ||
	    (r->shell != NULL && add_login(envp, &count, err) != 0))
		return -1;
	for (; *from != NULL; from++)
		if (add_variable(envp, &count, NULL, *from, err) != 0)
			return -1;
	if (r->tty && add_variable(envp, &count, "TERM", "xterm-256color", err) != 0)
		return -1;
	for (size_t i = 0; i < r->n_environment; i++)
		if (check_key(s->environment, r->environment[i]->key, err) != 0 ||
		    add_variable(
			envp, &count, r->environment[i]->key, r->environment[i]->value, err) != 0)
			return -1;
	return 0;
}

/* "-sh", as login(1) calls a shell that is to read its profile. */
static char *login_name(const char *shell)
{
	const char *base = strrchr(shell, '/');
	char *name;

	return asprintf(&name, "-%s", base != NULL ? base + 1 : shell) < 0 ? NULL : name;
}

/* The user's shell with the command's very bytes; without a command, to talk to. */
static int build_shell(struct command *c, char **argv, struct err *err)
{
	const ProtobufCBinaryData *command = &c->request->shell->command;

	if (c->request->n_command > 0)
		return err_set(err, GRPC_INVALID_ARGUMENT, "command and shell are both set");
	if (command->len > 0 && memchr(command->data, '\0', command->len) != NULL)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "shell: the command has a byte of zero in it");
	c->process.program = login_user()->shell;
	c->process.tty_variable = "SSH_TTY";
	c->shell_word = command->len > 0 ? strndup((const char *)command->data, command->len)
					 : login_name(c->process.program);
	if (c->shell_word == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	argv[0] = c->shell_word;
	if (command->len > 0) {
		argv[0] = (char *)c->process.program;
		argv[1] = (char *)"-c";
		argv[2] = c->shell_word;
	}
	return 0;
}

/* The argv as it came; without one, a shell to talk to. */
static int build_argv(struct command *c, struct err *err)
{
	const Openshell__V1__ExecSandboxRequest *r = c->request;
	size_t n = r->n_command;
	char **argv = calloc((n > 3 ? n : 3) + 1, sizeof(*argv));

	if (argv == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	c->process.argv = argv;
	if (r->shell != NULL)
		return build_shell(c, argv, err);
	if (n > 0) {
		memcpy(argv, r->command, n * sizeof(*argv));
		return argv[0][0] != '\0'
		    ? 0
		    : err_set(err, GRPC_INVALID_ARGUMENT, "command: its first word is empty");
	}
	if (!r->tty)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "command: empty; only with tty does that mean a shell");
	argv[0] = login_user()->shell;
	argv[1] = (char *)"-l";
	return 0;
}

static int build_workdir(const struct supervisor *s, struct command *c, struct err *err)
{
	const char *dir = c->request->workdir;
	char *path;
	struct stat st;

	if (asprintf(&path, "%s%s%s", dir[0] == '/' ? "" : s->workdir,
		dir[0] == '/' || dir[0] == '\0' ? "" : "/", dir) < 0)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	c->process.workdir = path;
	if (stat(path, &st) != 0)
		return err_sys(err, errno, "workdir %s", dir[0] == '\0' ? path : dir);
	if (!S_ISDIR(st.st_mode))
		return err_sys(err, ENOTDIR, "workdir %s", dir);
	return 0;
}

/* Newer clients send a duration, older ones whole seconds. */
static uint64_t timeout_of(const Openshell__V1__ExecSandboxRequest *r)
{
	if (r->execution_timeout != NULL && r->execution_timeout->seconds >= 0) {
		uint64_t ms = (uint64_t)r->execution_timeout->seconds * 1000 +
		    (uint64_t)(r->execution_timeout->nanos > 0 ? r->execution_timeout->nanos : 0) /
			1000000;
		if (ms > 0)
			return ms;
	}
	return (uint64_t)r->timeout_seconds * 1000;
}

int command_parse(
    const struct supervisor *s, const struct channel_request *r, struct command *c, struct err *err)
{
	memset(c, 0, sizeof(*c));
	if (unpack_request(r, c, err) != 0 || build_argv(c, err) != 0 ||
	    build_environment(s, c, err) != 0 || build_workdir(s, c, err) != 0) {
		command_free(c);
		return -1;
	}
	c->process.tty = c->request->tty;
	c->process.size = (struct process_size){ .cols = c->request->cols,
		.rows = c->request->rows,
		.width = c->request->width_pixels,
		.height = c->request->height_pixels };
	c->process.modes = c->request->terminal_modes.data;
	c->process.modes_len = c->request->terminal_modes.len;
	c->timeout_ms = timeout_of(c->request);
	return 0;
}

/* The words that a rsync at the other end has its remote shell run. */
static bool is_rsync_server(const Openshell__V1__ExecSandboxRequest *r)
{
	static const char line[] = "rsync --server ";

	if (r->shell != NULL)
		return r->shell->command.len >= sizeof(line) - 1 &&
		    memcmp(r->shell->command.data, line, sizeof(line) - 1) == 0;
	return r->n_command > 1 && strcmp(r->command[0], "rsync") == 0 &&
	    strcmp(r->command[1], "--server") == 0;
}

bool command_is_missing(const struct command *c, struct err *err)
{
	if (!is_rsync_server(c->request) ||
	    process_find("rsync", c->process.envp, c->process.workdir) == 0)
		return false;
	err_set(err, GRPC_NOT_FOUND,
	    "rsync: the sandbox's image has none; install it there, or use `towline sync`, which needs none");
	return true;
}

void command_free(struct command *c)
{
	if (c->process.envp != NULL)
		for (char *const *e = c->process.envp; *e != NULL; e++)
			free(*e);
	free((void *)c->process.envp);
	free((void *)c->process.argv);
	free((void *)c->process.workdir);
	free(c->shell_word);
	codec_free(c->message);
	memset(c, 0, sizeof(*c));
}
