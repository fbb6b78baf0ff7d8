/* towline sandbox upload, and towline sandbox download, its opposite */
#include <string.h>

#include "cli/carry.h"
#include "cli/commands.h"
#include "cli/sandbox.h"

struct options {
	bool recursive, no_git_ignore, exact, follow_links;
	unsigned transfers;
	enum progress_style progress;
	struct config_list_value exclude;
};

#define FIELD(name) offsetof(struct options, name)

/* Of both, and what is accepted from those who are used to it. */
#define COMMON_KEYS                                                                          \
	{ .name = "no-target-directory",                                                     \
		.letter = 'T',                                                               \
		.parse = config_bool,                                                        \
		.offset = FIELD(exact),                                                      \
		.help = "DEST is the name of the copy, also if a directory is there" },      \
	    { .name = "exclude",                                                             \
		    .arg = "PATTERN",                                                        \
		    .parse = config_list,                                                    \
		    .offset = FIELD(exclude),                                                \
		    .help = "of a directory leave out what matches, as in .gitignore; "      \
			    "may be given again" },                                          \
	    { .name = "transfers",                                                           \
		    .letter = 'P',                                                           \
		    .arg = "N",                                                              \
		    .parse = carry_parse_transfers,                                          \
		    .offset = FIELD(transfers),                                              \
		    .dflt = "auto",                                                          \
		    .help = "copy a large file in so many streams, 1 to 16; auto: in one" }, \
	    { .name = "progress",                                                            \
		    .arg = "STYLE",                                                          \
		    .parse = progress_parse_style,                                           \
		    .offset = FIELD(progress),                                               \
		    .dflt = "auto",                                                          \
		    .help = "auto, bar, plain, json or none, on standard error" },           \
	{                                                                                    \
		.name = "recursive", .letter = 'r', .parse = config_bool,                    \
		.offset = FIELD(recursive),                                                  \
		.help = "accepted; directories always are copied with all that is in them"   \
	}

static const struct config_key upload_keys[] = {
	COMMON_KEYS,
	{ .name = "no-git-ignore",
	    .parse = config_bool,
	    .offset = FIELD(no_git_ignore),
	    .help = "copy also what a .gitignore leaves out, and .git" },
	{ .name = "no-gitignore",
	    .parse = config_bool,
	    .offset = FIELD(no_git_ignore),
	    .help = "the same" },
	{ .name = "follow-links",
	    .letter = 'L',
	    .parse = config_bool,
	    .offset = FIELD(follow_links),
	    .help = "of a directory copy what symbolic links lead to, instead of links" },
	{ 0 },
};

static const struct config_key download_keys[] = {
	COMMON_KEYS,
	{ .name = "no-git-ignore",
	    .parse = config_bool,
	    .offset = FIELD(no_git_ignore),
	    .help = "accepted; of a download nothing is left out but by --exclude" },
	{ 0 },
};

static int move(
    const struct cli *cli, bool up, const struct options *o, const struct cmd_words *words)
{
	const char *exclude[CONFIG_LIST_MAX + 1] = { NULL };
	struct carry_item item = { .up = up, .sandbox = words->word[0], .source = words->word[1] };
	struct carry_options c = {
		.dest = words->count > 2 ? words->word[2] : NULL,
		.exact = o->exact && words->count > 2,
		.progress = o->progress,
		.transfers = o->transfers,
		.exclude = o->exclude.count > 0 ? exclude : NULL,
		.git_ignore = up && !o->no_git_ignore,
		.follow_links = o->follow_links,
	};
	struct err err = { 0 };
	int code, signal;

	for (size_t i = 0; i < o->exclude.count; i++)
		exclude[i] = o->exclude.item[i];
	struct session *s = session_open(cli, &err);
	if (s == NULL || carry(s, &c, &item, 1, &signal, &err) != 0) {
		code = cli_fail(cli, &err);
	} else {
		if (item.err.code == GRPC_OK)
			sandbox_remember(s, item.sandbox);
		code = carry_report(cli, &c, &item, 1, false, signal);
	}
	carry_items_free(&item, 1);
	session_close(s);
	return code;
}

static int run_upload(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	return move(cli, true, options, words);
}

static int run_download(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	return move(cli, false, options, words);
}

static const char *const upload_examples[] = {
	"towline sandbox upload box data.csv",
	"towline sandbox upload box src work/",
	"towline sandbox upload box src/. work",
	"pg_dump db | towline sandbox upload box - dump.sql",
	NULL,
};

const struct cmd cmd_sandbox_upload = {
	.name = "upload",
	.args = "NAME LOCAL [DEST]",
	.help = "copy a file or a directory into a sandbox",
	.more =
	    "DEST is relative to the sandbox's working directory, which it is when left out. A\n"
	    "directory that is there, or a name that ends in a slash, is copied into; any other\n"
	    "DEST is the copy's name. LOCAL/. is what is in LOCAL; - is standard input. Of a\n"
	    "directory is left out what .gitignore files say, in it and above it up to its\n"
	    "repository, and .git; how much is always told. LOCAL itself never is.\n"
	    "Exit code: 0 all, 23 some entries were skipped, 1 it failed.\n",
	.examples = upload_examples,
	.keys = upload_keys,
	.size = sizeof(struct options),
	.words_min = 2,
	.words_max = 3,
	.run = run_upload,
};

static const char *const download_examples[] = {
	"towline sandbox download box result.tar",
	"towline sandbox download box work/out ../results/",
	"towline sandbox download box log.txt - | tail",
	NULL,
};

const struct cmd cmd_sandbox_download = {
	.name = "download",
	.args = "NAME PATH [DEST]",
	.help = "copy a file or a directory out of a sandbox",
	.more =
	    "PATH is relative to the sandbox's working directory. DEST is the current directory\n"
	    "when left out. A directory that is there, or a name that ends in a slash, is copied\n"
	    "into; any other DEST is the copy's name. PATH/. is what is in PATH; - is standard\n"
	    "output. Exit code: 0 all, 23 some entries were skipped, 1 it failed.\n",
	.examples = download_examples,
	.keys = download_keys,
	.size = sizeof(struct options),
	.words_min = 2,
	.words_max = 3,
	.run = run_download,
};
