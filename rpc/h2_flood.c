/*
 * What a peer can make us spend with frames that carry nothing. nghttp2 1.52 limits
 * HEADERS with RST_STREAM, CONTINUATION and the entries of SETTINGS; these it does not.
 *
 * Two buckets of tokens. One frame, one token; an empty bucket ends the connection.
 * Honest WINDOW_UPDATEs and PINGs are as many as the data they answer, so theirs also
 * grows with what we send; but not with crumbs that a window of a few bytes has cut,
 * each of which costs more than the WINDOW_UPDATE that asked for it.
 */
#include "rpc/h2_session.h"

#define TOKENS_PER_FRAME  2.0    /* we sent a frame that held all there was to send */
#define PAYLOAD_PER_TOKEN 1024.0 /* bytes of a frame that did not */

void h2_flood_begin(struct h2 *h)
{
	h->costs.tokens = h->paced.tokens = h->options->flood_burst;
}

static void add(struct h2 *h, struct h2_bucket *b, double tokens)
{
	b->tokens += tokens;
	if (b->tokens > h->options->flood_burst)
		b->tokens = h->options->flood_burst;
}

void h2_flood_refill(struct h2 *h, uint64_t now_ms)
{
	double tokens = (double)(now_ms - h->now_ms) * h->options->flood_rate / 1000.0;

	h->now_ms = now_ms;
	add(h, &h->costs, tokens);
	add(h, &h->paced, tokens);
}

static int take(struct h2 *h, struct h2_bucket *b, const char *what)
{
	if (b->tokens < 1) {
		h->flood = what;
		return -1;
	}
	b->tokens -= 1;
	return 0;
}

int h2_flood_frame(struct h2 *h, const nghttp2_frame_hd *hd)
{
	switch (hd->type) {
	case NGHTTP2_DATA:
		if (hd->length > 0 || (hd->flags & NGHTTP2_FLAG_END_STREAM))
			return 0;
		return take(h, &h->costs, "empty DATA frames");
	case NGHTTP2_HEADERS:
	case NGHTTP2_CONTINUATION:
		return 0; /* calls: the limits of streams and resets hold them, if not late */
	case NGHTTP2_PING:
		return take(h, &h->paced, "PING frames");
	case NGHTTP2_WINDOW_UPDATE:
		return take(h, &h->paced, "WINDOW_UPDATE frames");
	case NGHTTP2_SETTINGS:
		return take(h, &h->costs, "SETTINGS frames");
	case NGHTTP2_PRIORITY:
		return take(h, &h->costs, "PRIORITY frames");
	case NGHTTP2_RST_STREAM:
		return take(h, &h->costs, "RST_STREAM frames");
	default:
		return take(h, &h->costs, "frames that mean nothing here");
	}
}

int h2_flood_late_headers(struct h2 *h)
{
	return take(h, &h->costs, "headers of streams that are over");
}

void h2_flood_reset(struct h2 *h)
{
	take(h, &h->costs, "streams that have to be reset");
}

void h2_flood_payload(struct h2 *h, size_t len, bool cut_short)
{
	add(h, &h->paced, cut_short ? (double)len / PAYLOAD_PER_TOKEN : TOKENS_PER_FRAME);
}
