/*
 * Whether the file that is here is the one in the sandbox: a DownloadFile call from its
 * end, whose digest is of all before that, and our own digest meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "proto/scope.h"
#include "transfer/ask.h"
#include "transfer/client_transfer.h"

static void differs(struct transfer *t)
{
	struct err err;

	err_set(&err, GRPC_ABORTED, "%s is another file", t->local);
	transfer_fail(t, &err);
}

/* When both have ended. */
static void conclude(struct transfer *t)
{
	struct transfer_put *p = &t->put;

	if (t->call != NULL || t->working || t->err.code != GRPC_OK) {
		transfer_check_done(t);
		return;
	}
	if (!p->hashed || !t->answered || memcmp(p->promised, p->theirs, DIGEST_SIZE) != 0) {
		differs(t);
		return;
	}
	t->result.same = t->result.has_digest = true;
	t->result.bytes = (uint64_t)p->st.st_size;
	t->result.files = 1;
	memcpy(t->result.digest, p->promised, DIGEST_SIZE);
	transfer_check_done(t);
}

/* Ours. */

static void hash_more(struct transfer *);

static void after_hash(struct job *job)
{
	struct transfer *t = (struct transfer *)job;
	struct transfer_put *p = &t->put;

	t->working = false;
	p->hashed = t->err.code == GRPC_OK && p->hashed_to == (uint64_t)p->st.st_size;
	if (p->hashed)
		digest_value(p->hash, p->promised);
	if (p->hashed || t->err.code != GRPC_OK)
		conclude(t);
	else
		hash_more(t);
}

static void hash_more(struct transfer *t)
{
	struct err err;

	if (transfer_submit(t, transfer_run_hash, after_hash, &err) != 0)
		transfer_fail(t, &err);
}

/* Theirs. */

static void take_header(struct transfer *t, const Openshell__V1__DownloadFileHeader *h)
{
	if (h->total_bytes != (uint64_t)t->put.st.st_size || t->working || t->put.hashed)
		differs(t);
	else
		hash_more(t);
}

static void take_trailer(struct transfer *t, const Openshell__V1__DownloadFileTrailer *trailer)
{
	const Towline__V1__Digest *d = trailer->digest;

	if (d == NULL || d->value.len != DIGEST_SIZE ||
	    d->algorithm != TOWLINE__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_XXH3_128 ||
	    trailer->bytes != 0 || trailer->digest_bytes != (uint64_t)t->put.st.st_size) {
		differs(t);
		return;
	}
	t->answered = true;
	memcpy(t->put.theirs, d->value.data, DIGEST_SIZE);
}

static void call_message(void *cookie, const uint8_t *message, size_t len)
{
	enum guard_result why;
	Openshell__V1__DownloadFileResponse *r =
	    codec_unpack(&openshell__v1__download_file_response__descriptor, message, len, &why);

	if (r != NULL && r->payload_case == OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__PAYLOAD_HEADER)
		take_header(cookie, r->header);
	else if (r != NULL &&
	    r->payload_case == OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__PAYLOAD_TRAILER)
		take_trailer(cookie, r->trailer);
	else
		differs(cookie);
	codec_free(r);
}

/* Of a file that is longer than ours. */
static void call_payload(void *cookie, struct slice data)
{
	slice_release(&data);
	differs(cookie);
}

static void call_end(void *cookie, const struct err *status)
{
	struct transfer *t = cookie;

	if (status != NULL && status->code != GRPC_OK && t->err.code == GRPC_OK)
		t->err = *status;
}

static void call_closed(void *cookie, const struct err *why)
{
	struct transfer *t = cookie;

	t->call = NULL;
	call_end(t, why);
	conclude(t);
}

static const struct framed_ops call_ops = {
	.payload = call_payload,
	.message = call_message,
	.end = call_end,
	.closed = call_closed,
};

static int ask_theirs(struct transfer *t, struct err *err)
{
	Openshell__V1__DownloadFileRequest q = OPENSHELL__V1__DOWNLOAD_FILE_REQUEST__INIT;
	Openshell__Datamodel__V1__WorkspaceSelector scope;

	q.sandbox = t->sandbox;
	q.remote_path = t->remote;
	q.offset = q.prefix_bytes = (uint64_t)t->put.st.st_size;
	q.length = 1;
	q.workspace_scope = scope_of_workspace(&scope, t->workspace);
	if (transfer_call(t, "/openshell.v1.OpenShell/DownloadFile", &call_ops, err) != 0)
		return -1;
	return ask(t->call, &q, err);
}

/* The beginning: a link is not what is compared, but replaced. */

static void run_open(struct job *job)
{
	struct transfer *t = (struct transfer *)job;

	t->fd = open(t->local, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (t->fd < 0 || fstat(t->fd, &t->put.st) != 0)
		err_sys(&t->err, errno, "%s", t->local);
	else if (!S_ISREG(t->put.st.st_mode))
		err_set(&t->err, GRPC_FAILED_PRECONDITION, "%s is no file", t->local);
}

static void after_open(struct job *job)
{
	struct transfer *t = (struct transfer *)job;
	struct err err;

	t->working = false;
	if (t->err.code != GRPC_OK)
		transfer_check_done(t);
	else if (ask_theirs(t, &err) != 0)
		transfer_fail(t, &err);
}

int transfer_compare(struct transfer *t, struct err *err)
{
	return transfer_submit(t, run_open, after_open, err);
}
