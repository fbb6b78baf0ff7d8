#include "transfer/across.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "relay/framed.h"
#include "transfer/raw_path.h"

struct across {
	struct across_options opt;
	struct framed *get; /* NULL: over */
	struct framed *put; /* likewise, or not begun */
	struct digest *digest;
	uint64_t owed;           /* bytes that have come and that the source has no credit for */
	uint64_t total;          /* of a file */
	bool begun;              /* the header has come */
	bool whole;              /* the source has said that it was all, and it was */
	bool passed;             /* and its call has ended behind that: so has the target's */
	bool stored;             /* the target has said so */
	uint64_t entries, files; /* of a tree, sent */
	struct across_result result;
	struct err err;
};

void across_free(struct across *a)
{
	if (a == NULL)
		return;
	digest_free(a->digest);
	free(a);
}

/* The end. */

static void check_over(struct across *a)
{
	if (a->get == NULL && a->put == NULL)
		a->opt.ended(a->opt.cookie, &a->result, &a->err);
}

static void drop(struct framed **call, const struct err *why)
{
	struct framed *c = *call;

	*call = NULL;
	if (c != NULL)
		framed_cancel(c, why);
}

static void keep_first(struct across *a, const struct err *why)
{
	if (a->err.code == GRPC_OK)
		a->err = *why;
}

void across_stop(struct across *a, const struct err *why)
{
	keep_first(a, why);
	drop(&a->get, why);
	drop(&a->put, why);
	check_over(a);
}

static void blame(struct err *err, const struct across_place *place)
{
	err_wrap(err, "%s", place->sandbox);
}

/* To the target. */

