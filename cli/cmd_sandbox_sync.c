/* towline sync, also as towline sandbox sync */
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/carry.h"
#include "cli/commands.h"
#include "cli/end.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/progress.h"
#include "cli/sandbox.h"
#include "cli/signals.h"
#include "transfer/sync/sync.h"

#define LINE_MAX_BYTES ((size_t)20 << 10)

struct options {
	bool prune, dry_run, checksum;
	unsigned transfers;
	struct config_list_value exclude;
	enum progress_style progress;
};

#define FIELD(name) offsetof(struct options, name)

static const struct config_key keys[] = {
	{ .name = "delete",
	    .parse = config_bool,
	    .offset = FIELD(prune),
	    .help = "delete from DST what SRC does not have, when all else went well" },
	{ .name = "dry-run",
	    .letter = 'n',
	    .parse = config_bool,
	    .offset = FIELD(dry_run),
	    .help = "say what would be done, and do nothing" },
	{ .name = "checksum",
	    .letter = 'c',
	    .parse = config_bool,
	    .offset = FIELD(checksum),
	    .help = "compare files by their digests, not by size and time" },
	{ .name = "exclude",
	    .letter = 'x',
	    .arg = "PATTERN",
	    .parse = config_list,
	    .offset = FIELD(exclude),
	    .help = "as in .gitignore; neither sent nor deleted. Can be given again" },
	{ .name = "transfers",
	    .letter = 'P',
	    .arg = "N",
	    .parse = config_uint,
	    .offset = FIELD(transfers),
	    .dflt = "4",
	    .help = "send in so many streams at a time, 1 to 16, if there is enough to send" },
	{ .name = "progress",
	    .arg = "STYLE",
	    .parse = progress_parse_style,
	    .offset = FIELD(progress),
	    .dflt = "auto",
	    .help = "auto, bar, plain, json or none, on standard error" },
	{ 0 },
};

/* A sync that runs. */
struct run {
	struct session_wait wait;
	const struct cli *cli;
	const struct options *options;
	const struct end *source, *dest;
	struct sync *sync; /* NULL: over */
	struct sync_result result;
	struct progress *progress;
	struct signals signals;
	int signal;
	uint64_t us;
};

static void on_progress(void *cookie, uint64_t bytes)
{
	progress_update(((struct run *)cookie)->progress, bytes, 0);
}

static void on_note(void *cookie, const char *text)
{
	progress_note(((struct run *)cookie)->progress, text);
}

/* Whole lines, and what is no plain text in a name escaped. */
static void on_change(void *cookie, enum sync_change change, const char *path, bool directory)
{
	static const char *const verbs[] = { [SYNC_CHANGE_MAKE] = "make",
		[SYNC_CHANGE_SEND] = "send",
		[SYNC_CHANGE_TOUCH] = "touch",
		[SYNC_CHANGE_DELETE] = "delete" };
	struct run *r = cookie;
	struct text t;

	if ((!r->options->dry_run && r->cli->verbose == 0) || r->cli->output != CLI_OUTPUT_TABLE)
		return;
	text_init(&t, LINE_MAX_BYTES);
	text_addf(&t, "%s ", verbs[change]);
	text_add_plain(&t, path, strlen(path));
	text_addf(&t, directory ? "/\n" : "\n");
	if (!t.failed)
		fputs(t.data, stdout);
	text_free(&t);
}

static void on_done(void *cookie, const struct sync_result *result, const struct err *err)
{
	struct run *r = cookie;

	r->sync = NULL;
	r->result = *result;
	session_done(&r->wait, err);
}

static struct rpc_client *on_another(void *cookie, size_t number, struct err *err)
{
	return session_client_at(((struct run *)cookie)->wait.session, number, err);
}

static const struct sync_ops ops = {
	.another = on_another,
	.progress = on_progress,
	.note = on_note,
	.change = on_change,
	.done = on_done,
};

/* The first one stops cleanly; who is not willing to wait for that sends another. */
static void on_signal(void *cookie, int number)
{
	struct run *r = cookie;
	struct sigaction dfl = { .sa_handler = SIG_DFL };

	if (r->signal != 0) {
		sigaction(number, &dfl, NULL);
		raise(number);
	} else if (r->sync != NULL) {
		r->signal = number;
		sync_cancel(r->sync);
	}
}

static int start(struct run *r, struct session *s, struct err *err)
{
	const struct options *o = r->options;
	bool down = r->source->kind == END_KIND_REMOTE;
	const struct end *remote = down ? r->source : r->dest;
	const char *exclude[CONFIG_LIST_MAX + 1] = { NULL };
	struct sync_request q = { .client = session_client(s, err),
		.sandbox = remote->sandbox,
		.workspace = r->cli->workspace,
		.local = down ? r->dest->path : r->source->path,
		.remote = remote->path,
		.download = down,
		.prune = o->prune,
		.dry_run = o->dry_run,
		.checksum = o->checksum,
		.exclude = exclude,
		.streams = o->transfers,
		.ops = &ops,
		.cookie = r };

	for (size_t i = 0; i < o->exclude.count; i++)
		exclude[i] = o->exclude.item[i];
	if (q.client == NULL ||
	    (down && !o->dry_run && paths_make_folders(q.local, 0777, err) != 0) ||
	    signals_watch(&r->signals, session_loop(s), on_signal, r, err) != 0)
		return -1;
	progress_name(r->progress, remote->path);
	r->sync = sync_start(session_loop(s), &q, err);
	return r->sync != NULL ? 0 : -1;
}

