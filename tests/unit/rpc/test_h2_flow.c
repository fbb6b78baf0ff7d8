/* Flow control of a session: who gives credit, when, and what a sender does without. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "pair.h"
#include "rpc/call.h"
#include "rpc/limits.h"

#define WINDOW_BORN 65535u /* of RFC 9113 */
#define FRAME_BORN  16384u

enum { FLOW_CONTROL_ERROR = 3, FRAME_SIZE_ERROR = 6, CANCEL = 8 };

enum { INITIAL_WINDOW_SIZE = 4, MAX_FRAME_SIZE = 5 };

/* How much a stream has still to write: see write_more(). */
struct job {
	uint64_t left;
	size_t ahead, piece; /* bytes queued at most, and written at once */
};

static void write_more(struct pair_stream *s, size_t bytes)
{
	struct job *job = s->cookie;

	(void)bytes;
	while (job != NULL && job->left > 0 && h2_stream_queued(s->h2) < job->ahead) {
		size_t len = 1 + pair_random(s->end->pair, job->piece);

		if (len > job->left)
			len = job->left;
		assert_int_equal(pair_write(s, len), 0);
		job->left -= len;
		if (job->left == 0)
			h2_stream_end(s->h2, s->end->is_server);
	}
}

static void respond(struct pair_stream *s)
{
	pair_respond(s, false);
}

static void open_pair(struct pair *p, uint64_t seed, uint32_t window, uint32_t conn_window)
{
	struct rpc_options o = pair_options(window, conn_window);

	pair_open(p, seed, &o, &o);
	p->client.hooks.sent = p->server.hooks.sent = write_more;
	pair_run(p); /* from here on, windows are those */
}

/* A request that the server has seen; data of ${job} goes to it. */
static struct pair_stream *begin_upload(struct pair *p, struct job *job)
{
	struct pair_stream *s = pair_request(p);

	s->cookie = job;
	write_more(s, 0);
	return s;
}

/* By hand: a server session that has seen the peer's SETTINGS. */
static void open_by_hand(
    struct pair *p, const struct rpc_options *o, uint32_t window, uint32_t frame_max)
{
	pair_open(p, 1, NULL, o);
	p->server.hooks.head = respond;
	pair_put_preface(p);
	pair_put_settings(p, INITIAL_WINDOW_SIZE, window);
	pair_put_settings(p, MAX_FRAME_SIZE, frame_max);
	pair_put_frame(p, PAIR_SETTINGS, PAIR_ACK, 0, NULL, 0);
	pair_run(p);
}

/* Whole transfers. */

static void both_ways(uint64_t seed, uint32_t window, uint32_t conn_window, size_t piece)
{
	struct pair p;
	struct job up = { .left = 20 * (uint64_t)window, .ahead = window * 2ul, .piece = piece };
	struct job down = up;
	uint64_t total = up.left;

	open_pair(&p, seed, window, conn_window);
	p.server.hooks.head = respond;
	struct pair_stream *c = begin_upload(&p, &up);
	while (p.server.streams == NULL || p.server.streams->heads == 0)
		assert_true(pair_step(&p));
	struct pair_stream *s = p.server.streams;
	s->cookie = &down;
	write_more(s, 0);
	pair_run(&p);

	assert_int_equal(s->received, total);
	assert_int_equal(c->received, total);
	assert_int_equal(c->sent, total);
	assert_int_equal(s->sent, total);
	assert_int_equal(c->closes + s->closes, 2);
	assert_int_equal(c->code + s->code, 0);
	pair_close(&p);
}

static void everything_arrives_whatever_the_windows(void **state)
{
	static const uint32_t windows[] = { 1, 7, 100, 16384, 65535, 262144 };

	(void)state;
	for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]); i++)
		for (uint64_t seed = 0; seed < 6; seed++) {
			both_ways(seed, windows[i], WINDOW_BORN, 10);
			both_ways(seed, windows[i], 4 * WINDOW_BORN, 1 + windows[i] / 2);
			both_ways(seed, windows[i], WINDOW_BORN, 3ul * windows[i]);
		}
}

/* Credit. */

static void stall_one(struct pair_stream *s)
{
	const int32_t *id = s->end->cookie;

	s->stalled = s->id == *id;
}