static void check_answer(struct across *a, const Openshell__V1__UploadFileResponse *r)
{
	const Towline__V1__TreeReport *tree = r->tree;
	const Towline__V1__Digest *d = r->digest;
	bool is_right = d == NULL || d->value.len != DIGEST_SIZE ||
	    memcmp(d->value.data, a->result.digest, DIGEST_SIZE) == 0;
	struct err err;

	a->stored = true;
	a->result.bytes = r->bytes_written;
	a->result.has_digest = d != NULL && d->value.len == DIGEST_SIZE;
	if (tree != NULL) {
		a->result.files = tree->files;
		a->opt.report(a->opt.cookie, tree);
	}
	if (!a->opt.tree)
		is_right = is_right && r->bytes_written == a->result.wire;
	else if (tree != NULL && tree->failed == 0)
		is_right = is_right && r->entries == a->entries && tree->files == a->files;
	if (is_right && a->whole)
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

/* Behind an answer an error is about single entries of a tree. */
static void put_end(void *cookie, const struct err *status)
{
	struct across *a = cookie;
	struct err err = *status;

	if (err.code == GRPC_OK && !a->stored)
		err_set(&err, GRPC_INTERNAL, "did not say that it has stored %s", a->opt.to.path);
	if (err.code == GRPC_OK)
		return;
	blame(&err, &a->opt.to);
	keep_first(a, &err);
	drop(&a->get, &err);
}

static void put_closed(void *cookie, const struct err *why)
{
	struct across *a = cookie;
	struct err err = *why;

	a->put = NULL;
	if (err.code != GRPC_OK && !a->stored) {
		blame(&err, &a->opt.to);
		keep_first(a, &err);
		drop(&a->get, &err);
	}
	check_over(a);
}

static void put_sent(void *cookie, size_t bytes)
{
	struct across *a = cookie;
	size_t credit = bytes < a->owed ? bytes : (size_t)a->owed;

	a->owed -= credit;
	if (a->get != NULL && credit > 0)
		framed_credit(a->get, credit);
	a->opt.moved(a->opt.cookie, a->result.wire - a->owed, a->total);
}

static const struct framed_ops put_ops = {
	.message = put_message,
	.end = put_end,
	.sent = put_sent,
	.closed = put_closed,
};

static int send_message(struct framed *call, const ProtobufCMessage *m, struct err *err)
{
	size_t len;
	uint8_t *packed = codec_pack_new(m, &len);

	if (packed == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	int r = framed_send(call, packed, len);
	free(packed);
	return r == 0 ? 0 : err_set(err, GRPC_UNAVAILABLE, "the call takes no request");
}

static Openshell__Datamodel__V1__WorkspaceSelector scope_of(const struct across *a)
{
	Openshell__Datamodel__V1__WorkspaceSelector scope =
	    OPENSHELL__DATAMODEL__V1__WORKSPACE_SELECTOR__INIT;

	scope.selection_case = OPENSHELL__DATAMODEL__V1__WORKSPACE_SELECTOR__SELECTION_WORKSPACE;
	scope.workspace = (char *)a->opt.workspace;
	return scope;
}

static int call(struct across *a, const char *path, const struct framed_ops *ops,
    struct framed **made, struct err *err)
{
	struct rpc_client_call c = { .path = path };

	*made = framed_call(a->opt.client, &c, NULL, ops, a, err);
	return *made != NULL ? 0 : -1;
}

/* As the source has it. */
static int begin_put(struct across *a, const Openshell__V1__DownloadFileHeader *h, struct err *err)
{
	Openshell__V1__UploadFileRequest q = OPENSHELL__V1__UPLOAD_FILE_REQUEST__INIT;
	Openshell__V1__UploadFileMetadata m = OPENSHELL__V1__UPLOAD_FILE_METADATA__INIT;
	Openshell__Datamodel__V1__WorkspaceSelector scope = scope_of(a);

	m.sandbox = (char *)a->opt.to.sandbox;
	m.remote_path = (char *)a->opt.to.path;
	m.is_archive = m.size_unknown = a->opt.tree;
	if (a->opt.workspace[0] != '\0')
		m.workspace_scope = &scope;
	if (!a->opt.tree) {
		m.size_bytes = h->size_bytes;
		m.mode = h->mode & 0777;
		m.modified_time = h->modified_time;
		if (a->opt.no_replace)
			m.if_exists = TOWLINE__V1__IF_EXISTS__IF_EXISTS_FAIL;
	}
	raw_path_give(&m);
	q.payload_case = OPENSHELL__V1__UPLOAD_FILE_REQUEST__PAYLOAD_METADATA;
	q.metadata = &m;
	a->total = a->opt.tree ? 0 : h->size_bytes;
	a->begun = true;
	if (call(a, "/openshell.v1.OpenShell/UploadFile", &put_ops, &a->put, err) != 0)
		return -1;
	return send_message(a->put, &q.base, err);
}

/* From the source. */

/* All that was to come has, and it is what the source has read: the target may keep it. */
static int take_trailer(
    struct across *a, const Openshell__V1__DownloadFileTrailer *t, struct err *err)
{
	const Towline__V1__Digest *d = t->digest;

	if (a->put == NULL || a->whole)
		return err_set(err, GRPC_INTERNAL, "a trailer where none belongs");
	digest_value(a->digest, a->result.digest);
	if (t->bytes != a->result.wire || (!a->opt.tree && t->bytes != a->total) || d == NULL ||
	    d->algorithm != TOWLINE__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_XXH3_128 ||
	    d->value.len != DIGEST_SIZE ||
	    memcmp(d->value.data, a->result.digest, DIGEST_SIZE) != 0)
		return err_set(
		    err, GRPC_DATA_LOSS, "%s: what came is not what was sent", a->opt.from.path);
	a->whole = true;
	a->entries = a->result.entries = t->entries;
	if (t->tree != NULL) {
		a->files = t->tree->files;
		a->opt.report(a->opt.cookie, t->tree);
	} else {
		a->result.files = 1;
	}
	return 0;
}

static void get_message(void *cookie, const uint8_t *message, size_t len)
{
	struct across *a = cookie;
	enum guard_result why;
	struct err err = { 0 };
	Openshell__V1__DownloadFileResponse *r =
	    codec_unpack(&openshell__v1__download_file_response__descriptor, message, len, &why);

	if (r == NULL)
		err_set(&err, GRPC_INTERNAL, "DownloadFileResponse: %s", guard_text(why));
	else if (r->payload_case == OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__PAYLOAD_HEADER &&
	    !a->begun && (bool)r->header->is_archive == a->opt.tree)
		begin_put(a, r->header, &err);
	else if (r->payload_case == OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__PAYLOAD_TRAILER)
		take_trailer(a, r->trailer, &err);
	else if (len > 0)
		err_set(&err, GRPC_INTERNAL, "a message that belongs nowhere in a download");
	codec_free(r);
	if (err.code == GRPC_OK)
		return;
	blame(&err, &a->opt.from);
	across_stop(a, &err);
}

static void get_payload(void *cookie, struct slice data)
{
	struct across *a = cookie;
	struct err err;

	digest_update(a->digest, data.data, data.len);
	a->result.wire += data.len;
	a->owed += data.len;
	bool belongs = a->put != NULL && !a->whole;
	bool fits = a->opt.tree || a->result.wire <= a->total;
	if (belongs && fits && framed_write(a->put, FRAMED_BYTES, data) == 0)
		return;
	slice_release(&data);
	if (fits)
		err_set(&err, GRPC_INTERNAL, "content where none belongs");
	else
		err_set(&err, GRPC_DATA_LOSS, "%s: more came than was promised", a->opt.from.path);
	blame(&err, &a->opt.from);
	across_stop(a, &err);
}

static void get_failed(struct across *a, const struct err *status)
{
	struct err err = *status;

	if (err.code == GRPC_OK)
		err_set(
		    &err, GRPC_DATA_LOSS, "%s: it ended before it was complete", a->opt.from.path);
	blame(&err, &a->opt.from);
	keep_first(a, &err);
	drop(&a->put, &err);
}

/* Behind the trailer an error is about single entries of a tree: the rest goes on. */
static void get_end(void *cookie, const struct err *status)
{
	struct across *a = cookie;
	struct err err = *status;

	if (!a->whole || (err.code != GRPC_OK && !a->opt.tree)) {
		get_failed(a, status);
		return;
	}
	if (err.code != GRPC_OK) {
		blame(&err, &a->opt.from);
		keep_first(a, &err);
	}
	a->passed = true;
	if (a->put != NULL)
		framed_end(a->put);
}

static void get_closed(void *cookie, const struct err *why)
{
	struct across *a = cookie;

	a->get = NULL;
	if (!a->passed)
		get_failed(a, why);
	check_over(a);
}

static const struct framed_ops get_ops = {
	.payload = get_payload,
	.message = get_message,
	.end = get_end,
	.closed = get_closed,
};

static int begin_get(struct across *a, struct err *err)
{
	Openshell__V1__DownloadFileRequest q = OPENSHELL__V1__DOWNLOAD_FILE_REQUEST__INIT;
	Openshell__Datamodel__V1__WorkspaceSelector scope = scope_of(a);

	q.sandbox = (char *)a->opt.from.sandbox;
	q.remote_path = (char *)a->opt.from.path;
	q.as_archive = a->opt.tree;
	if (a->opt.tree && a->opt.compress)
		q.compression = TOWLINE__V1__COMPRESSION__COMPRESSION_ZSTD;
	q.exclude = a->opt.tree ? (char **)a->opt.exclude : NULL;
	while (q.exclude != NULL && q.exclude[q.n_exclude] != NULL)
		q.n_exclude++;
	if (a->opt.workspace[0] != '\0')
		q.workspace_scope = &scope;
	if (call(a, "/openshell.v1.OpenShell/DownloadFile", &get_ops, &a->get, err) != 0)
		return -1;
	raw_path_give(&q);
	if (send_message(a->get, &q.base, err) != 0) {
		drop(&a->get, err);
		return -1;
	}
	framed_end(a->get);
	return 0;
}

struct across *across_start(const struct across_options *opt, struct err *err)
{
	struct across *a = calloc(1, sizeof(*a));

	if (a == NULL || (a->digest = digest_create()) == NULL) {
		free(a);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	a->opt = *opt;
	if (begin_get(a, err) == 0)
		return a;
	across_free(a);
	return NULL;
}
