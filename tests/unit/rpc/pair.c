#include "pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define STEPS_MAX 50000000ul /* a run that takes more moves in circles */

/* A stream's memory as the session has it: freed when it is released, so that whoever
 * touches it later is caught. */
struct held {
	struct h2_stream stream;
	struct pair_stream *record;
};

uint64_t pair_random(struct pair *p, uint64_t below)
{
	uint64_t z = p->random += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return below > 0 ? (z ^ (z >> 31)) % below : 0;
}

struct rpc_options pair_options(uint32_t stream_window, uint32_t conn_window)
{
	struct rpc_options o = rpc_options_default();

	o.stream_window = o.window_max = stream_window;
	o.conn_window = conn_window;
	return o;
}

static uint8_t pattern(const struct pair_stream *s, bool of_server, uint64_t at)
{
	return (uint8_t)(at * 31 + (at >> 8) * 7 + (uint64_t)s->id * 13 + (of_server ? 101 : 0));
}

/* What a session tells. */

static struct pair_stream *record_of(struct h2_stream *stream)
{
	struct pair_stream *s = ((struct held *)stream)->record;

	assert_int_equal(s->releases, 0);
	return s;
}

/* Something is told of the stream: it may be. */
static struct pair_stream *told(struct h2_stream *stream)
{
	struct pair_stream *s = record_of(stream);

	assert_false(s->end->busy);
	assert_false(s->let_go);
	assert_int_equal(s->closes, 0);
	if (s->id == 0)
		s->id = stream->id;
	assert_int_equal(s->id, stream->id);
	return s;
}

static void on_release(struct h2_stream *stream)
{
	struct pair_stream *s = record_of(stream);

	assert_true(s->let_go || s->closes > 0);
	s->releases++;
	s->h2 = NULL;
	free(stream);
}

static struct pair_stream *add_stream(struct pair_end *e)
{
	struct pair_stream *s = calloc(1, sizeof(*s));
	struct held *held = malloc(sizeof(*held));

	assert_non_null(s);
	assert_non_null(held);
	h2_stream_init(&held->stream, on_release);
	held->record = s;
	s->end = e;
	s->h2 = &held->stream;
	s->next = e->streams;
	e->streams = s;
	return s;
}

static struct h2_stream *on_accept(void *cookie)
{
	struct pair_end *e = cookie;

	assert_true(e->busy);
	return e->refuses ? NULL : add_stream(e)->h2;
}

static void on_field(struct h2_stream *stream, const struct meta_field *f)
{
	struct pair_stream *s = record_of(stream);
	size_t used = strlen(s->last_head);

	assert_true(s->end->busy);
	snprintf(s->last_head + used, sizeof(s->last_head) - used, "%.*s: %.*s\n", (int)f->name_len,
	    f->name, (int)f->value_len, f->value);
}

/* Fields of the next block may have come before this one is told: not in these tests,
 * whose blocks are a portion each. */
static void on_head(struct h2_stream *stream)
{
	struct pair_stream *s = told(stream);

	assert_int_equal(s->ends, 0);
	if (s->heads++ == 0)
		memcpy(s->head, s->last_head, sizeof(s->head));
	if (s->end->hooks.head != NULL)
		s->end->hooks.head(s);
}

static void on_data(struct h2_stream *stream, struct slice data)
{
	struct pair_stream *s = told(stream);
	size_t len = data.len;

	assert_int_equal(s->heads, 1);
	assert_int_equal(s->ends, 0);
	assert_true(len > 0);
	for (size_t i = 0; i < len && s->end->peer->h2 != NULL; i++)
		assert_int_equal(
		    data.data[i], pattern(s, s->end->peer->is_server, s->received + i));
	s->received += len;
	assert_true(s->received - s->credited <= s->end->options.stream_window);
	slice_release(&s->last);
	if (s->end->keeps)
		s->last = data;
	else
		slice_release(&data);
	if (!s->stalled)
		pair_credit(s, len);
	if (s->end->hooks.data != NULL)
		s->end->hooks.data(s, len);
}

static void on_end(struct h2_stream *stream)
{
	struct pair_stream *s = told(stream);

	assert_true(s->heads > 0);
	assert_int_equal(s->ends++, 0);
	if (s->end->hooks.end != NULL)
		s->end->hooks.end(s);
}

static void on_trailers(struct h2_stream *stream)
{
	static const struct meta_field status = { "grpc-status", 11, "0", 1 };
	struct pair_stream *s = record_of(stream);
	struct err err = { 0 };

	assert_int_equal(s->trailers++, 0);
	assert_int_equal(s->closes, 0);
	assert_int_equal(h2_stream_queued(stream), stream->framed);
	assert_int_equal(
	    h2_stream_trailers(stream, s->trailer != NULL ? s->trailer : &status, 1, &err), 0);
}

