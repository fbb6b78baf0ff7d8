#include "transfer/tree/twins.h"

#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/scope.h"
#include "towline/v1/files.pb-c.h"
#include "transfer/client_files.h"
#include "transfer/prefix_digest.h"

struct twin {
	struct twins *pair;
	const struct across_place *place;
	struct client_files *stat;    /* NULL: over */
	struct prefix_digest *asking; /* likewise, or not begun */
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
	if (w->asking != NULL)
		prefix_digest_cancel(w->asking);
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

/* Digests. */

static void digest_ended(void *cookie, const uint8_t *digest, const struct err *err)
{
	struct twin *w = cookie;
	struct twins *t = w->pair;

	w->asking = NULL;
	w->has_digest = digest != NULL;
	if (digest != NULL)
		memcpy(w->digest, digest, DIGEST_SIZE);
	else if (err->code != GRPC_FAILED_PRECONDITION && err->code != GRPC_OUT_OF_RANGE)
		w->err = *err; /* else it has changed since */
	if (t->from.asking == NULL && t->to.asking == NULL)
		conclude(t);
}

static int ask_digest(struct twin *w, struct err *err)
{
	struct prefix_digest_options q = { .client = w->pair->opt.client,
		.sandbox = w->place->sandbox,
		.path = w->place->path,
		.workspace = w->pair->opt.workspace,
		.etag = w->etag,
		.bytes = w->size,
		.ended = digest_ended,
		.cookie = w };

	w->asking = prefix_digest_start(&q, err);
	return w->asking != NULL ? 0 : -1;
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
	Openshell__Datamodel__V1__WorkspaceSelector scope;

	q.sandbox = (char *)w->place->sandbox;
	q.path = (char *)w->place->path;
	q.no_follow = no_follow;
	q.workspace_scope = scope_of_workspace(&scope, w->pair->opt.workspace);
	w->stat = client_files_start(w->pair->opt.client, "StatFile", &q, &stat_ops, w, err);
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
