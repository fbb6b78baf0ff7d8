#include "cli/carry.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "cli/copy.h"
#include "cli/signals.h"

/* One of those that run at a time. */
struct carrier {
	struct carry_run *run;
	struct carry_item *item; /* NULL: free */
	struct transfer *transfer;
	uint64_t began, bytes, total;
};

struct carry_run {
	struct session_wait wait;
	struct session *session;
	const struct carry_options *options;
	struct carry_item *items;
	size_t count, next, running, over;
	uint64_t over_bytes, over_total; /* of those that are over */
	struct carrier carriers[CARRY_TRANSFERS_MAX];
	size_t carrier_count;
	struct progress *progress;
	struct signals signals;
	int signal;
};

static bool is_stream(const char *word)
{
	return word != NULL && strcmp(word, "-") == 0;
}

static bool is_to_stdout(const struct carry_item *item)
{
	return !item->up && item->to == NULL && is_stream(item->target);
}

/* Progress is of all together; the total is known if it is of the one there is. */
static void show(struct carry_run *run)
{
	uint64_t bytes = run->over_bytes, total = run->over_total;

	for (size_t i = 0; i < run->carrier_count; i++) {
		if (run->carriers[i].item == NULL)
			continue;
		bytes += run->carriers[i].bytes;
		total += run->carriers[i].total;
	}
	progress_update(run->progress, bytes, run->count == 1 ? total : 0);
	if (run->count > 1)
		progress_count(run->progress, run->over, run->count);
}

static void on_progress(void *cookie, const struct transfer_progress *p)
{
	struct carrier *c = cookie;

	c->bytes = p->bytes;
	c->total = p->total;
	show(c->run);
}

static void on_note(void *cookie, const char *text)
{
	progress_note(((struct carrier *)cookie)->run->progress, text);
}

static void start_more(struct carry_run *);

static void take_result(
    struct carry_item *item, const struct transfer_result *result, const struct err *err)
{
	item->err = *err;
	item->files = result->files;
	item->bytes = result->bytes;
	item->skipped = result->skipped;
	item->ignored = result->ignored;
	item->kept = result->kept;
	item->moved = result->wire_bytes;
	item->same = result->same;
	item->has_digest = result->has_digest && !item->is_tree;
	memcpy(item->digest, result->digest, sizeof(item->digest));
	if (err->code == GRPC_OK && item->is_tree && result->files == 0 && !is_to_stdout(item))
		err_set(&item->err, GRPC_FAILED_PRECONDITION,
		    "%s has no file in it: there was nothing to copy but its directories",
		    item->source);
}

static void on_done(void *cookie, const struct transfer_result *result, const struct err *err)
{
	struct carrier *c = cookie;
	struct carry_run *run = c->run;
	struct carry_item *item = c->item;

	take_result(item, result, err);
	item->us = loop_now_us() - c->began;
	c->bytes = err->code == GRPC_OK ? item->bytes : c->bytes;
	run->over_bytes += c->bytes;
	run->over_total += c->total > 0 ? c->total : c->bytes;
	run->over++;
	run->running--;
	c->item = NULL;
	c->transfer = NULL;
	show(run);
	start_more(run);
}

static struct rpc_client *on_again(void *cookie, struct err *err)
{
	return session_client(((struct carrier *)cookie)->run->session, err);
}

static struct rpc_client *on_another(void *cookie, size_t number, struct err *err)
{
	return session_client_at(((struct carrier *)cookie)->run->session, number, err);
}

static const struct transfer_ops ops = {
	.again = on_again,
	.another = on_another,
	.progress = on_progress,
	.note = on_note,
	.done = on_done,
};

int carry_parse_transfers(void *field, const char *value, struct err *err)
{
	unsigned *transfers = field;

	*transfers = 0;
	if (strcmp(value, "auto") == 0)
		return 0;
	if (config_uint(transfers, value, err) != 0)
		return -1;
	if (*transfers < 1 || *transfers > CARRY_TRANSFERS_MAX)
		return err_set(err, GRPC_INVALID_ARGUMENT, "%u is not from 1 to %d, nor \"auto\"",
		    *transfers, CARRY_TRANSFERS_MAX);
	return 0;
}

/* -1: the item has its error. */
static int start(struct carrier *c, struct carry_item *item)
{
	struct session *s = c->run->session;
	bool to_stdout = is_to_stdout(item);
	struct transfer_request r = {
		.sandbox = item->sandbox,
		.to_sandbox = item->to,
		.workspace = session_cli(s)->workspace,
		.local = item->up ? item->source : item->target,
		.remote = item->up ? item->target : item->source,
		.fd = to_stdout                           ? STDOUT_FILENO
		    : item->up && is_stream(item->source) ? STDIN_FILENO
							  : -1,
		.recursive = item->is_tree,
		.fresh = c->run->options->fresh,
		.streams = c->run->count == 1 && c->run->options->transfers > 0
		    ? c->run->carrier_count
		    : 1,
		.exclude = c->run->options->exclude,
		.exists = c->run->options->exists,
		.git_ignore = c->run->options->git_ignore,
		.follow_links = c->run->options->follow_links,
		.ops = &ops,
		.cookie = c,
	};

	r.client = session_client(s, &item->err);
	r.workers = session_workers(s, &item->err);
	if (r.client == NULL || r.workers == NULL)
		return -1;
	c->began = loop_now_us();
	c->bytes = c->total = 0;
	c->transfer = item->to != NULL ? transfer_across(session_loop(s), &r, &item->err)
	    : item->up                 ? transfer_upload(session_loop(s), &r, &item->err)
				       : transfer_download(session_loop(s), &r, &item->err);
	return c->transfer != NULL ? 0 : -1;
}