static void a_stalled_stream_does_not_stop_its_neighbours(void **state)
{
	enum { NEIGHBOURS = 7 };
	struct job jobs[NEIGHBOURS + 1];
	struct pair_stream *streams[NEIGHBOURS + 1];
	const uint64_t total = 400000;

	(void)state;
	for (uint64_t seed = 0; seed < 20; seed++) {
		int32_t stalled = 1 + 2 * (int32_t)(seed % (NEIGHBOURS + 1));
		struct pair p;

		open_pair(&p, seed, WINDOW_BORN, WINDOW_BORN);
		p.server.cookie = &stalled;
		p.server.hooks.head = stall_one;
		for (size_t i = 0; i <= NEIGHBOURS; i++) {
			jobs[i] = (struct job){ total, 100000, 20000 };
			streams[i] = begin_upload(&p, &jobs[i]);
		}
		pair_run(&p);
		for (size_t i = 0; i <= NEIGHBOURS; i++) {
			uint64_t got = pair_find(&p.server, streams[i]->id)->received;

			assert_int_equal(got, streams[i]->id == stalled ? WINDOW_BORN : total);
			assert_int_equal(streams[i]->sent, got);
		}
		pair_close(&p);
	}
}

/* ...and goes on where it was when it is read again. */
static void a_stalled_stream_goes_on(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 20; seed++) {
		struct pair p;
		struct job job = { 300000, 100000, 5000 };
		int32_t stalled = 1;

		open_pair(&p, seed, 10000, WINDOW_BORN);
		p.server.cookie = &stalled;
		p.server.hooks.head = stall_one;
		struct pair_stream *c = begin_upload(&p, &job);
		pair_run(&p);
		struct pair_stream *s = p.server.streams;
		assert_int_equal(s->received - s->credited, 10000);
		for (unsigned i = 0; i < 50; i++) { /* a little at a time */
			pair_credit(s, 1 + pair_random(&p, s->received - s->credited));
			pair_run(&p);
		}
		s->stalled = false;
		if (s->received > s->credited)
			pair_credit(s, s->received - s->credited);
		pair_run(&p);
		assert_int_equal(s->received, 300000);
		assert_int_equal(c->sent, 300000);
		assert_int_equal(s->ends, 1);
		pair_close(&p);
	}
}

static uint64_t credit_given(struct pair *p, int32_t id)
{
	struct pair_frame f;
	uint64_t sum = 0;

	while (pair_take_type(p, PAIR_WINDOW_UPDATE, &f))
		sum += f.id == id ? pair_u32(&f, 0) : 0;
	return sum;
}

static void connection_credit_comes_on_arrival_stream_credit_on_delivery(void **state)
{
	static const uint8_t zeros[10000];
	struct rpc_options o = pair_options(20000, WINDOW_BORN);
	struct pair p;

	(void)state;
	o.conn_window = WINDOW_BORN;
	open_by_hand(&p, &o, WINDOW_BORN, FRAME_BORN);
	credit_given(&p, 0);
	for (int32_t id = 1; id <= 7; id += 2) {
		pair_put_request(&p, id, false);
		pair_run(&p);
		pair_find(&p.server, id)->stalled = true;
		pair_put_frame(&p, PAIR_DATA, 0, id, zeros, sizeof(zeros));
		pair_put_frame(&p, PAIR_DATA, 0, id, zeros, sizeof(zeros));
	}
	pair_run(&p);
	/* Half of the window at least, of the 80,000 that came: nobody has read them. */
	assert_true(credit_given(&p, 0) >= 80000 - WINDOW_BORN / 2);

	struct pair_stream *s = pair_find(&p.server, 3);
	pair_credit(s, 9999); /* less than half of the window: not worth a frame */
	pair_run(&p);
	assert_int_equal(credit_given(&p, 3), 0);
	pair_credit(s, 1);
	pair_run(&p);
	assert_int_equal(credit_given(&p, 3), 10000);
	pair_credit(s, 10000);
	pair_run(&p);
	assert_int_equal(credit_given(&p, 3), 10000);
	pair_close(&p);
}

