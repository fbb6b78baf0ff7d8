#include "transfer/tree/twins.h"

#include <stdlib.h>
#include <string.h>

#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "relay/framed.h"
#include "towline/v1/files.pb-c.h"
#include "transfer/client_files.h"
#include "transfer/raw_path.h"

struct twin {
	struct twins *pair;
	const struct across_place *place;
	struct client_files *stat; /* NULL: over */
	struct framed *call;       /* likewise, or not begun */
	bool is_file;
	uint64_t size;
	char *etag;
	bool has_digest;
	uint8_t digest[DIGEST_SIZE];
	struct err err;
};

struct twins {
	struct twins_options opt;
	struct twin from, to;
};

static void twin_end(struct twin *w)
{
	if (w->stat != NULL)
		client_files_cancel(w->stat);
	if (w->call != NULL)
		framed_cancel(w->call, NULL);
	free(w->etag);
}

void twins_free(struct twins *t)
{
	if (t == NULL)
		return;
	twin_end(&t->from);
	twin_end(&t->to);
	free(t);
}

/* What there is to say, if anything yet. */
static void conclude(struct twins *t)
{
	struct twins_result r = { 0 };
	struct err err = t->from.err.code != GRPC_OK ? t->from.err : t->to.err;
	const struct across_place *place = t->from.err.code != GRPC_OK ? &t->opt.from : &t->opt.to;

	if (err.code != GRPC_OK)
		err_wrap(&err, "%s", place->sandbox);
	r.same = t->from.has_digest && t->to.has_digest &&
	    memcmp(t->from.digest, t->to.digest, DIGEST_SIZE) == 0;
	r.bytes = t->from.size;
	memcpy(r.digest, t->from.digest, DIGEST_SIZE);
	t->opt.ended(t->opt.cookie, &r, &err);
}

static Openshell__Datamodel__V1__WorkspaceSelector scope_of(const struct twins *t)
{
	Openshell__Datamodel__V1__WorkspaceSelector scope =
	    OPENSHELL__DATAMODEL__V1__WORKSPACE_SELECTOR__INIT;

	scope.selection_case = OPENSHELL__DATAMODEL__V1__WORKSPACE_SELECTOR__SELECTION_WORKSPACE;
	scope.workspace = (char *)t->opt.workspace;
	return scope;
}

/* Digests: a download from the end, whose digest is of all before that. */

static void call_message(void *cookie, const uint8_t *message, size_t len)
{
	struct twin *w = cookie;
	enum guard_result why;
	Openshell__V1__DownloadFileResponse *r =
	    codec_unpack(&openshell__v1__download_file_response__descriptor, message, len, &why);

	if (r != NULL &&
	    r->payload_case == OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__PAYLOAD_TRAILER) {
		const Towline__V1__Digest *d = r->trailer->digest;

		w->has_digest = d != NULL && d->value.len == DIGEST_SIZE &&
		    d->algorithm == TOWLINE__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_XXH3_128 &&
		    (w->size == 0 || r->trailer->digest_bytes == w->size);
		if (w->has_digest)
			memcpy(w->digest, d->value.data, DIGEST_SIZE);
	}
	codec_free(r);
}

/* Of a file that is longer by now; without a digest it is another. */
static void call_payload(void *cookie, struct slice data)
{
	struct twin *w = cookie;
	size_t len = data.len;

	slice_release(&data);
	framed_credit(w->call, len);
}

static void call_end(void *cookie, const struct err *status)
{
	struct twin *w = cookie;

	/* FAILED_PRECONDITION and OUT_OF_RANGE: it has changed since. */
	if (status->code == GRPC_OK)
		return;
	w->has_digest = false;
	if (status->code != GRPC_FAILED_PRECONDITION && status->code != GRPC_OUT_OF_RANGE)
		w->err = *status;
}

static void call_closed(void *cookie, const struct err *why)
{
	struct twin *w = cookie;
	struct twins *t = w->pair;

	w->call = NULL;
	if (!w->has_digest && w->err.code == GRPC_OK && why->code == GRPC_UNAVAILABLE)
		w->err = *why;
	if (t->from.call == NULL && t->to.call == NULL)
		conclude(t);
}

