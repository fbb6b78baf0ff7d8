#include "transfer/across.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "proto/scope.h"
#include "relay/framed.h"
#include "transfer/across_state.h"
#include "transfer/ask.h"
#include "transfer/etag.h"
#include "transfer/pass.h"

#define ID_SIZE (2 * DIGEST_SIZE + 1)

/* What the source's header says. */
struct source {
	uint32_t mode;
	bool has_mtime;
	int64_t mtime_s;
	int32_t mtime_ns;
	char etag[ETAG_SIZE]; /* "": it cannot be gone on with */
};

struct across {
	struct across_options opt;
	struct across_state *state; /* NULL: over, or not begun */
	struct pass *pass;          /* what comes, the first time or for good; NULL: not begun */
	struct framed *put;         /* NULL: over, or not begun */
	struct source source;
	char id[ID_SIZE];        /* of the upload; "": it has none */
	struct across_left left; /* what is there, where what is asked for begins */
	uint64_t total;          /* of a file */
	bool known;              /* what there is */
	bool begun;              /* the header of what is to pass has come */
	bool by_writer;          /* all is there, and its digest is not known */
	bool whole;              /* the source has said that it was all, and it was */
	bool stored;             /* the target has said so */
	uint64_t entries, files; /* of a tree, sent */
	struct across_result result;
	struct err err;
};

void across_free(struct across *a)
{
	if (a == NULL)
		return;
	across_state_free(a->state);
	pass_free(a->pass);
	free(a);
}

/* The end. */

static bool is_passing(const struct across *a)
{
	return a->pass != NULL && !pass_is_over(a->pass);
}

static void check_over(struct across *a)
{
	if (is_passing(a) || a->put != NULL || a->state != NULL)
		return;
	a->result.wire = a->pass != NULL ? pass_bytes(a->pass) : 0;
	a->opt.ended(a->opt.cookie, &a->result, &a->err);
}

static void drop_put(struct across *a, const struct err *why)
{
	struct framed *put = a->put;

	a->put = NULL;
	if (put != NULL)
		framed_cancel(put, why);
}

static bool keep_first(struct across *a, const struct err *why)
{
	if (a->err.code != GRPC_OK)
		return false;
	a->err = *why;
	a->result.asking = !a->begun;
	a->result.matched = a->known;
	return true;
}

void across_stop(struct across *a, const struct err *why)
{
	keep_first(a, why);
	if (a->pass != NULL)
		pass_stop(a->pass, why);
	drop_put(a, why);
	across_state_free(a->state);
	a->state = NULL;
	check_over(a);
}

static void blame(struct err *err, const struct across_place *place)
{
	err_wrap(err, "%s", place->sandbox);
}

/* To the target. */

/* It has as much as there is, and what it has is what we know of. */
static bool is_right(const struct across *a, const Openshell__V1__UploadFileResponse *r)
{
	const Towline__V1__TreeReport *tree = r->tree;
	const Towline__V1__Digest *d = r->digest;

	if (!a->by_writer && d != NULL && d->value.len == DIGEST_SIZE &&
	    memcmp(d->value.data, a->result.digest, DIGEST_SIZE) != 0)
		return false;
	if (!a->opt.tree)
		return r->bytes_written == a->total;
	return tree == NULL || tree->failed > 0 ||
	    (r->entries == a->entries && tree->files == a->files);
}

static void check_answer(struct across *a, const Openshell__V1__UploadFileResponse *r)
{
	struct err err;

	a->stored = true;
	a->result.bytes = r->bytes_written;
	a->result.has_digest =
	    !a->by_writer && r->digest != NULL && r->digest->value.len == DIGEST_SIZE;
	if (r->tree != NULL) {
		a->result.files = r->tree->files;
		a->opt.report(a->opt.cookie, r->tree);
	}
	if (a->whole && is_right(a, r))
		return;
	err_set(&err, GRPC_DATA_LOSS, "%s: what sandbox %s has stored is not what was sent",
	    a->opt.to.path, a->opt.to.sandbox);
	across_stop(a, &err);
}

