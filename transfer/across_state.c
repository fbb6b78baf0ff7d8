#include "transfer/across_state.h"

#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/scope.h"
#include "towline/v1/files.pb-c.h"
#include "transfer/prefix_digest.h"
#include "transfer/raw_path.h"

#define ASK_MS 30000

struct across_state {
	struct across_state_options opt;
	struct rpc_unary *asked;      /* NULL: over */
	struct prefix_digest *digest; /* likewise */
	struct across_left left;
	struct err err;
};

void across_state_free(struct across_state *s)
{
	if (s == NULL)
		return;
	if (s->asked != NULL)
		rpc_unary_cancel(s->asked);
	if (s->digest != NULL)
		prefix_digest_cancel(s->digest);
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

/* Of the source. */

static void digest_ended(void *cookie, const uint8_t *digest, const struct err *err)
{
	struct across_state *s = cookie;

	s->digest = NULL;
	if (err->code != GRPC_OK) {
		fail(s, &s->opt.from, err);
		return;
	}
	/* A supervisor that knows no prefix_bytes: nothing could be compared. */
	s->left.has_no_digest = digest == NULL;
	if (digest == NULL)
		s->left.durable = 0;
	else
		memcpy(s->left.digest, digest, DIGEST_SIZE);
	end(s);
}

static int ask_digest(struct across_state *s, struct err *err)
{
	struct prefix_digest_options o = {
		.client = s->opt.client,
		.sandbox = s->opt.from.sandbox,
		.path = s->opt.from.path,
		.workspace = s->opt.workspace,
		.etag = s->opt.etag,
		.bytes = s->opt.size,
		.ended = digest_ended,
		.cookie = s,
	};

	s->digest = prefix_digest_start(&o, err);
	return s->digest != NULL ? 0 : -1;
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
	Openshell__Datamodel__V1__WorkspaceSelector scope;

	q.sandbox = (char *)s->opt.to.sandbox;
	q.remote_path = (char *)s->opt.to.path;
	q.upload_id = (char *)s->opt.id;
	q.workspace_scope = scope_of_workspace(&scope, s->opt.workspace);
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
	Openshell__Datamodel__V1__WorkspaceSelector scope;

	q.sandbox = (char *)s->opt.to.sandbox;
	q.remote_path = (char *)s->opt.to.path;
	q.upload_id = (char *)s->opt.id;
	q.workspace_scope = scope_of_workspace(&scope, s->opt.workspace);
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
