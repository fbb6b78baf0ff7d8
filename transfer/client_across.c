/*
 * The client's copy from one sandbox to another: [compare] and copy, a file once more when
 * the way broke, or what was there of it turned out to be another's.
 *
 *	copy: what is there? -> send it, put it in its place
 *	           | several streams        ^
 *	           '-------> pieces --------' copy again, of what is durable
 */
#include <string.h>

#include "transfer/across_state.h"
#include "transfer/client_transfer.h"
#include "transfer/put_pieces.h"

static void start_again(struct transfer *);

static void moved(void *cookie, uint64_t bytes, uint64_t total)
{
	struct transfer *t = cookie;

	t->moved = bytes;
	t->total = total;
}

static void report(void *cookie, const Towline__V1__TreeReport *r)
{
	transfer_take_report(cookie, r);
}

/* In several streams. */

static bool cede(void *cookie, const struct across_file *file)
{
	struct transfer *t = cookie;
	struct transfer_put *p = &t->put;
	const struct across_left *left = file->left;

	if (left->has_no_digest || p->in_pieces)
		return false;
	if (ranges_bytes(&left->there.durable) > ranges_bytes(&p->durable))
		p->until_ms = 0;
	memcpy(p->id, file->id, PUT_ID_SIZE);
	memcpy(p->etag, file->etag, strlen(file->etag) + 1);
	p->st = (struct stat){ .st_size = (off_t)file->size, .st_mode = S_IFREG | file->mode };
	p->durable = left->there.durable;
	p->promises = p->durable.count > 0;
	memcpy(p->promised, left->digest, DIGEST_SIZE);
	t->result.resumed = ranges_bytes(&p->durable);
	transfer_note_state(t, &left->there);
	return put_pieces_are_wanted(t);
}

/* It is put in its place. A failure of the source is told as one of what it was asked for. */
static void after_pieces(struct transfer *t, const struct err *why, bool refused)
{
	struct transfer_put *p = &t->put;
	struct err err = *why;

	put_pieces_free(p->pieces);
	p->pieces = NULL;
	p->by_target = p->refused = refused;
	p->asking = p->matched = !refused;
	if (err.code == GRPC_OK) {
		p->in_pieces = true;
		p->compared = p->durable.count == 0 && !p->whole;
		start_again(t);
		return;
	}
	if (refused)
		err_wrap(&err, "%s", t->to_sandbox);
	t->err = err;
	put_pieces_failed(t);
	transfer_check_done(t);
}

static void note_result(struct transfer *t, const struct across_result *r)
{
	t->result.bytes = r->bytes;
	t->result.wire_bytes += r->wire;
	t->result.entries = r->entries;
	t->result.files = r->files;
	if (t->put.writer == 0)
		t->result.resumed = r->resumed;
	t->result.has_digest = r->has_digest;
	memcpy(t->result.digest, r->digest, DIGEST_SIZE);
}

static void ended(void *cookie, const struct across_result *r, const struct err *err)
{
	struct transfer *t = cookie;
	struct transfer_put *p = &t->put;
	struct err why = *err;
	bool ceded = r->ceded;

	note_result(t, r);
	if (r->resumed > p->from)
		p->until_ms = 0; /* the attempts before this one have brought something */
	p->from = r->resumed;
	p->taken = p->taken || r->taken;
	p->resumable = p->resumable || r->resumable;
	p->by_target = p->refused = r->by_target;
	p->asking = r->asking;
	p->matched = r->matched;
	across_free(t->across);
	t->across = NULL;
	if (ceded)
		put_pieces_start(t, after_pieces, &why);
	if (t->err.code == GRPC_OK)
		t->err = why;
	transfer_check_done(t);
}

static int copy(struct transfer *t, const char *const *exclude, struct err *err)
{
	const struct transfer_put *p = &t->put;
	bool has_all = p->in_pieces && (p->compared || p->promises);
	struct across_options o = {
		.client = t->client,
		.from = { .sandbox = t->sandbox, .path = t->remote },
		.to = { .sandbox = t->to_sandbox, .path = t->local },
		.workspace = t->workspace,
		.tree = t->recursive,
		.compress = t->compress,
		.exclude = exclude,
		.no_replace = t->put.exists == TRANSFER_EXISTS_FAIL,
		.fresh = t->fresh,
		.forget = t->put.forget,
		.finished = t->put.tried,
		.resumable = RESUMABLE_SIZE,
		.durable = { .id = has_all ? p->id : NULL,
		    .writer = p->compared ? p->writer : 0,
		    .digest = p->promised },
		.cede = t->streams > 1 ? cede : NULL,
		.moved = moved,
		.report = report,
		.ended = ended,
		.cookie = t,
	};

	t->across = across_start(&o, err);
	return t->across != NULL ? 0 : -1;
}

