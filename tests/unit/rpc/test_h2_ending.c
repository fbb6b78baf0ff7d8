/*
 * The ends of a stream: each way, in each order, with the bytes between cut at random.
 * That closed() and release() come once and last is checked by the pair, always.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pair.h"
#include "rpc/limits.h"

#define WINDOW 6000u
#define CONN   65535u
#define SEEDS  40

enum { NO_ERROR = 0, INTERNAL_ERROR = 2, REFUSED_STREAM = 7, CANCEL = 8 };

static void open_pair(struct pair *p, uint64_t seed)
{
	struct rpc_options o = pair_options(WINDOW, CONN);

	pair_open(p, seed, &o, &o);
	pair_run(p);
}

static void open_by_hand(struct pair *p, uint64_t seed)
{
	struct rpc_options o = pair_options(WINDOW, CONN);

	pair_open(p, seed, NULL, &o);
	pair_put_preface(p);
	pair_put_frame(p, PAIR_SETTINGS, 0, 0, NULL, 0);
	pair_put_frame(p, PAIR_SETTINGS, PAIR_ACK, 0, NULL, 0);
	pair_run(p);
}

/* A request that both have seen. */
static struct pair_stream *begin(struct pair *p)
{
	struct pair_stream *c = pair_request(p);

	pair_run(p);
	assert_non_null(pair_find(&p->server, c->id));
	return c;
}

static bool is_over(const struct pair_stream *s)
{
	return s->closes > 0 || s->let_go;
}

/* Scripts: what each side does, a letter an act, while bytes move. */

static void act(struct pair_stream *s, char what)
{
	if (is_over(s))
		return;
	switch (what) {
	case 'h':
		pair_respond(s, false);
		break;
	case 'o': /* headers only */
		pair_respond(s, true);
		break;
	case 'w':
		assert_int_equal(pair_write(s, 1 + pair_random(s->end->pair, 9000)), 0);
		break;
	case 'e':
		h2_stream_end(s->h2, false);
		break;
	case 't': /* with trailers */
		h2_stream_end(s->h2, true);
		break;
	case 'a':
		h2_stream_reset_after(s->h2);
		break;
	case 'd':
		h2_stream_drop(s->h2);
		break;
	case 'r':
		pair_reset(s, CANCEL);
		break;
	case 'x':
		pair_detach(s);
		break;
	default:
		fail_msg("no such act: %c", what);
	}
}

static void play(struct pair *p, struct pair_stream *c, const char *client, const char *server)
{
	while (*client != '\0' || *server != '\0') {
		struct pair_stream *s = pair_find(&p->server, c->id);
		uint64_t choice = pair_random(p, 8);

		if (choice == 0 && *client != '\0')
			act(c, *client++);
		else if (choice == 1 && *server != '\0' && s != NULL && s->heads > 0)
			act(s, *server++);
		else if (!pair_step(p) && *client == '\0' && s == NULL)
			return; /* it has never got there */
	}
	pair_run(p);
}

static bool has(const char *script, const char *acts)
{
	return strpbrk(script, acts) != NULL;
}

