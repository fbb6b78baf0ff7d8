#include "cli/cmd.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli/nearest.h"
#include "cli/paths.h"

#define PATH_BYTES_MAX 128
#define KEYS_MAX       64 /* as struct config can tell apart */

/* A command line on its way to be understood. */
struct line {
	const struct cmd *cmd;
	char path[PATH_BYTES_MAX]; /* "towline sandbox upload" */
	char **argv;               /* path, then what is not part of it; ours, the words are not */
	int argc;
	int before;       /* of them, those that stood before the verb, and the path */
	struct cli early; /* what was said before the verb; for help and for errors */
	struct config_key keys[KEYS_MAX];
};

static const struct cmd *find_in(const struct cmd *group, const char *name)
{
	for (const struct cmd *const *at = group->verbs; *at != NULL; at++)
		if (strcmp((*at)->name, name) == 0 ||
		    ((*at)->alias != NULL && strcmp((*at)->alias, name) == 0))
			return *at;
	return NULL;
}

const struct cmd *cmd_find(const struct cmd *root, char *const *word, int count)
{
	for (int i = 0; i < count && root != NULL; i++)
		root = root->verbs != NULL ? find_in(root, word[i]) : NULL;
	return root;
}

/* Help. */

static void help_verbs(const struct cmd *group, FILE *out)
{
	char left[64];

	fprintf(out, "\nverbs:\n");
	for (const struct cmd *const *at = group->verbs; *at != NULL; at++) {
		const struct cmd *c = *at;

		snprintf(left, sizeof(left), "%s%s%s", c->name, c->alias != NULL ? ", " : "",
		    c->alias != NULL ? c->alias : "");
		fprintf(out, "  %-16s %s\n", left, c->help);
	}
}

void cmd_help(const struct cmd *c, const char *path, FILE *out)
{
	bool is_group = c->verbs != NULL;
	bool has_args = c->args != NULL && c->args[0] != '\0';

	fprintf(out, "usage: %s%s%s%s\n\n%s\n", path, is_group ? " VERB" : "", has_args ? " " : "",
	    has_args ? c->args : "", c->help);
	if (c->more != NULL)
		fprintf(out, "\n%s", c->more);
	if (is_group)
		help_verbs(c, out);
	if (c->keys != NULL) {
		fprintf(out, "\noptions:\n");
		config_help(c->keys, out);
	}
	fprintf(out, "\noptions of all verbs:\n");
	config_help(cli_keys, out);
	if (c->examples != NULL)
		fprintf(out, "\nexamples:\n");
	for (const char *const *at = c->examples; at != NULL && *at != NULL; at++)
		fprintf(out, "  %s\n", *at);
}

/* The way to the verb. */

static int no_such_verb(const struct line *l, const char *word, struct err *err)
{
	struct nearest n;

	nearest_begin(&n, word, strlen(word));
	for (const struct cmd *const *at = l->cmd->verbs; *at != NULL; at++) {
		nearest_try(&n, (*at)->name);
		if ((*at)->alias != NULL)
			nearest_try(&n, (*at)->alias);
	}
	if (n.best != NULL)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "there is no \"%s %s\"; did you mean \"%s %s\"?", l->path, word, l->path,
		    n.best);
	return err_set(err, GRPC_INVALID_ARGUMENT, "there is no \"%s %s\"; see %s --help", l->path,
	    word, l->path);
}

/* If an option was not known to the parser, names the one that may have been meant. */
static int no_such_option(const struct line *l, const struct config_key *keys, struct err *err)
{
	static const char unknown[] = "unknown option --";
	const struct err before = *err;
	struct nearest n;

	if (strncmp(before.text, unknown, strlen(unknown)) != 0)
		return -1;
	const char *name = before.text + strlen(unknown);
	int len = (int)strcspn(name, "=; ");
	nearest_begin(&n, name, (size_t)len);
	for (const struct config_key *k = keys; k->name != NULL; k++)
		nearest_try(&n, k->name);
	if (n.best != NULL)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "unknown option --%.*s; did you mean --%s?", len, name, n.best);
	return err_set(
	    err, GRPC_INVALID_ARGUMENT, "unknown option --%.*s; see %s --help", len, name, l->path);
}

static int enter(struct line *l, const char *word, struct err *err)
{
	const struct cmd *next = find_in(l->cmd, word);
	size_t len = strlen(l->path);

	if (next == NULL)
		return no_such_verb(l, word, err);
	l->cmd = next;
	snprintf(l->path + len, sizeof(l->path) - len, " %s", next->name);
	return 0;
}

/* Options may stand before the verb: they are put behind it, where all are parsed. */
static int find_verb(struct line *l, int argc, char *argv[], struct err *err)
{
	int at = 1;

	l->argv[l->argc++] = argv[0];
	l->before = 1;
	while (l->cmd->verbs != NULL) {
		struct config config;

		config_begin(&config, cli_keys, &l->early);
		int used = config_flags(&config, argc - at + 1, argv + at - 1, true, err);
		config_free(&config);
		if (used < 0)
			return no_such_option(l, cli_keys, err);
		for (int i = at; i < at + used - 1; i++)
			l->argv[l->argc++] = argv[i];
		at += used - 1;
		l->before = l->argc;
		if (at >= argc)
			return 0;
		if (enter(l, argv[at++], err) != 0)
			return -1;
	}
	for (; at < argc; at++)
		l->argv[l->argc++] = argv[at];
	return 0;
}

/* The verb's part. */

