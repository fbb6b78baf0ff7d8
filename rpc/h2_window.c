/*
 * Receive windows that grow with the way to the peer.
 *
 * A stream moves at most one window a round trip: RPC_WINDOW is plenty where the peer is
 * near, and 10 MiB/s where it is 100 ms away. So who uses half of a stream's window up
 * within a round trip gets a larger one; who does not read gets none. The trip is the
 * shortest that our SETTINGS or a PING of ours took (RFC 9113, 6.7): measured at the very
 * beginning, as soon as there is more than talk, before much is under way that an answer
 * could wait behind, and before each growth. A near peer that is busy answers late as well;
 * so the kernel's word, which is not, is heard too: who is near by that may only be behind
 * a proxy, and has to be farther away by the measure of ours.
 */
#include <string.h>

#include "base/loop.h"
#include "rpc/h2_session.h"

#define GROWTH  8 /* times */
#define DOUBT   5 /* times farther has to be who the kernel says is near */
#define TRIPS   2 /* measured before a window grows for the first time, and 1 each time after */
#define EARLY   ((size_t)64 << 10) /* bytes before the first: sessions of few words need none */
#define UNKNOWN UINT32_MAX

static const uint8_t probe[8] = "trip";

void h2_window_begin(struct h2 *h)
{
	h->trip_us = UNKNOWN;
	h->near_us = h->options->near_us;
	h->begun_us = loop_now_us();
}

void h2_link_is_near(struct h2 *h)
{
	h->near_us = h->options->near_us * DOUBT;
}

static void took_so_long(struct h2 *h, uint64_t trip)
{
	if (trip < h->trip_us)
		h->trip_us = (uint32_t)trip;
}

void h2_window_settled(struct h2 *h)
{
	if (h->begun_us != 0)
		took_so_long(h, loop_now_us() - h->begun_us);
	h->begun_us = 0;
}

static void measure(struct h2 *h)
{
	if (h->probed_us != 0)
		return;
	h->probed_us = loop_now_us();
	h2_check(h, nghttp2_submit_ping(h2_library(h), NGHTTP2_FLAG_NONE, probe));
	h2_wake(h);
}

void h2_window_pong(struct h2 *h, const uint8_t data[static 8])
{
	if (memcmp(data, probe, sizeof(probe)) != 0) {
		h->ponged = true;
		return;
	}
	if (h->probed_us == 0)
		return;
	took_so_long(h, loop_now_us() - h->probed_us);
	h->probed_us = 0;
	h->trips++;
	h->probe_again = h->trips < TRIPS && h->trip_us >= h->near_us;
}

void h2_window_probe(struct h2 *h)
{
	if (h->probe_again)
		measure(h);
	h->probe_again = false;
}

static void grow(struct h2_stream *s)
{
	struct h2 *h = s->h2;
	uint32_t max = h->options->window_max;
	uint32_t window = s->window < max / GROWTH ? s->window * GROWTH : max;

	if (window <= s->window || h->grown + (window - s->window) > h->options->window_budget)
		return;
	h2_check(h,
	    nghttp2_session_set_local_window_size(
		h2_library(h), NGHTTP2_FLAG_NONE, s->id, (int32_t)window));
	h->grown += window - s->window;
	s->window = window;
	h->trips = TRIPS - 1;
	measure(h);
}

void h2_window_used(struct h2_stream *s, size_t bytes)
{
	struct h2 *h = s->h2;
	uint64_t now, took;

	if (s->window == 0) {
		s->window = h->options->stream_window;
		s->used_since = loop_now_us();
	}
	if (h->early < EARLY && (h->early += bytes) >= EARLY &&
	    h->options->window_max > h->options->stream_window)
		measure(h);
	s->used += (uint32_t)bytes;
	if (s->used < s->window / 2 || s->window >= h->options->window_max)
		return;
	now = loop_now_us();
	took = now - s->used_since;
	s->used_since = now;
	s->used = 0;
	if (h->trip_us < h->near_us || took / 2 > h->trip_us)
		return;
	if (h->trips < TRIPS)
		measure(h);
	else
		grow(s);
}

void h2_window_drop(struct h2_stream *s)
{
	if (s->window != 0)
		s->h2->grown -= s->window - s->h2->options->stream_window;
	s->window = 0;
}