/* Both have ended, and nobody has broken off. */
static void check_whole(const struct pair_stream *s, const struct pair_stream *peer)
{
	assert_int_equal(s->ends, 1);
	assert_int_equal(s->closes, 1);
	assert_int_equal(s->code, NO_ERROR);
	assert_int_equal(s->received, peer->written);
	assert_int_equal(s->sent, s->written);
	assert_int_equal(s->releases, 1);
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

	open_pair(&p, seed);
	struct pair_stream *c = pair_request(&p);
	play(&p, c, client, server);
	struct pair_stream *s = pair_find(&p.server, c->id);
	if (s != NULL) {
		if (!has(client, "dr") && !has(server, "adrx") && !has(client, "x")) {
			check_whole(c, s);
			check_whole(s, c);
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

		open_pair(&p, seed);
		struct pair_stream *c = begin(&p), *s = p.server.streams;
		play(&p, c, "we", "hwwwt");
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
	open_pair(&p, 1);
	struct pair_stream *c = begin(&p), *s = p.server.streams;
	play(&p, c, "e", "o");
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
	open_by_hand(&p, 1);
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
		struct rpc_options o = pair_options(WINDOW, CONN);
		struct pair p;

		o.max_streams = 1;
		pair_open(&p, 1, &o, &o);
		pair_run(&p);
		struct pair_stream *first = crowded ? begin(&p) : NULL, *c = pair_request(&p);
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

		open_pair(&p, seed);
		struct pair_stream *c = begin(&p), *s = p.server.streams;
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
		check_whole(c, s);
		check_whole(s, c);
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

			open_by_hand(&p, 1);
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

		open_pair(&p, seed);
		struct pair_stream *c = begin(&p), *s = p.server.streams;
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
		assert_int_equal(other->sent, WINDOW);
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

		open_by_hand(&p, seed);
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
	open_by_hand(&p, 1);
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

		open_pair(&p, seed);
		struct pair_stream *c = begin(&p), *s = p.server.streams;

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

		open_pair(&p, 1);
		struct pair_stream *c = begin(&p), *s = p.server.streams;
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

/* Many streams. */

static void a_refused_stream_is_told_so(void **state)
{
	struct pair p;

	(void)state;
	open_pair(&p, 1);
	p.server.refuses = true;
	struct pair_stream *c = pair_request(&p);
	pair_run(&p);
	assert_int_equal(c->closes, 1);
	assert_true(c->code == REFUSED_STREAM || c->code == INTERNAL_ERROR);
	assert_null(p.server.streams);
	pair_close(&p);
}

static void requests_beyond_the_allowed_wait(void **state)
{
	enum { STREAMS = 20 };

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct rpc_options o = pair_options(WINDOW, CONN);
		struct pair_stream *c[STREAMS];
		struct pair p;
		size_t waiting;

		o.max_streams = 3;
		pair_open(&p, seed, &o, &o);
		pair_run(&p);
		for (size_t i = 0; i < STREAMS; i++) {
			c[i] = pair_request(&p);
			pair_write(c[i], 100);
		}
		pair_run(&p);
		assert_int_equal(h2_stream_count(p.server.h2), 3);
		assert_int_equal(h2_stream_count(p.client.h2), STREAMS);
		/* Before they were ever sent: they are over when it is their turn. */
		pair_reset(c[STREAMS - 1], CANCEL);
		pair_reset(c[STREAMS - 2], CANCEL);
		pair_run(&p);
		waiting = STREAMS - 2;
		while (waiting > (seed % 2 ? 5 : 0)) {
			struct pair_stream *s = p.server.streams;

			while (is_over(s))
				s = s->next;
			pair_respond(s, true);
			h2_stream_end(pair_find(&p.client, s->id)->h2, false);
			pair_run(&p);
			waiting--;
			assert_int_equal(
			    h2_stream_count(p.client.h2), waiting < 3 ? waiting : waiting + 2);
			assert_int_equal(h2_stream_count(p.server.h2), waiting < 3 ? waiting : 3);
		}
		pair_close(&p);
	}
}

/* Draining. */

static void a_drain_ends_when_its_streams_have(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct pair p;

		open_pair(&p, seed);
		struct pair_stream *c = begin(&p), *s = p.server.streams;

		h2_drain_notice(p.server.h2);
		struct pair_stream *second = pair_request(&p); /* has not heard of it */
		pair_run(&p);
		assert_true(h2_is_draining(p.client.h2));
		bool crossed = pair_find(&p.server, second->id) != NULL;
		assert_int_equal(second->closes, crossed ? 0 : 1);
		struct pair_stream *third = pair_request(&p); /* has heard */
		pair_run(&p);
		assert_int_equal(third->closes, 1);

		h2_drain(p.server.h2);
		pair_run(&p);
		assert_int_equal(c->closes, 0);
		play(&p, c, "wwe", "hwt");
		check_whole(c, s);
		check_whole(s, c);
		assert_int_equal(h2_is_done(p.client.h2), !crossed);
		if (crossed) {
			struct pair_stream *t = pair_find(&p.server, second->id);
			play(&p, second, "e", "hwwt");
			check_whole(second, t);
		}
		assert_int_equal(h2_stream_count(p.server.h2), 0);
		assert_true(h2_is_done(p.client.h2));
		assert_true(h2_is_done(p.server.h2));
		pair_close(&p);
	}
}

/* Requests on their way when the last id is said are refused, and may be tried again. */
static void requests_behind_the_last_id_are_refused(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct pair p;

		open_pair(&p, seed);
		struct pair_stream *c = begin(&p), *s = p.server.streams;

		h2_drain(p.server.h2);
		while (pair_output(&p.server, 1 + pair_random(&p, 30)))
			continue;
		struct pair_stream *late = pair_request(&p);
		pair_write(late, 2000);
		while (pair_output(&p.client, 1 + pair_random(&p, 300)))
			continue;
		pair_run(&p);
		assert_null(pair_find(&p.server, late->id));
		assert_int_equal(late->closes, 1);
		assert_int_equal(late->code, REFUSED_STREAM);
		play(&p, c, "we", "hwt");
		check_whole(c, s);
		pair_close(&p);
	}
}

