/* towline sandbox stop, and towline sandbox start, its opposite */
#include <stdlib.h>

#include "cli/commands.h"
#include "cli/sandbox.h"
#include "proto/codec.h"

struct options {
	bool no_wait;
	uint64_t timeout_ms;
};

static const struct config_key keys[] = {
	{ .name = "no-wait",
	    .parse = config_bool,
	    .offset = offsetof(struct options, no_wait),
	    .help = "return as soon as it is on its way" },
	{ .name = "timeout",
	    .arg = "TIME",
	    .parse = config_duration,
	    .offset = offsetof(struct options, timeout_ms),
	    .dflt = "120s",
	    .help = "how long to wait" },
	{ 0 },
};

/* One of the two, as data. */
struct change {
	const char *method;
	const char *done; /* what is said afterwards */
	enum sandbox_goal goal;
};

static int ask(
    struct session *s, const struct change *c, const char *name, void **reply, struct err *err)
{
	Openshell__V1__StopSandboxRequest stop = OPENSHELL__V1__STOP_SANDBOX_REQUEST__INIT;
	Openshell__V1__StartSandboxRequest start = OPENSHELL__V1__START_SANDBOX_REQUEST__INIT;
	bool stops = c->goal == SANDBOX_GOAL_STOPPED;

	stop.name = start.name = (char *)name;
	stop.workspace_scope = start.workspace_scope = session_scope(s);
	return session_call(s, c->method, stops ? &stop.base : &start.base,
	    &openshell__v1__sandbox_response__descriptor, reply, err);
}

static int change_named(struct session *s, const struct change *c, const struct options *o,
    const char *name, struct err *err)
{
	const struct cli *cli = session_cli(s);
	Openshell__V1__SandboxStreamEvent *last = NULL;
	void *reply;
	int r;

	if (ask(s, c, name, &reply, err) != 0)
		return -1;
	codec_free(reply);
	sandbox_remember(s, name);
	if (o->no_wait)
		return 0;
	r = sandbox_await(s, name, c->goal, o->timeout_ms, &last, err);
	if (r == 0)
		cli_say(cli, "%s %s", c->done, name);
	if (r == 0 && cli->output == CLI_OUTPUT_JSON)
		r = sandbox_print(cli, last->sandbox, err);
	codec_free(last);
	return r;
}

static int run(const struct cli *cli, const struct change *c, const void *options,
    const struct cmd_words *words)
{
	struct err err = { 0 };
	struct session *s = session_open(cli, &err);
	char *name =
	    s != NULL ? sandbox_choose(s, words->count > 0 ? words->word[0] : NULL, &err) : NULL;
	int r = name != NULL ? change_named(s, c, options, name, &err) : -1;

	free(name);
	session_close(s);
	return r == 0 ? CLI_EXIT_OK : cli_fail(cli, &err);
}

static int run_stop(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	static const struct change stop = { "StopSandbox", "stopped", SANDBOX_GOAL_STOPPED };

	return run(cli, &stop, options, words);
}

static int run_start(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	static const struct change start = { "StartSandbox", "started", SANDBOX_GOAL_READY };

	return run(cli, &start, options, words);
}

static const char *const stop_examples[] = {
	"towline sandbox stop box",
	NULL,
};

const struct cmd cmd_sandbox_stop = {
	.name = "stop",
	.args = "[NAME]",
	.help = "end a sandbox's processes and keep its files",
	.examples = stop_examples,
	.keys = keys,
	.size = sizeof(struct options),
	.words_max = 1,
	.run = run_stop,
};

static const char *const start_examples[] = {
	"towline sandbox start box",
	NULL,
};

const struct cmd cmd_sandbox_start = {
	.name = "start",
	.args = "[NAME]",
	.help = "start a stopped sandbox again",
	.examples = start_examples,
	.keys = keys,
	.size = sizeof(struct options),
	.words_max = 1,
	.run = run_start,
};
