/* One stream of a session, as its user handles it: its queue, its ends, its references. */
#include <stdlib.h>
#include <string.h>

#include "rpc/call.h"
#include "rpc/h2_session.h"
#include "rpc/limits.h"
#include "rpc/meta.h"

#define SMALL_MAX    ((size_t)4096)  /* slices below this are gathered by copy behind others */
#define GATHER_FIRST ((size_t)4096)  /* bytes of the block they are gathered in... */
#define GATHER_MORE  ((size_t)16384) /* ...and of the next, when that is full */
#define RING_KEPT    16              /* slices an empty queue keeps room for */
#define QUEUE_SLICES_MAX \
	8192 /* what RPC_CALL_QUEUE_MAX is in slices of SMALL_MAX and one between each two */
#define FIELDS_MAX (RPC_META_ITEMS_MAX + 16)

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

void h2_stream_spare(struct h2_stream *s)
{
	if (s->queue.cap > RING_KEPT)
		bufq_free(&s->queue);
	block_unref(s->gather);
	s->gather = NULL;
	s->settled = false;
}

static void drop_queue(struct h2_stream *s)
{
	if (s->h2 != NULL)
		s->h2->queued -= s->queue.bytes + s->small.len;
	bufq_free(&s->queue);
	slice_release(&s->small);
	h2_stream_spare(s);
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
	if (s->prev != NULL)
		s->prev->next = s->next;
	else
		h->streams = s->next;
	if (s->next != NULL)
		s->next->prev = s->prev;
	h->stream_count--;
	h2_window_drop(s);
	drop_queue(s);
}

/* Headers. */

static size_t make_fields(nghttp2_nv *nv, const struct meta_field *fields, size_t count)
{
	assert(count <= FIELDS_MAX);
	for (size_t i = 0; i < count; i++)
		nv[i] = (nghttp2_nv){ (uint8_t *)(uintptr_t)fields[i].name,
			(uint8_t *)(uintptr_t)fields[i].value, fields[i].name_len,
			fields[i].value_len, NGHTTP2_NV_FLAG_NONE };
	return count;
}

static int submit_failed(int r, struct err *err)
{
	return err_set(err, r == NGHTTP2_ERR_NOMEM ? GRPC_RESOURCE_EXHAUSTED : GRPC_UNAVAILABLE,
	    "HTTP/2: %s", nghttp2_strerror(r));
}

int h2_request(struct h2 *h, struct h2_stream *s, const struct meta_field *fields, size_t count,
    struct err *err)
{
	nghttp2_nv nv[FIELDS_MAX];
	nghttp2_data_provider provider = h2_send_provider(s);
	int32_t id = nghttp2_submit_request(
	    h2_library(h), NULL, nv, make_fields(nv, fields, count), &provider, s);

	if (id < 0)
		return submit_failed(id, err);
	s->h2 = h;
	s->id = id;
	h2_list(h, s);
	h2_wake(h);
	return 0;
}

static bool is_over(const struct h2_stream *s)
{
	return s->h2 == NULL || s->gone || s->reset;
}

/* What is said to a stream that the peer has dropped is dropped too: closed() is on its
 * way and will say so, behind what the peer has said before. */
static bool is_dropped(const struct h2_stream *s)
{
	return s->h2 != NULL && s->gone;
}

static int refused(const struct h2_stream *s, struct err *err)
{
	return is_dropped(s) ? 0 : err_set(err, GRPC_CANCELLED, "the stream is closed");
}

int h2_stream_respond(
    struct h2_stream *s, const struct meta_field *fields, size_t count, bool only, struct err *err)
{
	nghttp2_nv nv[FIELDS_MAX];
	nghttp2_data_provider provider = h2_send_provider(s);

	if (is_over(s))
		return refused(s, err);
	int r = nghttp2_submit_response(
	    h2_library(s->h2), s->id, nv, make_fields(nv, fields, count), only ? NULL : &provider);
	h2_check(s->h2, r);
	h2_wake(s->h2);
	if (r != 0)
		return submit_failed(r, err);
	s->ending = s->ending || only;
	return 0;
}

int h2_stream_trailers(
    struct h2_stream *s, const struct meta_field *fields, size_t count, struct err *err)
{
	nghttp2_nv nv[FIELDS_MAX];

	if (is_over(s))
		return refused(s, err);
	int r =
	    nghttp2_submit_trailer(h2_library(s->h2), s->id, nv, make_fields(nv, fields, count));

	h2_check(s->h2, r);
	return r == 0 ? 0 : submit_failed(r, err);
}

/* Writing. */

static void resume(struct h2_stream *s)
{
	if (s->deferred) {
		s->deferred = false;
		h2_check(s->h2, nghttp2_session_resume_data(h2_library(s->h2), s->id));
	}
	h2_wake(s->h2);
}

