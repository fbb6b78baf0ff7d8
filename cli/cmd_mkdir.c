/* towline mkdir */
#include <stdlib.h>

#include "cli/commands.h"
#include "cli/files.h"
#include "proto/codec.h"

struct options {
	bool parents;
	uint32_t mode;
};

static int parse_mode(void *field, const char *value, struct err *err)
{
	char *end;
	unsigned long mode = strtoul(value, &end, 8);

	if (value[0] < '0' || value[0] > '7' || *end != '\0' || mode == 0 || mode > 01777)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "\"%s\" is no mode; it is a number like 750, at most 1777", value);
	*(uint32_t *)field = (uint32_t)mode;
	return 0;
}

static const struct config_key keys[] = {
	{ .name = "parents",
	    .letter = 'p',
	    .parse = config_bool,
	    .offset = offsetof(struct options, parents),
	    .help = "those above it too; one that is there already is fine" },
	{ .name = "mode",
	    .letter = 'm',
	    .arg = "MODE",
	    .parse = parse_mode,
	    .offset = offsetof(struct options, mode),
	    .help = "permission bits, such as 750, instead of 755 less the umask" },
	{ 0 },
};

static int one(struct session *s, const struct end *end, const void *options, struct err *err)
{
	const struct options *o = options;
	Towline__V1__MakeDirectoryRequest q = TOWLINE__V1__MAKE_DIRECTORY_REQUEST__INIT;
	void *reply;

	q.sandbox = end->sandbox;
	q.path = (char *)end->path;
	q.workspace_scope = session_scope(s);
	q.parents = o->parents;
	q.mode = o->mode;
	if (files_call(s, "MakeDirectory", &q.base, &reply, err) != 0)
		return -1;
	codec_free(reply);
	return 0;
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	return files_each(cli, "mkdir", words, options, one);
}

static const char *const examples[] = {
	"towline mkdir -p box:work/logs",
	NULL,
};

const struct cmd cmd_mkdir = {
	.name = "mkdir",
	.args = "NAME:PATH...",
	.help = "make directories in a sandbox",
	.examples = examples,
	.keys = keys,
	.size = sizeof(struct options),
	.words_min = 1,
	.words_max = CMD_WORDS_ANY,
	.run = run,
};
