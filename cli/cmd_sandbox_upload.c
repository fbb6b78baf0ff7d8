/* towline sandbox upload, and towline sandbox download, its opposite */
#include <string.h>

#include "cli/carry.h"
#include "cli/commands.h"
#include "cli/sandbox.h"

struct options {
	bool recursive, no_git_ignore, exact;
};

#define FIELD(name) offsetof(struct options, name)

/* That of both, and what is accepted from those who are used to it. */
static const struct config_key keys[] = {
	{ .name = "no-target-directory",
	    .letter = 'T',
	    .parse = config_bool,
	    .offset = FIELD(exact),
	    .help = "DEST is the name of the copy, also if a directory is there" },
	{ .name = "recursive",
	    .letter = 'r',
	    .parse = config_bool,
	    .offset = FIELD(recursive),
	    .help = "accepted; directories always are copied with all that is in them" },
	{ .name = "no-git-ignore",
	    .parse = config_bool,
	    .offset = FIELD(no_git_ignore),
	    .help = "accepted; nothing ever is left out because of a .gitignore" },
	{ 0 },
};

typedef int mover(
    struct session *, const struct carry_options *, struct carry_result *, struct err *);

static int move(const struct cli *cli, mover *carry, const char *verb, const void *options,
    const struct cmd_words *words)
{
	const struct options *o = options;
	struct carry_options c = {
		.sandbox = words->word[0],
		.source = words->word[1],
		.dest = words->count > 2 ? words->word[2] : NULL,
		.exact = o->exact && words->count > 2,
	};
	bool to_stdout = c.dest != NULL && strcmp(c.dest, "-") == 0;
	struct carry_result result = { 0 };
	struct err err = { 0 };
	struct session *s = session_open(cli, &err);
	int code = CLI_EXIT_FAILED;

	if (s != NULL && carry(s, &c, &result, &err) == 0) {
		sandbox_remember(s, c.sandbox);
		code = carry_report(cli, verb, &c, &result, to_stdout ? stderr : stdout, &err);
	} else if (result.signal != 0) {
		code = CLI_EXIT_SIGNAL + result.signal;
	} else {
		cli_fail(cli, &err);
	}
	carry_result_free(&result);
	session_close(s);
	return code;
}

static int run_upload(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	return move(cli, carry_upload, "uploaded", options, words);
}

static int run_download(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	return move(cli, carry_download, "downloaded", options, words);
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
	    "DEST is the copy's name. LOCAL/. is what is in LOCAL; - is standard input.\n"
	    "Exit code: 0 all, 23 some entries were skipped, 1 it failed.\n",
	.examples = upload_examples,
	.keys = keys,
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
	.keys = keys,
	.size = sizeof(struct options),
	.words_min = 2,
	.words_max = 3,
	.run = run_download,
};
