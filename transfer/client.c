/*
 * What both directions of a client's transfer share: the call, the progress, and an
 * end that waits for the call and for the file system, whichever is later.
 */
#include "transfer/client.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transfer/client_transfer.h"
#include "transfer/put_pieces.h"

#define PROGRESS_MS 100

static void transfer_free(struct transfer *t)
{
	outflow_free(t->out);
	inflow_free(t->in);
	fetch_free(t->fetch);
	put_pieces_free(t->put.pieces);
	across_free(t->across);
	twins_free(t->twins);
	timer_free(t->progress);
	timer_free(t->put.again);
	digest_free(t->put.hash);
	if (t->fd >= 0)
		close(t->fd);
	ignore_free(t->exclude);
	free(t->sandbox);
	free(t->workspace);
	free(t->local);
	free(t->remote);
	free(t->to_sandbox);
	free(t);
}

static void run_done(struct post *post)
{
	struct transfer *t = (struct transfer *)((char *)post - offsetof(struct transfer, post));
	const struct transfer_ops *ops = t->ops;
	void *cookie = t->cookie;
	struct transfer_result result = t->result;
	struct err err = t->err;

	transfer_free(t);
	ops->done(cookie, &result, &err);
}

void transfer_check_done(struct transfer *t)
{
	if (t->call != NULL || t->working || t->out != NULL || t->in != NULL || t->fetch != NULL ||
	    t->put.pieces != NULL || t->across != NULL || t->twins != NULL || t->post.pending)
		return;
	if (t->err.code != GRPC_OK && t->try_again != NULL && t->try_again(t))
		return;
	t->post.run = run_done;
	loop_post(t->loop, &t->post);
}

/* What an upload waits for between two attempts. */
static void stop_waiting(struct transfer_put *p, bool *working)
{
	bool waits = p->query != NULL || (p->again != NULL && timer_is_running(p->again));

	if (!waits)
		return;
	if (p->query != NULL)
		rpc_unary_cancel(p->query);
	p->query = NULL;
	if (p->again != NULL)
		timer_stop(p->again);
	*working = false;
}

void transfer_fail(struct transfer *t, const struct err *err)
{
	struct framed *call = t->call;

	stop_waiting(&t->put, &t->working);
	if (t->err.code == GRPC_OK)
		t->err = *err;
	t->call = NULL;
	if (call != NULL)
		framed_cancel(call, err);
	if (t->out != NULL)
		outflow_stop(t->out);
	if (t->in != NULL)
		inflow_abort(t->in, err);
	if (t->fetch != NULL)
		fetch_stop(t->fetch, err);
	if (t->put.pieces != NULL)
		put_pieces_stop(t->put.pieces, err);
	if (t->across != NULL)
		across_stop(t->across, err);
	twins_free(t->twins);
	t->twins = NULL;
	transfer_check_done(t);
}

void transfer_cancel(struct transfer *t)
{
	struct err err;

	t->try_again = NULL;
	err_set(&err, GRPC_CANCELLED, "stopped");
	transfer_fail(t, &err);
}

static void on_progress(void *cookie)
{
	struct transfer *t = cookie;
	struct transfer_progress p = { .bytes = t->moved, .total = t->total };

	timer_start(t->progress, PROGRESS_MS);
	t->ops->progress(t->cookie, &p);
}

static char *copy(const char *text, bool *failed)
{
	char *c = strdup(text != NULL ? text : "");

	*failed = *failed || c == NULL;
	return c;
}

struct transfer *transfer_create(
    struct loop *loop, const struct transfer_request *r, struct err *err)
{
	struct transfer *t = calloc(1, sizeof(*t));
	bool failed = t == NULL;

	if (!failed) {
		t->loop = loop;
		t->client = r->client;
		t->workers = r->workers;
		t->sandbox = copy(r->sandbox, &failed);
		t->workspace = copy(r->workspace, &failed);
		t->local = copy(r->local, &failed);
		t->remote = copy(r->remote, &failed);
		t->to_sandbox = copy(r->to_sandbox, &failed);
		t->user_fd = r->fd;
		t->fd = -1;
		t->recursive = r->recursive;
		t->mode = r->mode;
		t->git_ignore = r->git_ignore;
		t->follow_links = r->follow_links;
		t->compress = r->compress;
		t->put.exists = r->exists;
		t->offset = r->offset;
		t->streams = r->streams;
		t->fresh = r->fresh;
		t->length = r->length;
		t->ops = r->ops;
		t->cookie = r->cookie;
		t->progress = timer_create_on(loop, on_progress, t);
		failed = failed || t->progress == NULL;
	}
	if (failed) {
		if (t != NULL)
			transfer_free(t);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	if (r->ops->progress != NULL)
		timer_start(t->progress, PROGRESS_MS);
	return t;
}

struct across_place transfer_target(const struct transfer *t)
{
	return t->to_sandbox[0] != '\0'
	    ? (struct across_place){ .sandbox = t->to_sandbox, .path = t->local }
	    : (struct across_place){ .sandbox = t->sandbox, .path = t->remote };
}

int transfer_call(
    struct transfer *t, const char *path, const struct framed_ops *ops, struct err *err)
{
	struct rpc_client_call call = { .path = path };

	t->call = framed_call(t->client, &call, NULL, ops, t, err);
	return t->call != NULL ? 0 : -1;
}

int transfer_submit(
    struct transfer *t, void (*run)(struct job *), void (*done)(struct job *), struct err *err)
{
	t->job.run = run;
	t->job.done = done;
	t->working = workers_submit(t->workers, t->loop, &t->job) == 0;
	return t->working
	    ? 0
	    : err_set(err, GRPC_RESOURCE_EXHAUSTED, "too many file operations are waiting");
}

bool transfer_has_client(struct transfer *t, struct err *err)
{
	if (t->ops->again != NULL)
		t->client = t->ops->again(t->cookie, err);
	return t->client != NULL;
}

bool transfer_try_later(struct transfer *t, uint64_t worth_ms, void (*again)(void *))
{
	struct transfer_put *p = &t->put;
	uint64_t now = loop_now_ms(t->loop);

	if (worth_ms == 0)
		return false;
	if (p->again == NULL && (p->again = timer_create_on(t->loop, again, t)) == NULL)
		return false;
	if (p->until_ms == 0) {
		p->until_ms = now + worth_ms;
		p->delay_ms = FIRST_DELAY_MS;
	}
	if (now >= p->until_ms)
		return false;
	t->working = true;
	timer_start(p->again, p->delay_ms);
	p->delay_ms = 2 * p->delay_ms < LAST_DELAY_MS ? 2 * p->delay_ms : LAST_DELAY_MS;
	return true;
}

void transfer_note(void *cookie, const char *text)
{
	struct transfer *t = cookie;

	if (t->ops->note != NULL)
		t->ops->note(t->cookie, text);
}

void transfer_take_report(struct transfer *t, const Towline__V1__TreeReport *r)
{
	if (r == NULL)
		return;
	t->result.skipped += r->skipped;
	t->result.ignored += r->ignored;
	t->result.failed += r->failed;
	for (size_t i = 0; i < r->n_notes; i++)
		transfer_note(t, r->notes[i]);
}

void transfer_free_unstarted(struct transfer *t)
{
	transfer_free(t);
}