static void on_sent(struct h2_stream *stream, size_t bytes)
{
	struct pair_stream *s = told(stream);

	assert_true(bytes > 0);
	s->sent += bytes;
	assert_true(s->sent <= s->written);
	if (s->end->hooks.sent != NULL)
		s->end->hooks.sent(s, bytes);
}

/* The user's reference goes with it. */
static void on_closed(struct h2_stream *stream, uint32_t code)
{
	struct pair_stream *s = told(stream);

	assert_int_equal(s->closes++, 0);
	assert_int_equal(stream->framed, 0);
	s->code = code;
	if (s->end->hooks.closed != NULL)
		s->end->hooks.closed(s);
	h2_stream_detach(stream);
}

static void on_wake(void *cookie)
{
	struct pair_end *e = cookie;

	assert_false(e->woken);
	e->woken = true;
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

/* Birth and death. */

static void open_end(
    struct pair_end *e, struct pair *p, bool is_server, const struct rpc_options *options)
{
	e->pair = p;
	e->peer = is_server ? &p->client : &p->server;
	e->is_server = is_server;
	outq_init(&e->out);
	if (options == NULL)
		return;
	e->options = *options;
	e->blocked = true; /* there are SETTINGS to send */
	e->h2 = h2_create(is_server, &e->options, &ops, e);
	assert_non_null(e->h2);
}

void pair_open(struct pair *p, uint64_t seed, const struct rpc_options *client,
    const struct rpc_options *server)
{
	*p = (struct pair){ .seed = seed, .random = seed, .now_ms = 1000, .piece_max = SIZE_MAX };
	open_end(&p->client, p, false, client);
	open_end(&p->server, p, true, server);
}

static void lost(struct h2_stream *stream, void *cookie)
{
	struct pair_stream *s = told(stream);

	(void)cookie;
	s->closes++;
	h2_stream_detach(stream);
}

void pair_stop(struct pair_end *e)
{
	h2_stop(e->h2, lost, NULL);
	e->failed = true;
	assert_int_equal(h2_stream_count(e->h2), 0);
	assert_int_equal(h2_queued(e->h2), 0);
}

static void free_streams(struct pair_end *e)
{
	struct pair_stream *s;

	while ((s = e->streams) != NULL) {
		e->streams = s->next;
		assert_int_equal(s->releases, 1);
		assert_true(s->let_go || s->closes == 1);
		slice_release(&s->last);
		free(s);
	}
}

void pair_close(struct pair *p)
{
	struct pair_end *ends[] = { &p->client, &p->server };

	for (size_t i = 0; i < 2; i++) {
		struct pair_end *e = ends[i];

		if (e->h2 != NULL)
			pair_stop(e);
		outq_free(&e->out, h2_left, e->h2);
		h2_free(e->h2);
		free_streams(e);
		free(e->in.data);
	}
}

/* Moving. */

void pair_bytes_add(struct pair_bytes *b, const void *data, size_t len)
{
	if (b->at > 0 && b->at == b->len)
		b->at = b->len = 0;
	if (len > b->cap - b->len) {
		b->cap = 2 * (b->len + len);
		b->data = realloc(b->data, b->cap);
		assert_non_null(b->data);
	}
	if (len > 0)
		memcpy(b->data + b->len, data, len);
	b->len += len;
}

static void move_out(struct pair_end *e, size_t max)
{
	struct iovec iov[16];
	size_t n = outq_peek(&e->out, iov, 16), moved = 0;

	for (size_t i = 0; i < n && moved < max; i++) {
		size_t len = iov[i].iov_len < max - moved ? iov[i].iov_len : max - moved;

		pair_bytes_add(&e->peer->in, iov[i].iov_base, len);
		moved += len;
	}
	outq_drop(&e->out, moved, h2_left, e->h2);
}

/* As a connection does: what is said in the end is framed, and no more is read. */
static void give_up(struct pair_end *e)
{
	struct err err = { 0 };

	assert_int_not_equal(e->err.code, GRPC_OK);
	e->failed = true;
	e->woken = false;
	h2_frame(e->h2, &e->out, &err);
	e->blocked = e->out.bytes > 0;
}

static int frame(struct pair_end *e)
{
	int more;

	e->woken = false;
	more = h2_frame(e->h2, &e->out, &e->err);
	if (e->out.bytes > e->out_peak)
		e->out_peak = e->out.bytes;
	return more;
}

bool pair_output(struct pair_end *e, size_t max)
{
	int more = 0;

	if (e->h2 == NULL || e->shut || (!e->woken && !e->blocked))
		return false;
	if (!e->failed && (more = frame(e)) < 0)
		give_up(e);
	move_out(e, max);
	if (!e->failed)
		h2_dispatch(e->h2);
	e->blocked = e->out.bytes > 0 || more > 0;
	if (e->failed)
		e->woken = false;
	return true;
}

static void feed(struct pair_end *e, struct slice *in)
{
	h2_begin_turn(e->h2, e->pair->now_ms);
	while (in->len > 0 && !e->failed) {
		if (h2_turn_is_over(e->h2)) {
			e->turns++;
			h2_begin_turn(e->h2, e->pair->now_ms);
		}
		e->busy = true;
		ptrdiff_t n = h2_feed(e->h2, in, &e->err);
		e->busy = false;
		if (n < 0) {
			give_up(e);
			return;
		}
		in->data += n;
		in->len -= (size_t)n;
		h2_dispatch(e->h2);
	}
}

bool pair_input(struct pair_end *e, size_t max)
{
	size_t len = e->in.len - e->in.at;
	struct slice in;

	if (e->h2 == NULL || len == 0)
		return false;
	if (len > max)
		len = max;
	in = slice_copy(e->in.data + e->in.at, len);
	assert_non_null(in.data);
	e->in.at += len;
	if (!e->failed)
		feed(e, &in);
	slice_release(&in);
	return true;
}

/* Of very different sizes, as sockets give. */
static size_t piece(struct pair *p)
{
	static const size_t sizes[] = { 1, 12, 300, 5000, 70000, 400000 };
	size_t max = sizes[pair_random(p, sizeof(sizes) / sizeof(sizes[0]))];

	if (max > p->piece_max)
		max = p->piece_max;
	return 1 + pair_random(p, max);
}

bool pair_step(struct pair *p)
{
	unsigned first = (unsigned)pair_random(p, 4);

	for (unsigned i = 0; i < 4; i++) {
		unsigned what = (first + i) % 4;
		struct pair_end *e = what & 1 ? &p->client : &p->server;
		size_t max = piece(p);

		if (what & 2 ? pair_output(e, max) : pair_input(e, max))
			return true;
	}
	return false;
}

void pair_run(struct pair *p)
{
	struct pair_end *ends[] = { &p->client, &p->server };
	unsigned long steps = 0;

	while (pair_step(p))
		assert_true(steps++ < STEPS_MAX);
	for (size_t i = 0; i < 2; i++)
		if (ends[i]->h2 != NULL && !ends[i]->failed && !ends[i]->shut)
			assert_false(h2_wants_output(ends[i]->h2));
}

/* Streams. */

struct pair_stream *pair_request(struct pair *p)
{
	static const struct meta_field fields[] = {
		{ ":method", 7, "POST", 4 },
		{ ":scheme", 7, "http", 4 },
		{ ":path", 5, "/test.Service/Method", 20 },
		{ ":authority", 10, "pair", 4 },
		{ "te", 2, "trailers", 8 },
	};
	struct pair_stream *s = add_stream(&p->client);
	struct err err = { 0 };

	assert_int_equal(h2_request(p->client.h2, s->h2, fields, 5, &err), 0);
	s->id = s->h2->id;
	return s;
}

struct pair_stream *pair_find(struct pair_end *e, int32_t id)
{
	for (struct pair_stream *s = e->streams; s != NULL; s = s->next)
		if (s->id == id || (s->h2 != NULL && s->h2->id == id))
			return s;
	return NULL;
}

void pair_respond(struct pair_stream *s, bool only)
{
	static const struct meta_field fields[] = {
		{ ":status", 7, "200", 3 },
		{ "content-type", 12, "application/grpc", 16 },
		{ "grpc-status", 11, "12", 2 },
	};
	struct err err = { 0 };

	assert_int_equal(h2_stream_respond(s->h2, fields, only ? 3 : 2, only, &err), 0);
}

int pair_write(struct pair_stream *s, size_t len)
{
	bool by_copy = pair_random(s->end->pair, 2) == 0;
	struct block *b = block_new(len);
	struct slice bytes;
	int r;

	assert_non_null(b);
	for (size_t i = 0; i < len; i++)
		block_data(b)[i] = pattern(s, s->end->is_server, s->written + i);
	bytes = slice_of(b, 0, len);
	block_unref(b);
	r = by_copy ? h2_stream_copy(s->h2, bytes.data, len) : h2_stream_write(s->h2, bytes);
	if (r != 0 || by_copy)
		slice_release(&bytes);
	if (r == 0)
		s->written += len;
	return r;
}

void pair_credit(struct pair_stream *s, size_t bytes)
{
	s->credited += bytes;
	assert_true(s->credited <= s->received);
	h2_stream_credit(s->h2, bytes);
}

void pair_detach(struct pair_stream *s)
{
	s->let_go = true;
	h2_stream_detach(s->h2);
}

void pair_reset(struct pair_stream *s, uint32_t code)
{
	s->let_go = true;
	h2_stream_reset(s->h2, code);
}
