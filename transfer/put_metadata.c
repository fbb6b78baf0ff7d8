/* The first message of an upload: what is to be put where, and how. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "proto/scope.h"
#include "transfer/client_transfer.h"
#include "transfer/raw_path.h"

static void give_digest(
    Openshell__V1__UploadFileMetadata *m, Towline__V1__Digest *digest, struct transfer_put *p)
{
	digest->algorithm = TOWLINE__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_XXH3_128;
	digest->value = (ProtobufCBinaryData){ .len = DIGEST_SIZE, .data = p->promised };
	m->digest = digest;
}

static void promise(
    Openshell__V1__UploadFileMetadata *m, Towline__V1__Digest *digest, struct transfer_put *p)
{
	if (p->exists == TRANSFER_EXISTS_FAIL)
		m->if_exists = TOWLINE__V1__IF_EXISTS__IF_EXISTS_FAIL;
	if (!p->probing)
		return;
	m->if_exists = TOWLINE__V1__IF_EXISTS__IF_EXISTS_SKIP_IF_SAME;
	give_digest(m, digest, p);
}

int transfer_send_metadata(
    struct transfer *t, struct framed *call, const struct range *piece, struct err *err)
{
	const struct stat *st = &t->put.st;
	Openshell__V1__UploadFileRequest request = OPENSHELL__V1__UPLOAD_FILE_REQUEST__INIT;
	Openshell__V1__UploadFileMetadata m = OPENSHELL__V1__UPLOAD_FILE_METADATA__INIT;
	Openshell__Datamodel__V1__WorkspaceSelector scope;
	Google__Protobuf__Timestamp mtime = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
	Towline__V1__Digest digest = TOWLINE__V1__DIGEST__INIT;
	size_t len;

	mtime.seconds = st->st_mtim.tv_sec;
	mtime.nanos = (int32_t)st->st_mtim.tv_nsec;
	m.sandbox = t->sandbox;
	m.remote_path = t->remote;
	m.is_archive = t->recursive;
	m.mode = t->mode != 0 ? t->mode : S_ISREG(st->st_mode) ? st->st_mode & 0777 : 0;
	if (S_ISREG(st->st_mode)) {
		m.size_bytes = (uint64_t)st->st_size;
		m.modified_time = &mtime;
	} else {
		m.size_unknown = true;
	}
	if (!t->recursive)
		promise(&m, &digest, &t->put);
	if (t->put.id[0] != '\0' && !t->put.probing) {
		m.upload_id = t->put.id;
		m.offset = t->put.from;
		m.writer = t->put.compared ? t->put.writer : 0;
		if (t->put.promises) {
			give_digest(&m, &digest, &t->put);
			m.adds_digest = true;
		}
	}
	if (piece != NULL) {
		m.offset = piece->begin;
		m.piece_bytes = piece->end - piece->begin;
		m.writer = t->put.writer;
	}
	m.workspace_scope = scope_of_workspace(&scope, t->workspace);
	request.payload_case = OPENSHELL__V1__UPLOAD_FILE_REQUEST__PAYLOAD_METADATA;
	request.metadata = &m;
	raw_path_give(&m);
	uint8_t *packed = codec_pack_new(&request.base, &len);
	if (packed == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	int r = framed_send(call, packed, len);
	free(packed);
	return r == 0 ? 0 : err_set(err, GRPC_UNAVAILABLE, "the call takes no metadata");
}