/* Credit for what never came on the stream would widen its window for good. */
static void credit_for_nothing_is_none(void **state)
{
	static const uint8_t zeros[10000];
	struct rpc_options o = pair_options(10000, WINDOW_BORN);
	struct pair p;

	(void)state;
	open_by_hand(&p, &o, WINDOW_BORN, FRAME_BORN);
	pair_put_request(&p, 1, false);
	pair_run(&p);
	credit_given(&p, 0);
	struct pair_stream *s = p.server.streams;
	s->stalled = true;
	for (unsigned i = 0; i < 5; i++) {
		h2_stream_credit(s->h2, 1000000);
		pair_put_frame(&p, PAIR_DATA, 0, 1, zeros, sizeof(zeros));
		pair_run(&p);
		assert_int_equal(credit_given(&p, 1), 0);
		pair_credit(s, sizeof(zeros));
		pair_run(&p);
		assert_int_equal(credit_given(&p, 1), sizeof(zeros));
	}
	assert_int_equal(s->received, 5 * sizeof(zeros));
	pair_close(&p);
}

/* Padding is not told, so nobody can give credit for it. */
static void padding_is_credited_by_itself(void **state)
{
	uint8_t padded[256] = { 255 };
	struct rpc_options o = pair_options(WINDOW_BORN, WINDOW_BORN);
	struct pair_frame f;
	struct pair p;
	uint64_t given[2] = { 0 };

	(void)state;
	open_by_hand(&p, &o, WINDOW_BORN, FRAME_BORN);
	pair_put_request(&p, 1, false);
	for (unsigned i = 0; i < 2000; i++) {
		pair_put_frame(&p, PAIR_DATA, PAIR_PADDED, 1, padded, sizeof(padded));
		pair_run(&p);
	}
	assert_false(p.server.failed);
	assert_int_equal(p.server.streams->received, 0);
	while (pair_take_type(&p, PAIR_WINDOW_UPDATE, &f))
		given[f.id] += pair_u32(&f, 0);
	assert_true(given[0] >= sizeof(padded) * 2000 - WINDOW_BORN / 2);
	assert_true(given[1] >= sizeof(padded) * 2000 - WINDOW_BORN / 2);
	pair_close(&p);
}

/* A connection's window gets back what came for streams nobody listens to. */
static void what_comes_for_nobody_is_credited(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 30; seed++) {
		struct pair p;
		struct job jobs[40], last = { 200000, 50000, 5000 };

		open_pair(&p, seed, 10000, WINDOW_BORN);
		for (size_t i = 0; i < 40; i++) {
			jobs[i] = (struct job){ 30000, 30000, 9000 };
			struct pair_stream *c = begin_upload(&p, &jobs[i]);
			while (pair_find(&p.server, c->id) == NULL)
				assert_true(pair_step(&p));
			struct pair_stream *s = pair_find(&p.server, c->id);
			s->stalled = true;
			for (uint64_t n = pair_random(&p, 6); n > 0; n--)
				pair_step(&p);
			if (i % 2 == 0)
				pair_reset(s, CANCEL);
			else
				pair_detach(s);
		}
		pair_run(&p);
		struct pair_stream *c = begin_upload(&p, &last);
		pair_run(&p);
		assert_int_equal(c->sent, 200000);
		assert_int_equal(pair_find(&p.server, c->id)->received, 200000);
		pair_close(&p);
	}
}

/* What a sender does with windows it is given by hand. */

/* Takes what the server has sent: bytes of DATA, the longest frame. */
static uint64_t take_data(struct pair *p, size_t *longest, size_t *frames)
{
	struct pair_frame f;
	uint64_t sum = 0;

	*longest = *frames = 0;
	while (pair_take_type(p, PAIR_DATA, &f)) {
		sum += f.len;
		*frames += f.len > 0;
		*longest = f.len > *longest ? f.len : *longest;
	}
	return sum;
}

static void windows_are_never_exceeded(void **state)
{
	struct rpc_options o = rpc_options_default();
	size_t longest, frames;

	(void)state;
	for (uint64_t seed = 0; seed < 50; seed++) {
		struct pair p;
		uint64_t stream[2] = { 0, 0 }, conn = WINDOW_BORN, got = 0;

		open_by_hand(&p, &o, 0, FRAME_BORN);
		p.random = seed;
		for (int32_t id = 1; id <= 3; id += 2) {
			pair_put_request(&p, id, false);
			pair_run(&p);
			assert_int_equal(pair_write(pair_find(&p.server, id), 200000), 0);
		}
		pair_run(&p);
		assert_int_equal(take_data(&p, &longest, &frames), 0);
		for (unsigned i = 0; i < 200; i++) {
			uint32_t n = 1 + (uint32_t)pair_random(&p, 3000);
			unsigned which = (unsigned)pair_random(&p, 3);
			uint64_t before = got, room = 0;

			pair_put_u32(
			    &p, PAIR_WINDOW_UPDATE, which == 2 ? 0 : 1 + 2 * (int32_t)which, n);
			if (which == 2)
				conn += n;
			else
				stream[which] += n;
			pair_run(&p);
			got += take_data(&p, &longest, &frames);
			room = stream[0] + stream[1];
			room = room < conn ? room : conn;
			assert_true(got >= before);
			assert_int_equal(got, room < 400000 ? room : 400000);
		}
		assert_false(p.server.failed);
		pair_close(&p);
	}
}

