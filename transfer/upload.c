/* UploadFile, served: the first message says what, an inflow does it. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "transfer/flow.h"
#include "transfer/journal.h"
#include "transfer/raw_path.h"
#include "transfer/transfers.h"
#include "transfer/tree/tree_notes.h"

struct upload {
	struct transfers *transfers;
	struct framed *call; /* NULL: the client is gone */
	struct inflow *flow; /* NULL: it has ended */
	char *path;
	bool make_parents;
	bool archive;
	bool has_digest; /* of an archive: known at its beginning, checked at its end */
	uint8_t digest[DIGEST_SIZE];
	bool answered;
	struct tree_notes notes; /* the flow's thread's, until it ends */
};

static void upload_free(struct upload *u)
{
	transfers_leave(u->transfers, u->archive);
	inflow_free(u->flow);
	tree_notes_free(&u->notes);
	free(u->path);
	free(u);
}

static void answer(struct upload *u, const struct flow_result *result, const struct err *err)
{
	Openshell__V1__UploadFileResponse r = OPENSHELL__V1__UPLOAD_FILE_RESPONSE__INIT;
	Towline__V1__Digest digest = TOWLINE__V1__DIGEST__INIT;
	Towline__V1__TreeReport report;
	size_t len;
	struct err failed = *err;

	u->answered = true;
	digest.algorithm = TOWLINE__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_XXH3_128;
	digest.value =
	    (ProtobufCBinaryData){ .len = DIGEST_SIZE, .data = (uint8_t *)result->digest };
	r.bytes_written = result->bytes;
	r.entries = result->entries;
	r.skipped = result->same;
	r.digest = result->unread ? NULL : &digest;
	tree_notes_report(&u->notes, result, &report);
	if (u->archive)
		r.tree = &report;
	/* Of a tree of which entries failed both are sent, what became of it and why. */
	uint8_t *packed = codec_pack_new(&r.base, &len);
	if ((failed.code == GRPC_OK || result->complete) &&
	    (packed == NULL || framed_send(u->call, packed, len) != 0))
		err_set(&failed, GRPC_INTERNAL, "the answer could not be sent");
	free(packed);
	framed_finish(u->call, failed.code == GRPC_OK ? NULL : &failed);
}

static void flow_used(void *cookie, size_t bytes)
{
	struct upload *u = cookie;

	if (u->call != NULL)
		framed_credit(u->call, bytes);
}

static void flow_ended(void *cookie, const struct err *err)
{
	struct upload *u = cookie;
	struct flow_result result;
	struct err copy = *err;

	inflow_result(u->flow, &result);
	inflow_free(u->flow);
	u->flow = NULL;
	if (u->call == NULL)
		upload_free(u);
	else
		answer(u, &result, &copy);
}

static void call_payload(void *cookie, struct slice data)
{
	struct upload *u = cookie;
	size_t len = data.len;

	if (u->flow != NULL) {
		inflow_push(u->flow, data);
		return;
	}
	slice_release(&data);
	framed_credit(u->call, len);
}

static void call_message(void *cookie, const uint8_t *message, size_t len)
{
	struct upload *u = cookie;
	struct err err;

	(void)message;
	if (len == 0 || u->flow == NULL)
		return;
	err_set(&err, GRPC_INVALID_ARGUMENT, "a second metadata; chunk was expected");
	inflow_abort(u->flow, &err);
}

static void call_end(void *cookie, const struct err *status)
{
	struct upload *u = cookie;

	(void)status;
	if (u->flow != NULL)
		inflow_eof(u->flow, u->has_digest ? u->digest : NULL);
}

static void call_closed(void *cookie, const struct err *why)
{
	struct upload *u = cookie;
	struct err err;

	(void)why;
	u->call = NULL;
	if (u->flow == NULL) {
		upload_free(u);
		return;
	}
	err_set(&err, GRPC_CANCELLED, "the client is gone");
	inflow_abort(u->flow, &err);
}

static const struct framed_ops call_ops = {
	.payload = call_payload,
	.message = call_message,
	.end = call_end,
	.closed = call_closed,
};

/* The beginning. */

