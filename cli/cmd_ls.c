/* towline ls */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/commands.h"
#include "cli/files.h"
#include "cli/output.h"
#include "proto/codec.h"

#define SORTED_MAX 10000 /* entries; a longer listing comes in the order the sandbox has them */

struct options {
	bool lengthy, all, recursive;
	struct config_list_value exclude;
};

#define FIELD(name) offsetof(struct options, name)

static const struct config_key keys[] = {
	{ .name = "long",
	    .letter = 'l',
	    .parse = config_bool,
	    .offset = FIELD(lengthy),
	    .help = "mode, owner, group, size, time and name" },
	{ .name = "all",
	    .letter = 'a',
	    .parse = config_bool,
	    .offset = FIELD(all),
	    .help = "also names that begin with a dot" },
	{ .name = "recursive",
	    .letter = 'R',
	    .parse = config_bool,
	    .offset = FIELD(recursive),
	    .help = "what is in directories too; links are not followed" },
	{ .name = "exclude",
	    .arg = "PATTERN",
	    .parse = config_list,
	    .offset = FIELD(exclude),
	    .help = "leave out what matches, as in .gitignore; can be given again" },
	{ 0 },
};

/* A line, to be sorted by its path. */
struct line {
	char *path, *text;
};

struct listing {
	const struct options *options;
	bool json;
	bool many;    /* more than can be sorted: printed as they come */
	size_t begin; /* where in a path the part below the directory begins */
	size_t count;
	struct line *lines; /* SORTED_MAX */
	const char *separator;
};

static int out_of_memory(struct err *err)
{
	return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct line *)a)->path, ((const struct line *)b)->path);
}

/* What has been gathered, sorted; then no more is. */
static void flush(struct listing *l)
{
	qsort(l->lines, l->count, sizeof(*l->lines), by_path);
	for (size_t i = 0; i < l->count; i++) {
		fputs(l->lines[i].text, stdout);
		free(l->lines[i].path);
		free(l->lines[i].text);
	}
	l->count = 0;
}

static void add_long(struct text *t, const Towline__V1__FileInfo *f)
{
	char mode[FILES_MODE_SIZE], modified[21] = "-", id[2][12];

	files_mode(f, mode);
	if (f->modified_time != NULL)
		text_time(f->modified_time->seconds, modified);
	snprintf(id[0], sizeof(id[0]), "%" PRIu32, f->uid);
	snprintf(id[1], sizeof(id[1]), "%" PRIu32, f->gid);
	text_addf(t, "%s %-8s %-8s %12" PRIu64 " %s ", mode, f->owner[0] != '\0' ? f->owner : id[0],
	    f->group[0] != '\0' ? f->group : id[1], f->size_bytes, modified);
}

/* Lines are made of the sandbox's text: what could move the cursor is not in them. */
static char *make_line(const struct listing *l, const Towline__V1__FileInfo *f, const char *path)
{
	struct text t;

	text_init(&t, (size_t)1 << 20);
	if (l->options->lengthy)
		add_long(&t, f);
	text_add_plain(&t, path, strlen(path));
	if (l->options->lengthy && f->symlink_target[0] != '\0') {
		text_addf(&t, " -> ");
		text_add_plain(&t, f->symlink_target, strlen(f->symlink_target));
	}
	text_addf(&t, "\n");
	if (!t.failed)
		return t.data;
	text_free(&t);
	return NULL;
}

static int add_line(
    struct listing *l, const Towline__V1__FileInfo *f, const char *path, struct err *err)
{
	struct line line = { .path = strdup(path), .text = make_line(l, f, path) };

	if (line.path == NULL || line.text == NULL) {
		free(line.path);
		free(line.text);
		return out_of_memory(err);
	}
	if (!l->many && l->count == SORTED_MAX) {
		flush(l);
		l->many = true;
	}
	l->lines[l->count++] = line;
	if (l->many)
		flush(l);
	return 0;
}

static int add_json(struct listing *l, const Towline__V1__FileInfo *f, struct err *err)
{
	json_t *json = files_json(f);

	if (json == NULL)
		return out_of_memory(err);
	fputs(l->separator, stdout);
	l->separator = ",\n";
	json_dumpf(json, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_ENSURE_ASCII);
	json_decref(json);
	return 0;
}

/* ".x", or what is in it. */
static bool is_hidden(const char *path)
{
	return path[0] == '.' || strstr(path, "/.") != NULL;
}

