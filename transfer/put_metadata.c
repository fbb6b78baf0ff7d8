/* The first message of an upload: what is to be put where, and how. */
#include <sys/stat.h>

#include "openshell/v1/openshell.pb-c.h"
#include "proto/scope.h"
#include "transfer/ask.h"
#include "transfer/client_transfer.h"

/* The message, and what it points at. */
struct metadata {
	Openshell__V1__UploadFileMetadata m;
	Openshell__Datamodel__V1__WorkspaceSelector scope;
	Google__Protobuf__Timestamp mtime;
	Towline__V1__Digest digest;
};

static void name_target(struct metadata *d, struct transfer *t)
{
	d->m.sandbox = (char *)transfer_target(t).sandbox;
	d->m.remote_path = (char *)transfer_target(t).path;
	d->m.workspace_scope = scope_of_workspace(&d->scope, t->workspace);
}

static void describe_source(struct metadata *d, const struct transfer *t)
{
	const struct stat *st = &t->put.st;

	d->m.is_archive = t->recursive;
	d->m.mode = t->mode;
	d->m.size_unknown = !S_ISREG(st->st_mode);
	if (!S_ISREG(st->st_mode))
		return;
	if (t->mode == 0)
		d->m.mode = st->st_mode & 0777;
	d->m.size_bytes = (uint64_t)st->st_size;
	d->mtime.seconds = st->st_mtim.tv_sec;
	d->mtime.nanos = (int32_t)st->st_mtim.tv_nsec;
	d->m.modified_time = &d->mtime;
}

static void give_digest(struct metadata *d, struct transfer_put *p)
{
	d->digest.algorithm = TOWLINE__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_XXH3_128;
	d->digest.value = (ProtobufCBinaryData){ .len = DIGEST_SIZE, .data = p->promised };
	d->m.digest = &d->digest;
}

static void say_if_exists(struct metadata *d, struct transfer_put *p)
{
	if (p->exists == TRANSFER_EXISTS_FAIL)
		d->m.if_exists = TOWLINE__V1__IF_EXISTS__IF_EXISTS_FAIL;
	if (!p->probing)
		return;
	d->m.if_exists = TOWLINE__V1__IF_EXISTS__IF_EXISTS_SKIP_IF_SAME;
	give_digest(d, p);
}

/* Where an upload that can be resumed goes on. */
static void say_where(struct metadata *d, struct transfer_put *p, const struct range *piece)
{
	if (p->id[0] != '\0' && !p->probing) {
		d->m.upload_id = p->id;
		d->m.offset = p->from;
		d->m.writer = p->compared ? p->writer : 0;
		d->m.adds_digest = p->promises;
		if (p->promises)
			give_digest(d, p);
	}
	if (piece != NULL) {
		d->m.offset = piece->begin;
		d->m.piece_bytes = piece->end - piece->begin;
		d->m.writer = p->writer;
	}
}

int transfer_send_metadata(
    struct transfer *t, struct framed *call, const struct range *piece, struct err *err)
{
	Openshell__V1__UploadFileRequest request = OPENSHELL__V1__UPLOAD_FILE_REQUEST__INIT;
	struct metadata d = { .m = OPENSHELL__V1__UPLOAD_FILE_METADATA__INIT,
		.mtime = GOOGLE__PROTOBUF__TIMESTAMP__INIT,
		.digest = TOWLINE__V1__DIGEST__INIT };

	name_target(&d, t);
	describe_source(&d, t);
	if (!t->recursive)
		say_if_exists(&d, &t->put);
	say_where(&d, &t->put, piece);
	request.payload_case = OPENSHELL__V1__UPLOAD_FILE_REQUEST__PAYLOAD_METADATA;
	request.metadata = &d.m;
	return ask_more(call, &request, &d.m, err);
}