/* The options of all and of the verb, as one table over one piece of memory. */
static void merge_keys(struct line *l, size_t own_offset)
{
	size_t n = 0;

	for (const struct config_key *k = cli_keys; k->name != NULL; k++)
		l->keys[n++] = *k;
	for (const struct config_key *k = l->cmd->keys; k != NULL && k->name != NULL; k++) {
		l->keys[n] = *k;
		l->keys[n].offset += own_offset;
		l->keys[n].flag_only = true;
		n++;
	}
}

/* Of another program's options the one that we answer is --help, alone. */
static int take_verbatim(
    struct line *l, struct config *config, struct cmd_words *w, struct err *err)
{
	bool asks = l->argc == l->before + 1 && strcmp(l->argv[l->before], "--help") == 0;

	if (config_flags(config, asks ? l->argc : l->before, l->argv, false, err) < 0)
		return no_such_option(l, l->keys, err);
	w->command = l->argv + l->before;
	w->command_count = l->argc - l->before;
	return 0;
}

static int take_words(struct line *l, struct config *config, struct cmd_words *w, struct err *err)
{
	bool program = l->cmd->tail == CMD_TAIL_PROGRAM;
	int end = l->argc;

	if (l->cmd->tail == CMD_TAIL_VERBATIM)
		return take_verbatim(l, config, w, err);
	for (int i = 1; !program && i < l->argc && end == l->argc; i++)
		if (strcmp(l->argv[i], "--") == 0)
			end = i;
	int at = config_flags(config, end, l->argv, program, err);
	if (at < 0)
		return no_such_option(l, l->keys, err);
	w->word = l->argv + at;
	w->count = end - at;
	if (end < l->argc) {
		w->command = l->argv + end + 1;
		w->command_count = l->argc - end - 1;
	}
	if (!program)
		return 0;
	/* "NAME -- COMMAND" and "COMMAND", which a "--" before it makes sure of. */
	bool sure = at > 1 && strcmp(l->argv[at - 1], "--") == 0;
	bool named = !sure && w->count > 1 && strcmp(w->word[1], "--") == 0;
	w->command = w->word + (named ? 2 : 0);
	w->command_count = w->count - (named ? 2 : 0);
	w->count = named ? 1 : 0;
	return 0;
}

static int check_words(const struct line *l, const struct cmd_words *w, struct err *err)
{
	const struct cmd *c = l->cmd;

	if (w->count >= c->words_min && w->count <= c->words_max &&
	    (w->command == NULL || c->tail != CMD_TAIL_NONE))
		return 0;
	return err_set(err, GRPC_INVALID_ARGUMENT, "%s; it is used like this: %s %s",
	    w->count < c->words_min ? "there is something missing" : "there are words too many",
	    l->path, c->args);
}

static int read_file(struct config *config, struct err *err)
{
	char path[PATHS_MAX];

	if (paths_config(path, "towline.conf", err) != 0)
		return 0; /* who has no home has no file in it */
	return paths_exists(path) ? config_file(config, path, err) : 0;
}

static void start_log(const struct cli *cli)
{
	static const enum log_level levels[] = { LOG_LEVEL_ERROR, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG,
		LOG_LEVEL_TRACE };
	size_t n = sizeof(levels) / sizeof(levels[0]);

	log_setup(2, LOG_FORMAT_LOGFMT, levels[cli->verbose < n ? cli->verbose : n - 1]);
}

static int parse_rest(struct config *config, struct cli *cli, struct err *err)
{
	if (config_environment(config, err) != 0 || read_file(config, err) != 0 ||
	    config_finish(config, err) != 0)
		return -1;
	cli->prefers_endpoint =
	    cli->endpoint != NULL && config->set[CLI_KEY_ENDPOINT] >= config->set[CLI_KEY_GATEWAY];
	return 0;
}

static int run_verb(struct line *l)
{
	size_t own = (sizeof(struct cli) + 15) / 16 * 16;
	struct cli *cli = calloc(1, own + l->cmd->size + 1);
	struct cmd_words words = { 0 };
	struct config config;
	struct err err;
	int code = CLI_EXIT_OK;

	if (cli == NULL)
		return cli_usage(&l->early, "out of memory");
	merge_keys(l, own);
	config_begin(&config, l->keys, cli);
	if (take_words(l, &config, &words, &err) != 0)
		code = cli_usage(cli, "%s: %s", l->cmd->name, err.text);
	else if (cli->help)
		cmd_help(l->cmd, l->path, stdout);
	else if (parse_rest(&config, cli, &err) != 0 || check_words(l, &words, &err) != 0)
		code = cli_usage(cli, "%s: %s", l->cmd->name, err.text);
	else {
		start_log(cli);
		code = l->cmd->run(cli, (char *)cli + own, &words);
	}
	config_free(&config);
	free(cli);
	return code;
}

/* The command line ended before there was a verb. */
static int without_verb(const struct line *l)
{
	if (l->early.help) {
		cmd_help(l->cmd, l->path, stdout);
		return CLI_EXIT_OK;
	}
	if (l->early.version) {
		printf("towline " TOWLINE_VERSION "\n");
		return CLI_EXIT_OK;
	}
	cmd_help(l->cmd, l->path, stderr);
	return CLI_EXIT_USAGE;
}

int cmd_main(const struct cmd *root, int argc, char *argv[])
{
	struct line l = { .cmd = root };
	struct err err;
	int code;

	snprintf(l.path, sizeof(l.path), "%s", root->name);
	if (argc < 1 || (l.argv = calloc((size_t)argc + 1, sizeof(*l.argv))) == NULL)
		return CLI_EXIT_USAGE;
	if (find_verb(&l, argc, argv, &err) != 0)
		code = cli_usage(&l.early, "%s", err.text);
	else
		code = l.cmd->verbs != NULL ? without_verb(&l) : run_verb(&l);
	free(l.argv);
	return code;
}
