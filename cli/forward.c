#include "cli/forward.h"

#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/background.h"
#include "cli/forwarder.h"
#include "cli/output.h"
#include "cli/record.h"
#include "cli/sandbox.h"
#include "cli/signals.h"
#include "proto/codec.h"

/* A forward that runs. */
struct forward {
	const struct cli *cli;
	const struct forward_options *o;
	struct background background;
	struct session *session;
	char *sandbox;
	struct forwarder *forwarder;
	struct record record;
	struct record_file *file;
	char last_error[ERR_TEXT_MAX];
	struct session_wait wait;
	struct signals signals;
	int signal;
};

static void on_failed(void *cookie, const struct err *why)
{
	struct forward *f = cookie;

	cli_say(f->cli, "towline: a connection to port %u of %s failed: %s",
	    (unsigned)f->record.target_port, f->sandbox, why->text);
	memcpy(f->last_error, why->text, sizeof(f->last_error));
	f->record.error = f->last_error;
	if (f->file != NULL)
		record_update(f->file, &f->record);
}

static void on_signal(void *cookie, int number)
{
	struct forward *f = cookie;

	f->signal = number;
	session_done(&f->wait, NULL);
}

/* It is there; whether it is ready is for each connection to see. */
static int check_sandbox(struct forward *f, struct err *err)
{
	Openshell__V1__SandboxResponse *reply;

	if ((f->session = session_open(f->cli, err)) == NULL ||
	    (f->sandbox = sandbox_choose(f->session, f->o->sandbox, err)) == NULL ||
	    sandbox_get(f->session, f->sandbox, &reply, err) != 0)
		return -1;
	codec_free(reply);
	sandbox_remember(f->session, f->sandbox);
	return 0;
}

static const char *workspace_of(const struct cli *cli)
{
	return cli->workspace != NULL && cli->workspace[0] != '\0' ? cli->workspace : "default";
}

static int listen_and_record(struct forward *f, struct err *err)
{
	struct forwarder_options o = { .sandbox = f->sandbox,
		.target_host = f->o->target_host,
		.target_port = f->o->spec.target,
		.spec = f->o->spec,
		.failed = on_failed,
		.cookie = f };

	if ((f->forwarder = forwarder_create(f->session, &o, err)) == NULL)
		return -1;
	f->record = (struct record){ .bind = (char *)f->o->spec.bind,
		.port = forwarder_port(f->forwarder),
		.sandbox = f->sandbox,
		.workspace = (char *)workspace_of(f->cli),
		.target_host = (char *)f->o->target_host,
		.target_port = f->o->spec.target,
		.endpoint = (char *)session_endpoint(f->session),
		.error = f->last_error,
		.pid = getpid(),
		.since = time(NULL) };
	f->file = record_create(&f->record, err);
	return f->file != NULL ? 0 : -1;
}

/* The address on standard output, since port 0 is any. */
static int announce(struct forward *f, struct err *err)
{
	bool six = strchr(f->record.bind, ':') != NULL;

	if (f->cli->output == CLI_OUTPUT_JSON)
		return output_json(record_json(&f->record), stdout, err);
	printf("%s%s%s:%u\n", six ? "[" : "", f->record.bind, six ? "]" : "",
	    (unsigned)f->record.port);
	fflush(stdout);
	cli_say(f->cli, "forwarding to %s:%u of sandbox %s, process %ld", f->record.target_host,
	    (unsigned)f->record.target_port, f->sandbox, (long)f->record.pid);
	return 0;
}

static int run(struct forward *f, struct err *err)
{
	f->wait.session = NULL;
	if (check_sandbox(f, err) != 0)
		return -1;
	f->wait.session = f->session;
	if (listen_and_record(f, err) != 0 ||
	    signals_watch(&f->signals, session_loop(f->session), on_signal, f, err) != 0 ||
	    announce(f, err) != 0)
		return -1;
	background_ready(&f->background);
	return session_wait(f->session, &f->wait, SESSION_FOREVER, err);
}

int forward_run(const struct cli *cli, const struct forward_options *o)
{
	struct forward f = { .cli = cli, .o = o, .background.fd = -1 };
	struct err err = { 0 };
	int code, side = 1;

	if (o->background)
		side = background_begin(&f.background, &code, &err);
	if (side == 0)
		return code;
	code = side > 0 ? run(&f, &err) : -1;
	record_remove(f.file);
	signals_free(&f.signals);
	forwarder_free(f.forwarder);
	free(f.sandbox);
	session_close(f.session);
	return code == 0 ? CLI_EXIT_SIGNAL + f.signal : cli_fail(cli, &err);
}

/* Of its own. */

#define WORDS_MAX 16

static size_t words_for(
    struct session *s, const char *spec, const char *sandbox, const char *words[static WORDS_MAX])
{
	const struct cli *cli = session_cli(s);
	bool named = session_gateway(s) != NULL;
	size_t n = 0;

	words[n++] = "towline";
	words[n++] = named ? "--gateway" : "--gateway-endpoint";
	words[n++] = named ? session_gateway(s) : session_endpoint(s);
	if (cli->workspace != NULL) {
		words[n++] = "--workspace";
		words[n++] = cli->workspace;
	}
	if (cli->quiet)
		words[n++] = "--quiet";
	words[n++] = "forward";
	words[n++] = "start";
	words[n++] = "--background";
	words[n++] = spec;
	words[n++] = sandbox;
	words[n] = NULL;
	return n;
}

/* Its standard output is our standard error: ours is for the result. */
static int spawn(const char *const *words, pid_t *pid)
{
	posix_spawn_file_actions_t files;
	int r = posix_spawn_file_actions_init(&files);

	if (r != 0)
		return r;
	r = posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
	if (r == 0)
		r = posix_spawn(pid, "/proc/self/exe", &files, NULL, (char *const *)words, environ);
	posix_spawn_file_actions_destroy(&files);
	return r;
}

int forward_spawn(struct session *s, const char *spec, const char *sandbox, struct err *err)
{
	const char *words[WORDS_MAX];
	int status, r;
	pid_t pid;

	words_for(s, spec, sandbox, words);
	if ((r = spawn(words, &pid)) != 0)
		return err_sys(err, r, "start the forward of %s", spec);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return err_set(err, GRPC_FAILED_PRECONDITION, "%s was not forwarded", spec);
}

/* Of a sandbox that is gone. */

struct ending {
	struct session *session;
	const char *sandbox;
};

static void end_one(void *cookie, const char *file, const struct record *r)
{
	const struct ending *e = cookie;
	const struct cli *cli = session_cli(e->session);
	struct err err;

	if (strcmp(r->sandbox, e->sandbox) == 0 && strcmp(r->workspace, workspace_of(cli)) == 0 &&
	    strcmp(r->endpoint, session_endpoint(e->session)) == 0 && record_end(file, &err) == 0)
		cli_say(cli, "stopped %s:%u of sandbox %s", r->bind, (unsigned)r->port, r->sandbox);
}

void forward_end_all(struct session *s, const char *sandbox)
{
	struct ending e = { s, sandbox };
	struct err err;

	record_list(end_one, &e, &err);
}
