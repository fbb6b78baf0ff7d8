/* towline sandbox create */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/carry.h"
#include "cli/commands.h"
#include "cli/exec.h"
#include "cli/forward.h"
#include "cli/output.h"
#include "cli/pairs.h"
#include "cli/paths.h"
#include "cli/sandbox.h"
#include "proto/codec.h"

struct options {
	char *name, *from;
	struct config_list_value label, env, upload, forward;
	enum cli_switch tty;
	bool detach, no_keep;
	uint64_t timeout_ms;
};

#define FIELD(name) offsetof(struct options, name)

static const struct config_key keys[] = {
	{ .name = "name",
	    .letter = 'n',
	    .arg = "NAME",
	    .parse = config_string,
	    .offset = FIELD(name),
	    .help = "at most 19 of a-z, 0-9 and -, a letter first; else one is made up" },
	{ .name = "from",
	    .arg = "IMAGE",
	    .parse = config_string,
	    .offset = FIELD(from),
	    .help = "what it is made from, if the gateway's driver has images" },
	{ .name = "label",
	    .letter = 'l',
	    .arg = "KEY=VALUE",
	    .parse = config_list,
	    .offset = FIELD(label),
	    .help = "a label to find it by; may be given again" },
	{ .name = "env",
	    .letter = 'e',
	    .arg = "KEY=VALUE",
	    .parse = config_list,
	    .offset = FIELD(env),
	    .help = "a variable for all its commands; may be given again" },
	{ .name = "upload",
	    .arg = "LOCAL[:DEST]",
	    .parse = config_list,
	    .offset = FIELD(upload),
	    .help = "copy this into it first, as 'sandbox upload' does; may be given again" },
	{ .name = "forward",
	    .arg = "[BIND:]PORT",
	    .parse = config_list,
	    .offset = FIELD(forward),
	    .help = "forward a port, as 'forward start -d' does; may be given again" },
	{ .name = "tty",
	    .letter = 't',
	    .parse = cli_parse_switch,
	    .offset = FIELD(tty),
	    .help =
		"give the command a terminal; --no-tty: none. Else it gets one if we have one" },
	{ .name = "detach",
	    .letter = 'd',
	    .parse = config_bool,
	    .offset = FIELD(detach),
	    .help = "only make it: no shell, also on a terminal" },
	{ .name = "no-keep",
	    .parse = config_bool,
	    .offset = FIELD(no_keep),
	    .help = "delete it when the command or the shell has ended" },
	{ .name = "provision-timeout",
	    .env = "OPENSHELL_PROVISION_TIMEOUT",
	    .arg = "TIME",
	    .parse = config_duration,
	    .offset = FIELD(timeout_ms),
	    .dflt = "120s",
	    .help = "how long to wait until it is ready" },
	{ 0 },
};

/* The verb on its way. */
struct create {
	const struct cli *cli;
	const struct options *o;
	const struct cmd_words *words;
	struct session *session;
	struct pairs labels, environment;
	char *name;
};

/* A terminal, and nothing else to do: a shell, as OpenShell has it. */
static bool runs_something(const struct create *c)
{
	if (c->o->detach)
		return false;
	if (c->words->command_count > 0)
		return true;
	return c->cli->output == CLI_OUTPUT_TABLE && exec_wants_tty(c->o->tty);
}

/* The request. */

typedef Openshell__V1__CreateSandboxRequest__LabelsEntry label_entry;
typedef Openshell__V1__SandboxSpec__EnvironmentEntry variable_entry;

struct request {
	Openshell__V1__CreateSandboxRequest body;
	Openshell__V1__SandboxSpec spec;
	Openshell__V1__SandboxTemplate template;
	label_entry labels[CONFIG_LIST_MAX], *label_list[CONFIG_LIST_MAX];
	variable_entry variables[CONFIG_LIST_MAX], *variable_list[CONFIG_LIST_MAX];
};

static void fill_pairs(struct request *r, const struct create *c)
{
	for (size_t i = 0; i < c->labels.count; i++) {
		openshell__v1__create_sandbox_request__labels_entry__init(&r->labels[i]);
		r->labels[i].key = c->labels.key[i];
		r->labels[i].value = c->labels.value[i];
		r->label_list[i] = &r->labels[i];
	}
	for (size_t i = 0; i < c->environment.count; i++) {
		openshell__v1__sandbox_spec__environment_entry__init(&r->variables[i]);
		r->variables[i].key = c->environment.key[i];
		r->variables[i].value = c->environment.value[i];
		r->variable_list[i] = &r->variables[i];
	}
	r->body.labels = r->label_list;
	r->body.n_labels = c->labels.count;
	r->spec.environment = r->variable_list;
	r->spec.n_environment = c->environment.count;
}

static void fill(struct request *r, const struct create *c)
{
	openshell__v1__create_sandbox_request__init(&r->body);
	openshell__v1__sandbox_spec__init(&r->spec);
	openshell__v1__sandbox_template__init(&r->template);
	r->body.spec = &r->spec;
	r->body.workspace_scope = session_scope(c->session);
	if (c->o->name != NULL)
		r->body.name = c->o->name;
	if (c->o->from != NULL) {
		r->template.image = c->o->from;
		r->spec.template_ = &r->template;
	}
	/* One that is to go on without us is the sandbox's own; the gateway runs it, or says
	 * that it does not. */
	if (c->o->detach) {
		r->spec.command = c->words->command;
		r->spec.n_command = (size_t)c->words->command_count;
	}
	fill_pairs(r, c);
}

