/* The client's copy from one sandbox to another. */
#include <string.h>

#include "transfer/across.h"
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

struct transfer *transfer_across(
    struct loop *loop, const struct transfer_request *r, struct err *err)
{
	struct transfer *t = transfer_create(loop, r, err);

	if (t == NULL)
		return NULL;
	struct across_options o = {
		.client = t->client,
		.from = { .sandbox = t->sandbox, .path = t->remote },
		.to = { .sandbox = t->to_sandbox, .path = t->local },
		.workspace = t->workspace,
		.tree = t->recursive,
		.compress = t->compress,
		.exclude = r->exclude,
		.no_replace = t->put.exists == TRANSFER_EXISTS_FAIL,
		.moved = moved,
		.report = report,
		.ended = ended,
		.cookie = t,
	};
	if ((t->across = across_start(&o, err)) != NULL)
		return t;
	transfer_free_unstarted(t);
	return NULL;
}