/* A window that SETTINGS make smaller may become negative (RFC 9113, section 6.9.2). */
static void a_window_that_shrinks_below_nothing(void **state)
{
	struct rpc_options o = rpc_options_default();
	size_t longest, frames;
	struct pair p;

	(void)state;
	open_by_hand(&p, &o, 30000, FRAME_BORN);
	pair_put_request(&p, 1, false);
	pair_run(&p);
	assert_int_equal(pair_write(p.server.streams, 100000), 0);
	pair_run(&p);
	assert_int_equal(take_data(&p, &longest, &frames), 30000);
	pair_put_settings(&p, INITIAL_WINDOW_SIZE, 10000); /* now -20,000 */
	pair_put_u32(&p, PAIR_WINDOW_UPDATE, 1, 20000);
	pair_run(&p);
	assert_int_equal(take_data(&p, &longest, &frames), 0);
	pair_put_u32(&p, PAIR_WINDOW_UPDATE, 1, 1);
	pair_run(&p);
	assert_int_equal(take_data(&p, &longest, &frames), 1);
	pair_put_settings(&p, INITIAL_WINDOW_SIZE, 10100);
	pair_run(&p);
	assert_int_equal(take_data(&p, &longest, &frames), 100);
	assert_int_equal(h2_stream_queued(p.server.streams->h2), 100000 - 30101);
	pair_close(&p);
}

/* More than the window the session has given is not delivered, and no end behind it;
 * not even while the session has no room to say so. */
static void a_peer_that_exceeds_a_window(void **state)
{
	static const uint8_t zeros[FRAME_BORN];
	struct rpc_options o = pair_options(FRAME_BORN, WINDOW_BORN);

	(void)state;
	for (unsigned shut = 0; shut <= 1; shut++) {
		struct pair_frame f;
		struct pair p;

		open_by_hand(&p, &o, WINDOW_BORN, FRAME_BORN);
		pair_put_request(&p, 1, false);
		pair_run(&p);
		struct pair_stream *s = p.server.streams;
		s->stalled = true;
		pair_put_frame(&p, PAIR_DATA, 0, 1, zeros, FRAME_BORN);
		pair_run(&p);
		assert_int_equal(s->closes, 0);
		p.server.shut = shut;
		pair_put_frame(&p, PAIR_DATA, 0, 1, zeros, 1);
		pair_put_frame(&p, PAIR_DATA, 0, 1, zeros, FRAME_BORN);
		pair_put_frame(&p, PAIR_DATA, PAIR_END_STREAM, 1, zeros, 5);
		pair_run(&p);
		p.server.shut = false;
		pair_run(&p);
		assert_int_equal(s->received, FRAME_BORN);
		assert_int_equal(s->ends, 0);
		assert_int_equal(s->closes, 1);
		assert_int_equal(s->code, FLOW_CONTROL_ERROR);
		assert_true(pair_take_type(&p, PAIR_RST_STREAM, &f));
		assert_int_equal(pair_u32(&f, 0), FLOW_CONTROL_ERROR);
		assert_false(p.server.failed);
		pair_close(&p);
	}
}