static bool can_write(const struct h2_stream *s, size_t len)
{
	size_t queued = h2_stream_queued(s);

	return !is_over(s) && !s->ending && queued <= RPC_CALL_QUEUE_MAX &&
	    len <= RPC_CALL_QUEUE_MAX - queued;
}

/* What was gathered takes its place in the queue. */
static int flush_small(struct h2_stream *s)
{
	if (s->small.len == 0)
		return 0;
	if (bufq_push(&s->queue, s->small) != 0)
		return -1;
	s->small = (struct slice){ 0 };
	return 0;
}

/* Room for ${len} bytes behind what was gathered. */
static int reserve_small(struct h2_stream *s, size_t len)
{
	if (s->gather != NULL && block_size(s->gather) - s->gather_used >= len)
		return 0;
	size_t size = s->gather == NULL ? GATHER_FIRST : GATHER_MORE;
	struct block *b = block_new(size);
	if (b == NULL || flush_small(s) != 0) {
		block_unref(b);
		return -1;
	}
	block_unref(s->gather);
	s->gather = b;
	s->gather_used = 0;
	return 0;
}

static int append_small(struct h2_stream *s, const void *bytes, size_t len)
{
	if (len == 0)
		return 0;
	if (reserve_small(s, len) != 0)
		return -1;
	memcpy(block_data(s->gather) + s->gather_used, bytes, len);
	if (s->small.len == 0)
		s->small = slice_of(s->gather, s->gather_used, len);
	else
		s->small.len += len;
	s->gather_used += len;
	return 0;
}

int h2_stream_write(struct h2_stream *s, struct slice bytes)
{
	size_t len = bytes.len;

	if (is_dropped(s)) {
		slice_release(&bytes);
		return 0;
	}
	if (!can_write(s, len))
		return -1;
	/* What goes out at once needs no copy, however small. */
	if (len < SMALL_MAX && !h2_stream_is_drained(s)) {
		if (append_small(s, bytes.data, len) != 0)
			return -1;
		slice_release(&bytes);
	} else {
		if (flush_small(s) != 0 || bufq_push(&s->queue, bytes) != 0)
			return -1;
		s->settled = false;
	}
	s->h2->queued += len;
	resume(s);
	return 0;
}

int h2_stream_copy(struct h2_stream *s, const void *bytes, size_t len)
{
	if (is_dropped(s))
		return 0;
	if (!can_write(s, len))
		return -1;
	if (len >= SMALL_MAX) {
		struct slice copy = slice_copy(bytes, len);
		if (copy.data == NULL || h2_stream_write(s, copy) != 0) {
			slice_release(&copy);
			return -1;
		}
		return 0;
	}
	if (append_small(s, bytes, len) != 0)
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

/* Trailers behind an empty queue are submitted by themselves: the data would have to
 * wait for a window to say that there is none. The library would frame them before a
 * request that still waits, and lose them: then its headers bring them. */
static void end_now(struct h2_stream *s)
{
	if (s->trailed && s->begun && h2_stream_is_drained(s)) {
		h2_due_add(s->h2, s);
		h2_wake(s->h2);
	} else {
		resume(s);
	}
}

void h2_stream_end(struct h2_stream *s, bool trailers)
{
	if (is_over(s) || s->ending)
		return;
	s->ending = true;
	s->trailed = trailers;
	end_now(s);
}

void h2_stream_reset_after(struct h2_stream *s)
{
	s->reset_after = true;
	if (is_over(s) || !s->ended)
		return;
	h2_due_add(s->h2, s);
	h2_wake(s->h2);
}

void h2_stream_drop(struct h2_stream *s)
{
	drop_queue(s);
	if (!is_over(s) && s->ending && !s->ended)
		end_now(s);
}

void h2_stream_detach(struct h2_stream *s)
{
	s->deaf = true;
	h2_stream_unref(s);
}

void h2_stream_reset(struct h2_stream *s, uint32_t code)
{
	if (!is_over(s)) {
		s->reset = true;
		drop_queue(s);
		h2_check(s->h2,
		    nghttp2_submit_rst_stream(h2_library(s->h2), NGHTTP2_FLAG_NONE, s->id, code));
		h2_wake(s->h2);
	}
	h2_stream_detach(s);
}

void h2_stream_credit(struct h2_stream *s, size_t bytes)
{
	if (bytes > s->unread)
		bytes = s->unread;
	if (is_over(s) || bytes == 0)
		return;
	s->unread -= bytes;
	h2_check(s->h2, nghttp2_session_consume_stream(h2_library(s->h2), s->id, bytes));
	h2_window_used(s, bytes);
	if (s->h2->no_memory || h2_wants_output(s->h2))
		h2_wake(s->h2);
}