static int take_digest(struct place_options *o, const Towline__V1__Digest *d, struct err *err)
{
	size_t want = 0;

	if (d == NULL ||
	    d->algorithm == TOWLINE__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_UNSPECIFIED)
		return 0;
	if (d->algorithm == TOWLINE__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_XXH3_128) {
		o->digest = PLACE_DIGEST_XXH3_128;
		want = 16;
	} else if (d->algorithm == TOWLINE__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_SHA256) {
		o->digest = PLACE_DIGEST_SHA256;
		want = 32;
	}
	if (want == 0 || d->value.len != want)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "digest: %zu bytes of algorithm %d; XXH3_128 has 16, SHA256 has 32",
		    d->value.len, (int)d->algorithm);
	memcpy(o->expected, d->value.data, want);
	return 0;
}

/* What goes with what. */
static int check_resuming(const Openshell__V1__UploadFileMetadata *m, struct err *err)
{
	bool has_id = m->upload_id[0] != '\0';

	if (has_id && !journal_id_is_valid(m->upload_id))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "upload_id: 1 to %d characters of A-Z, a-z, 0-9, _ and - make one",
		    JOURNAL_ID_MAX);
	if (has_id && m->is_archive)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "upload_id: an archive cannot be resumed; leave it out");
	if (m->adds_digest && (!has_id || m->digest == NULL))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "adds_digest: without the digest, or the upload_id of what was begun without it");
	if (!has_id && m->offset != 0)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "offset: %" PRIu64 " without the upload_id that it belongs to", m->offset);
	if (!m->size_unknown && m->offset > m->size_bytes)
		return err_set(err, GRPC_OUT_OF_RANGE,
		    "offset: %" PRIu64 " is past the %" PRIu64 " bytes of the file", m->offset,
		    m->size_bytes);
	return 0;
}

/* OUT_OF_RANGE is what a supervisor that knows no pieces says of most of them, too. */
static int check_piece(const Openshell__V1__UploadFileMetadata *m, struct err *err)
{
	if (m->piece_bytes == 0 && m->writer != 0 &&
	    (m->upload_id[0] == '\0' || m->size_unknown || m->offset != m->size_bytes ||
		m->digest != NULL))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "writer: of a piece, or of what ends an upload in pieces without a digest");
	if (m->piece_bytes == 0)
		return 0;
	if (m->upload_id[0] == '\0' || m->size_unknown || m->writer == 0)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "piece_bytes: a piece needs upload_id and size_bytes of the upload it is of, and "
		    "a writer");
	if (m->if_exists == TOWLINE__V1__IF_EXISTS__IF_EXISTS_SKIP_IF_SAME)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "if_exists: SKIP_IF_SAME is not for a piece; ask with a call of its own");
	if (m->piece_bytes > m->size_bytes - m->offset)
		return err_set(err, GRPC_OUT_OF_RANGE,
		    "piece_bytes: %" PRIu64 " from %" PRIu64 " on is past the %" PRIu64
		    " bytes of the file",
		    m->piece_bytes, m->offset, m->size_bytes);
	return 0;
}

static int check_exists(const Openshell__V1__UploadFileMetadata *m, struct err *err)
{
	switch (m->if_exists) {
	case TOWLINE__V1__IF_EXISTS__IF_EXISTS_UNSPECIFIED:
	case TOWLINE__V1__IF_EXISTS__IF_EXISTS_REPLACE:
		return 0;
	case TOWLINE__V1__IF_EXISTS__IF_EXISTS_FAIL:
	case TOWLINE__V1__IF_EXISTS__IF_EXISTS_SKIP_IF_SAME:
		break;
	default:
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "if_exists: %d is not known", (int)m->if_exists);
	}
	if (m->is_archive)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "if_exists: an archive's entries always replace what is there; leave it out");
	if (m->if_exists == TOWLINE__V1__IF_EXISTS__IF_EXISTS_SKIP_IF_SAME && m->digest == NULL)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "if_exists: SKIP_IF_SAME needs the file's digest");
	return 0;
}

static int check_metadata(const Openshell__V1__UploadFileMetadata *m, struct err *err)
{
	if (m->remote_path[0] == '\0')
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "remote_path: empty; name where to put the %s",
		    m->is_archive ? "archive's content" : "file");
	if (m->mode > 07777)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "mode: %o has more than permission bits", m->mode);
	return check_resuming(m, err) == 0 && check_piece(m, err) == 0 && check_exists(m, err) == 0
	    ? 0
	    : -1;
}

static enum place_exists exists_of(Towline__V1__IfExists e)
{
	switch (e) {
	case TOWLINE__V1__IF_EXISTS__IF_EXISTS_FAIL:
		return PLACE_EXISTS_FAIL;
	case TOWLINE__V1__IF_EXISTS__IF_EXISTS_SKIP_IF_SAME:
		return PLACE_EXISTS_SKIP_IF_SAME;
	default:
		return PLACE_EXISTS_REPLACE;
	}
}

