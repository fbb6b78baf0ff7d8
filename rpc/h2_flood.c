/*
 * What a peer can make us spend with frames that carry nothing. nghttp2 1.52 counts
 * resets and continuations; these it does not (docs/limits.md).
 */
#include "rpc/h2_session.h"

/* Payload earns the frames that honest traffic needs: a WINDOW_UPDATE for so many bytes. */
#define PAYLOAD_PER_TOKEN 4096.0

static void refill(struct h2 *h)
{
	double max = h->options->flood_burst;

	h->tokens += (double)(h->now_ms - h->refilled_ms) * h->options->flood_rate / 1000.0;
	h->refilled_ms = h->now_ms;
	if (h->tokens > max)
		h->tokens = max;
}

void h2_flood_count(struct h2 *h, const char *what)
{
	refill(h);
	if (h->tokens < 1) {
		h->flood = what;
		return;
	}
	h->tokens -= 1;
}

void h2_flood_payload(struct h2 *h, size_t bytes)
{
	double max = h->options->flood_burst;

	h->tokens += (double)bytes / PAYLOAD_PER_TOKEN;
	if (h->tokens > max)
		h->tokens = max;
}
