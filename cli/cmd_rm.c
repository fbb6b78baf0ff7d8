/* towline rm */
#include <inttypes.h>

#include "cli/commands.h"
#include "cli/files.h"
#include "cli/output.h"
#include "proto/codec.h"

struct options {
	bool recursive, force;
};

static const struct config_key keys[] = {
	{ .name = "recursive",
	    .letter = 'r',
	    .parse = config_bool,
	    .offset = offsetof(struct options, recursive),
	    .help = "directories with all that is in them" },
	{ .name = "force",
	    .letter = 'f',
	    .parse = config_bool,
	    .offset = offsetof(struct options, force),
	    .help = "what is not there is no failure" },
	{ 0 },
};

static int say(struct session *s, const struct end *end, uint64_t removed, struct err *err)
{
	const struct cli *cli = session_cli(s);

	if (cli->output == CLI_OUTPUT_JSON) {
		json_t *json = json_object();

		json_object_set_new(json, "sandbox", output_json_text(end->sandbox));
		json_object_set_new(json, "path", output_json_text(end->path));
		json_object_set_new(json, "removed", json_integer((json_int_t)removed));
		return output_json(json, stdout, err);
	}
	if (cli->verbose > 0)
		cli_say(cli, "removed %s:%s: %" PRIu64 " files and directories", end->sandbox,
		    end->path, removed);
	return 0;
}

static int one(struct session *s, const struct end *end, const void *options, struct err *err)
{
	const struct options *o = options;
	Towline__V1__RemoveFileRequest q = TOWLINE__V1__REMOVE_FILE_REQUEST__INIT;
	void *reply;

	q.sandbox = end->sandbox;
	q.path = (char *)end->path;
	q.workspace_scope = session_scope(s);
	q.recursive = o->recursive;
	q.allow_missing = o->force;
	if (files_call(s, "RemoveFile", &q.base, &reply, err) != 0)
		return -1;
	int r = say(s, end, ((Towline__V1__RemoveFileResponse *)reply)->removed, err);
	codec_free(reply);
	return r;
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	return files_each(cli, "rm", words, options, one);
}

static const char *const examples[] = {
	"towline rm box:old.log",
	"towline rm -rf box:build box:dist",
	NULL,
};

const struct cmd cmd_rm = {
	.name = "rm",
	.args = "NAME:PATH...",
	.help = "remove files and directories in a sandbox",
	.more =
	    "A directory that is empty is removed without -r. Links are removed and never\n"
	    "followed, and what is mounted is not entered. What cannot be removed stays, and all\n"
	    "else goes.\n",
	.examples = examples,
	.keys = keys,
	.size = sizeof(struct options),
	.words_min = 1,
	.words_max = CMD_WORDS_ANY,
	.run = run,
};
