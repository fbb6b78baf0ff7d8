/* towline stat */
#include <inttypes.h>

#include "base/text.h"
#include "cli/commands.h"
#include "cli/files.h"
#include "cli/output.h"
#include "proto/codec.h"

struct options {
	bool follow;
};

static const struct config_key keys[] = {
	{ .name = "dereference",
	    .letter = 'L',
	    .parse = config_bool,
	    .offset = offsetof(struct options, follow),
	    .help = "of a link, what it leads to" },
	{ 0 },
};

static void print_line(const char *name, const char *text)
{
	printf("%-10s", name);
	files_print_text(text, stdout);
	fputc('\n', stdout);
}

static void print(const Towline__V1__FileInfo *f)
{
	char mode[FILES_MODE_SIZE], modified[21];

	files_mode(f, mode);
	print_line("path:", f->path);
	print_line("type:", files_type(f));
	if (f->symlink_target[0] != '\0')
		print_line("target:", f->symlink_target);
	printf("%-10s%" PRIu64 "\n", "size:", f->size_bytes);
	printf("%-10s%04o %s\n", "mode:", (unsigned)f->mode & 07777, mode);
	printf("%-10s%" PRIu32 " ", "owner:", f->uid);
	files_print_text(f->owner, stdout);
	printf("\n%-10s%" PRIu32 " ", "group:", f->gid);
	files_print_text(f->group, stdout);
	fputc('\n', stdout);
	if (f->modified_time != NULL) {
		text_time(f->modified_time->seconds, modified);
		print_line("modified:", modified);
	}
	if (f->etag[0] != '\0')
		print_line("etag:", f->etag);
}

static int one(struct session *s, const struct end *end, const void *options, struct err *err)
{
	const struct options *o = options;
	Towline__V1__StatFileRequest q = TOWLINE__V1__STAT_FILE_REQUEST__INIT;
	Towline__V1__StatFileResponse *r;
	void *reply;
	int result = 0;

	q.sandbox = end->sandbox;
	q.path = (char *)end->path;
	q.workspace_scope = session_scope(s);
	q.no_follow = !o->follow;
	if (files_call(s, "StatFile", &q.base, &reply, err) != 0)
		return -1;
	r = reply;
	if (r->file == NULL)
		result = err_set(err, GRPC_INTERNAL, "an answer without a file");
	else if (session_cli(s)->output == CLI_OUTPUT_JSON)
		result = output_json(files_json(r->file), stdout, err);
	else
		print(r->file);
	codec_free(r);
	return result;
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	return files_each(cli, "stat", words, options, one);
}

static const char *const examples[] = {
	"towline stat box:data.csv",
	NULL,
};

const struct cmd cmd_stat = {
	.name = "stat",
	.args = "NAME:PATH...",
	.help = "show what a file in a sandbox is: type, size, mode, owner, time",
	.examples = examples,
	.keys = keys,
	.size = sizeof(struct options),
	.words_min = 1,
	.words_max = CMD_WORDS_ANY,
	.run = run,
};
