/* The client's copy from one sandbox to another. */
#include <string.h>

#include "transfer/client_transfer.h"

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

static void ended(void *cookie, const struct across_result *r, const struct err *err)
{
	struct transfer *t = cookie;

	t->result.bytes = r->bytes;
	t->result.wire_bytes = r->wire;
	t->result.entries = r->entries;
	t->result.files = r->files;
	t->result.has_digest = r->has_digest;
	memcpy(t->result.digest, r->digest, DIGEST_SIZE);
	if (t->err.code == GRPC_OK)
		t->err = *err;
	across_free(t->across);
	t->across = NULL;
	transfer_check_done(t);
}

static int copy(struct transfer *t, const char *const *exclude, struct err *err)
{
	struct across_options o = {
		.client = t->client,
		.from = { .sandbox = t->sandbox, .path = t->remote },
		.to = { .sandbox = t->to_sandbox, .path = t->local },
		.workspace = t->workspace,
		.tree = t->recursive,
		.compress = t->compress,
		.exclude = exclude,
		.no_replace = t->put.exists == TRANSFER_EXISTS_FAIL,
		.moved = moved,
		.report = report,
		.ended = ended,
		.cookie = t,
	};

	t->across = across_start(&o, err);
	return t->across != NULL ? 0 : -1;
}

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
	if ((compares ? compare(t, err) : copy(t, r->exclude, err)) == 0)
		return t;
	transfer_free_unstarted(t);
	return NULL;
}
