/* Receive windows that grow: only far from the peer, only for who reads, never past limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "pair.h"

#define WINDOW_BORN 65536u
#define WINDOW_MAX  (16 * WINDOW_BORN)
#define FRAME       16384u
#define TRIP_US     3000 /* that the peer takes to answer a PING */
#define ROUNDS      100  /* halves of a window; a machine that is busy makes some of them slow */

/* A client by hand that sends as much as it may. */
struct sender {
	struct pair p;
	uint64_t sent[2], credit[2]; /* of streams 1 and 3: DATA, and what it was given for it */
	unsigned probes;
	useconds_t late_us; /* a PING is answered so much later; 0: TRIP_US */
};

static struct rpc_options far_options(void)
{
	struct rpc_options o = pair_options(WINDOW_BORN, 1 << 26);

	o.window_max = WINDOW_MAX;
	o.window_budget = 2 * WINDOW_MAX;
	o.near_us = TRIP_US / 2;
	return o;
}

static void begin(struct sender *s, const struct rpc_options *o)
{
	memset(s, 0, sizeof(*s));
	pair_open(&s->p, 1, NULL, o);
	usleep(TRIP_US);
	pair_put_preface(&s->p);
	pair_put_frame(&s->p, PAIR_SETTINGS, 0, 0, NULL, 0);
	pair_put_frame(&s->p, PAIR_SETTINGS, PAIR_ACK, 0, NULL, 0);
	for (int32_t id = 1; id <= 3; id += 2)
		pair_put_request(&s->p, id, false);
	pair_run(&s->p);
	s->credit[0] = s->credit[1] = WINDOW_BORN;
}

/* What the session has said: credit is counted, a PING is answered late. */
static void listen(struct sender *s)
{
	struct pair_frame f;
	uint8_t ping[8];

	while (pair_take(&s->p, &f)) {
		if (f.type == PAIR_WINDOW_UPDATE && f.id != 0)
			s->credit[f.id / 2] += pair_u32(&f, 0);
		if (f.type != PAIR_PING || (f.flags & PAIR_ACK) != 0)
			continue;
		s->probes++;
		memcpy(ping, f.payload, sizeof(ping));
		usleep(s->late_us != 0 ? s->late_us : TRIP_US);
		pair_put_frame(&s->p, PAIR_PING, PAIR_ACK, 0, ping, sizeof(ping));
		pair_run(&s->p);
	}
}

static void send_round(struct sender *s, int32_t id)
{
	static const uint8_t zeros[FRAME];
	size_t i = (size_t)id / 2;

	for (uint64_t n = s->credit[i]; n >= FRAME; n -= FRAME) {
		pair_put_frame(&s->p, PAIR_DATA, 0, id, zeros, FRAME);
		s->sent[i] += FRAME;
		s->credit[i] -= FRAME;
		pair_run(&s->p);
	}
	listen(s);
}

/* The window that the peer has been shown so far, at least. */
static uint64_t window(const struct sender *s, int32_t id)
{
	return s->credit[id / 2];
}

static void who_is_far_and_reads_gets_a_larger_window(void **state)
{
	struct rpc_options o = far_options();
	struct sender s;

	(void)state;
	begin(&s, &o);
	for (unsigned i = 0; i < ROUNDS && window(&s, 1) <= WINDOW_MAX / 2; i++)
		send_round(&s, 1);
	assert_true(window(&s, 1) > WINDOW_MAX / 2);
	for (unsigned i = 0; i < ROUNDS; i++) {
		send_round(&s, 1);
		assert_true(window(&s, 1) <= WINDOW_MAX);
	}
	assert_int_equal(window(&s, 3), WINDOW_BORN);
	pair_close(&s.p);
}

static void who_is_near_keeps_the_window_it_was_born_with(void **state)
{
	struct rpc_options o = far_options();
	struct sender s;

	(void)state;
	o.near_us = 1000000;
	begin(&s, &o);
	for (unsigned i = 0; i < ROUNDS; i++) {
		send_round(&s, 1);
		assert_true(window(&s, 1) <= WINDOW_BORN);
	}
	assert_int_equal(s.probes, 1);
	pair_close(&s.p);
}

/* So is who was near once, however late its answers are afterwards. */
static void a_short_handshake_tells_who_is_near(void **state)
{
	struct rpc_options o = far_options();
	struct sender s;

	(void)state;
	o.near_us = 10 * TRIP_US; /* of ours, which begins at the latest now... */
	begin(&s, &o);
	s.late_us = 20 * TRIP_US; /* ...and what follows takes longer */
	for (unsigned i = 0; i < ROUNDS / 10; i++) {
		send_round(&s, 1);
		assert_true(window(&s, 1) <= WINDOW_BORN);
	}
	pair_close(&s.p);
}

/* Whom the kernel calls near has to be farther away. */
static void a_busy_peer_is_not_far(void **state)
{
	struct rpc_options o = far_options();
	struct sender s;

	(void)state;
	for (int link_is_near = 0; link_is_near < 2; link_is_near++) {
		o.near_us = TRIP_US * 2 / 3;
		begin(&s, &o);
		if (link_is_near)
			h2_link_is_near(s.p.server.h2);
		for (unsigned i = 0; i < ROUNDS && window(&s, 1) <= WINDOW_BORN; i++)
			send_round(&s, 1);
		assert_int_equal(window(&s, 1) > WINDOW_BORN, link_is_near == 0);
		pair_close(&s.p);
	}
}

static void who_does_not_read_gets_no_more(void **state)
{
	struct rpc_options o = far_options();
	struct sender s;

	(void)state;
	begin(&s, &o);
	pair_find(&s.p.server, 1)->stalled = true;
	for (unsigned i = 0; i < ROUNDS; i++)
		send_round(&s, 1);
	assert_int_equal(s.sent[0], WINDOW_BORN);
	assert_int_equal(s.probes, 0);
	pair_close(&s.p);
}

/* The budget is one stream's, until that is over. */
static void what_windows_grow_by_is_bounded_for_all(void **state)
{
	struct rpc_options o = far_options();
	struct sender s;

	(void)state;
	o.window_budget = WINDOW_MAX - WINDOW_BORN;
	begin(&s, &o);
	for (unsigned i = 0; i < ROUNDS && window(&s, 1) <= WINDOW_MAX / 2; i++)
		send_round(&s, 1);
	assert_true(window(&s, 1) > WINDOW_MAX / 2);
	for (unsigned i = 0; i < ROUNDS; i++) {
		send_round(&s, 3);
		assert_true(window(&s, 3) <= WINDOW_BORN);
	}
	pair_put_u32(&s.p, PAIR_RST_STREAM, 1, 8);
	pair_run(&s.p);
	for (unsigned i = 0; i < ROUNDS && window(&s, 3) <= WINDOW_MAX / 2; i++)
		send_round(&s, 3);
	assert_true(window(&s, 3) > WINDOW_MAX / 2);
	pair_close(&s.p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_is_far_and_reads_gets_a_larger_window),
		cmocka_unit_test(who_is_near_keeps_the_window_it_was_born_with),
		cmocka_unit_test(a_short_handshake_tells_who_is_near),
		cmocka_unit_test(a_busy_peer_is_not_far),
		cmocka_unit_test(who_does_not_read_gets_no_more),
		cmocka_unit_test(what_windows_grow_by_is_bounded_for_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