static void frames_are_as_large_as_the_peer_takes(void **state)
{
	static const uint32_t sizes[] = { FRAME_BORN, 20000, 65536, RPC_FRAME_MAX, 1 << 20,
		(1 << 24) - 1 };
	struct rpc_options o = rpc_options_default();
	size_t longest, frames;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct pair p;
		size_t size = sizes[i] < RPC_FRAME_MAX ? sizes[i] : RPC_FRAME_MAX;

		open_by_hand(&p, &o, 1 << 30, sizes[i]);
		pair_put_u32(&p, PAIR_WINDOW_UPDATE, 0, 1 << 30);
		pair_put_request(&p, 1, false);
		pair_run(&p);
		assert_int_equal(pair_write(p.server.streams, 3 * size + 1), 0);
		pair_run(&p);
		assert_int_equal(take_data(&p, &longest, &frames), 3 * size + 1);
		assert_int_equal(longest, size);
		assert_int_equal(frames, 4);
		pair_close(&p);
	}
}

static void a_frame_longer_than_announced_is_an_error(void **state)
{
	static const uint8_t zeros[RPC_FRAME_MAX + 1];
	struct rpc_options o = rpc_options_default();

	(void)state;
	for (size_t over = 0; over <= 1; over++) {
		struct pair_frame f;
		struct pair p;

		open_by_hand(&p, &o, WINDOW_BORN, FRAME_BORN);
		pair_put_request(&p, 1, false);
		pair_put_frame(&p, PAIR_DATA, 0, 1, zeros, RPC_FRAME_MAX + over);
		pair_run(&p);
		assert_int_equal(pair_take_type(&p, PAIR_GOAWAY, &f), over);
		if (over)
			assert_int_equal(pair_u32(&f, 4), FRAME_SIZE_ERROR);
		pair_close(&p);
	}
}

/* What is framed. */

static void no_more_is_framed_than_the_socket_may_hold(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 20; seed++) {
		struct rpc_options o = pair_options(1 << 20, 4 << 20);
		struct job jobs[4];
		struct pair p;

		o.out_high = 50000;
		o.frame_max = 20000;
		pair_open(&p, seed, &o, &o);
		p.client.hooks.sent = write_more;
		for (size_t i = 0; i < 4; i++) {
			jobs[i] = (struct job){ 1000000, 500000, 100000 };
			begin_upload(&p, &jobs[i]);
		}
		pair_run(&p);
		assert_true(p.client.out_peak >= 50000);
		assert_true(p.client.out_peak < 50000 + 20000 + 9);
		for (struct pair_stream *s = p.server.streams; s != NULL; s = s->next)
			assert_int_equal(s->received, 1000000);
		pair_close(&p);
	}
}

/* Streams that all have something get their turns: none is left behind for long. */
static void streams_take_turns(void **state)
{
	enum { STREAMS = 4 };
	struct rpc_options o = rpc_options_default();
	uint64_t got[STREAMS] = { 0 };
	struct pair_frame f;
	struct pair p;

	(void)state;
	o.frame_max = FRAME_BORN;
	open_by_hand(&p, &o, 1 << 30, FRAME_BORN);
	pair_put_u32(&p, PAIR_WINDOW_UPDATE, 0, 1 << 30);
	for (int32_t i = 0; i < STREAMS; i++) {
		pair_put_request(&p, 1 + 2 * i, false);
		pair_run(&p);
	}
	for (struct pair_stream *s = p.server.streams; s != NULL; s = s->next)
		assert_int_equal(pair_write(s, 1 << 20), 0);
	pair_run(&p);
	while (pair_take_type(&p, PAIR_DATA, &f)) {
		got[f.id / 2] += f.len;
		for (size_t i = 0; i < STREAMS; i++)
			assert_true(got[i] + 4ul * FRAME_BORN >= got[f.id / 2]);
	}
	pair_close(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_arrives_whatever_the_windows),
		cmocka_unit_test(a_stalled_stream_does_not_stop_its_neighbours),
		cmocka_unit_test(a_stalled_stream_goes_on),
		cmocka_unit_test(connection_credit_comes_on_arrival_stream_credit_on_delivery),
		cmocka_unit_test(credit_for_nothing_is_none),
		cmocka_unit_test(padding_is_credited_by_itself),
		cmocka_unit_test(what_comes_for_nobody_is_credited),
		cmocka_unit_test(windows_are_never_exceeded),
		cmocka_unit_test(a_window_that_shrinks_below_nothing),
		cmocka_unit_test(a_peer_that_exceeds_a_window),
		cmocka_unit_test(frames_are_as_large_as_the_peer_takes),
		cmocka_unit_test(a_frame_longer_than_announced_is_an_error),
		cmocka_unit_test(no_more_is_framed_than_the_socket_may_hold),
		cmocka_unit_test(streams_take_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