static void a_terminated_session_says_why(void **state)
{
	struct pair_frame f;
	struct pair p;

	(void)state;
	open_by_hand(&p, 1);
	pair_put_request(&p, 1, false);
	pair_run(&p);
	h2_terminate(p.server.h2, INTERNAL_ERROR);
	pair_run(&p);
	assert_true(pair_take_type(&p, PAIR_GOAWAY, &f));
	assert_int_equal(pair_u32(&f, 0), 1);
	assert_int_equal(pair_u32(&f, 4), INTERNAL_ERROR);
	assert_true(h2_is_done(p.server.h2));
	pair_close(&p);
}

/* Everything at once. */

static void do_anything(struct pair_stream *s)
{
	static const char acts[] = "wwwwwwwhhoetaadrx ";
	char what = acts[pair_random(s->end->pair, sizeof(acts) - 1)];
	bool is_client = !s->end->is_server;

	if (is_over(s) || (!is_client && s->heads == 0))
		return;
	if (what == ' ') {
		s->stalled = !s->stalled;
		if (!s->stalled && s->received > s->credited)
			pair_credit(s, s->received - s->credited);
	} else if (what == 'h' || what == 'o') {
		if (!is_client && s->cookie == NULL) {
			s->cookie = s;
			act(s, what);
		}
	} else if (what == 'w') { /* may have ended */
		pair_write(s, pair_random(s->end->pair, 8000));
	} else if (is_client || s->cookie != NULL || what == 'r' || what == 'x') {
		act(s, what);    /* a server ends behind its headers */
		if (what == 'd') /* there is no going on behind a gap */
			act(s, 'e');
	}
}

static struct pair_stream *any_stream(struct pair *p)
{
	struct pair_end *e = pair_random(p, 2) ? &p->client : &p->server;
	uint64_t n = pair_random(p, 12);
	struct pair_stream *s = e->streams;

	while (s != NULL && n-- > 0)
		s = s->next;
	return s;
}

static void anything_may_happen_in_any_order(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 300; seed++) {
		struct pair p;

		open_pair(&p, seed);
		for (unsigned i = 0; i < 2500; i++) {
			uint64_t choice = pair_random(&p, 40);
			struct pair_stream *s = any_stream(&p);

			if (choice == 0)
				pair_request(&p);
			else if (choice == 1)
				h2_settle(pair_random(&p, 2) ? p.client.h2 : p.server.h2);
			else if (choice < 12 && s != NULL)
				do_anything(s);
			else
				pair_step(&p);
		}
		pair_run(&p);
		assert_false(p.client.failed || p.server.failed);
		pair_close(&p);
	}
}

