/*
 * The ends of a stream: each way, in each order, with the bytes between cut at random.
 * That closed() and release() come once and last is checked by the pair, always.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "rpc/limits.h"
#include "script.h"

#define SEEDS 40

enum { NO_ERROR = 0, INTERNAL_ERROR = 2, CANCEL = 8 };

static bool has(const char *script, const char *acts)
{
	return strpbrk(script, acts) != NULL;
}

/* What ${s} can expect of what ${peer} did by ${script}. */
static void check_told(const struct pair_stream *s, const struct pair_stream *peer, const char *own,
    const char *script)
{
	if (s->let_go)
		return;
	if (has(script, "r"))
		assert_int_equal(s->closes, 1);
	if (s->closes > 0)
		assert_int_equal(s->releases, 1);
	/* A reset behind the end takes nothing away (RFC 9113, section 8.1). */
	if (has(script, "a") && !has(script, "dr") && !has(own, "r")) {
		assert_int_equal(s->ends, 1);
		assert_int_equal(s->closes, 1);
		assert_int_equal(s->code, NO_ERROR);
		assert_int_equal(s->received, peer->written);
	}
}

static void run_scripts(uint64_t seed, const char *client, const char *server)
{
	struct pair p;

	script_open(&p, seed);
	struct pair_stream *c = pair_request(&p);
	script_play(&p, c, client, server);
	struct pair_stream *s = pair_find(&p.server, c->id);
	if (s != NULL) {
		if (!has(client, "dr") && !has(server, "adrx") && !has(client, "x")) {
			script_check_whole(c, s);
			script_check_whole(s, c);
		}
		check_told(c, s, client, server);
		check_told(s, c, server, client);
		if (has(client, "x") && !has(server, "arx"))
			assert_int_equal(s->received, c->written);
	}
	pair_close(&p);
}

static void every_end_meets_every_other(void **state)
{
	static const char *const clients[] = { "e", "t", "we", "wt", "wwwe", "wde", "wdt", "r",
		"wr", "wwer", "wx", "x", "wex" };
	static const char *const servers[] = { "o", "he", "ht", "hwe", "hwt", "hwwwt", "oa", "hta",
		"hwta", "hwat", "hae", "hwdt", "hwde", "hwtd", "r", "hr", "hwr", "hwtr", "x", "hwx",
		"hwtx" };

	(void)state;
	for (size_t i = 0; i < sizeof(clients) / sizeof(clients[0]); i++)
		for (size_t j = 0; j < sizeof(servers) / sizeof(servers[0]); j++)
			for (uint64_t seed = 0; seed < SEEDS; seed++)
				run_scripts(seed, clients[i], servers[j]);
}

/* Each by itself. */

static void trailers_come_behind_the_last_data(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct pair p;

		script_open(&p, seed);
		struct pair_stream *c = script_begin(&p), *s = p.server.streams;
		script_play(&p, c, "we", "hwwwt");
		assert_int_equal(c->heads, 2);
		assert_string_equal(c->head, ":status: 200\ncontent-type: application/grpc\n");
		assert_non_null(strstr(c->last_head, "grpc-status: 0\n"));
		assert_int_equal(s->trailers, 1);
		assert_int_equal(c->received, s->written);
		pair_close(&p);
	}
}

static void headers_alone_can_be_the_whole_answer(void **state)
{
	struct pair p;

	(void)state;
	script_open(&p, 1);
	struct pair_stream *c = script_begin(&p), *s = p.server.streams;
	script_play(&p, c, "e", "o");
	assert_int_equal(c->heads, 1);
	assert_non_null(strstr(c->head, "grpc-status: 12\n"));
	assert_int_equal(s->trailers, 0);
	pair_close(&p);
}

/* Trailers need no window, also when there was no data at all. */
static void trailers_do_not_wait_for_a_window(void **state)
{
	struct pair_frame f;
	struct pair p;

	(void)state;
	script_open_by_hand(&p, 1);
	pair_put_settings(&p, 4, 0);
	pair_put_request(&p, 1, true);
	pair_run(&p);
	pair_respond(p.server.streams, false);
	h2_stream_end(p.server.streams->h2, true);
	pair_run(&p);
	assert_true(pair_take_type(&p, PAIR_HEADERS, &f));
	assert_true(pair_take(&p, &f));
	assert_int_equal(f.type, PAIR_HEADERS);
	assert_true(f.flags & PAIR_END_STREAM);
	assert_int_equal(p.server.streams->closes, 1);
	pair_close(&p);
}

