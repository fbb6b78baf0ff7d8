/* Many streams of a session: refused, waiting, drained, lost, and all of it at random. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "script.h"

#define SEEDS 40

enum { INTERNAL_ERROR = 2, REFUSED_STREAM = 7, CANCEL = 8 };

static void a_refused_stream_is_told_so(void **state)
{
	struct pair p;

	(void)state;
	script_open(&p, 1);
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
		struct rpc_options o = pair_options(SCRIPT_WINDOW, 65535);
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

			while (script_is_over(s))
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

		script_open(&p, seed);
		struct pair_stream *c = script_begin(&p), *s = p.server.streams;

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
		script_play(&p, c, "wwe", "hwt");
		script_check_whole(c, s);
		script_check_whole(s, c);
		assert_int_equal(h2_is_done(p.client.h2), !crossed);
		if (crossed) {
			struct pair_stream *t = pair_find(&p.server, second->id);
			script_play(&p, second, "e", "hwwt");
			script_check_whole(second, t);
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

		script_open(&p, seed);
		struct pair_stream *c = script_begin(&p), *s = p.server.streams;

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
		script_play(&p, c, "we", "hwt");
		script_check_whole(c, s);
		pair_close(&p);
	}
}

static void a_terminated_session_says_why(void **state)
{
	struct pair_frame f;
	struct pair p;

	(void)state;
	script_open_by_hand(&p, 1);
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

	if (script_is_over(s) || (!is_client && s->heads == 0))
		return;
	if (what == ' ') {
		s->stalled = !s->stalled;
		if (!s->stalled && s->received > s->credited)
			pair_credit(s, s->received - s->credited);
	} else if (what == 'h' || what == 'o') {
		if (!is_client && s->cookie == NULL) {
			s->cookie = s;
			script_act(s, what);
		}
	} else if (what == 'w') { /* may have ended */
		pair_write(s, pair_random(s->end->pair, 8000));
	} else if (is_client || s->cookie != NULL || what == 'r' || what == 'x') {
		script_act(s, what); /* a server ends behind its headers */
		if (what == 'd')     /* there is no going on behind a gap */
			script_act(s, 'e');
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

		script_open(&p, seed);
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

		script_open(&p, seed);
		for (unsigned i = 0; i < 6; i++) {
			struct pair_stream *c = pair_request(&p);
			pair_write(c, 9000);
			h2_stream_end(c->h2, i % 2);
		}
		for (uint64_t n = pair_random(&p, 12); n > 0; n--)
			pair_step(&p);
		for (struct pair_stream *s = p.server.streams; s != NULL; s = s->next)
			if (!script_is_over(s) && s->heads > 0) {
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
	if (victim != NULL && !script_is_over(victim) && pair_random(p, 4) == 0)
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

		script_open(&p, seed);
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