/* Another attempt. */

static void start_again(struct transfer *t)
{
	struct err err = { 0 };

	t->put.asking = true;
	if (!transfer_has_client(t, &err) || copy(t, NULL, &err) != 0)
		t->err = err;
	transfer_check_done(t);
}

static void on_again(void *cookie)
{
	struct transfer *t = cookie;

	t->working = false;
	start_again(t);
}

/* What is there cannot be gone on with, or what is asked for is no more: from the beginning. */
static bool is_another_file(const struct transfer *t)
{
	const struct transfer_put *p = &t->put;

	switch (t->err.code) {
	case GRPC_FAILED_PRECONDITION:
	case GRPC_OUT_OF_RANGE:
		return p->by_target ? p->resumable && !p->asking && !p->forgot
				    : p->matched && p->asking;
	case GRPC_DATA_LOSS:
		return p->by_target && p->from > 0;
	default:
		return false;
	}
}

/* How long another attempt is worth while after this failure. */
static uint64_t worth_ms(const struct transfer *t)
{
	const struct transfer_put *p = &t->put;

	switch (t->err.code) {
	case GRPC_UNAVAILABLE:
		if (!p->taken)
			return 0;
		return p->resumable ? TRY_AGAIN_MS : TRY_ANEW_MS;
	case GRPC_ABORTED:
		return p->by_target ? ABORTED_AGAIN_MS : 0;
	case GRPC_FAILED_PRECONDITION: /* a sandbox is being stopped, or started */
		return p->asking && p->tried && (p->by_target || !p->matched) ? TRY_AGAIN_MS : 0;
	default:
		return 0;
	}
}

static bool try_again(struct transfer *t)
{
	struct transfer_put *p = &t->put;
	bool otherwise = put_pieces_go_another_way(t);
	bool anew = !otherwise && is_another_file(t) && p->restarts++ < RESTARTS_MAX;

	if (!otherwise && !anew && !transfer_try_later(t, worth_ms(t), on_again))
		return false;
	err_clear(&t->err);
	p->tried = true;
	p->in_pieces = p->compared = p->promises = p->refused = false;
	p->forget = anew && p->by_target;
	p->forgot = p->forgot || p->forget;
	if (anew || otherwise)
		start_again(t);
	return true;
}

/* The beginning. */

static void compared(void *cookie, const struct twins_result *r, const struct err *err)
{
	struct transfer *t = cookie;
	struct err why = *err;

	twins_free(t->twins);
	t->twins = NULL;
	if (r->same) {
		t->result.same = t->result.has_digest = true;
		t->result.bytes = r->bytes;
		t->result.files = 1;
		memcpy(t->result.digest, r->digest, DIGEST_SIZE);
	} else if (why.code == GRPC_OK) {
		copy(t, NULL, &why);
	}
	if (why.code != GRPC_OK)
		t->err = why;
	transfer_check_done(t);
}

static int compare(struct transfer *t, struct err *err)
{
	struct twins_options o = {
		.client = t->client,
		.from = { .sandbox = t->sandbox, .path = t->remote },
		.to = { .sandbox = t->to_sandbox, .path = t->local },
		.workspace = t->workspace,
		.ended = compared,
		.cookie = t,
	};

	t->twins = twins_start(&o, err);
	return t->twins != NULL ? 0 : -1;
}

struct transfer *transfer_across(
    struct loop *loop, const struct transfer_request *r, struct err *err)
{
	struct transfer *t = transfer_create(loop, r, err);
	bool compares = !r->recursive && r->exists == TRANSFER_EXISTS_SKIP_IF_SAME;

	if (t == NULL)
		return NULL;
	if (!r->recursive && r->ops->again != NULL)
		t->try_again = try_again;
	if ((compares ? compare(t, err) : copy(t, r->exclude, err)) == 0)
		return t;
	transfer_free_unstarted(t);
	return NULL;
}
