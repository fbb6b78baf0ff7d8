/* towline mv */
#include <stdlib.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/copy.h"
#include "cli/files.h"
#include "cli/remote.h"
#include "cli/sandbox.h"
#include "proto/codec.h"

struct options {
	bool exact, keep;
};

static const struct config_key keys[] = {
	{ .name = "no-clobber",
	    .letter = 'n',
	    .parse = config_bool,
	    .offset = offsetof(struct options, keep),
	    .help = "a file that is there is not replaced; that is a failure" },
	{ .name = "no-target-directory",
	    .letter = 'T',
	    .parse = config_bool,
	    .offset = offsetof(struct options, exact),
	    .help = "DST is the new name, also if a directory is there" },
	{ 0 },
};

/* The destination of all, and what is known of it. */
struct move {
	const struct options *options;
	struct end dest;
	bool several;
	enum copy_kind kind;
};

/* The source's name in the directory, or the destination itself. */
static char *target_of(const struct move *m, const struct end *source, struct err *err)
{
	const struct copy_case c = { .source = source->path,
		.source_kind = COPY_KIND_FILE, /* a rename asks no more of a directory */
		.dest = m->dest.path,
		.dest_kind = m->kind,
		.exact = m->options->exact,
		.several = m->several };

	return copy_target(&c, err);
}

static int move(struct session *s, const struct move *m, const struct end *source, struct err *err)
{
	Towline__V1__MoveFileRequest q = TOWLINE__V1__MOVE_FILE_REQUEST__INIT;
	void *reply;
	char *target = target_of(m, source, err);

	if (target == NULL)
		return -1;
	q.sandbox = source->sandbox;
	q.path = (char *)source->path;
	q.new_path = target;
	q.workspace_scope = session_scope(s);
	q.if_exists = m->options->keep ? TOWLINE__V1__IF_EXISTS__IF_EXISTS_FAIL
				       : TOWLINE__V1__IF_EXISTS__IF_EXISTS_REPLACE;
	int r = files_call(s, "MoveFile", &q.base, &reply, err);
	if (r == 0)
		codec_free(reply);
	free(target);
	return r;
}

static int move_word(struct session *s, struct move *m, const char *word, struct err *err)
{
	struct end source;
	int r = end_parse(word, &source, err);

	if (r == 0)
		r = move(s, m, &source, err);
	end_free(&source);
	return r;
}

static int move_all(const struct cli *cli, struct move *m, const struct cmd_words *words)
{
	struct err err = { 0 };
	struct session *s = session_open(cli, &err);
	int code = CLI_EXIT_OK;

	if (s == NULL || remote_kind(s, m->dest.sandbox, m->dest.path, &m->kind, &err) != 0)
		code = cli_fail(cli, &err);
	for (int i = 0; code == CLI_EXIT_OK && i + 1 < words->count; i++)
		if (move_word(s, m, words->word[i], &err) != 0)
			code = cli_fail(cli, &err);
	if (code == CLI_EXIT_OK)
		sandbox_remember(s, m->dest.sandbox);
	session_close(s);
	return code;
}

static int check_source(const struct cli *cli, const struct move *m, const char *word)
{
	struct end source = { 0 };
	int code = files_parse(cli, "mv", word, &source);

	if (code == CLI_EXIT_OK && strcmp(source.sandbox, m->dest.sandbox) != 0)
		code = cli_usage(cli,
		    "mv: %s and %s are in different sandboxes: cp it here and there, and rm it",
		    word, m->dest.sandbox);
	if (code == CLI_EXIT_OK && m->several && m->options->exact)
		code = cli_usage(cli, "mv: with -T there can be one source only");
	end_free(&source);
	return code;
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	struct move m = { .options = options, .several = words->count > 2 };
	int code = files_parse(cli, "mv", words->word[words->count - 1], &m.dest);

	for (int i = 0; code == CLI_EXIT_OK && i + 1 < words->count; i++)
		code = check_source(cli, &m, words->word[i]);
	if (code == CLI_EXIT_OK)
		code = move_all(cli, &m, words);
	end_free(&m.dest);
	return code;
}

static const char *const examples[] = {
	"towline mv box:draft.txt box:final.txt",
	"towline mv box:a.log box:b.log box:logs/",
	NULL,
};

const struct cmd cmd_mv = {
	.name = "mv",
	.args = "NAME:SRC... NAME:DST",
	.help = "move or rename files and directories within a sandbox",
	.more =
	    "Into DST if that is a directory or ends in a slash; otherwise DST is the new name,\n"
	    "and a file of that name is replaced in one step. Within one file system only.\n",
	.examples = examples,
	.keys = keys,
	.size = sizeof(struct options),
	.words_min = 2,
	.words_max = CMD_WORDS_ANY,
	.run = run,
};