/* The library frames trailers before requests that wait. */
static void trailers_of_a_request_come_behind_its_headers(void **state)
{
	(void)state;
	for (unsigned crowded = 0; crowded <= 1; crowded++) {
		struct rpc_options o = pair_options(SCRIPT_WINDOW, 65535);
		struct pair p;

		o.max_streams = 1;
		pair_open(&p, 1, &o, &o);
		pair_run(&p);
		struct pair_stream *first = crowded ? script_begin(&p) : NULL,
				   *c = pair_request(&p);
		h2_stream_end(c->h2, true);
		pair_run(&p);
		if (crowded)
			pair_reset(first, CANCEL);
		pair_run(&p);
		assert_int_equal(c->trailers, 1);
		assert_int_equal(p.server.streams->id, c->id);
		assert_int_equal(p.server.streams->heads, 2);
		assert_int_equal(p.server.streams->ends, 1);
		pair_close(&p);
	}
}

static void each_direction_outlives_the_others_end(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct pair p;

		script_open(&p, seed);
		struct pair_stream *c = script_begin(&p), *s = p.server.streams;
		struct pair_stream *first = seed % 2 ? c : s, *last = seed % 2 ? s : c;

		pair_respond(s, false);
		assert_int_equal(pair_write(first, 7000), 0);
		h2_stream_end(first->h2, seed % 4 < 2);
		pair_run(&p);
		assert_int_equal(last->ends, 1);
		assert_int_equal(pair_write(first, 1), -1);
		for (unsigned i = 0; i < 20; i++) {
			assert_int_equal(pair_write(last, 5000), 0);
			pair_run(&p);
			assert_int_equal(first->received, last->written);
		}
		assert_int_equal(c->closes + s->closes, 0);
		h2_stream_end(last->h2, seed % 4 == 0);
		pair_run(&p);
		script_check_whole(c, s);
		script_check_whole(s, c);
		pair_close(&p);
	}
}

/* The reset says only that the rest of the request is not wanted. */
static void a_reset_after_the_end(void **state)
{
	(void)state;
	for (unsigned late = 0; late <= 1; late++)
		for (unsigned ended = 0; ended <= 1; ended++) {
			struct pair_frame f;
			struct pair p;

			script_open_by_hand(&p, 1);
			pair_put_request(&p, 1, ended);
			pair_run(&p);
			struct pair_stream *s = p.server.streams;
			pair_respond(s, false);
			assert_int_equal(pair_write(s, 3000), 0);
			h2_stream_end(s->h2, true);
			if (!late)
				h2_stream_reset_after(s->h2);
			pair_run(&p);
			if (late && !ended) {
				assert_int_equal(s->closes, 0);
				h2_stream_reset_after(s->h2);
				pair_run(&p);
			}
			assert_int_equal(s->closes, 1);
			assert_int_equal(s->sent, 3000);
			while (pair_take_type(&p, PAIR_HEADERS, &f) && !(f.flags & PAIR_END_STREAM))
				continue;
			assert_int_equal(pair_take_type(&p, PAIR_RST_STREAM, &f), !ended);
			if (!ended)
				assert_int_equal(pair_u32(&f, 0), NO_ERROR);
			pair_close(&p);
		}
}

static void a_reset_drops_what_is_queued_and_tells_its_code(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct pair p;

		script_open(&p, seed);
		struct pair_stream *c = script_begin(&p), *s = p.server.streams;
		struct pair_stream *one = seed % 2 ? c : s, *other = seed % 2 ? s : c;

		s->stalled = c->stalled = true;
		pair_respond(s, false);
		assert_int_equal(pair_write(one, 50000), 0);
		assert_int_equal(pair_write(other, 50000), 0);
		pair_run(&p);
		assert_true(h2_queued(one->end->h2) > 0);
		pair_reset(one, CANCEL);
		assert_int_equal(h2_queued(one->end->h2), 0);
		pair_run(&p);
		assert_int_equal(other->closes, 1);
		assert_int_equal(other->code, CANCEL);
		assert_int_equal(other->sent, SCRIPT_WINDOW);
		assert_int_equal(h2_queued(other->end->h2), 0);
		assert_int_equal(h2_stream_count(p.client.h2) + h2_stream_count(p.server.h2), 0);
		pair_close(&p);
	}
}