static int add(struct listing *l, const Towline__V1__FileInfo *f, struct err *err)
{
	char *path = f->raw_path.len > 0 ? strndup((const char *)f->raw_path.data, f->raw_path.len)
					 : strdup(f->path);
	int r = 0;

	if (path == NULL)
		return out_of_memory(err);
	size_t len = strlen(path);
	const char *below = len > l->begin ? path + l->begin : path;
	if (l->options->all || l->begin >= len || !is_hidden(below))
		r = l->json ? add_json(l, f, err) : add_line(l, f, below, err);
	free(path);
	return r;
}

static int on_batch(void *cookie, const void *message, struct err *err)
{
	const Towline__V1__ListDirectoryResponse *r = message;
	struct listing *l = cookie;

	for (size_t i = 0; i < r->n_entries; i++)
		if (add(l, r->entries[i], err) != 0)
			return -1;
	/* Who reads along may have gone, and then there is nobody to list for. */
	return ferror(stdout) == 0 ? 0 : err_sys(err, errno, "standard output");
}

/* What entries of a directory have in front of their names: see walk.h. */
static size_t prefix_of(const char *path)
{
	size_t len = strlen(path);

	while (len > 0 && path[len - 1] == '/')
		len--;
	return len == 1 && path[0] == '.' ? 0 : len + 1;
}

static int list_directory(
    struct session *s, const struct end *end, struct listing *l, struct err *err)
{
	Towline__V1__ListDirectoryRequest q = TOWLINE__V1__LIST_DIRECTORY_REQUEST__INIT;

	q.sandbox = end->sandbox;
	q.path = (char *)end->path;
	q.workspace_scope = session_scope(s);
	q.recursive = l->options->recursive;
	q.exclude = (char **)l->options->exclude.item;
	q.n_exclude = l->options->exclude.count;
	l->begin = prefix_of(end->path);
	return files_stream(s, "ListDirectory", &q.base, on_batch, l, err);
}

/* A link that leads nowhere is there all the same. */
static int stat_any(
    struct session *s, const struct end *end, Towline__V1__StatFileResponse **r, struct err *err)
{
	Towline__V1__StatFileRequest q = TOWLINE__V1__STAT_FILE_REQUEST__INIT;
	struct err why = { 0 };
	void *reply;
	int result;

	q.sandbox = end->sandbox;
	q.path = (char *)end->path;
	q.workspace_scope = session_scope(s);
	result = files_call(s, "StatFile", &q.base, &reply, err);
	if (result != 0 && err->code == GRPC_NOT_FOUND) {
		q.no_follow = true;
		result = files_call(s, "StatFile", &q.base, &reply, &why);
	}
	if (result == 0)
		*r = reply;
	return result;
}

static int list(struct session *s, const struct end *end, struct listing *l, struct err *err)
{
	Towline__V1__StatFileResponse *r;
	int result;

	if (stat_any(s, end, &r, err) != 0)
		return -1;
	err_clear(err);
	if (r->file == NULL)
		result = err_set(err, GRPC_INTERNAL, "an answer without a file");
	else if (r->file->type == TOWLINE__V1__FILE_TYPE__FILE_TYPE_DIRECTORY)
		result = list_directory(s, end, l, err);
	else {
		l->begin = strlen(r->file->path);
		result = add(l, r->file, err);
	}
	codec_free(r);
	return result;
}

static int ls(struct session *s, const struct end *end, const void *options, struct err *err)
{
	struct listing l = { .options = options,
		.json = session_cli(s)->output == CLI_OUTPUT_JSON,
		.separator = "" };
	int r;

	if ((l.lines = calloc(SORTED_MAX, sizeof(*l.lines))) == NULL)
		return out_of_memory(err);
	if (l.json)
		fputs("[", stdout);
	r = list(s, end, &l, err);
	flush(&l);
	if (l.json)
		fputs("]\n", stdout);
	errno = 0;
	if (fflush(stdout) != 0 && r == 0)
		r = err_sys(err, errno, "standard output");
	free(l.lines);
	return r;
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	return files_each(cli, "ls", words, options, ls);
}

static const char *const examples[] = {
	"towline ls box:",
	"towline ls -laR box:/var/log --exclude '*.gz'",
	"towline -o json ls box:out | jq '.[].size'",
	NULL,
};

const struct cmd cmd_ls = {
	.name = "ls",
	.args = "NAME:PATH",
	.help = "list files in a sandbox",
	.more =
	    "PATH is relative to the sandbox's working directory, which it is when left out. Up\n"
	    "to 10000 entries are sorted; longer listings come as the sandbox has them. What is\n"
	    "not printable in a name stands as \\xNN.\n",
	.examples = examples,
	.keys = keys,
	.size = sizeof(struct options),
	.words_min = 1,
	.words_max = 1,
	.run = run,
};