static void put_message(void *cookie, const uint8_t *message, size_t len)
{
	struct across *a = cookie;
	enum guard_result why;
	struct err err;
	Openshell__V1__UploadFileResponse *r =
	    codec_unpack(&openshell__v1__upload_file_response__descriptor, message, len, &why);

	if (r == NULL) {
		err_set(&err, GRPC_INTERNAL, "UploadFileResponse: %s", guard_text(why));
		across_stop(a, &err);
		return;
	}
	check_answer(a, r);
	codec_free(r);
}

static void put_failed(struct across *a, struct err *why)
{
	blame(why, &a->opt.to);
	a->result.by_target = keep_first(a, why) || a->result.by_target;
	if (a->pass != NULL)
		pass_stop(a->pass, why);
}

/* Behind an answer an error is about single entries of a tree. */
static void put_end(void *cookie, const struct err *status)
{
	struct across *a = cookie;
	struct err err = *status;

	if (err.code == GRPC_OK && !a->stored)
		err_set(&err, GRPC_INTERNAL, "did not say that it has stored %s", a->opt.to.path);
	if (err.code == GRPC_OK)
		return;
	put_failed(a, &err);
}

static void put_closed(void *cookie, const struct err *why)
{
	struct across *a = cookie;
	struct err err = *why;

	a->put = NULL;
	if (a->pass != NULL)
		pass_onto(a->pass, NULL);
	if (err.code != GRPC_OK && !a->stored)
		put_failed(a, &err);
	check_over(a);
}

static void put_sent(void *cookie, size_t bytes)
{
	struct across *a = cookie;
	uint64_t left = 0;

	if (a->pass != NULL) {
		pass_sent(a->pass, bytes);
		left = pass_left(a->pass);
	}
	a->opt.moved(a->opt.cookie, a->left.durable + left, a->total);
}

static void call_opened(void *cookie)
{
	((struct across *)cookie)->result.taken = true;
}

static const struct framed_ops put_ops = {
	.message = put_message,
	.end = put_end,
	.sent = put_sent,
	.closed = put_closed,
	.opened = call_opened,
};

/* As the source has it. */
static void describe(const struct across *a, Openshell__V1__UploadFileMetadata *m,
    Google__Protobuf__Timestamp *mtime)
{
	m->size_bytes = a->total;
	m->mode = a->source.mode & 0777;
	mtime->seconds = a->source.mtime_s;
	mtime->nanos = a->source.mtime_ns;
	if (a->source.has_mtime)
		m->modified_time = mtime;
	if (a->opt.no_replace)
		m->if_exists = TOWLINE__V1__IF_EXISTS__IF_EXISTS_FAIL;
	if (a->id[0] != '\0')
		m->upload_id = (char *)a->id;
}

/* Behind what is there, if that is of a file of this digest, or of pieces of this writer. */
static void go_on(
    const struct across *a, Openshell__V1__UploadFileMetadata *m, Towline__V1__Digest *digest)
{
	m->offset = a->left.durable;
	if (a->by_writer) {
		m->writer = a->opt.durable.writer;
		return;
	}
	digest->algorithm = TOWLINE__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_XXH3_128;
	digest->value =
	    (ProtobufCBinaryData){ .len = DIGEST_SIZE, .data = (uint8_t *)a->left.digest };
	m->digest = digest;
	m->adds_digest = true;
}

