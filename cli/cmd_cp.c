/* towline cp */
#include <stdlib.h>
#include <string.h>

#include "cli/carry.h"
#include "cli/commands.h"
#include "cli/end.h"
#include "cli/sandbox.h"

struct options {
	bool exact, recursive, preserve, archive, resume, git_ignore, follow_links;
	unsigned transfers;
	enum transfer_exists exists;
	enum progress_style progress;
	struct config_list_value exclude;
};

#define FIELD(name) offsetof(struct options, name)

static int parse_exists(void *field, const char *value, struct err *err)
{
	static const char *const names[] = {
		[TRANSFER_EXISTS_REPLACE] = "replace",
		[TRANSFER_EXISTS_FAIL] = "fail",
		[TRANSFER_EXISTS_SKIP_IF_SAME] = "skip",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(value, names[i]) == 0) {
			*(enum transfer_exists *)field = (enum transfer_exists)i;
			return 0;
		}
	}
	return err_set(
	    err, GRPC_INVALID_ARGUMENT, "\"%s\" is none of replace, fail and skip", value);
}

static const struct config_key keys[] = {
	{ .name = "no-target-directory",
	    .letter = 'T',
	    .parse = config_bool,
	    .offset = FIELD(exact),
	    .help = "DST is the name of the copy, also if a directory is there" },
	{ .name = "if-exists",
	    .arg = "WHAT",
	    .parse = parse_exists,
	    .offset = FIELD(exists),
	    .dflt = "replace",
	    .help = "about a file that is there: replace, fail, or skip, which reads both ends and "
		    "copies if they differ; not for directories" },
	{ .name = "transfers",
	    .letter = 'P',
	    .arg = "N",
	    .parse = carry_parse_transfers,
	    .offset = FIELD(transfers),
	    .dflt = "auto",
	    .help = "copy so many at a time, 1 to 16, and a single large file in so many streams; "
		    "auto: 4 files, and each in one" },
	{ .name = "exclude",
	    .arg = "PATTERN",
	    .parse = config_list,
	    .offset = FIELD(exclude),
	    .help = "of a directory leave out what matches, as in .gitignore; may be given again" },
	{ .name = "git-ignore",
	    .parse = config_bool,
	    .offset = FIELD(git_ignore),
	    .help = "of a directory that goes in leave out what .gitignore files say, and .git, "
		    "as 'sandbox upload' does" },
	{ .name = "follow-links",
	    .letter = 'L',
	    .parse = config_bool,
	    .offset = FIELD(follow_links),
	    .help = "of a directory that goes in copy what links lead to, instead of links" },
	{ .name = "resume",
	    .parse = config_bool,
	    .offset = FIELD(resume),
	    .dflt = "true",
	    .help = "go on with what an interrupted copy out of a sandbox, or to another, left; "
		    "--no-resume begins anew" },
	{ .name = "progress",
	    .arg = "STYLE",
	    .parse = progress_parse_style,
	    .offset = FIELD(progress),
	    .dflt = "auto",
	    .help = "auto, bar, plain, json or none, on standard error" },
	{ .name = "recursive",
	    .letter = 'r',
	    .parse = config_bool,
	    .offset = FIELD(recursive),
	    .help = "accepted; directories always are copied with all that is in them" },
	{ .name = "preserve",
	    .letter = 'p',
	    .parse = config_bool,
	    .offset = FIELD(preserve),
	    .help = "accepted; modes and times always are kept" },
	{ .name = "archive",
	    .letter = 'a',
	    .parse = config_bool,
	    .offset = FIELD(archive),
	    .help = "accepted; as -r and -p" },
	{ 0 },
};

/* The sources and the destination, as the command line has them. */
struct copy {
	const struct cli *cli;
	struct end *ends;
	size_t count; /* of ends; the last one is the destination */
	struct carry_item *items;
};

static void copy_free(struct copy *c)
{
	for (size_t i = 0; c->ends != NULL && i < c->count; i++)
		end_free(&c->ends[i]);
	if (c->items != NULL)
		carry_items_free(c->items, c->count - 1);
	free(c->ends);
	free(c->items);
}

