/*
 * What a peer can make a session spend with frames that carry nothing: each kind up to
 * its limit, and one more. And those who only look like a flood.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pair.h"
#include "rpc/limits.h"
#include "rpc/meta.h"

#define BURST 200u
#define CONN  (1u << 24)

enum { PROTOCOL_ERROR = 1, FRAME_SIZE_ERROR = 6, CANCEL = 8, ENHANCE_YOUR_CALM = 11 };
enum { INITIAL_WINDOW_SIZE = 4 };

static struct rpc_options few(void)
{
	struct rpc_options o = pair_options(65535, CONN);

	o.flood_burst = BURST;
	o.flood_rate = 0;
	return o;
}

/* SETTINGS were said and acknowledged: two of BURST. */
#define USED 2u

static void open_by_hand(struct pair *p, const struct rpc_options *o)
{
	pair_open(p, 1, NULL, o);
	pair_put_preface(p);
	pair_put_frame(p, PAIR_SETTINGS, 0, 0, NULL, 0);
	pair_put_frame(p, PAIR_SETTINGS, PAIR_ACK, 0, NULL, 0);
	pair_run(p);
}

static void assert_lives(struct pair *p)
{
	struct pair_frame f;

	assert_false(p->server.failed);
	assert_null(h2_flood(p->server.h2));
	assert_false(pair_take_type(p, PAIR_GOAWAY, &f));
}

static void assert_goaway(struct pair *p, uint32_t code)
{
	struct pair_frame f;

	assert_true(p->server.failed);
	assert_true(pair_take_type(p, PAIR_GOAWAY, &f));
	assert_int_equal(pair_u32(&f, 4), code);
}

static void assert_flooded(struct pair *p, const char *of)
{
	assert_goaway(p, ENHANCE_YOUR_CALM);
	assert_int_equal(p->server.err.code, GRPC_RESOURCE_EXHAUSTED);
	assert_non_null(strstr(h2_flood(p->server.h2), of));
	assert_non_null(strstr(p->server.err.text, of));
}

/* The kinds: the n-th of each. */

static void put_ping(struct pair *p, uint32_t n)
{
	(void)n;
	pair_put_frame(p, PAIR_PING, 0, 0, "12345678", 8);
}

static void put_pong(struct pair *p, uint32_t n)
{
	(void)n;
	pair_put_frame(p, PAIR_PING, PAIR_ACK, 0, "12345678", 8);
}

static void put_settings(struct pair *p, uint32_t n)
{
	if (n % 2)
		pair_put_settings(p, INITIAL_WINDOW_SIZE, n);
	else
		pair_put_frame(p, PAIR_SETTINGS, 0, 0, NULL, 0);
}

static void put_empty_data(struct pair *p, uint32_t n)
{
	if (n == 0)
		pair_put_request(p, 1, false);
	pair_put_frame(p, PAIR_DATA, 0, 1, NULL, 0);
}

static void put_window_update(struct pair *p, uint32_t n)
{
	(void)n;
	pair_put_u32(p, PAIR_WINDOW_UPDATE, 0, 1);
}

static void put_window_update_of_stream(struct pair *p, uint32_t n)
{
	if (n == 0)
		pair_put_request(p, 1, false);
	pair_put_u32(p, PAIR_WINDOW_UPDATE, 1, 1);
}

static void put_priority(struct pair *p, uint32_t n)
{
	pair_put_frame(p, PAIR_PRIORITY, 0, 1 + 2 * (int32_t)n, "\0\0\0\0\x10", 5);
}

static void put_unknown(struct pair *p, uint32_t n)
{
	pair_put_frame(p, 0x20 + n % 200, n & 0xff, (int32_t)n, "?", n % 2);
}

static void put_goaway(struct pair *p, uint32_t n)
{
	if (n == 0)
		pair_put_request(p, 1, false); /* or that would have been the end */
	pair_put_frame(p, PAIR_GOAWAY, 0, 0, "\0\0\0\0\0\0\0\0", 8);
}

