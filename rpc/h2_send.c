/* Framing: the library asks, streams give references to what they have queued. */
#include <assert.h>

#include "rpc/h2_session.h"

#define FRAME_SLICES_MAX 64 /* of one DATA frame */

static size_t available(const struct h2_stream *s)
{
	return s->queue.bytes + s->small.len;
}

/* How much of the queue one frame can hold: not more than FRAME_SLICES_MAX slices. */
static size_t frame_bytes(const struct h2_stream *s, size_t max)
{
	struct iovec iov[FRAME_SLICES_MAX];
	size_t n = bufq_peek(&s->queue, iov, FRAME_SLICES_MAX, max), total = 0;

	for (size_t i = 0; i < n; i++)
		total += iov[i].iov_len;
	if (n < FRAME_SLICES_MAX && total == s->queue.bytes && total < max)
		total += s->small.len < max - total ? s->small.len : max - total;
	return total;
}

static void push_due(struct h2 *h, struct h2_stream *s)
{
	if (s->is_due)
		return;
	s->is_due = true;
	s->due_next = h->due;
	h->due = s;
	h2_stream_ref(s);
}

static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len, uint32_t *flags,
    nghttp2_data_source *source, void *cookie)
{
	struct h2_stream *s = source->ptr;
	size_t n = frame_bytes(s, len);

	(void)session;
	(void)id;
	(void)buf;
	if (n == 0 && !s->ending) {
		s->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (s->ending && n == available(s)) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (s->trailed)
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
		if (s->trailed && n == 0)
			push_due(cookie, s); /* an empty frame before trailers is left out */
	}
	return (ssize_t)n;
}

/* The library gives 16 KiB unless told otherwise; it may not be given 0 or less. */
static ssize_t on_read_length(nghttp2_session *session, uint8_t type, int32_t id, int32_t session_window,
    int32_t stream_window, uint32_t peer_frame_max, void *cookie)
{
	const struct h2 *h = cookie;
	int64_t n = h->options->frame_max;

	(void)session;
	(void)type;
	(void)id;
	if (n > peer_frame_max)
		n = peer_frame_max;
	if (n > session_window)
		n = session_window;
	if (n > stream_window)
		n = stream_window;
	return n > 0 ? (ssize_t)n : 1;
}

static struct slice pop(struct h2_stream *s, size_t max)
{
	struct slice part;

	if (s->queue.bytes > 0)
		return bufq_pop(&s->queue, max);
	if (s->small.len <= max) {
		part = s->small;
		s->small = (struct slice){0};
		return part;
	}
	part = slice_sub(&s->small, 0, max);
	s->small.data += max;
	s->small.len -= max;
	return part;
}

/* The frame's header and references to its payload go to the out-queue. */
static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head, size_t len,
    nghttp2_data_source *source, void *cookie)
{
	struct h2 *h = cookie;
	struct h2_stream *s = source->ptr;

	(void)session;
	if (outq_reserve(h->out, FRAME_SLICES_MAX + 1) != 0) {
		h->no_memory = true;
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	assert(frame->data.padlen == 0);
	outq_add_head(h->out, head, 9);
	h->queued -= len;
	h2_flood_payload(h, len);
	while (len > 0) {
		struct slice part = pop(s, len);
		assert(part.len > 0); /* the queue does not shrink between promise and frame */
		len -= part.len;
		s->framed += part.len;
		h2_stream_ref(s);
		outq_add_payload(h->out, part, s);
	}
	s->stuck = false;
	if (s->ending && available(s) == 0) {
		s->ended = !s->trailed;
		if (s->trailed)
			push_due(h, s);
	}
	return h->out->bytes >= h->options->out_high ? NGHTTP2_ERR_PAUSE : 0;
}

/* Resets that the peer makes us send cost more than those it sends (CVE-2025-8671). */
static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *cookie)
{
	struct h2 *h = cookie;
	struct h2_stream *s;

	if (frame->hd.type == NGHTTP2_RST_STREAM && frame->rst_stream.error_code != NGHTTP2_NO_ERROR &&
	    frame->rst_stream.error_code != NGHTTP2_CANCEL)
		h2_flood_count(h, "streams that have to be reset");
	if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
	    (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) &&
	    (s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id)) != NULL) {
		s->ended = true;
		if (s->reset_after)
			push_due(h, s);
	}
	return 0;
}

void h2_send_callbacks(nghttp2_session_callbacks *c)
{
	nghttp2_session_callbacks_set_send_data_callback(c, on_send_data);
	nghttp2_session_callbacks_set_data_source_read_length_callback(c, on_read_length);
	nghttp2_session_callbacks_set_on_frame_send_callback(c, on_frame_send);
}

nghttp2_data_provider h2_send_provider(struct h2_stream *s)
{
	return (nghttp2_data_provider){.source.ptr = s, .read_callback = on_read};
}

/* Trailers behind the last data, and the reset behind the end. */
static bool serve_due(struct h2 *h)
{
	bool any = h->due != NULL;

	while (h->due != NULL) {
		struct h2_stream *s = h->due;
		h->due = s->due_next;
		s->is_due = false;
		if (s->h2 != NULL && !s->reset && s->ended && s->reset_after && !s->peer_ended) {
			s->reset = true;
			nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_NO_ERROR);
		} else if (s->h2 != NULL && !s->reset && !s->ended && s->trailed) {
			s->trailed = false;
			h->ops->trailers(s);
		}
		h2_stream_unref(s);
	}
	return any;
}

int h2_frame(struct h2 *h, struct outq *out, struct err *err)
{
	const uint8_t *bytes;
	ssize_t n = 0;

	h->woken = false;
	h->out = out;
	do {
		assert(!h->inside);
		h->inside = true;
		while (out->bytes < h->options->out_high &&
		    (n = nghttp2_session_mem_send(h->session, &bytes)) > 0) {
			if (outq_add_control(out, bytes, (size_t)n) != 0) {
				h->inside = false;
				return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory for a connection");
			}
		}
		h->inside = false;
		if (out->bytes >= h->options->out_high)
			break;
		if (n < 0 || h->no_memory)
			return err_set(err, GRPC_INTERNAL, "HTTP/2: %s", nghttp2_strerror((int)n));
	} while (serve_due(h));
	serve_due(h);
	h->out = NULL;
	return out->bytes >= h->options->out_high;
}

void h2_left(void *cookie, void *tag, size_t payload, bool gone)
{
	struct h2 *h = cookie;
	struct h2_stream *s = tag;

	s->framed -= payload;
	s->left += payload;
	if (s->h2 != NULL && !h->stopped && !s->is_sent && payload > 0) {
		s->is_sent = true;
		s->sent_next = h->told;
		h->told = s;
		h2_stream_ref(s);
	}
	if (gone)
		h2_stream_unref(s);
}