static void start_next(struct carrier *c)
{
	struct carry_run *run = c->run;
	struct carry_item *item = &run->items[run->next++];

	if (item->err.code != GRPC_OK || start(c, item) != 0) {
		run->over++;
		return;
	}
	c->item = item;
	run->running++;
	if (run->count == 1)
		progress_name(run->progress, item->source);
}

static void start_more(struct carry_run *run)
{
	for (size_t i = 0; i < run->carrier_count; i++)
		while (run->carriers[i].item == NULL && run->next < run->count && run->signal == 0)
			start_next(&run->carriers[i]);
	if (run->running > 0)
		return;
	for (; run->next < run->count; run->next++)
		err_set(&run->items[run->next].err, GRPC_CANCELLED, "%s: not begun",
		    run->items[run->next].source);
	session_done(&run->wait, NULL);
}

/* The first one stops cleanly; who is not willing to wait for that sends another. */
static void on_signal(void *cookie, int number)
{
	struct carry_run *run = cookie;
	struct sigaction dfl = { .sa_handler = SIG_DFL };

	if (run->signal != 0) {
		sigaction(number, &dfl, NULL);
		raise(number);
		return;
	}
	run->signal = number;
	for (size_t i = 0; i < run->carrier_count; i++)
		if (run->carriers[i].item != NULL)
			transfer_cancel(run->carriers[i].transfer);
}

/* Two sources of one name would be one file in the end. */
static int by_target(const void *a, const void *b)
{
	const struct carry_item *const *x = a, *const *y = b;
	int r = strcmp((*x)->target, (*y)->target);

	return r != 0 ? r : (*x < *y ? -1 : 1);
}

static int refuse_twins(struct carry_item *items, size_t count, struct err *err)
{
	struct carry_item **sorted = calloc(count, sizeof(struct carry_item *));
	size_t n = 0;

	if (sorted == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	for (size_t i = 0; i < count; i++)
		if (items[i].err.code == GRPC_OK && !is_stream(items[i].target))
			sorted[n++] = &items[i];
	qsort(sorted, n, sizeof(struct carry_item *), by_target);
	for (size_t i = 1; i < n; i++)
		if (strcmp(sorted[i - 1]->target, sorted[i]->target) == 0 &&
		    !(sorted[i - 1]->is_tree && sorted[i]->is_tree))
			err_set(&sorted[i]->err, GRPC_INVALID_ARGUMENT,
			    "%s: another source is to become %s as well", sorted[i]->source,
			    sorted[i]->target);
	free(sorted);
	return 0;
}

static int plan(struct carry_run *run, struct err *err)
{
	struct carry_plan plan = {
		.session = run->session, .options = run->options, .several = run->count > 1
	};

	for (size_t i = 0; i < run->count; i++)
		carry_plan(&plan, &run->items[i], &run->items[i].err);
	return run->count > 1 ? refuse_twins(run->items, run->count, err) : 0;
}

/* Standard input and output may keep us waiting: then a signal ends us as it would. */
static bool has_streams(const struct carry_run *run)
{
	for (size_t i = 0; i < run->count; i++)
		if (is_stream(run->items[i].source) || is_stream(run->items[i].target))
			return true;
	return false;
}

static int run_all(struct carry_run *run, struct err *err)
{
	size_t wanted = run->options->transfers;

	run->carrier_count = wanted == 0 ? CARRY_TRANSFERS_DEFAULT : wanted;
	for (size_t i = 0; i < run->carrier_count; i++)
		run->carriers[i].run = run;
	if (!has_streams(run) &&
	    signals_watch(&run->signals, session_loop(run->session), on_signal, run, err) != 0)
		return -1;
	run->wait.session = run->session;
	start_more(run);
	return session_wait(run->session, &run->wait, SESSION_FOREVER, err);
}

int carry(struct session *s, const struct carry_options *o, struct carry_item *items, size_t count,
    int *signal, struct err *err)
{
	struct carry_run run = { .session = s, .options = o, .items = items, .count = count };
	int r = -1;

	run.progress = progress_create(session_loop(s), session_cli(s), o->progress, err);
	if (run.progress != NULL && plan(&run, err) == 0)
		r = run_all(&run, err);
	signals_free(&run.signals);
	progress_free(run.progress);
	*signal = run.signal;
	return r;
}