static int run_sync(struct run *r, struct session *s, struct err *err)
{
	uint64_t began = loop_now_us();
	int result = -1;

	r->wait.session = s;
	r->progress = progress_create(session_loop(s), r->cli, r->options->progress, err);
	if (r->progress != NULL && start(r, s, err) == 0)
		result = session_wait(s, &r->wait, SESSION_FOREVER, err);
	signals_free(&r->signals);
	progress_free(r->progress);
	r->us = loop_now_us() - began;
	return result;
}

/* What is said. */

static json_t *describe(const struct run *r)
{
	const struct sync_result *x = &r->result;
	const struct {
		const char *name;
		uint64_t value;
	} numbers[] = { { "files", x->files }, { "bytes", x->bytes }, { "made", x->made },
		{ "touched", x->touched }, { "deleted", x->deleted }, { "same", x->same },
		{ "skipped", x->skipped }, { "failed", x->failed }, { "content_bytes", x->literal },
		{ "sent_bytes", x->sent }, { "received_bytes", x->received } };
	json_t *json = json_object();

	json_object_set_new(json, "source", output_json_text(r->source->path));
	json_object_set_new(json, "target", output_json_text(r->dest->path));
	json_object_set_new(json, "dry_run", json_boolean(r->options->dry_run));
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		json_object_set_new(
		    json, numbers[i].name, json_integer((json_int_t)numbers[i].value));
	json_object_set_new(json, "seconds", json_real((double)r->us / 1e6));
	return json;
}

static void say(const struct run *r)
{
	const struct sync_result *x = &r->result;
	char bytes[OUTPUT_SIZE_MAX], wire[OUTPUT_SIZE_MAX];

	output_size(x->bytes, bytes);
	output_size(x->sent + x->received, wire);
	cli_say(r->cli,
	    "%s %" PRIu64 " %s (%s), made %" PRIu64 ", touched %" PRIu64 ", deleted %" PRIu64
	    ", left %" PRIu64 " as they were; %s on the wire in %.2f s",
	    r->options->dry_run ? "dry run: would send" : "sent", x->files,
	    x->files == 1 ? "file" : "files", bytes, x->made, x->touched, x->deleted, x->same, wire,
	    (double)r->us / 1e6);
	if (x->skipped > 0)
		cli_say(r->cli, "%" PRIu64 " skipped", x->skipped);
	if (x->failed > 0)
		fprintf(stderr, "towline: %" PRIu64 " failed; the others are synced\n", x->failed);
}

static int report(const struct run *r)
{
	struct err err = { 0 };

	if (r->cli->output == CLI_OUTPUT_JSON && output_json(describe(r), stdout, &err) != 0)
		return cli_fail(r->cli, &err);
	if (r->cli->output != CLI_OUTPUT_JSON)
		say(r);
	if (r->result.failed > 0)
		return CLI_EXIT_FAILED;
	return r->result.skipped > 0 ? CLI_EXIT_SKIPPED : CLI_EXIT_OK;
}

static int sync_ends(struct run *r)
{
	struct err err = { 0 };
	struct session *s = session_open(r->cli, &err);
	int code;

	if (s != NULL && run_sync(r, s, &err) == 0) {
		sandbox_remember(
		    s, r->source->kind == END_KIND_REMOTE ? r->source->sandbox : r->dest->sandbox);
		code = report(r);
	} else if (r->signal != 0) {
		code = CLI_EXIT_SIGNAL + r->signal;
	} else {
		code = cli_fail(r->cli, &err);
	}
	session_close(s);
	return code;
}

static int check(const struct cli *cli, const struct options *o, const struct end *source,
    const struct end *dest)
{
	bool from = source->kind == END_KIND_REMOTE, to = dest->kind == END_KIND_REMOTE;

	if (source->kind == END_KIND_STREAM || dest->kind == END_KIND_STREAM)
		return cli_usage(cli, "sync: directories only, not standard input or output");
	if (from && to)
		return cli_usage(cli, "sync: both directories are in sandboxes; one must be here");
	if (!from && !to)
		return cli_usage(cli,
		    "sync: neither directory is in a sandbox: what is there is named NAME:PATH");
	if (o->transfers < 1 || o->transfers > CARRY_TRANSFERS_MAX)
		return cli_usage(
		    cli, "sync: --transfers: from 1 to %d at a time", CARRY_TRANSFERS_MAX);
	return CLI_EXIT_OK;
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	struct end source = { 0 }, dest = { 0 };
	struct run r = { .cli = cli, .options = options, .source = &source, .dest = &dest };
	struct err err;
	int code;

	if (end_parse(words->word[0], &source, &err) != 0 ||
	    end_parse(words->word[1], &dest, &err) != 0)
		code = cli_fail(cli, &err);
	else if ((code = check(cli, options, &source, &dest)) == CLI_EXIT_OK)
		code = sync_ends(&r);
	end_free(&source);
	end_free(&dest);
	return code;
}

static const char *const examples[] = {
	"towline sync src box:work/src",
	"towline sync --delete --exclude node_modules . box:app",
	"towline sync --dry-run box:out results",
	NULL,
};

const struct cmd cmd_sandbox_sync = {
	.name = "sync",
	.args = "SRC DST",
	.help = "make a directory in a sandbox as one here is, or the other way",
	.more =
	    "One of the two is NAME:PATH, a directory in the sandbox NAME. What is in SRC will be\n"
	    "in DST, which is made if it is missing; of large files only what differs is sent.\n"
	    "Files are the same if size and modification time are. With --dry-run or --verbose\n"
	    "each change is printed. What was interrupted is finished by the same command.\n"
	    "Exit code: 0 all, 23 some entries were skipped, 1 something failed.\n",
	.examples = examples,
	.keys = keys,
	.size = sizeof(struct options),
	.words_min = 2,
	.words_max = 2,
	.run = run,
};
