#include "transfer/put_state.h"

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

	m.sandbox = (char *)transfer_target(t).sandbox;
	m.upload_id = t->put.id;
	m.remote_path = (char *)transfer_target(t).path;
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

static void read_ranges(const Towline__V1__QueryUploadResponse *r, struct ranges *durable)
{
	ranges_add(durable, (struct range){ 0, r->durable_bytes });
	for (size_t i = 0; i < r->n_durable_ranges; i++) {
		const Towline__V1__ByteRange *b = r->durable_ranges[i];

		if (b->offset <= r->size_bytes && b->bytes <= r->size_bytes - b->offset)
			ranges_add(durable, (struct range){ b->offset, b->offset + b->bytes });
	}
}

bool put_state_read(
    struct put_state *s, const uint8_t *reply, size_t len, uint64_t size, bool finished)
{
	enum guard_result why;
	Towline__V1__QueryUploadResponse *r =
	    codec_unpack(&towline__v1__query_upload_response__descriptor, reply, len, &why);

	*s = (struct put_state){ 0 };
	/* What was complete before we began says nothing about what is there now. */
	bool is_sound = r != NULL && r->size_bytes == size && r->durable_bytes <= size &&
	    (!r->complete || finished);
	if (is_sound)
		read_ranges(r, &s->durable);
	if (r != NULL && !r->complete && (r->durable_bytes > 0 || r->n_durable_ranges > 0)) {
		s->knows_pieces = r->n_durable_ranges > 0;
		s->knows_none = r->n_durable_ranges == 0;
	}
	codec_free(r);
	return is_sound;
}

void transfer_note_state(struct transfer *t, const struct put_state *s)
{
	if (s->knows_pieces || s->knows_none) {
		t->put.knows_pieces = s->knows_pieces;
		t->put.knows_none = s->knows_none;
	}
}

bool transfer_read_state(
    struct transfer *t, const uint8_t *reply, size_t len, struct ranges *durable)
{
	struct put_state s;
	bool is_sound = put_state_read(&s, reply, len, (uint64_t)t->put.st.st_size, t->put.tried);

	transfer_note_state(t, &s);
	*durable = s.durable;
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
