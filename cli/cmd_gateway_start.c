/* towline gateway start */
#include <stdio.h>
#include <stdlib.h>

#include "cli/commands.h"
#include "cli/local.h"
#include "cli/output.h"
#include "cli/registry.h"

struct options {
	char *name, *driver, *log_level;
	struct config_list_value listen;
	bool foreground;
};

#define FIELD(name) offsetof(struct options, name)

static const struct config_key keys[] = {
	{ .name = "name",
	    .letter = 'n',
	    .arg = "NAME",
	    .parse = config_string,
	    .offset = FIELD(name),
	    .help = "what to register it as; else that of --gateway, else " LOCAL_NAME_DEFAULT },
	{ .name = "listen",
	    .letter = 'l',
	    .arg = "ADDR",
	    .parse = config_list,
	    .offset = FIELD(listen),
	    .dflt = "127.0.0.1:0",
	    .help = "where to serve; port 0 is the one of the last start, or any" },
	{ .name = "driver",
	    .arg = "NAME",
	    .parse = config_string,
	    .offset = FIELD(driver),
	    .help = "what makes sandboxes (default: the gateway's)" },
	{ .name = "log-level",
	    .arg = "LEVEL",
	    .parse = config_string,
	    .offset = FIELD(log_level),
	    .help = "error, warn, info, debug or trace" },
	{ .name = "foreground",
	    .letter = 'f',
	    .parse = config_bool,
	    .offset = FIELD(foreground),
	    .help = "stay, with its log on standard error, until it ends" },
	{ 0 },
};

/* Found by us and by OpenShell's SDKs, from now on. */
static int enter(const char *name, const struct local_paths *p, char **endpoint, struct err *err)
{
	*endpoint = local_endpoint(p, err);
	if (*endpoint == NULL || registry_save(name, *endpoint, err) != 0)
		return -1;
	return registry_activate(name, err);
}

static int print(const struct cli *cli, const char *name, const char *endpoint, pid_t pid,
    bool started, struct err *err)
{
	json_t *json;

	if (cli->output == CLI_OUTPUT_TABLE) {
		printf("%s\n", endpoint);
		fflush(stdout);
		cli_say(cli, "gateway %s %s, process %ld", name,
		    started ? "has started" : "runs already", (long)pid);
		return 0;
	}
	json = json_object();
	json_object_set_new(json, "name", output_json_text(name));
	json_object_set_new(json, "endpoint", output_json_text(endpoint));
	json_object_set_new(json, "pid", json_integer(pid));
	json_object_set_new(json, "started", json_boolean(started));
	return output_json(json, stdout, err);
}

static int start(const struct cli *cli, const struct options *o, const struct cmd_words *words,
    const char *name, struct err *err)
{
	const struct local_start how = { .listen = &o->listen,
		.driver = o->driver,
		.log_level = o->log_level,
		.more = words->command,
		.foreground = o->foreground };
	struct local_paths paths;
	char *endpoint = NULL;
	int r;

	if (local_paths(name, &paths, err) != 0)
		return -1;
	pid_t pid = local_pid(&paths);
	bool runs = pid > 0;
	if (!runs && local_start(&paths, &how, &pid, err) != 0)
		return err_wrap(err, "gateway %s", name);
	r = enter(name, &paths, &endpoint, err);
	if (r == 0)
		r = print(cli, name, endpoint, pid, !runs, err);
	free(endpoint);
	if (r == 0 && !runs && o->foreground)
		r = local_wait(pid, err);
	return r;
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	const struct options *o = options;
	const char *name = o->name != NULL ? o->name
	    : cli->gateway != NULL         ? cli->gateway
					   : LOCAL_NAME_DEFAULT;
	struct err err = { 0 };
	int r = start(cli, o, words, name, &err);

	return r >= 0 ? r : cli_fail(cli, &err);
}

static const char *const examples[] = {
	"towline gateway start",
	"towline gateway start --foreground --log-level debug",
	"towline gateway start --name two --listen 127.0.0.1:8080 --listen unix:/run/user/1000/two.sock",
	NULL,
};

const struct cmd cmd_gateway_start = {
	.name = "start",
	.args = "[-- OPTION-OF-THE-GATEWAY...]",
	.help = "start a gateway on this machine, and make it the active one",
	.more =
	    "It goes on in the background; its address is printed when it serves. Its data and\n"
	    "its log are in $XDG_STATE_HOME/openshell/gateways/NAME. Starting one that runs\n"
	    "already does no harm.\n",
	.examples = examples,
	.keys = keys,
	.size = sizeof(struct options),
	.tail = CMD_TAIL_COMMAND,
	.run = run,
};