static const struct framed_ops call_ops = {
	.payload = call_payload,
	.message = call_message,
	.end = call_end,
	.closed = call_closed,
};

static int ask_digest(struct twin *w, struct err *err)
{
	Openshell__V1__DownloadFileRequest q = OPENSHELL__V1__DOWNLOAD_FILE_REQUEST__INIT;
	Openshell__Datamodel__V1__WorkspaceSelector scope = scope_of(w->pair);
	struct rpc_client_call c = { .path = "/openshell.v1.OpenShell/DownloadFile" };
	size_t len;

	q.sandbox = (char *)w->place->sandbox;
	q.remote_path = (char *)w->place->path;
	q.offset = q.prefix_bytes = w->size;
	q.length = 1;
	q.if_match = w->etag;
	if (w->pair->opt.workspace[0] != '\0')
		q.workspace_scope = &scope;
	raw_path_give(&q);
	uint8_t *packed = codec_pack_new(&q.base, &len);
	if (packed == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	w->call = framed_call(w->pair->opt.client, &c, NULL, &call_ops, w, err);
	int r = w->call != NULL ? framed_send(w->call, packed, len) : 0;
	free(packed);
	if (w->call == NULL)
		return -1;
	if (r != 0)
		return err_set(err, GRPC_UNAVAILABLE, "the call takes no request");
	framed_end(w->call);
	return 0;
}

/* Sizes. */

static void both_known(struct twins *t)
{
	if (t->to.err.code == GRPC_NOT_FOUND)
		err_clear(&t->to.err);
	if (t->from.err.code != GRPC_OK || t->to.err.code != GRPC_OK || !t->from.is_file ||
	    !t->to.is_file || t->from.size != t->to.size ||
	    ask_digest(&t->from, &t->from.err) != 0 || ask_digest(&t->to, &t->to.err) != 0)
		conclude(t);
}

static void stat_message(void *cookie, const uint8_t *message, size_t len)
{
	struct twin *w = cookie;
	enum guard_result why;
	Towline__V1__StatFileResponse *r =
	    codec_unpack(&towline__v1__stat_file_response__descriptor, message, len, &why);

	if (r != NULL && r->file != NULL && w->etag == NULL) {
		w->is_file = r->file->type == TOWLINE__V1__FILE_TYPE__FILE_TYPE_FILE;
		w->size = r->file->size_bytes;
		w->etag = strdup(r->file->etag);
		w->is_file = w->is_file && w->etag != NULL;
	}
	codec_free(r);
}

static void stat_done(void *cookie, const struct err *err)
{
	struct twin *w = cookie;

	w->stat = NULL;
	w->err = *err;
	if (w->pair->from.stat == NULL && w->pair->to.stat == NULL)
		both_known(w->pair);
}

static const struct client_files_ops stat_ops = { .message = stat_message, .done = stat_done };

/* A link at the target is replaced, and so not looked behind. */
static int ask_size(struct twin *w, bool no_follow, struct err *err)
{
	Towline__V1__StatFileRequest q = TOWLINE__V1__STAT_FILE_REQUEST__INIT;
	Openshell__Datamodel__V1__WorkspaceSelector scope = scope_of(w->pair);
	size_t len;

	q.sandbox = (char *)w->place->sandbox;
	q.path = (char *)w->place->path;
	q.no_follow = no_follow;
	if (w->pair->opt.workspace[0] != '\0')
		q.workspace_scope = &scope;
	raw_path_give(&q);
	uint8_t *packed = codec_pack_new(&q.base, &len);
	if (packed == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	w->stat =
	    client_files_start(w->pair->opt.client, "StatFile", packed, len, &stat_ops, w, err);
	free(packed);
	return w->stat != NULL ? 0 : -1;
}

struct twins *twins_start(const struct twins_options *opt, struct err *err)
{
	struct twins *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	t->opt = *opt;
	t->from.pair = t->to.pair = t;
	t->from.place = &t->opt.from;
	t->to.place = &t->opt.to;
	if (ask_size(&t->from, false, err) == 0 && ask_size(&t->to, true, err) == 0)
		return t;
	twins_free(t);
	return NULL;
}
