/*
 * The decoder of the byte path. The first byte chooses the shape of the messages and how
 * the rest, a stream, is cut into pieces. Cut or not, the decoder has to see the same.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was seen, as a digest in which two pieces of a payload count like one. */
struct seen {
	uint64_t digest;
	enum frame_kind last;
};

static void note_bytes(struct seen *s, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		s->digest = (s->digest ^ p[i]) * 0x100000001b3;
}

static void note_number(struct seen *s, uint64_t v)
{
	note_bytes(s, (const uint8_t *)&v, sizeof(v));
}

static void note(struct seen *s, const struct frame_event *ev)
{
	if (ev->kind == FRAME_NONE)
		return;
	if (ev->kind != FRAME_PAYLOAD || s->last != FRAME_PAYLOAD) {
		note_number(s, ev->kind);
		note_number(s, ev->message_len);
		note_number(s, ev->field);
		note_number(s, ev->had_payload);
		note_number(s, (uint64_t)ev->code);
	}
	if (ev->len > 0)
		note_bytes(s, ev->data, ev->len);
	s->last = ev->kind;
}

/* Feeds a piece, in memory of its own; false at an error. */
static bool feed(struct frame_decoder *d, const uint8_t *p, size_t n, struct seen *s)
{
	struct frame_event ev;
	uint8_t *piece = malloc(n > 0 ? n : 1);
	size_t at = 0;

	if (piece == NULL)
		abort();
	if (n > 0)
		memcpy(piece, p, n);
	do {
		at += frame_decoder_feed(d, piece + at, n - at, &ev);
		if (at > n)
			abort();
		note(s, &ev);
	} while (ev.kind != FRAME_NONE && ev.kind != FRAME_ERROR);
	if (ev.kind == FRAME_NONE && at != n)
		abort();
	free(piece);
	return ev.kind != FRAME_ERROR;
}

static uint64_t decode(enum frame_shape shape, const uint8_t *data, size_t size, size_t piece)
{
	struct frame_decoder d;
	struct seen s = { 0xcbf29ce484222325, FRAME_NONE };
	bool going = true;

	frame_decoder_init(&d, shape, 1 << 16, 256);
	for (size_t at = 0; going && at < size;) {
		size_t n = size - at < piece ? size - at : piece;

		going = feed(&d, data + at, n, &s);
		at += n;
	}
	if (going)
		note_number(&s, frame_decoder_is_idle(&d));
	frame_decoder_free(&d);
	return s.digest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum frame_shape shape;
	size_t piece;
	uint64_t whole;

	if (size < 1)
		return 0;
	shape = (enum frame_shape)(data[0] % 3);
	piece = 1 + data[0] / 3 % 17;
	whole = decode(shape, data + 1, size - 1, size);
	if (decode(shape, data + 1, size - 1, piece) != whole)
		abort();
	return 0;
}
