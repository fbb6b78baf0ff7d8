/* towline help */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/man.h"

struct options {
	bool man;
};

static const struct config_key keys[] = {
	{ .name = "man",
	    .parse = config_bool,
	    .offset = offsetof(struct options, man),
	    .help = "all of it as a manual page, for man -l or to be installed" },
	{ 0 },
};

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	const struct cmd *c = cmd_find(&commands, words->word, words->count);
	char path[256] = "towline";

	if (((const struct options *)options)->man) {
		man_print(&commands, stdout);
		return CLI_EXIT_OK;
	}
	if (c == NULL)
		return cli_usage(cli, "help: there is no such verb; see towline --help");
	for (int i = 0; i < words->count; i++) {
		size_t len = strlen(path);
		snprintf(path + len, sizeof(path) - len, " %s", words->word[i]);
	}
	cmd_help(c, path, stdout);
	return CLI_EXIT_OK;
}

const struct cmd cmd_help_verb = {
	.name = "help",
	.args = "[VERB...]",
	.help = "what there is, and how it is used",
	.keys = keys,
	.size = sizeof(struct options),
	.words_max = 8,
	.run = run,
};
