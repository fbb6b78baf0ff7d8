/* How much of an upload is there: of one stream as of several. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "proto/codec.h"
#include "proto/scope.h"
#include "transfer/client_transfer.h"
#include "transfer/raw_path.h"

#define QUERY_MS 30000

struct rpc_unary *transfer_query(struct transfer *t, struct rpc_client *client,
    void (*done)(void *cookie, const uint8_t *reply, size_t len, const struct err *), void *cookie,
    struct err *err)
{
	Towline__V1__QueryUploadRequest m = TOWLINE__V1__QUERY_UPLOAD_REQUEST__INIT;
	Openshell__Datamodel__V1__WorkspaceSelector scope;
	size_t len;

	m.sandbox = t->sandbox;
	m.upload_id = t->put.id;
	m.remote_path = t->remote;
	m.workspace_scope = scope_of_workspace(&scope, t->workspace);
	raw_path_give(&m);
	uint8_t *packed = codec_pack_new(&m.base, &len);
	if (packed == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	struct rpc_unary *query = rpc_client_unary(client, "/towline.v1.Files/QueryUpload", NULL,
	    QUERY_MS, packed, len, done, cookie, err);
	free(packed);
	return query;
}

static bool read_ranges(
    struct transfer_put *p, const Towline__V1__QueryUploadResponse *r, struct ranges *durable)
{
	/* What was complete before we began says nothing about what is there now. */
	if (r->size_bytes != (uint64_t)p->st.st_size || r->durable_bytes > r->size_bytes ||
	    (r->complete && !p->tried))
		return false;
	ranges_add(durable, (struct range){ 0, r->durable_bytes });
	for (size_t i = 0; i < r->n_durable_ranges; i++) {
		const Towline__V1__ByteRange *b = r->durable_ranges[i];

		if (b->offset <= r->size_bytes && b->bytes <= r->size_bytes - b->offset)
			ranges_add(durable, (struct range){ b->offset, b->offset + b->bytes });
	}
	return true;
}

bool transfer_read_state(
    struct transfer *t, const uint8_t *reply, size_t len, struct ranges *durable)
{
	enum guard_result why;
	Towline__V1__QueryUploadResponse *r =
	    codec_unpack(&towline__v1__query_upload_response__descriptor, reply, len, &why);
	bool is_sound = r != NULL && read_ranges(&t->put, r, durable);

	if (r != NULL && !r->complete && (r->durable_bytes > 0 || r->n_durable_ranges > 0)) {
		t->put.knows_pieces = r->n_durable_ranges > 0;
		t->put.knows_none = r->n_durable_ranges == 0;
	}
	codec_free(r);
	return is_sound;
}

int transfer_check_unchanged(struct transfer *t, struct err *err)
{
	const struct stat *was = &t->put.st;
	struct stat st;

	if (fstat(t->fd, &st) != 0)
		return err_sys(err, errno, "%s", t->local);
	if (st.st_size == was->st_size + (off_t)t->put.base &&
	    st.st_mtim.tv_sec == was->st_mtim.tv_sec && st.st_mtim.tv_nsec == was->st_mtim.tv_nsec)
		return 0;
	return err_set(err, GRPC_ABORTED, "%s changed while it was sent", t->local);
}