static int begin_put(struct across *a, struct err *err)
{
	Openshell__V1__UploadFileRequest q = OPENSHELL__V1__UPLOAD_FILE_REQUEST__INIT;
	Openshell__V1__UploadFileMetadata m = OPENSHELL__V1__UPLOAD_FILE_METADATA__INIT;
	Openshell__Datamodel__V1__WorkspaceSelector scope;
	Google__Protobuf__Timestamp mtime = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	Towline__V1__Digest digest = TOWLINE__V1__DIGEST__INIT;
	struct rpc_client_call call = { .path = "/openshell.v1.OpenShell/UploadFile" };

	m.sandbox = (char *)a->opt.to.sandbox;
	m.remote_path = (char *)a->opt.to.path;
	m.is_archive = m.size_unknown = a->opt.tree;
	m.workspace_scope = scope_of_workspace(&scope, a->opt.workspace);
	if (!a->opt.tree)
		describe(a, &m, &mtime);
	if (a->left.durable > 0)
		go_on(a, &m, &digest);
	q.payload_case = OPENSHELL__V1__UPLOAD_FILE_REQUEST__PAYLOAD_METADATA;
	q.metadata = &m;
	a->begun = true;
	a->result.resumed = a->left.durable;
	a->put = framed_call(a->opt.client, &call, NULL, &put_ops, a, err);
	if (a->put == NULL)
		return -1;
	pass_onto(a->pass, a->put);
	return ask_more(a->put, &q, &m, err);
}

/* From the source. */

static int ask_state(struct across *, struct err *);

static void pass_trailer(void *cookie, const Openshell__V1__DownloadFileTrailer *t)
{
	struct across *a = cookie;

	a->entries = a->result.entries = t->entries;
	if (t->tree != NULL) {
		a->files = t->tree->files;
		a->opt.report(a->opt.cookie, t->tree);
	} else {
		a->result.files = 1;
	}
}

static void note_source(struct across *a, const Openshell__V1__DownloadFileHeader *h)
{
	a->known = true;
	a->total = h->size_bytes;
	a->source.mode = h->mode;
	a->source.has_mtime = h->modified_time != NULL;
	if (a->source.has_mtime) {
		a->source.mtime_s = h->modified_time->seconds;
		a->source.mtime_ns = h->modified_time->nanos;
	}
	if (strlen(h->etag) < sizeof(a->source.etag))
		memcpy(a->source.etag, h->etag, strlen(h->etag));
}

/* The first header says what there is, and that of what is to pass the same. */
static int take_header(
    struct across *a, const Openshell__V1__DownloadFileHeader *h, struct err *err)
{
	if (a->begun || (bool)h->is_archive != a->opt.tree)
		return err_set(err, GRPC_INTERNAL, "a header that does not belong here");
	if (a->opt.tree)
		return begin_put(a, err);
	if (a->known &&
	    (h->size_bytes != a->total - a->left.durable || strcmp(h->etag, a->source.etag) != 0))
		return err_set(
		    err, GRPC_FAILED_PRECONDITION, "%s is another file now", a->opt.from.path);
	if (a->known)
		return begin_put(a, err);
	note_source(a, h);
	if (a->opt.fresh || a->total <= a->opt.resumable || a->source.etag[0] == '\0')
		return begin_put(a, err);
	pass_stop(a->pass, NULL);
	return ask_state(a, err);
}

static void pass_header(void *cookie, const Openshell__V1__DownloadFileHeader *h)
{
	struct across *a = cookie;
	struct err err = { 0 };

	if (take_header(a, h, &err) == 0)
		return;
	blame(&err, &a->opt.from);
	across_stop(a, &err);
}

/* Behind all there was an error is about single entries of a tree: the target may keep it. */
static void pass_ended(void *cookie, bool whole, const struct err *status)
{
	struct across *a = cookie;

	a->whole = whole;
	pass_digest(a->pass, a->result.digest);
	if (a->left.durable > 0)
		memcpy(a->result.digest, a->left.digest, DIGEST_SIZE);
	if (status->code != GRPC_OK)
		keep_first(a, status);
	if (!whole)
		drop_put(a, status);
	else if (a->put != NULL)
		framed_end(a->put);
	check_over(a);
}