static int make(struct create *c, struct err *err)
{
	struct request *r = calloc(1, sizeof(*r));
	Openshell__V1__SandboxResponse *response;
	void *reply;
	int result;

	if (r == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	fill(r, c);
	result = session_call(c->session, "CreateSandbox", &r->body.base,
	    &openshell__v1__sandbox_response__descriptor, &reply, err);
	free(r);
	if (result != 0)
		return -1;
	response = reply;
	if (response->sandbox != NULL && response->sandbox->metadata != NULL)
		c->name = strdup(response->sandbox->metadata->name);
	codec_free(reply);
	return c->name != NULL ? 0 : err_set(err, GRPC_INTERNAL, "the new sandbox has no name");
}

static int wait_ready(struct create *c, struct err *err)
{
	Openshell__V1__SandboxStreamEvent *last = NULL;
	uint64_t began = loop_now_us();
	int r =
	    sandbox_await(c->session, c->name, SANDBOX_GOAL_READY, c->o->timeout_ms, &last, err);

	if (r == 0)
		cli_say(c->cli, "sandbox %s is ready after %.2f s", c->name,
		    (double)(loop_now_us() - began) / 1e6);
	if (r == 0 && !runs_something(c)) {
		if (c->cli->output == CLI_OUTPUT_JSON)
			r = sandbox_print(c->cli, last->sandbox, err);
		else
			printf("%s\n", c->name);
		fflush(stdout);
	}
	codec_free(last);
	return r;
}

/* What is done with it. */

/* "LOCAL:DEST" unless all of it is the name of a file. */
static int upload_one(struct create *c, char *word, struct err *err)
{
	struct carry_options o = { .git_ignore = true };
	struct carry_item item = { .up = true, .sandbox = c->name, .source = word };
	struct cli quiet_output = *c->cli; /* standard output is the sandbox's */
	char *colon = paths_exists(word) ? NULL : strrchr(word, ':');
	int r, signal;

	if (colon != NULL) {
		*colon = '\0';
		o.dest = colon + 1;
	}
	quiet_output.output = CLI_OUTPUT_TABLE;
	r = carry(c->session, &o, &item, 1, &signal, err);
	if (r == 0 && item.err.code == GRPC_OK)
		carry_report(&quiet_output, &o, &item, 1, false, 0);
	else if (r == 0)
		*err = item.err;
	r = err->code == GRPC_OK ? 0 : -1;
	carry_items_free(&item, 1);
	return r;
}

static int prepare(struct create *c, struct err *err)
{
	for (size_t i = 0; i < c->o->upload.count; i++)
		if (upload_one(c, c->o->upload.item[i], err) != 0)
			return -1;
	for (size_t i = 0; i < c->o->forward.count; i++)
		if (forward_spawn(c->session, c->o->forward.item[i], c->name, err) != 0)
			return -1;
	return 0;
}

static int run_command(struct create *c, struct err *err)
{
	struct exec_options e = {
		.sandbox = c->name,
		.command = c->words->command,
		.command_count = (size_t)c->words->command_count,
		.tty = c->words->command_count > 0 ? c->o->tty : CLI_SWITCH_ON,
	};
	int code;

	if (exec_run(c->session, &e, &code, err) == 0)
		return code;
	cli_fail(c->cli, err);
	return CLI_EXIT_TRANSPORT;
}

static void delete_it(struct create *c)
{
	Openshell__V1__DeleteSandboxRequest request = OPENSHELL__V1__DELETE_SANDBOX_REQUEST__INIT;
	struct err err;
	void *reply;

	request.name = c->name;
	request.workspace_scope = session_scope(c->session);
	if (session_call(c->session, "DeleteSandbox", &request.base,
		&openshell__v1__delete_sandbox_response__descriptor, &reply, &err) != 0) {
		cli_fail(c->cli, &err);
		return;
	}
	codec_free(reply);
	sandbox_forget(c->session, c->name);
	forward_end_all(c->session, c->name);
	cli_say(c->cli, "deleted %s", c->name);
}

static int create(struct create *c)
{
	struct err err = { 0 };
	int code;

	if ((c->session = session_open(c->cli, &err)) == NULL || make(c, &err) != 0)
		return cli_fail(c->cli, &err);
	sandbox_remember(c->session, c->name);
	if (wait_ready(c, &err) != 0 || prepare(c, &err) != 0)
		code = cli_fail(c->cli, &err);
	else
		code = runs_something(c) ? run_command(c, &err) : CLI_EXIT_OK;
	if (c->o->no_keep)
		delete_it(c);
	return code;
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	struct create c = { .cli = cli, .o = options, .words = words };
	struct err err = { 0 };
	int code;

	if (c.o->no_keep && !runs_something(&c))
		return cli_usage(cli,
		    "create: --no-keep needs a command or a terminal: without one "
		    "the sandbox would be gone at once");
	if (pairs_parse(&c.labels, &c.o->label, "--label", &err) != 0 ||
	    pairs_parse(&c.environment, &c.o->env, "--env", &err) != 0)
		code = cli_usage(cli, "create: %s", err.text);
	else
		code = create(&c);
	pairs_free(&c.labels);
	pairs_free(&c.environment);
	free(c.name);
	session_close(c.session);
	return code;
}

static const char *const examples[] = {
	"towline sandbox create",
	"towline sandbox create --name box --env LANG=C.UTF-8 --label team=red",
	"towline sandbox create --no-keep --upload src -- make -C src test",
	NULL,
};

const struct cmd cmd_sandbox_create = {
	.name = "create",
	.args = "[-- COMMAND [ARGUMENT...]]",
	.help = "make a sandbox, wait until it is ready, and run a command or a shell in it",
	.more = "Without a command there is a shell, if we are on a terminal; else, and with\n"
		"--detach, the sandbox's name is printed. The exit code is the command's.\n",
	.examples = examples,
	.keys = keys,
	.size = sizeof(struct options),
	.tail = CMD_TAIL_COMMAND,
	.run = run,
};