static void put_rapid_reset(struct pair *p, uint32_t n)
{
	pair_put_request(p, 1 + 2 * (int32_t)n, false);
	pair_put_u32(p, PAIR_RST_STREAM, 1 + 2 * (int32_t)n, CANCEL);
}

/* A name in capitals: the library resets the stream. */
static void put_malformed(struct pair *p, uint32_t n)
{
	pair_put_frame(p, PAIR_HEADERS, PAIR_END_HEADERS, 1 + 2 * (int32_t)n, "\0\1X\1y", 5);
}

/* CVE-2025-8671: what makes us reset is not a reset. */
static void put_window_overflow(struct pair *p, uint32_t n)
{
	pair_put_request(p, 1 + 2 * (int32_t)n, false);
	pair_put_u32(p, PAIR_WINDOW_UPDATE, 1 + 2 * (int32_t)n, 0x7fffffff);
}

/* On a stream that was reset: each block has to be unpacked all the same. */
static void put_late_headers(struct pair *p, uint32_t n)
{
	if (n == 0) {
		put_malformed(p, 0);
		pair_run(p);
	}
	pair_put_request(p, 1, false);
}

static const struct kind {
	const char *of;
	void (*put)(struct pair *, uint32_t n);
	uint32_t used; /* of BURST, before the first */
} kinds[] = {
	{ "PING", put_ping, 0 },
	{ "PING", put_pong, 0 },
	{ "WINDOW_UPDATE", put_window_update, 0 },
	{ "WINDOW_UPDATE", put_window_update_of_stream, 0 },
	{ "SETTINGS", put_settings, USED },
	{ "empty DATA", put_empty_data, USED },
	{ "PRIORITY", put_priority, USED },
	{ "mean nothing", put_unknown, USED },
	{ "mean nothing", put_goaway, USED },
	{ "RST_STREAM", put_rapid_reset, USED },
	{ "have to be reset", put_malformed, USED },
	{ "have to be reset", put_window_overflow, USED },
	{ "headers of streams that are over", put_late_headers, USED + 1 /* the reset */ },
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void each_kind_has_an_end(void **state)
{
	(void)state;
	for (size_t i = 0; i < KINDS; i++) {
		struct rpc_options o = few();
		struct pair p;
		uint32_t n = 0;

		print_message("%s\n", kinds[i].of);
		open_by_hand(&p, &o);
		while (n < BURST - kinds[i].used)
			kinds[i].put(&p, n++);
		pair_run(&p);
		assert_lives(&p);
		kinds[i].put(&p, n);
		pair_run(&p);
		assert_flooded(&p, kinds[i].of);
		pair_close(&p);
	}
}

/* ...and comes back with time. Resets have a limit in the library besides, by its own
 * clock: twice ours. And frames that overflow a window empty two buckets at once. */
static void each_second_allows_some_more(void **state)
{
	(void)state;
	for (size_t i = 0; i < KINDS; i++) {
		if (kinds[i].put == put_rapid_reset || kinds[i].put == put_window_overflow)
			continue;
		struct rpc_options o = few();
		struct pair p;
		uint32_t n = 0;

		o.flood_rate = 100;
		print_message("%s\n", kinds[i].of);
		open_by_hand(&p, &o);
		while (n < BURST - kinds[i].used)
			kinds[i].put(&p, n++);
		pair_run(&p);
		for (unsigned j = 0; j < 10; j++) {
			p.now_ms += 500;
			for (unsigned k = 0; k < 50; k++)
				kinds[i].put(&p, n++);
			pair_run(&p);
			assert_lives(&p);
		}
		p.now_ms += 3600000; /* but no more than at first */
		for (unsigned k = 0; k < BURST; k++)
			kinds[i].put(&p, n++);
		pair_run(&p);
		assert_lives(&p);
		kinds[i].put(&p, n);
		pair_run(&p);
		assert_flooded(&p, kinds[i].of);
		pair_close(&p);
	}
}

static void refused_streams_are_resets(void **state)
{
	struct rpc_options o = few();
	struct pair p;
	int32_t id = 1;

	(void)state;
	open_by_hand(&p, &o);
	p.server.refuses = true;
	for (uint32_t n = USED; n < BURST; n++, id += 2)
		pair_put_request(&p, id, true);
	pair_run(&p);
	assert_lives(&p);
	pair_put_request(&p, id, true);
	pair_run(&p);
	assert_flooded(&p, "have to be reset");
	pair_close(&p);
}

/* Resets of our own making are nobody's flood. */
static void own_resets_are_not_counted(void **state)
{
	struct rpc_options o = few();
	struct pair p;

	(void)state;
	open_by_hand(&p, &o);
	for (int32_t n = 0; n < 5 * (int32_t)BURST; n++) {
		pair_put_request(&p, 1 + 2 * n, n % 2);
		pair_run(&p);
		pair_reset(p.server.streams, CANCEL);
	}
	pair_run(&p);
	assert_lives(&p);
	pair_close(&p);
}

/* PINGs whose answers are not read wait in memory: 1000 of them. */
static void answers_nobody_reads_have_an_end(void **state)
{
	struct rpc_options o = rpc_options_default();
	struct pair p;

	(void)state;
	for (unsigned settings = 0; settings <= 1; settings++) {
		open_by_hand(&p, &o);
		p.server.shut = true;
		for (uint32_t n = 0; n < 990; n++)
			(settings ? put_settings : put_ping)(&p, n);
		pair_run(&p);
		assert_false(p.server.failed);
		for (uint32_t n = 0; n < 20; n++)
			(settings ? put_settings : put_ping)(&p, n);
		pair_run(&p);
		assert_true(p.server.failed);
		p.server.shut = false;
		pair_run(&p);
		assert_flooded(&p, "have to be answered");
		pair_close(&p);
	}
}

static void a_long_list_of_settings(void **state)
{
	uint8_t entries[33 * 6] = { 0 };
	struct rpc_options o = rpc_options_default();

	(void)state;
	for (size_t i = 0; i < 33; i++)
		entries[6 * i + 1] = 1; /* HEADER_TABLE_SIZE 0 */
	for (size_t count = 32; count <= 33; count++) {
		struct pair_frame f;
		struct pair p;

		open_by_hand(&p, &o);
		pair_put_frame(&p, PAIR_SETTINGS, 0, 0, entries, 6 * count);
		pair_run(&p);
		assert_false(p.server.failed); /* the library sees to it */
		assert_int_equal(h2_is_done(p.server.h2), count == 33);
		assert_int_equal(pair_take_type(&p, PAIR_GOAWAY, &f), count == 33);
		if (count == 33)
			assert_int_equal(pair_u32(&f, 4), ENHANCE_YOUR_CALM);
		pair_close(&p);
	}
}

/* Header blocks. */

struct block_of {
	uint8_t bytes[2 * RPC_META_BYTES_MAX];
	size_t len, decoded; /* as RFC 9113 counts, section 6.5.2 */
};

static void begin_block(struct block_of *b)
{
	memset(b, 0, sizeof(*b));
	b->len = pair_request_block(b->bytes);
	b->decoded = 7 + 4 + 7 + 4 + 5 + 20 + 10 + 4 + 4 * 32; /* see pair_request_block() */
}

/* A literal of a name of one letter; ${first}: 0 or, to be indexed, 0x40. */
static void add_literal(struct block_of *b, uint8_t first, size_t value_len)
{
	size_t rest = value_len;

	b->bytes[b->len++] = first;
	b->bytes[b->len++] = 1;
	b->bytes[b->len++] = 'x';
	if (rest < 127) {
		b->bytes[b->len++] = (uint8_t)rest;
	} else {
		b->bytes[b->len++] = 127;
		for (rest -= 127; rest >= 128; rest >>= 7)
			b->bytes[b->len++] = (uint8_t)(0x80 | (rest & 0x7f));
		b->bytes[b->len++] = (uint8_t)rest;
	}
	memset(b->bytes + b->len, 'v', value_len);
	b->len += value_len;
	b->decoded += 1 + value_len + 32;
}

/* A byte each that stands for 4,033. */
static void a_small_block_that_unpacks_to_much(void **state)
{
	static struct block_of b;
	struct rpc_options o = rpc_options_default();

	(void)state;
	for (size_t over = 0; over <= 1; over++) {
		struct pair p;

		begin_block(&b);
		add_literal(&b, 0x40, 4000);
		for (unsigned i = 0; i < 15; i++, b.decoded += 4033)
			b.bytes[b.len++] = 0x80 | 62;
		add_literal(&b, 0, RPC_HEADER_BYTES_MAX + over - b.decoded - 33);
		assert_int_equal(b.decoded, RPC_HEADER_BYTES_MAX + over);
		open_by_hand(&p, &o);
		pair_put_frame(&p, PAIR_HEADERS, PAIR_END_HEADERS, 1, b.bytes, b.len);
		pair_run(&p);
		if (over) {
			assert_flooded(&p, "header fields");
		} else {
			assert_lives(&p);
			assert_int_equal(p.server.streams->heads, 1);
		}
		pair_close(&p);
	}
}

static void a_header_frame_that_is_too_long(void **state)
{
	static struct block_of b;
	struct rpc_options o = rpc_options_default();

	(void)state;
	for (size_t over = 0; over <= 1; over++)
		for (unsigned behind = 0; behind <= 1; behind++) {
			struct pair p;
			size_t first = behind ? 20 : 0;

			begin_block(&b);
			add_literal(&b, 0, RPC_META_BYTES_MAX + over + first - b.len - 6);
			assert_int_equal(b.len - first, RPC_META_BYTES_MAX + over);
			open_by_hand(&p, &o);
			if (behind)
				pair_put_frame(&p, PAIR_HEADERS, 0, 1, b.bytes, first);
			pair_put_frame(&p, behind ? PAIR_CONTINUATION : PAIR_HEADERS,
			    PAIR_END_HEADERS, 1, b.bytes + first, b.len - first);
			pair_run(&p);
			if (over)
				assert_goaway(&p, FRAME_SIZE_ERROR);
			else
				assert_lives(&p);
			assert_int_equal(
			    p.server.streams != NULL ? p.server.streams->heads : 0, !over);
			pair_close(&p);
		}
}

static void continuations_have_an_end(void **state)
{
	struct rpc_options o = rpc_options_default();

	(void)state;
	for (unsigned count = 8; count <= 9; count++) {
		struct pair p;
		struct block_of b;

		begin_block(&b);
		open_by_hand(&p, &o);
		p.now_ms = 77000;
		pair_put_frame(&p, PAIR_HEADERS, 0, 1, b.bytes, 4);
		pair_run(&p);
		assert_int_equal(h2_headers_since(p.server.h2), 77000);
		for (unsigned i = 1; i < count; i++) {
			p.now_ms += 1000;
			pair_put_frame(&p, PAIR_CONTINUATION, 0, 1, b.bytes + 3 + i, 1);
		}
		pair_run(&p);
		assert_int_equal(h2_headers_since(p.server.h2), 77000);
		pair_put_frame(&p, PAIR_CONTINUATION, PAIR_END_HEADERS, 1, b.bytes + 3 + count,
		    b.len - 3 - count);
		pair_run(&p);
		if (count == 8) {
			assert_lives(&p);
			assert_int_equal(p.server.streams->heads, 1);
			assert_int_equal(h2_headers_since(p.server.h2), 0);
		} else {
			assert_goaway(&p, PROTOCOL_ERROR);
		}
		pair_close(&p);
	}
}

static void streams_have_an_end(void **state)
{
	struct rpc_options o = rpc_options_default();
	struct pair p;

	(void)state;
	o.max_streams = 10;
	open_by_hand(&p, &o);
	for (int32_t i = 0; i < 10; i++)
		pair_put_request(&p, 1 + 2 * i, false);
	pair_run(&p);
	assert_lives(&p);
	assert_int_equal(h2_stream_count(p.server.h2), 10);
	h2_allow_streams(p.server.h2, 12);
	pair_run(&p);
	pair_put_frame(&p, PAIR_SETTINGS, PAIR_ACK, 0, NULL, 0);
	pair_put_request(&p, 21, false);
	pair_put_request(&p, 23, false);
	pair_run(&p);
	assert_int_equal(h2_stream_count(p.server.h2), 12);
	pair_put_request(&p, 25, false);
	pair_run(&p);
	assert_int_equal(h2_stream_count(p.server.h2), 12);
	pair_close(&p);
}

/* Turns. */

/* Frames of a byte are no flood; they get a share of each turn. */
static void a_turn_takes_so_many_frames(void **state)
{
	enum { FRAMES = 60000, SMALLEST = 10, PORTION_SMALL = 16384 };
	struct rpc_options o = pair_options(1 << 20, CONN);
	struct pair p;
	unsigned turns = 0;
	struct err err = { 0 };

	(void)state;
	o.frames_per_turn = 100;
	open_by_hand(&p, &o);
	pair_put_request(&p, 1, false);
	pair_run(&p);
	struct pair_stream *s = p.server.streams;
	for (unsigned i = 0; i < FRAMES; i++)
		pair_put_frame(&p, PAIR_DATA, 0, 1, "x", 1);
	struct slice in = slice_copy(p.server.in.data, p.server.in.len);
	struct slice whole = in;
	p.server.in.at = p.server.in.len;
	while (in.len > 0) {
		uint64_t before = s->received;

		h2_begin_turn(p.server.h2, p.now_ms);
		while (in.len > 0 && !h2_turn_is_over(p.server.h2)) {
			p.server.busy = true;
			ptrdiff_t n = h2_feed(p.server.h2, &in, &err);
			p.server.busy = false;
			assert_true(n > 0);
			in.data += n;
			in.len -= (size_t)n;
			h2_dispatch(p.server.h2);
		}
		if (turns++ > 0) /* the first portion shows what they are like */
			assert_true(s->received - before <= 100 + PORTION_SMALL / SMALLEST);
	}
	assert_int_equal(s->received, FRAMES);
	assert_lives(&p);
	slice_release(&whole);
	pair_close(&p);
}

/* Honest traffic. */

static void echo(struct pair_stream *s, size_t bytes)
{
	assert_int_equal(pair_write(s, bytes), 0);
}

static void respond(struct pair_stream *s)
{
	pair_respond(s, false);
}

/* grpc-go answers the first DATA of a round trip with a WINDOW_UPDATE and a PING, to
 * estimate what the line holds; with short messages that is each. */
static void a_ping_for_every_message_is_no_flood(void **state)
{
	struct rpc_options o = few();
	struct pair_frame f;
	struct pair p;

	(void)state;
	open_by_hand(&p, &o);
	p.server.hooks.head = respond;
	p.server.hooks.data = echo;
	pair_put_request(&p, 1, false);
	for (unsigned i = 0; i < 50 * BURST; i++) {
		pair_put_frame(&p, PAIR_DATA, 0, 1, "typing", 1 + i % 6);
		pair_run(&p);
		assert_true(pair_take_type(&p, PAIR_DATA, &f));
		pair_put_u32(&p, PAIR_WINDOW_UPDATE, i % 2, (uint32_t)f.len);
		pair_put_frame(&p, PAIR_PING, 0, 0, "12345678", 8);
	}
	pair_run(&p);
	assert_lives(&p);
	pair_close(&p);
}

/* A download whose reader gives credit, for stream and connection, frame by frame. */
static void credit_for_every_frame_is_no_flood(void **state)
{
	struct rpc_options o = few();
	struct pair p;
	uint64_t got = 0;

	(void)state;
	open_by_hand(&p, &o);
	p.server.hooks.head = respond;
	pair_put_request(&p, 1, false);
	pair_run(&p);
	struct pair_stream *s = p.server.streams;
	while (got < 100u << 20) {
		struct pair_frame f;
		size_t len = 0;

		if (h2_stream_queued(s->h2) < 200000)
			assert_int_equal(pair_write(s, 200000), 0);
		pair_run(&p);
		while (pair_take_type(&p, PAIR_DATA, &f)) {
			len += f.len;
			pair_put_u32(&p, PAIR_WINDOW_UPDATE, 0, (uint32_t)f.len);
			pair_put_u32(&p, PAIR_WINDOW_UPDATE, 1, (uint32_t)f.len);
		}
		assert_true(len > 0);
		pair_put_frame(&p, PAIR_PING, 0, 0, "12345678", 8);
		got += len;
	}
	pair_run(&p);
	assert_lives(&p);
	pair_close(&p);
}

/* Two of our own, at the default burst and no time passing. */
static void our_own_sessions_do_not_flood_each_other(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 10; seed++) {
		struct rpc_options o = few();
		struct pair p;

		o.stream_window = 3000;
		pair_open(&p, seed, &o, &o);
		pair_run(&p);
		p.server.hooks.head = respond;
		p.server.hooks.data = echo;
		struct pair_stream *c = pair_request(&p);
		for (unsigned i = 0; i < 20 * BURST; i++) {
			assert_int_equal(pair_write(c, 1 + i % 1500), 0);
			h2_ping(p.client.h2);
			pair_run(&p);
			assert_true(h2_is_ponged(p.client.h2));
		}
		assert_false(p.client.failed || p.server.failed);
		assert_int_equal(c->received, c->written);
		pair_close(&p);
	}
}

