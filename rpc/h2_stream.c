/* One stream of a session: its queue, its ends, its references. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/call.h"
#include "rpc/h2_session.h"
#include "rpc/limits.h"
#include "rpc/meta.h"

#define SMALL_MAX ((size_t)4096)   /* slices up to here are gathered by copy */
#define GATHER_SIZE ((size_t)16384) /* bytes of the block they are gathered in */
#define FIRST_GATHER ((size_t)512)  /* ...and of the first one, which is often the only one */
#define FIELDS_MAX (RPC_META_ITEMS_MAX + 16)
#define QUEUE_SLICES_MAX 16384

void h2_stream_init(struct h2_stream *s, void (*release)(struct h2_stream *))
{
	memset(s, 0, sizeof(*s));
	s->refs = 1;
	s->release = release;
	bufq_init(&s->queue, QUEUE_SLICES_MAX, RPC_CALL_QUEUE_MAX);
}

void h2_stream_ref(struct h2_stream *s)
{
	s->refs++;
}

static void drop_queue(struct h2_stream *s)
{
	if (s->h2 != NULL)
		s->h2->queued -= s->queue.bytes + s->small.len;
	bufq_free(&s->queue);
	slice_release(&s->small);
	block_unref(s->gather);
	s->gather = NULL;
}

void h2_stream_unref(struct h2_stream *s)
{
	assert(s->refs > 0);
	if (--s->refs > 0)
		return;
	drop_queue(s);
	s->release(s);
}

void h2_list(struct h2 *h, struct h2_stream *s)
{
	h2_stream_ref(s);
	s->listed = true;
	s->prev = NULL;
	s->next = h->streams;
	if (h->streams != NULL)
		h->streams->prev = s;
	h->streams = s;
	h->stream_count++;
}

/* The reference of the list is the caller's from here on. */
void h2_unlist(struct h2_stream *s)
{
	struct h2 *h = s->h2;

	assert(s->listed);
	s->listed = false;
	h->queued -= s->queue.bytes + s->small.len;
	if (s->prev != NULL)
		s->prev->next = s->next;
	else
		h->streams = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
	h->stream_count--;
	bufq_free(&s->queue);
	slice_release(&s->small);
	block_unref(s->gather);
	s->gather = NULL;
}

/* Headers. */

static size_t make_fields(nghttp2_nv *nv, const struct meta_field *fields, size_t count)
{
	assert(count <= FIELDS_MAX);
	for (size_t i = 0; i < count; i++)
		nv[i] = (nghttp2_nv){(uint8_t *)fields[i].name, (uint8_t *)fields[i].value, fields[i].name_len,
		    fields[i].value_len, NGHTTP2_NV_FLAG_NONE};
	return count;
}

static int submit_failed(int r, struct err *err)
{
	return err_set(err, r == NGHTTP2_ERR_NOMEM ? GRPC_RESOURCE_EXHAUSTED : GRPC_UNAVAILABLE,
	    "the connection takes no new stream: %s", nghttp2_strerror(r));
}

int h2_request(struct h2 *h, struct h2_stream *s, const struct meta_field *fields, size_t count, struct err *err)
{
	nghttp2_nv nv[FIELDS_MAX];
	nghttp2_data_provider provider = h2_send_provider(s);
	int32_t id = nghttp2_submit_request(h->session, NULL, nv, make_fields(nv, fields, count), &provider, s);

	if (id < 0)
		return submit_failed(id, err);
	s->h2 = h;
	s->id = id;
	h2_list(h, s);
	h2_wake(h);
	return 0;
}

int h2_stream_respond(struct h2_stream *s, const struct meta_field *fields, size_t count, bool only, struct err *err)
{
	nghttp2_nv nv[FIELDS_MAX];
	nghttp2_data_provider provider = h2_send_provider(s);

	if (s->h2 == NULL)
		return err_set(err, GRPC_UNAVAILABLE, "the connection is gone");
	int r = nghttp2_submit_response(s->h2->session, s->id, nv, make_fields(nv, fields, count),
	    only ? NULL : &provider);
	if (r != 0)
		return submit_failed(r, err);
	h2_wake(s->h2);
	return 0;
}

int h2_stream_trailers(struct h2_stream *s, const struct meta_field *fields, size_t count, struct err *err)
{
	nghttp2_nv nv[FIELDS_MAX];

	if (s->h2 == NULL)
		return err_set(err, GRPC_UNAVAILABLE, "the connection is gone");
	int r = nghttp2_submit_trailer(s->h2->session, s->id, nv, make_fields(nv, fields, count));
	return r == 0 ? 0 : submit_failed(r, err);
}

