/*
 * A session and a peer that may say anything. The first four bytes choose which session,
 * how large its windows are, how its user behaves, and how the rest, what the peer says,
 * is cut; see struct choice.
 *
 * The user of a stream echoes what it gets. Whatever comes: each stream is told its end
 * once and last, is released once, holds no more than its window; no more is framed than
 * the options allow; nothing is left in memory.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/h2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD        4
#define INPUT_MAX   ((size_t)256 << 10)
#define STREAMS_MAX 64
#define CANCEL      8

/* The window a peer may use until it has acknowledged ours (RFC 9113, section 6.9.2). */
#define WINDOW_BORN 65535u

enum {
	CLIENT = 1,     /* it has made three requests */
	MET = 2,        /* preface and SETTINGS have been said, and acknowledged */
	SHUT = 4,       /* the peer reads nothing until the end */
	STALLED = 8,    /* no credit is given back */
	DETACHING = 16, /* every third stream is let go as it begins */
	RESETTING = 32, /* every fifth stream is reset by its second data */
	REFUSING = 64,  /* every fourth is not accepted */
	HURRIED = 128,  /* the answer ends with the first data, and resets after it */
};

struct choice {
	uint8_t flags, windows, cut, limits;
};

struct talk {
	struct choice choice;
	struct rpc_options options;
	struct h2 *h2;
	struct outq out;
	struct stream *streams;
	unsigned opened, released;
	uint32_t random;
	bool woken, blocked, busy, failed;
};

struct stream {
	struct h2_stream h2; /* first */
	struct talk *talk;
	struct stream *next;
	unsigned number;
	unsigned heads, datas, ends, trailers, closes;
	bool let_go, responded, ended;
	uint64_t received, credited, written, sent;
};

static void check(bool what)
{
	if (!what)
		abort();
}

static struct stream *told(struct h2_stream *h2)
{
	struct stream *s = (struct stream *)h2;

	check(!s->talk->busy && !s->let_go && s->closes == 0);
	return s;
}

static bool chosen(const struct stream *s, unsigned flag, unsigned each)
{
	return (s->talk->choice.flags & flag) && s->number % each == 0;
}

/* The user. */

static void release(struct h2_stream *h2)
{
	struct stream *s = (struct stream *)h2, **at = &s->talk->streams;

	check(s->let_go || s->closes > 0);
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	s->talk->released++;
	free(s);
}

static struct stream *make_stream(struct talk *t)
{
	struct stream *s = calloc(1, sizeof(*s));

	check(s != NULL);
	h2_stream_init(&s->h2, release);
	s->talk = t;
	s->number = ++t->opened;
	s->next = t->streams;
	t->streams = s;
	return s;
}

static struct h2_stream *on_accept(void *cookie)
{
	struct talk *t = cookie;

	check(t->busy);
	if ((t->choice.flags & REFUSING) && t->random % 4 == 0)
		return NULL;
	return &make_stream(t)->h2;
}

static void on_field(struct h2_stream *h2, const struct meta_field *f)
{
	struct stream *s = (struct stream *)h2;

	check(s->talk->busy && !s->let_go);
	check(f->name != NULL && (f->value != NULL || f->value_len == 0));
}

static void respond(struct stream *s)
{
	static const struct meta_field fields[] = { { ":status", 7, "200", 3 } };
	struct err err = { 0 };

	if (s->responded || s->talk->choice.flags & CLIENT)
		return;
	s->responded = true;
	check(h2_stream_respond(&s->h2, fields, 1, false, &err) == 0 || err.code != GRPC_OK);
}

static void end(struct stream *s)
{
	if (s->ended)
		return;
	s->ended = true;
	h2_stream_end(&s->h2, s->number % 2 == 0);
	if (s->talk->choice.flags & HURRIED)
		h2_stream_reset_after(&s->h2);
}