static int parse(struct copy *c, const struct cmd_words *words, struct err *err)
{
	c->count = (size_t)words->count;
	c->ends = calloc(c->count, sizeof(*c->ends));
	c->items = calloc(c->count, sizeof(*c->items));
	if (c->ends == NULL || c->items == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	for (size_t i = 0; i < c->count; i++)
		if (end_parse(words->word[i], &c->ends[i], err) != 0)
			return -1;
	return 0;
}

/* One side of each copy, or both, are in a sandbox. 0, or a usage error. */
static int check_source(const struct cli *cli, const struct end *source, const struct end *dest)
{
	bool from = source->kind == END_KIND_REMOTE, to = dest->kind == END_KIND_REMOTE;

	if (!from && !to)
		return cli_usage(cli,
		    "cp: neither %s nor %s is in a sandbox: what is there is named NAME:PATH",
		    source->path, dest->path);
	return CLI_EXIT_OK;
}

static int check(const struct copy *c, const struct options *o)
{
	const struct end *dest = &c->ends[c->count - 1];

	for (size_t i = 0; i + 1 < c->count; i++) {
		int code = check_source(c->cli, &c->ends[i], dest);

		if (code != CLI_EXIT_OK)
			return code;
		if (c->count > 2 &&
		    (c->ends[i].kind == END_KIND_STREAM || dest->kind == END_KIND_STREAM ||
			o->exact))
			return cli_usage(c->cli, "cp: with - or -T there can be one source only");
	}
	return CLI_EXIT_OK;
}

static int copy_all(struct copy *c, const struct options *o)
{
	const struct end *dest = &c->ends[c->count - 1];
	bool up = dest->kind == END_KIND_REMOTE;
	size_t count = c->count - 1;
	const char *exclude[CONFIG_LIST_MAX + 1] = { NULL };
	struct carry_options options = { .dest = dest->path,
		.exact = o->exact,
		.exists = o->exists,
		.fresh = !o->resume,
		.exclude = o->exclude.count > 0 ? exclude : NULL,
		.git_ignore = up && o->git_ignore,
		.follow_links = o->follow_links,
		.transfers = o->transfers,
		.progress = o->progress };
	struct err err = { 0 };
	struct session *s = session_open(c->cli, &err);
	int code, signal;

	for (size_t i = 0; i < o->exclude.count; i++)
		exclude[i] = o->exclude.item[i];
	for (size_t i = 0; i < count; i++) {
		bool from = c->ends[i].kind == END_KIND_REMOTE;

		c->items[i].up = up && !from;
		c->items[i].to = up && from ? dest->sandbox : NULL;
		c->items[i].sandbox = from ? c->ends[i].sandbox : dest->sandbox;
		c->items[i].source = c->ends[i].path;
	}
	if (s == NULL || carry(s, &options, c->items, count, &signal, &err) != 0) {
		code = cli_fail(c->cli, &err);
	} else {
		if (c->items[0].err.code == GRPC_OK)
			sandbox_remember(s, c->items[0].sandbox);
		code = carry_report(c->cli, &options, c->items, count, true, signal);
	}
	session_close(s);
	return code;
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	struct copy c = { .cli = cli };
	struct err err;
	int code;

	if (parse(&c, words, &err) != 0)
		code = cli_fail(cli, &err);
	else if ((code = check(&c, options)) == CLI_EXIT_OK)
		code = copy_all(&c, options);
	copy_free(&c);
	return code;
}

static const char *const examples[] = {
	"towline cp data.csv box:",
	"towline cp src box:work/",
	"towline cp -P 8 *.log box:logs/",
	"towline cp box:out/result.tar .",
	"towline cp box:data other:data",
	"pg_dump db | towline cp - box:dump.sql",
	"towline cp box:log.txt - | tail",
	NULL,
};

const struct cmd cmd_cp = {
	.name = "cp",
	.args = "SRC... DST",
	.help = "copy files and directories into a sandbox, out of it, or to another",
	.more =
	    "NAME:PATH is in the sandbox NAME, relative to its working directory; - is standard\n"
	    "input or output; all else is a path here (with a colon in it: ./a:b). A directory\n"
	    "that is there, or a name that ends in a slash, is copied into; any other DST is the\n"
	    "copy's name. SRC/. is what is in SRC. Directories are copied with all that is in\n"
	    "them. What was interrupted is gone on with by the same command, if it is a file. From\n"
	    "a sandbox to another all passes through here, and nothing is stored here.\n"
	    "Exit code: 0 all, 23 some entries were skipped, 1 something failed.\n",
	.examples = examples,
	.keys = keys,
	.size = sizeof(struct options),
	.words_min = 2,
	.words_max = CMD_WORDS_ANY,
	.run = run,
};
