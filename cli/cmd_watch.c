/* towline watch */
#include <errno.h>

#include "cli/commands.h"
#include "cli/files.h"
#include "cli/output.h"

struct options {
	bool recursive;
	struct config_list_value exclude;
};

static const struct config_key keys[] = {
	{ .name = "recursive",
	    .letter = 'R',
	    .parse = config_bool,
	    .offset = offsetof(struct options, recursive),
	    .help = "also in the directories below it, and in those that are new" },
	{ .name = "exclude",
	    .arg = "PATTERN",
	    .parse = config_list,
	    .offset = offsetof(struct options, exclude),
	    .help = "leave out what matches, as in .gitignore; can be given again" },
	{ 0 },
};

struct watching {
	const struct cli *cli;
	const struct end *end;
};

static const char *kind_of(const Towline__V1__FileEvent *e)
{
	switch (e->kind) {
	case TOWLINE__V1__FILE_EVENT_KIND__FILE_EVENT_KIND_CREATED:
		return "created";
	case TOWLINE__V1__FILE_EVENT_KIND__FILE_EVENT_KIND_CHANGED:
		return "changed";
	case TOWLINE__V1__FILE_EVENT_KIND__FILE_EVENT_KIND_REMOVED:
		return "removed";
	case TOWLINE__V1__FILE_EVENT_KIND__FILE_EVENT_KIND_MOVED:
		return "moved";
	case TOWLINE__V1__FILE_EVENT_KIND__FILE_EVENT_KIND_OVERFLOW:
		return "overflow";
	default:
		return "unknown";
	}
}

static void print(const Towline__V1__FileEvent *e)
{
	printf("%-8s", kind_of(e));
	if (e->old_path[0] != '\0') {
		fputc(' ', stdout);
		files_print_text(e->old_path, stdout);
		fputs(" ->", stdout);
	}
	if (e->file != NULL) {
		fputc(' ', stdout);
		files_print_text(e->file->path, stdout);
	} else {
		fputs(" events were lost: list again", stdout);
	}
	fputc('\n', stdout);
}

static int print_json(const Towline__V1__FileEvent *e, struct err *err)
{
	json_t *json = json_object();

	if (json == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	json_object_set_new(json, "event", json_string(kind_of(e)));
	if (e->file != NULL)
		json_object_set_new(json, "file", files_json(e->file));
	if (e->old_path[0] != '\0')
		json_object_set_new(json, "old_path", output_json_text(e->old_path));
	json_dumpf(json, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_ENSURE_ASCII);
	json_decref(json);
	fputc('\n', stdout);
	return 0;
}

static int on_message(void *cookie, const void *message, struct err *err)
{
	const Towline__V1__WatchFilesResponse *r = message;
	struct watching *w = cookie;

	if (r->n_events == 0)
		cli_say(w->cli, "watching %s:%s", w->end->sandbox, w->end->path);
	for (size_t i = 0; i < r->n_events; i++)
		if (w->cli->output != CLI_OUTPUT_JSON)
			print(r->events[i]);
		else if (print_json(r->events[i], err) != 0)
			return -1;
	errno = 0;
	return fflush(stdout) == 0 ? 0 : err_sys(err, errno, "standard output");
}

static int one(struct session *s, const struct end *end, const void *options, struct err *err)
{
	const struct options *o = options;
	struct watching w = { .cli = session_cli(s), .end = end };
	Towline__V1__WatchFilesRequest q = TOWLINE__V1__WATCH_FILES_REQUEST__INIT;

	q.sandbox = end->sandbox;
	q.path = (char *)end->path;
	q.workspace_scope = session_scope(s);
	q.recursive = o->recursive;
	q.exclude = (char **)o->exclude.item;
	q.n_exclude = o->exclude.count;
	return files_stream(s, "WatchFiles", &q.base, on_message, &w, err);
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	return files_each(cli, "watch", words, options, one);
}

static const char *const examples[] = {
	"towline watch -R box:src --exclude node_modules",
	"towline -o json watch box:out | jq -r .file.path",
	NULL,
};

const struct cmd cmd_watch = {
	.name = "watch",
	.args = "NAME:PATH",
	.help = "tell what happens to files in a sandbox, until it is ended",
	.more =
	    "Lines are: created, changed, removed, moved OLD -> NEW, and overflow when so much\n"
	    "happened that some was lost. With -o json each is a JSON document of its own.\n",
	.examples = examples,
	.keys = keys,
	.size = sizeof(struct options),
	.words_min = 1,
	.words_max = 1,
	.run = run,
};