static void on_head(struct h2_stream *h2)
{
	struct stream *s = told(h2);

	check(s->ends == 0);
	s->heads++;
	respond(s);
	if (chosen(s, DETACHING, 3)) {
		s->let_go = true;
		h2_stream_detach(h2);
	}
}

static void on_data(struct h2_stream *h2, struct slice data)
{
	struct stream *s = told(h2);
	struct talk *t = s->talk;
	uint32_t window = t->options.stream_window;
	size_t len = data.len;

	check(s->heads > 0 && s->ends == 0 && len > 0);
	s->received += len;
	if (!(t->choice.flags & MET) && window < WINDOW_BORN)
		window = WINDOW_BORN;
	check(s->received - s->credited <= window);
	if (h2_stream_write(h2, data) == 0)
		s->written += len;
	else
		slice_release(&data);
	if (!(t->choice.flags & STALLED)) {
		s->credited += len;
		h2_stream_credit(h2, len);
	}
	if (t->choice.flags & HURRIED)
		end(s);
	if (++s->datas == 2 && chosen(s, RESETTING, 5)) {
		s->let_go = true;
		h2_stream_reset(h2, CANCEL);
	}
}

static void on_end(struct h2_stream *h2)
{
	struct stream *s = told(h2);

	check(s->heads > 0 && s->ends++ == 0);
	end(s);
}

static void on_trailers(struct h2_stream *h2)
{
	static const struct meta_field fields[] = { { "grpc-status", 11, "0", 1 } };
	struct stream *s = (struct stream *)h2;
	struct err err = { 0 };

	check(s->closes == 0 && s->trailers++ == 0);
	check(h2_stream_queued(h2) == h2->framed);
	check(h2_stream_trailers(h2, fields, 1, &err) == 0);
}

static void on_sent(struct h2_stream *h2, size_t bytes)
{
	struct stream *s = told(h2);

	s->sent += bytes;
	check(bytes > 0 && s->sent <= s->written);
}

static void on_closed(struct h2_stream *h2, uint32_t code)
{
	struct stream *s = told(h2);

	(void)code;
	check(h2->framed == 0);
	s->closes++;
	h2_stream_detach(h2);
}

/* What was framed is lost, too. */
static void on_lost(struct h2_stream *h2, void *cookie)
{
	(void)cookie;
	told(h2)->closes++;
	h2_stream_detach(h2);
}

static void on_wake(void *cookie)
{
	struct talk *t = cookie;

	check(!t->woken);
	t->woken = true;
}

static const struct h2_ops ops = {
	.accept = on_accept,
	.field = on_field,
	.head = on_head,
	.data = on_data,
	.end = on_end,
	.trailers = on_trailers,
	.sent = on_sent,
	.closed = on_closed,
	.wake = on_wake,
};

/* The connection. */

static uint32_t next_random(struct talk *t)
{
	t->random ^= t->random << 13;
	t->random ^= t->random >> 17;
	t->random ^= t->random << 5;
	return t->random;
}

static struct rpc_options options_of(const struct choice *c)
{
	struct rpc_options o = rpc_options_default();

	o.stream_window = 1 + (c->windows & 15u) * (c->windows & 15u) * 5000;
	o.conn_window = WINDOW_BORN + (c->windows >> 4) * 100000u;
	o.frame_max = 16384 + (c->limits & 3u) * 80000;
	o.out_high = 1000u << (c->limits >> 2 & 7);
	o.frames_per_turn = 1 + (c->limits >> 5) * 50u;
	o.max_streams = STREAMS_MAX;
	o.flood_burst = 1000;
	return o;
}

static void failed(struct talk *t, const struct err *err)
{
	struct err again = { 0 };

	check(err->code != GRPC_OK && err->text[0] != '\0');
	t->failed = true;
	h2_frame(t->h2, &t->out, &again);
}

