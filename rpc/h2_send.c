/*
 * Framing: the library asks what a stream has, and gets references to what is queued.
 * Nothing in this file calls the library (but to find a stream's pointer) or a user.
 */
#include "rpc/h2_session.h"

#define FRAME_SLICES_MAX 64    /* of one DATA frame */
#define OUT_ENTRIES_MAX  16384 /* crumbs: their bookkeeping is more than they are */
#define FRAME_HEAD       9     /* bytes (RFC 9113, section 4.1) */

bool h2_out_is_full(const struct h2 *h, const struct outq *out)
{
	return out->bytes >= h->options->out_high || out->count >= OUT_ENTRIES_MAX;
}

static size_t available(const struct h2_stream *s)
{
	return s->queue.bytes + s->small.len;
}

bool h2_stream_is_drained(const struct h2_stream *s)
{
	return available(s) == 0;
}

/* How much of the queue one frame can hold. */
static size_t frame_bytes(const struct h2_stream *s, size_t max)
{
	struct iovec iov[FRAME_SLICES_MAX];
	size_t n = bufq_peek(&s->queue, iov, FRAME_SLICES_MAX, max), total = 0;

	for (size_t i = 0; i < n; i++)
		total += iov[i].iov_len;
	if (n < FRAME_SLICES_MAX && total == s->queue.bytes)
		total += s->small.len < max - total ? s->small.len : max - total;
	return total;
}

static ssize_t on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t len,
    uint32_t *flags, nghttp2_data_source *source, void *cookie)
{
	struct h2_stream *s = source->ptr;
	size_t n = frame_bytes(s, len);

	(void)session;
	(void)id;
	(void)buf;
	(void)cookie;
	if (n == 0 && (!s->ending || s->trailed)) { /* trailers go without the data's help */
		s->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (s->ending && n == available(s))
		*flags |=
		    NGHTTP2_DATA_FLAG_EOF | (s->trailed ? NGHTTP2_DATA_FLAG_NO_END_STREAM : 0u);
	return (ssize_t)n;
}

/* The library gives 16 KiB unless told otherwise. It may not be given 0, limits the
 * answer by windows and the peer's SETTINGS itself, and keeps a buffer of that size. */
static ssize_t on_read_length(nghttp2_session *session, uint8_t type, int32_t id,
    int32_t session_window, int32_t stream_window, uint32_t peer_frame_max, void *cookie)
{
	const struct h2 *h = cookie;
	const struct h2_stream *s = nghttp2_session_get_stream_user_data(session, id);
	size_t n = s != NULL ? available(s) : 0;

	(void)type;
	(void)session_window;
	(void)stream_window;
	(void)peer_frame_max;
	if (n > h->options->frame_max)
		n = h->options->frame_max;
	return n > 0 ? (ssize_t)n : 1;
}

static struct slice pop(struct h2_stream *s, size_t max)
{
	struct slice part;

	if (s->queue.bytes > 0)
		return bufq_pop(&s->queue, max);
	if (s->small.len <= max) {
		part = s->small;
		s->small = (struct slice){ 0 };
		return part;
	}
	part = slice_sub(&s->small, 0, max);
	s->small.data += max;
	s->small.len -= max;
	return part;
}

/* The frame's header and references to its payload go to the out-queue. */
static int on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
    size_t len, nghttp2_data_source *source, void *cookie)
{
	struct h2 *h = cookie;
	struct h2_stream *s = source->ptr;
	size_t total = len;

	(void)session;
	assert(frame->data.padlen == 0);
	if (outq_reserve(h->out, FRAME_SLICES_MAX + 2) != 0) {
		h->no_memory = true;
		return NGHTTP2_ERR_CALLBACK_FAILURE;
	}
	outq_add_head(h->out, head, FRAME_HEAD);
	while (len > 0) {
		struct slice part = pop(s, len);
		assert(part.len > 0); /* the queue does not shrink between promise and frame */
		len -= part.len;
		h2_stream_ref(s);
		outq_add_payload(h->out, part, s);
	}
	h->queued -= total;
	s->framed += total;
	s->stuck = false;
	h2_flood_payload(h, total, available(s) > 0);
	if (h2_stream_is_drained(s)) {
		h2_stream_spare(s);
		if (s->ending && s->trailed)
			h2_due_add(h, s);
	}
	return h->due != NULL || h2_out_is_full(h, h->out) ? NGHTTP2_ERR_PAUSE : 0;
}

static bool ends_stream(const nghttp2_frame *frame)
{
	return (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
	    (frame->hd.flags & NGHTTP2_FLAG_END_STREAM);
}

static int on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *cookie)
{
	struct h2 *h = cookie;
	struct h2_stream *s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

	/* A reset that the peer makes us send costs more than what it sent (CVE-2025-8671). */
	if (frame->hd.type == NGHTTP2_RST_STREAM && (s == NULL || !s->reset))
		h2_flood_reset(h);
	if (s != NULL && !s->begun) {
		s->begun = true;
		if (h2_stream_is_drained(s) && s->ending && s->trailed)
			h2_due_add(h, s);
	}
	if (s != NULL && ends_stream(frame)) {
		s->ended = true;
		if (s->reset_after)
			h2_due_add(h, s);
	}
	return 0;
}

/* Headers the library refuses to send would leave a peer waiting. */
static int on_frame_not_send(
    nghttp2_session *session, const nghttp2_frame *frame, int why, void *cookie)
{
	struct h2_stream *s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

	(void)why;
	if (s != NULL && frame->hd.type == NGHTTP2_HEADERS &&
	    frame->headers.cat != NGHTTP2_HCAT_REQUEST) {
		s->broken = true;
		h2_due_add(cookie, s);
	}
	return 0;
}

void h2_send_callbacks(nghttp2_session_callbacks *c)
{
	nghttp2_session_callbacks_set_send_data_callback(c, on_send_data);
	nghttp2_session_callbacks_set_data_source_read_length_callback(c, on_read_length);
	nghttp2_session_callbacks_set_on_frame_send_callback(c, on_frame_send);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(c, on_frame_not_send);
}

nghttp2_data_provider h2_send_provider(struct h2_stream *s)
{
	return (nghttp2_data_provider){ .source.ptr = s, .read_callback = on_read };
}
