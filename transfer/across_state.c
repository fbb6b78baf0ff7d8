#include "transfer/across_state.h"

#include <stdlib.h>
#include <string.h>

#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "relay/framed.h"
#include "towline/v1/files.pb-c.h"
#include "transfer/raw_path.h"

#define ASK_MS 30000

struct across_state {
	struct across_state_options opt;
	struct rpc_unary *asked; /* NULL: over */
	struct framed *call;     /* likewise: the source's digest */
	bool has_digest;
	struct across_left left;
	struct err err;
};

void across_state_free(struct across_state *s)
{
	if (s == NULL)
		return;
	if (s->asked != NULL)
		rpc_unary_cancel(s->asked);
	if (s->call != NULL)
		framed_cancel(s->call, NULL);
	free(s);
}

static void end(struct across_state *s)
{
	s->opt.ended(s->opt.cookie, &s->left, &s->err);
}

static void fail(struct across_state *s, const struct across_place *place, const struct err *why)
{
	s->err = *why;
	s->left.by_target = place == &s->opt.to;
	err_wrap(&s->err, "%s", place->sandbox);
	end(s);
}

static Openshell__Datamodel__V1__WorkspaceSelector scope_of(const struct across_state *s)
{
	Openshell__Datamodel__V1__WorkspaceSelector scope =
	    OPENSHELL__DATAMODEL__V1__WORKSPACE_SELECTOR__INIT;

	scope.selection_case = OPENSHELL__DATAMODEL__V1__WORKSPACE_SELECTOR__SELECTION_WORKSPACE;
	scope.workspace = (char *)s->opt.workspace;
	return scope;
}

/* The digest: a download from the end, whose digest is of all before that. */

static void call_message(void *cookie, const uint8_t *message, size_t len)
{
	struct across_state *s = cookie;
	enum guard_result why;
	Openshell__V1__DownloadFileResponse *r =
	    codec_unpack(&openshell__v1__download_file_response__descriptor, message, len, &why);

	if (r != NULL &&
	    r->payload_case == OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__PAYLOAD_TRAILER) {
		const Towline__V1__Digest *d = r->trailer->digest;

		s->has_digest = d != NULL && d->value.len == DIGEST_SIZE &&
		    d->algorithm == TOWLINE__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_XXH3_128 &&
		    r->trailer->bytes == 0 && r->trailer->digest_bytes == s->opt.size;
		if (s->has_digest)
			memcpy(s->left.digest, d->value.data, DIGEST_SIZE);
	}
	codec_free(r);
}

/* Of a file of that etag there is nothing behind its end. */
static void call_payload(void *cookie, struct slice data)
{
	struct across_state *s = cookie;
	size_t len = data.len;

	slice_release(&data);
	framed_credit(s->call, len);
}

static void call_end(void *cookie, const struct err *status)
{
	struct across_state *s = cookie;

	if (s->err.code == GRPC_OK)
		s->err = *status;
}

static void call_closed(void *cookie, const struct err *why)
{
	struct across_state *s = cookie;
	struct err err;

	s->call = NULL;
	err = s->err.code != GRPC_OK || s->has_digest ? s->err : *why;
	if (err.code != GRPC_OK) {
		fail(s, &s->opt.from, &err);
		return;
	}
	/* A supervisor that knows no prefix_bytes: nothing could be compared. */
	if (!s->has_digest) {
		s->left.has_no_digest = true;
		s->left.durable = 0;
	}
	end(s);
}

static const struct framed_ops call_ops = {
	.payload = call_payload,
	.message = call_message,
	.end = call_end,
	.closed = call_closed,
};

