/* towline gateway stop */
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/local.h"
#include "cli/registry.h"

static char *choose(const struct cli *cli, const struct cmd_words *words, struct err *err)
{
	const char *given = words->count > 0 ? words->word[0] : cli->gateway;
	char *name = given != NULL ? strdup(given) : registry_active(err);

	if (name == NULL)
		err_set(err, GRPC_NOT_FOUND, "there is no active gateway; name one");
	return name;
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	struct local_paths paths;
	struct err err = { 0 };
	char *name = choose(cli, words, &err);
	int r = name != NULL ? local_paths(name, &paths, &err) : -1;

	(void)options;
	if (r == 0) {
		r = local_stop(&paths, LOCAL_STOP_MS, &err);
		if (r == 0)
			cli_say(cli, "stopped gateway %s; its sandboxes are as they were", name);
		else
			err_wrap(&err, "gateway %s", name);
	}
	free(name);
	return r == 0 ? CLI_EXIT_OK : cli_fail(cli, &err);
}

static const char *const examples[] = {
	"towline gateway stop",
	NULL,
};

const struct cmd cmd_gateway_stop = {
	.name = "stop",
	.args = "[NAME]",
	.help = "end a gateway of this machine",
	.more = "What runs in its sandboxes goes on, and is reached again after the next start;\n"
		"'towline sandbox stop' and 'delete' end it.\n",
	.examples = examples,
	.words_max = 1,
	.run = run,
};