/* Writing. */

static void resume(struct h2_stream *s)
{
	if (s->deferred) {
		s->deferred = false;
		nghttp2_session_resume_data(s->h2->session, s->id);
	}
	h2_wake(s->h2);
}

static bool can_write(const struct h2_stream *s, size_t len)
{
	return s->h2 != NULL && !s->ending && !s->reset && !s->closed &&
	    len <= RPC_CALL_QUEUE_MAX - h2_stream_queued(s) && s->queue.count < QUEUE_SLICES_MAX;
}

/* What was gathered takes its place in the queue. */
static int flush_small(struct h2_stream *s)
{
	if (s->small.len == 0)
		return 0;
	if (bufq_push(&s->queue, s->small) != 0)
		return -1;
	s->small = (struct slice){0};
	return 0;
}

static int new_gather(struct h2_stream *s, size_t len)
{
	size_t size = s->gather == NULL && len <= FIRST_GATHER ? FIRST_GATHER : GATHER_SIZE;
	struct block *b = block_new(size < len ? len : size);

	if (b == NULL || flush_small(s) != 0) {
		block_unref(b);
		return -1;
	}
	block_unref(s->gather);
	s->gather = b;
	s->gather_used = 0;
	return 0;
}

int h2_stream_copy(struct h2_stream *s, const void *bytes, size_t len)
{
	if (!can_write(s, len))
		return -1;
	if (len == 0)
		return 0;
	if ((s->gather == NULL || block_size(s->gather) - s->gather_used < len) && new_gather(s, len) != 0)
		return -1;
	memcpy(block_data(s->gather) + s->gather_used, bytes, len);
	if (s->small.len == 0)
		s->small = slice_of(s->gather, s->gather_used, 0);
	s->small.len += len;
	s->gather_used += len;
	s->h2->queued += len;
	resume(s);
	return 0;
}

int h2_stream_write(struct h2_stream *s, struct slice bytes)
{
	size_t len = bytes.len;

	if (len <= SMALL_MAX) {
		if (h2_stream_copy(s, bytes.data, len) != 0)
			return -1;
		slice_release(&bytes);
		return 0;
	}
	if (!can_write(s, len) || flush_small(s) != 0 || bufq_push(&s->queue, bytes) != 0)
		return -1;
	s->h2->queued += len;
	resume(s);
	return 0;
}

size_t h2_stream_queued(const struct h2_stream *s)
{
	return s->queue.bytes + s->small.len + s->framed;
}

/* Ending. */

void h2_stream_end(struct h2_stream *s, bool trailers)
{
	if (s->h2 == NULL || s->ending || s->reset || s->closed)
		return;
	s->ending = true;
	s->trailed = trailers;
	resume(s);
}

void h2_stream_reset_after(struct h2_stream *s)
{
	s->reset_after = true;
	if (s->h2 == NULL || !s->ended || s->reset || s->peer_ended || s->closed)
		return;
	s->reset = true;
	nghttp2_submit_rst_stream(s->h2->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_NO_ERROR);
	h2_wake(s->h2);
}

void h2_stream_drop(struct h2_stream *s)
{
	drop_queue(s);
}

void h2_stream_detach(struct h2_stream *s)
{
	s->deaf = true;
	h2_stream_unref(s);
}

void h2_stream_reset(struct h2_stream *s, uint32_t code)
{
	if (s->h2 != NULL && !s->reset && !s->closed && s->id != 0) {
		s->reset = true;
		drop_queue(s);
		nghttp2_submit_rst_stream(s->h2->session, NGHTTP2_FLAG_NONE, s->id, code);
		h2_wake(s->h2);
	}
	h2_stream_detach(s);
}

void h2_stream_credit(struct h2_stream *s, size_t bytes)
{
	if (s->h2 == NULL || s->closed || bytes == 0)
		return;
	nghttp2_session_consume_stream(s->h2->session, s->id, bytes);
	if (nghttp2_session_want_write(s->h2->session))
		h2_wake(s->h2);
}

void h2_settle(struct h2 *h)
{
	for (struct h2_stream *s = h->streams; s != NULL; s = s->next) {
		if (s->stuck && s->queue.count > 0)
			bufq_settle(&s->queue);
		s->stuck = s->queue.count > 0;
	}
}