static int ask_digest(struct across_state *s, struct err *err)
{
	Openshell__V1__DownloadFileRequest q = OPENSHELL__V1__DOWNLOAD_FILE_REQUEST__INIT;
	Openshell__Datamodel__V1__WorkspaceSelector scope = scope_of(s);
	struct rpc_client_call c = { .path = "/openshell.v1.OpenShell/DownloadFile" };
	size_t len;

	q.sandbox = (char *)s->opt.from.sandbox;
	q.remote_path = (char *)s->opt.from.path;
	q.offset = q.prefix_bytes = s->opt.size;
	q.length = 1;
	q.if_match = (char *)s->opt.etag;
	if (s->opt.workspace[0] != '\0')
		q.workspace_scope = &scope;
	raw_path_give(&q);
	uint8_t *packed = codec_pack_new(&q.base, &len);
	if (packed == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	s->call = framed_call(s->opt.client, &c, NULL, &call_ops, s, err);
	int r = s->call != NULL ? framed_send(s->call, packed, len) : 0;
	free(packed);
	if (s->call == NULL)
		return -1;
	if (r != 0)
		return err_set(err, GRPC_UNAVAILABLE, "the call takes no request");
	framed_end(s->call);
	return 0;
}

/* Of the target. */

static int ask(struct across_state *s, const ProtobufCMessage *request, const char *path,
    rpc_unary_done *done, struct err *err)
{
	size_t len;
	uint8_t *packed = codec_pack_new(request, &len);

	if (packed == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	s->asked = rpc_client_unary(s->opt.client, path, NULL, ASK_MS, packed, len, done, s, err);
	free(packed);
	return s->asked != NULL ? 0 : -1;
}

/* What is durable. */

static void query_done(void *cookie, const uint8_t *reply, size_t len, const struct err *status)
{
	struct across_state *s = cookie;
	const struct ranges *durable = &s->left.there.durable;
	struct err err = *status;

	s->asked = NULL;
	if (err.code == GRPC_OK)
		put_state_read(&s->left.there, reply, len, s->opt.size, s->opt.finished);
	s->left.durable = ranges_prefix(durable);
	s->left.has_no_ids = err.code == GRPC_UNIMPLEMENTED;
	if (err.code == GRPC_NOT_FOUND || err.code == GRPC_UNIMPLEMENTED)
		err_clear(&err);
	if (err.code != GRPC_OK)
		fail(s, &s->opt.to, &err);
	else if (s->opt.pieces ? durable->count == 0 : s->left.durable == 0)
		end(s);
	else if (ask_digest(s, &err) != 0)
		fail(s, &s->opt.from, &err);
}

static int query(struct across_state *s, struct err *err)
{
	Towline__V1__QueryUploadRequest q = TOWLINE__V1__QUERY_UPLOAD_REQUEST__INIT;
	Openshell__Datamodel__V1__WorkspaceSelector scope = scope_of(s);

	q.sandbox = (char *)s->opt.to.sandbox;
	q.remote_path = (char *)s->opt.to.path;
	q.upload_id = (char *)s->opt.id;
	if (s->opt.workspace[0] != '\0')
		q.workspace_scope = &scope;
	raw_path_give(&q);
	return ask(s, &q.base, "/towline.v1.Files/QueryUpload", query_done, err);
}

/* What was left is no good. */

static void abort_done(void *cookie, const uint8_t *reply, size_t len, const struct err *status)
{
	struct across_state *s = cookie;
	struct err err = *status;

	(void)reply;
	(void)len;
	s->asked = NULL;
	if (err.code == GRPC_OK || err.code == GRPC_NOT_FOUND)
		end(s);
	else
		fail(s, &s->opt.to, &err);
}

static int forget(struct across_state *s, struct err *err)
{
	Towline__V1__AbortUploadRequest q = TOWLINE__V1__ABORT_UPLOAD_REQUEST__INIT;
	Openshell__Datamodel__V1__WorkspaceSelector scope = scope_of(s);

	q.sandbox = (char *)s->opt.to.sandbox;
	q.remote_path = (char *)s->opt.to.path;
	q.upload_id = (char *)s->opt.id;
	if (s->opt.workspace[0] != '\0')
		q.workspace_scope = &scope;
	raw_path_give(&q);
	return ask(s, &q.base, "/towline.v1.Files/AbortUpload", abort_done, err);
}

struct across_state *across_state_start(const struct across_state_options *opt, struct err *err)
{
	struct across_state *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	s->opt = *opt;
	if ((opt->forget ? forget(s, err) : query(s, err)) == 0)
		return s;
	across_state_free(s);
	return NULL;
}