/* sent() is what left, also when the peer breaks off: compared with what it got. */
static void sent_is_what_has_left(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 5 * SEEDS; seed++) {
		struct pair_frame f;
		struct pair p;
		uint64_t got[4] = { 0 };

		script_open_by_hand(&p, seed);
		for (int32_t id = 1; id <= 7; id += 2) {
			pair_put_request(&p, id, true);
			pair_run(&p);
			pair_respond(pair_find(&p.server, id), false);
			assert_int_equal(
			    pair_write(pair_find(&p.server, id), 1 + pair_random(&p, 40000)), 0);
		}
		for (int32_t id = 1; id <= 7; id += 2) {
			for (uint64_t n = pair_random(&p, 8); n > 0; n--)
				pair_step(&p);
			pair_put_u32(&p, PAIR_RST_STREAM, id, CANCEL);
		}
		pair_run(&p);
		while (pair_take_type(&p, PAIR_DATA, &f))
			got[f.id / 2] += f.len;
		for (struct pair_stream *s = p.server.streams; s != NULL; s = s->next) {
			assert_int_equal(s->closes, 1);
			assert_int_equal(s->code, CANCEL);
			assert_int_equal(s->sent, got[s->id / 2]);
		}
		pair_close(&p);
	}
}

static void write_a_little(struct pair_stream *s, size_t bytes)
{
	(void)bytes;
	assert_int_equal(pair_write(s, 100), 0);
	assert_int_equal(pair_write(s, 5000), 0);
	h2_stream_end(s->h2, true);
}

/* Data and a reset in one piece: as data() is told the stream is gone already. */
static void what_is_written_to_a_dropped_stream_is_swallowed(void **state)
{
	struct pair p;

	(void)state;
	script_open_by_hand(&p, 1);
	p.server.hooks.data = write_a_little;
	pair_put_request(&p, 1, false);
	pair_run(&p);
	pair_respond(p.server.streams, false);
	pair_run(&p);
	pair_put_frame(&p, PAIR_DATA, 0, 1, "hello", 5);
	pair_put_u32(&p, PAIR_RST_STREAM, 1, CANCEL);
	assert_true(pair_input(&p.server, SIZE_MAX));
	struct pair_stream *s = p.server.streams;
	assert_int_equal(s->received, 5);
	assert_int_equal(s->written, 5100);
	assert_int_equal(s->sent, 0);
	assert_int_equal(s->closes, 1);
	assert_int_equal(h2_queued(p.server.h2), 0);
	pair_run(&p);
	pair_close(&p);
}

/* What the peer's user was not told of, though it came: detached streams tell nothing and
 * stop nobody. */
static void a_detached_stream_is_silent_and_goes_with_its_end(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct pair p;

		script_open(&p, seed);
		struct pair_stream *c = script_begin(&p), *s = p.server.streams;

		pair_respond(s, false);
		assert_int_equal(pair_write(c, 3000), 0);
		assert_int_equal(pair_write(s, 3000), 0);
		h2_stream_end(s->h2, true);
		pair_detach(s); /* what is queued still goes */
		h2_stream_end(c->h2, false);
		pair_run(&p);
		assert_int_equal(c->received, 3000);
		assert_int_equal(c->ends, 1);
		assert_int_equal(c->closes, 1);
		assert_int_equal(s->releases, 1);
		pair_close(&p);
	}
}

/* Header blocks that cannot be sent. */

static char huge[RPC_HEADER_BYTES_MAX];

static void headers_that_cannot_be_sent_reset_the_stream(void **state)
{
	struct meta_field fields[] = { { ":status", 7, "200", 3 },
		{ "huge", 4, huge, sizeof(huge) } };
	struct err err = { 0 };

	(void)state;
	memset(huge, '&', sizeof(huge));
	for (unsigned trailers = 0; trailers <= 1; trailers++) {
		struct pair p;

		script_open(&p, 1);
		struct pair_stream *c = script_begin(&p), *s = p.server.streams;
		s->trailer = &fields[1];
		if (trailers) {
			pair_respond(s, false);
			h2_stream_end(s->h2, true);
		} else {
			assert_int_equal(h2_stream_respond(s->h2, fields, 2, false, &err), 0);
		}
		pair_run(&p);
		assert_int_equal(s->trailers, trailers);
		assert_int_equal(c->closes, 1);
		assert_int_equal(s->closes, 1);
		assert_int_equal(c->code, INTERNAL_ERROR);
		pair_close(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_end_meets_every_other),
		cmocka_unit_test(trailers_come_behind_the_last_data),
		cmocka_unit_test(headers_alone_can_be_the_whole_answer),
		cmocka_unit_test(trailers_do_not_wait_for_a_window),
		cmocka_unit_test(trailers_of_a_request_come_behind_its_headers),
		cmocka_unit_test(each_direction_outlives_the_others_end),
		cmocka_unit_test(a_reset_after_the_end),
		cmocka_unit_test(a_reset_drops_what_is_queued_and_tells_its_code),
		cmocka_unit_test(sent_is_what_has_left),
		cmocka_unit_test(what_is_written_to_a_dropped_stream_is_swallowed),
		cmocka_unit_test(a_detached_stream_is_silent_and_goes_with_its_end),
		cmocka_unit_test(headers_that_cannot_be_sent_reset_the_stream),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