static int begin_pass(struct across *a, struct err *err)
{
	struct pass_options o = {
		.client = a->opt.client,
		.from = a->opt.from,
		.workspace = a->opt.workspace,
		.tree = a->opt.tree,
		.compress = a->opt.compress,
		.exclude = a->opt.exclude,
		.etag = a->known ? a->source.etag : NULL,
		.offset = a->left.durable,
		.opened = call_opened,
		.header = pass_header,
		.trailer = pass_trailer,
		.ended = pass_ended,
		.cookie = a,
	};

	pass_free(a->pass);
	a->pass = pass_start(&o, err);
	return a->pass != NULL ? 0 : -1;
}

/* All of it is there: what is left to do is to put it in its place. */
static int put_alone(struct across *a, struct err *err)
{
	memcpy(a->result.digest, a->left.digest, DIGEST_SIZE);
	a->result.files = 1;
	a->whole = true;
	if (begin_put(a, err) != 0)
		return -1;
	framed_end(a->put);
	return 0;
}

/* What is there already. */

static bool cedes(const struct across *a)
{
	struct across_file file = {
		.id = a->id,
		.etag = a->source.etag,
		.size = a->total,
		.mode = a->source.mode & 0777,
		.left = &a->left,
	};

	return a->opt.cede != NULL && a->result.resumable && a->left.durable < a->total &&
	    a->opt.cede(a->opt.cookie, &file);
}

static void take_state(void *cookie, const struct across_left *left, const struct err *why)
{
	struct across *a = cookie;
	struct err err = *why;

	a->left = *left;
	across_state_free(a->state);
	a->state = NULL;
	if (err.code != GRPC_OK) {
		a->result.by_target = a->left.by_target;
	} else {
		if (a->left.has_no_ids)
			a->id[0] = '\0';
		a->result.resumable = a->id[0] != '\0';
		a->result.ceded = cedes(a);
		if (a->result.ceded) {
			check_over(a);
			return;
		}
		if ((a->left.durable == a->total ? put_alone(a, &err) : begin_pass(a, &err)) == 0)
			return;
	}
	across_stop(a, &err);
}

/* Of this file, as it is now, to that place: who runs the same command again makes the
 * same id. */
static int make_id(struct across *a, struct err *err)
{
	const char *texts[] = { a->opt.from.sandbox, a->opt.from.path, a->source.etag,
		a->opt.to.sandbox, a->opt.to.path, a->opt.workspace };
	struct digest *d = digest_create();
	uint8_t value[DIGEST_SIZE];

	if (d == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		digest_update(d, texts[i], strlen(texts[i]) + 1);
	digest_value(d, value);
	digest_free(d);
	text_hex(value, sizeof(value), a->id);
	return 0;
}

/* Somebody has seen to that. */
static int put_durable(struct across *a, struct err *err)
{
	const struct across_durable *d = &a->opt.durable;

	if (strcmp(d->id, a->id) != 0)
		return err_set(
		    err, GRPC_FAILED_PRECONDITION, "%s is another file now", a->opt.from.path);
	a->left.durable = a->total;
	a->by_writer = d->writer != 0;
	if (!a->by_writer)
		memcpy(a->left.digest, d->digest, DIGEST_SIZE);
	a->result.resumable = true;
	return put_alone(a, err);
}

static int ask_state(struct across *a, struct err *err)
{
	struct across_state_options o = {
		.client = a->opt.client,
		.from = a->opt.from,
		.to = a->opt.to,
		.workspace = a->opt.workspace,
		.id = a->id,
		.etag = a->source.etag,
		.size = a->total,
		.forget = a->opt.forget,
		.pieces = a->opt.cede != NULL,
		.finished = a->opt.finished,
		.ended = take_state,
		.cookie = a,
	};

	if (make_id(a, err) != 0)
		return -1;
	if (a->opt.durable.id != NULL)
		return put_durable(a, err);
	a->state = across_state_start(&o, err);
	return a->state != NULL ? 0 : -1;
}

struct across *across_start(const struct across_options *opt, struct err *err)
{
	struct across *a = calloc(1, sizeof(*a));

	if (a == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	a->opt = *opt;
	if (begin_pass(a, err) == 0)
		return a;
	across_free(a);
	return NULL;
}
