/* towline help */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/man.h"
#include "cli/markdown.h"

struct options {
	bool man, markdown;
};

static const struct config_key keys[] = {
	{ .name = "man",
	    .parse = config_bool,
	    .offset = offsetof(struct options, man),
	    .help = "as a manual page, for man -l or to be installed" },
	{ .name = "markdown",
	    .parse = config_bool,
	    .offset = offsetof(struct options, markdown),
	    .help = "all of it as Markdown, as it is in docs/cli.md" },
	{ 0 },
};

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	const struct options *o = options;
	const struct cmd *c = cmd_find(&commands, words->word, words->count);
	char path[256] = "towline";

	if (o->markdown) {
		markdown_print(&commands, stdout);
		return CLI_EXIT_OK;
	}
	if (c == NULL)
		return cli_usage(cli, "help: there is no such verb; see towline --help");
	for (int i = 0; i < words->count; i++) {
		size_t len = strlen(path);
		snprintf(path + len, sizeof(path) - len, " %s", words->word[i]);
	}
	(o->man ? man_print : cmd_help)(c, path, stdout);
	return CLI_EXIT_OK;
}

static const char *const examples[] = {
	"towline help sandbox upload",
	"towline help --man | man -l -",
	NULL,
};

const struct cmd cmd_help_verb = {
	.name = "help",
	.args = "[VERB...]",
	.help = "what there is, and how it is used",
	.examples = examples,
	.keys = keys,
	.size = sizeof(struct options),
	.words_max = 8,
	.run = run,
};