/* The connection is lost in the midst of it. */

static void lose_it(struct pair_stream *s)
{
	if (pair_random(s->end->pair, 3) == 0 && !s->end->failed)
		pair_stop(s->end);
}

static void lose_it_at(struct pair_stream *s, size_t bytes)
{
	(void)bytes;
	lose_it(s);
}

static void a_session_may_be_stopped_from_what_it_tells(void **state)
{
	const struct pair_hooks all = { lose_it, lose_it_at, lose_it, lose_it_at, lose_it };

	(void)state;
	for (uint64_t seed = 0; seed < 10 * SEEDS; seed++) {
		struct pair p;

		open_pair(&p, seed);
		for (unsigned i = 0; i < 6; i++) {
			struct pair_stream *c = pair_request(&p);
			pair_write(c, 9000);
			h2_stream_end(c->h2, i % 2);
		}
		for (uint64_t n = pair_random(&p, 12); n > 0; n--)
			pair_step(&p);
		for (struct pair_stream *s = p.server.streams; s != NULL; s = s->next)
			if (!is_over(s) && s->heads > 0) {
				pair_respond(s, false);
				pair_write(s, 9000);
				h2_stream_end(s->h2, true);
			}
		p.client.hooks = all;
		p.server.hooks = all;
		while (!p.client.failed && !p.server.failed && pair_step(&p))
			continue;
		pair_close(&p);
	}
}

/* Users that reset streams, their own and others', from what they are told. */

static void reset_any(struct pair_stream *s, size_t bytes)
{
	struct pair *p = s->end->pair;
	uint64_t n = pair_random(p, 6);
	struct pair_stream *victim = s->end->streams;

	(void)bytes;
	while (n-- > 0 && victim != NULL)
		victim = victim->next;
	if (victim != NULL && !is_over(victim) && pair_random(p, 4) == 0)
		pair_reset(victim, CANCEL);
	if (!s->end->is_server && pair_random(p, 4) == 0 && h2_stream_count(s->end->h2) < 20)
		pair_write(pair_request(p), 3000);
}

static void reset_any_at(struct pair_stream *s)
{
	reset_any(s, 0);
}

static void answer_and_reset_any(struct pair_stream *s)
{
	pair_respond(s, false);
	pair_write(s, 12000);
	h2_stream_end(s->h2, true);
	reset_any(s, 0);
}

static void streams_may_be_reset_from_what_is_told(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 5 * SEEDS; seed++) {
		struct pair p;

		open_pair(&p, seed);
		p.client.hooks = (struct pair_hooks){
			.data = reset_any, .end = reset_any_at, .sent = reset_any
		};
		p.server.hooks = p.client.hooks;
		p.server.hooks.head = answer_and_reset_any;
		for (unsigned i = 0; i < 10; i++)
			pair_write(pair_request(&p), 9000);
		for (unsigned i = 0; i < 2000; i++)
			pair_step(&p);
		p.client.hooks = p.server.hooks = (struct pair_hooks){ 0 };
		pair_run(&p);
		assert_false(p.client.failed || p.server.failed);
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
		cmocka_unit_test(a_refused_stream_is_told_so),
		cmocka_unit_test(requests_beyond_the_allowed_wait),
		cmocka_unit_test(a_drain_ends_when_its_streams_have),
		cmocka_unit_test(requests_behind_the_last_id_are_refused),
		cmocka_unit_test(a_terminated_session_says_why),
		cmocka_unit_test(anything_may_happen_in_any_order),
		cmocka_unit_test(a_session_may_be_stopped_from_what_it_tells),
		cmocka_unit_test(streams_may_be_reset_from_what_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