/* A window of a byte, opened again and again: CVE-2019-9511. */
static void crumbs_are_a_flood(void **state)
{
	struct rpc_options o = few();
	struct pair p;
	unsigned n = 0;

	(void)state;
	open_by_hand(&p, &o);
	p.server.hooks.head = respond;
	pair_put_settings(&p, INITIAL_WINDOW_SIZE, 0);
	pair_put_request(&p, 1, false);
	pair_run(&p);
	assert_int_equal(pair_write(p.server.streams, 100000), 0);
	for (; !p.server.failed && n < 2 * BURST; n++) {
		pair_put_u32(&p, PAIR_WINDOW_UPDATE, 1, 1);
		pair_run(&p);
	}
	assert_true(n > BURST && n <= BURST + BURST / 100);
	assert_flooded(&p, "WINDOW_UPDATE");
	pair_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_kind_has_an_end),
		cmocka_unit_test(each_second_allows_some_more),
		cmocka_unit_test(refused_streams_are_resets),
		cmocka_unit_test(own_resets_are_not_counted),
		cmocka_unit_test(answers_nobody_reads_have_an_end),
		cmocka_unit_test(a_long_list_of_settings),
		cmocka_unit_test(a_small_block_that_unpacks_to_much),
		cmocka_unit_test(a_header_frame_that_is_too_long),
		cmocka_unit_test(continuations_have_an_end),
		cmocka_unit_test(streams_have_an_end),
		cmocka_unit_test(a_turn_takes_so_many_frames),
		cmocka_unit_test(a_ping_for_every_message_is_no_flood),
		cmocka_unit_test(credit_for_every_frame_is_no_flood),
		cmocka_unit_test(our_own_sessions_do_not_flood_each_other),
		cmocka_unit_test(crumbs_are_a_flood),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