static void flow_note(void *cookie, const char *text)
{
	tree_notes_add(&((struct upload *)cookie)->notes, text);
}

static int open_root(void *arg, struct err *err)
{
	struct upload *u = arg;

	return transfers_open_directory(u->transfers, u->path, u->make_parents, err);
}

static struct inflow *start_archive(
    struct upload *u, const struct inflow_env *env, const struct place_options *o, struct err *err)
{
	struct inflow *flow = inflow_tree(env, open_root, u, err);

	if (flow == NULL || o->digest == PLACE_DIGEST_NONE)
		return flow;
	if (o->digest == PLACE_DIGEST_XXH3_128) {
		u->has_digest = true;
		memcpy(u->digest, o->expected, DIGEST_SIZE);
	} else if (inflow_expect_sha256(flow, o->expected, err) != 0) {
		/* It ends by itself, and with it the upload. */
		inflow_abort(flow, err);
		err_clear(err);
	}
	return flow;
}

static struct inflow *start_flow(
    struct upload *u, const Openshell__V1__UploadFileMetadata *m, struct err *err)
{
	struct transfers *t = u->transfers;
	struct inflow_env env = { .flow = { .loop = t->loop,
				      .workers = t->workers,
				      .ended = flow_ended,
				      .note = flow_note,
				      .cookie = u },
		.used = flow_used };
	struct place_options o = {
		.workdir = t->workdir,
		.slash = t->slash,
		.path = u->path,
		.make_parents = u->make_parents,
		.size_known = !m->size_unknown,
		.size = m->size_bytes,
		.mode = m->mode,
		.adds_digest = m->adds_digest,
		.exists = exists_of(m->if_exists),
		.id = m->upload_id[0] != '\0' ? m->upload_id : NULL,
		.offset = m->offset,
		.expiry_ms = t->upload_expiry_ms,
		.boot = t->boot,
		.claims = t->claims,
		.piece_bytes = m->piece_bytes,
		.writer = m->writer,
		.board = t->board,
	};

	if (take_digest(&o, m->digest, err) != 0)
		return NULL;
	if (u->archive)
		return start_archive(u, &env, &o, err);
	if (m->modified_time != NULL) {
		o.has_mtime = true;
		o.mtime = (struct timespec){ .tv_sec = m->modified_time->seconds,
			.tv_nsec = m->modified_time->nanos };
	}
	return inflow_file(&env, &o, err);
}

static int serve(struct transfers *t, struct framed *call,
    const Openshell__V1__UploadFileMetadata *m, bool half_closed, struct err *err)
{
	struct upload *u;

	if (check_metadata(m, err) != 0 || transfers_enter(t, m->is_archive, err) != 0)
		return -1;
	if ((u = calloc(1, sizeof(*u))) == NULL) {
		transfers_leave(t, m->is_archive);
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	}
	*u = (struct upload){ .transfers = t,
		.call = call,
		.archive = m->is_archive,
		.make_parents = !m->no_parents,
		.path = strdup(m->remote_path) };
	if (u->path == NULL)
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	if (u->path == NULL || (u->flow = start_flow(u, m, err)) == NULL) {
		upload_free(u);
		return -1;
	}
	framed_bind(call, &call_ops, u);
	if (half_closed)
		call_end(u, NULL);
	return 0;
}

void transfer_serve_upload(
    struct transfers *t, struct framed *call, const struct channel_request *r)
{
	enum guard_result why;
	struct err err = { 0 };
	Openshell__V1__UploadFileRequest *first = codec_unpack(
	    &openshell__v1__upload_file_request__descriptor, r->first_message, r->first_len, &why);

	if (first == NULL)
		err_set(&err, (enum grpc_code)guard_status(why), "UploadFileRequest: %s",
		    guard_text(why));
	else if (first->payload_case != OPENSHELL__V1__UPLOAD_FILE_REQUEST__PAYLOAD_METADATA)
		err_set(&err, GRPC_INVALID_ARGUMENT,
		    "the first message of UploadFile must be metadata");
	else if (raw_path_take(first->metadata, &err) == 0)
		serve(t, call, first->metadata, r->half_closed, &err);
	codec_free(first);
	if (err.code != GRPC_OK)
		framed_finish(call, &err);
}
