/* towline forward start, and towline forward service, which says the same otherwise */
#include <string.h>

#include "cli/commands.h"
#include "cli/forward.h"

#define TARGET_HOST_DEFAULT "127.0.0.1"

struct start_options {
	bool background;
};

static const struct config_key start_keys[] = {
	{ .name = "background",
	    .letter = 'd',
	    .parse = config_bool,
	    .offset = offsetof(struct start_options, background),
	    .help = "go on in the background; 'forward stop' ends it" },
	{ 0 },
};

static int run_start(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	struct forward_options o = {
		.sandbox = words->count > 1 ? words->word[1] : NULL,
		.target_host = TARGET_HOST_DEFAULT,
		.background = ((const struct start_options *)options)->background,
	};
	struct err err;

	if (forward_spec_parse(words->word[0], &o.spec, &err) != 0)
		return cli_usage(cli, "start: %s", err.text);
	if (o.spec.target == 0)
		return cli_usage(cli,
		    "start: %s:TARGET names the sandbox's port; 0 is any, but "
		    "only on this machine",
		    words->word[0]);
	return forward_run(cli, &o);
}

static const char *const start_examples[] = {
	"towline forward start 8000 box",
	"towline forward start -d 0:8000 box",
	"towline forward start [::1]:9000:8000 box",
	NULL,
};

const struct cmd cmd_forward_start = {
	.name = "start",
	.args = "[BIND:]PORT[:TARGET] [NAME]",
	.help = "forward a port of this machine to the same port, or TARGET, of a sandbox",
	.more =
	    "BIND is 127.0.0.1 if left out. The address is printed; port 0 is any. A connection\n"
	    "that fails is told and does not end the forward; nor does it when the gateway is\n"
	    "away for a while.\n",
	.examples = start_examples,
	.keys = start_keys,
	.size = sizeof(struct start_options),
	.words_min = 1,
	.words_max = 2,
	.run = run_start,
};

struct service_options {
	unsigned target_port;
	char *target_host, *local;
	bool background;
};

#define FIELD(name) offsetof(struct service_options, name)

static const struct config_key service_keys[] = {
	{ .name = "target-port",
	    .letter = 'p',
	    .arg = "PORT",
	    .parse = config_uint,
	    .offset = FIELD(target_port),
	    .dflt = CONFIG_REQUIRED,
	    .help = "the port in the sandbox" },
	{ .name = "target-host",
	    .arg = "HOST",
	    .parse = config_string,
	    .offset = FIELD(target_host),
	    .dflt = TARGET_HOST_DEFAULT,
	    .help = "the host in the sandbox, which has to be its loopback" },
	{ .name = "local",
	    .arg = "[BIND:]PORT",
	    .parse = config_string,
	    .offset = FIELD(local),
	    .dflt = "0",
	    .help = "where to listen on this machine; 0 is any" },
	{ .name = "background",
	    .letter = 'd',
	    .parse = config_bool,
	    .offset = FIELD(background),
	    .help = "go on in the background; 'forward stop' ends it" },
	{ 0 },
};

static int run_service(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	const struct service_options *s = options;
	struct forward_options o = { .sandbox = words->word[0],
		.target_host = s->target_host,
		.background = s->background };
	struct err err;

	if (s->target_port == 0 || s->target_port > UINT16_MAX)
		return cli_usage(cli, "service: --target-port: %u is no port", s->target_port);
	if (forward_spec_parse(s->local, &o.spec, &err) != 0)
		return cli_usage(cli, "service: --local: %s", err.text);
	o.spec.target = (uint16_t)s->target_port;
	return forward_run(cli, &o);
}

static const char *const service_examples[] = {
	"towline forward service box --target-port 5432 --local 15432",
	NULL,
};

const struct cmd cmd_forward_service = {
	.name = "service",
	.alias = "svc",
	.args = "NAME --target-port PORT",
	.help = "forward any port of this machine to a port of a sandbox",
	.examples = service_examples,
	.keys = service_keys,
	.size = sizeof(struct service_options),
	.words_min = 1,
	.words_max = 1,
	.run = run_service,
};