/* Frames what is ready, and lets a part of it leave. */
static void output(struct talk *t, bool all)
{
	struct err err = { 0 };
	int more = 0;

	if (!t->woken && !t->blocked && !all)
		return;
	t->woken = false;
	if (!t->failed && (more = h2_frame(t->h2, &t->out, &err)) < 0)
		failed(t, &err);
	check(t->out.bytes <= t->options.out_high + t->options.frame_max + 20000 || t->failed);
	if (!(t->choice.flags & SHUT) || all) {
		size_t leave = all ? t->out.bytes : next_random(t) % (t->out.bytes + 1);

		outq_drop(&t->out, leave, h2_left, t->h2);
	}
	t->blocked = t->out.bytes > 0 || more > 0;
	if (!t->failed)
		h2_dispatch(t->h2);
}

/* One piece of what the peer says, in a block of its own. */
static void input(struct talk *t, const uint8_t *data, size_t len)
{
	struct slice in = slice_copy(data, len), whole = in;
	struct err err = { 0 };

	check(in.data != NULL);
	h2_begin_turn(t->h2, 1000);
	while (in.len > 0 && !t->failed) {
		if (h2_turn_is_over(t->h2))
			h2_begin_turn(t->h2, 1000);
		t->busy = true;
		ptrdiff_t n = h2_feed(t->h2, &in, &err);
		t->busy = false;
		if (n < 0) {
			failed(t, &err);
			break;
		}
		check(n > 0 && (size_t)n <= in.len);
		in.data += n;
		in.len -= (size_t)n;
		h2_dispatch(t->h2);
	}
	slice_release(&whole);
}

static void listen_to(struct talk *t, const uint8_t *data, size_t size)
{
	size_t at = 0;

	while (at < size && !t->failed) {
		size_t piece = 1 + next_random(t) % (1 + 3u * t->choice.cut * t->choice.cut);

		if (piece > size - at)
			piece = size - at;
		input(t, data + at, piece);
		at += piece;
		output(t, false);
		if (next_random(t) % 16 == 0) {
			h2_settle(t->h2);
			outq_settle(&t->out);
		}
	}
}

static void meet(struct talk *t)
{
	static const uint8_t preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
					 "\0\0\0\4\0\0\0\0\0"
					 "\0\0\0\4\1\0\0\0\0";
	size_t skip = t->choice.flags & CLIENT ? 24 : 0;

	if (!(t->choice.flags & MET))
		return;
	output(t, true); /* ours, before it is acknowledged */
	input(t, preface + skip, sizeof(preface) - 1 - skip);
}

static void make_requests(struct talk *t)
{
	static const struct meta_field fields[] = {
		{ ":method", 7, "POST", 4 },
		{ ":scheme", 7, "http", 4 },
		{ ":path", 5, "/", 1 },
	};
	struct err err = { 0 };

	for (unsigned i = 0; i < 3 && t->choice.flags & CLIENT; i++) {
		struct stream *s = make_stream(t);

		check(h2_request(t->h2, &s->h2, fields, 3, &err) == 0);
		if (h2_stream_copy(&s->h2, "hello", 5) == 0)
			s->written += 5;
		if (i == 2)
			end(s);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct talk t = { .blocked = true };

	if (size < HEAD || size > INPUT_MAX)
		return 0;
	t.choice = (struct choice){ data[0], data[1], data[2], data[3] };
	t.options = options_of(&t.choice);
	t.random = 1 + (uint32_t)data[2] * 0x10001u;
	outq_init(&t.out);
	t.h2 = h2_create(!(t.choice.flags & CLIENT), &t.options, &ops, &t);
	check(t.h2 != NULL);
	make_requests(&t);
	meet(&t);
	listen_to(&t, data + HEAD, size - HEAD);

	/* Most has left now; the rest is lost with the connection. */
	for (unsigned i = 0; i < 3 && !t.failed; i++)
		output(&t, true);
	h2_stop(t.h2, on_lost, NULL);
	check(h2_stream_count(t.h2) == 0 && h2_queued(t.h2) == 0);
	outq_free(&t.out, h2_left, t.h2);
	h2_free(t.h2);
	check(t.streams == NULL && t.opened == t.released);
	return 0;
}
