/* A thread that takes slices and gives them back, and the loop that feeds it. */
#include "transfer/lane.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define WINDOW     ((size_t)64 << 10)
#define OUT_WINDOW ((size_t)16 << 10)
#define TOTAL      ((size_t)4 << 20)

struct feed {
	struct loop *loop;
	struct lane *lane;
	size_t pushed, used, got, owed;
	size_t stop_after; /* bytes that came back, after which it is aborted; 0: never */
	bool hold;         /* give no credit */
	bool ended;
	int result;
	struct err err;
	struct post post;
};

static uint8_t pattern(size_t at)
{
	return (uint8_t)(at * 7 + at / 251);
}

/* On the thread. */
static int echo(struct lane *lane, void *arg, struct err *err)
{
	struct slice s;

	(void)arg;
	for (;;) {
		int r = lane_take(lane, &s, false, err);
		if (r == 0)
			r = lane_take(lane, &s, true, err);
		if (r <= 0)
			return r;
		size_t len = s.len;
		if (lane_give(lane, s, err) != 0) {
			slice_release(&s);
			return -1;
		}
		lane_release(lane, len);
	}
}

/* On the loop: as much as the window takes, in pieces of all sizes. */
static void push_more(struct feed *f)
{
	while (f->pushed < TOTAL && f->pushed - f->used < WINDOW) {
		size_t len = 1 + f->pushed % 5000;
		len = len < TOTAL - f->pushed ? len : TOTAL - f->pushed;
		struct block *b = block_new(len);
		assert_non_null(b);
		for (size_t i = 0; i < len; i++)
			block_data(b)[i] = pattern(f->pushed + i);
		struct slice s = slice_of(b, 0, len);
		block_unref(b);
		if (lane_push(f->lane, s) != 0) {
			slice_release(&s);
			return;
		}
		f->pushed += len;
	}
	if (f->pushed == TOTAL)
		lane_eof(f->lane);
}

static void on_used(void *cookie, size_t bytes)
{
	struct feed *f = cookie;

	f->used += bytes;
	assert_true(f->used <= f->pushed);
	push_more(f);
}

static void on_data(void *cookie, struct slice s)
{
	struct feed *f = cookie;
	struct err why;
	size_t len = s.len;

	for (size_t i = 0; i < len; i++)
		assert_int_equal(s.data[i], pattern(f->got + i));
	f->got += len;
	f->owed += len;
	slice_release(&s);
	assert_true(f->owed <= OUT_WINDOW + 5000 || !f->hold);
	if (!f->hold) {
		lane_credit(f->lane, f->owed);
		f->owed = 0;
	}
	if (f->stop_after > 0 && f->got >= f->stop_after) {
		f->stop_after = 0;
		err_set(&why, GRPC_CANCELLED, "enough");
		lane_abort(f->lane, &why);
		assert_true(lane_is_aborted(f->lane));
	}
}

static void on_ended(void *cookie, int result, const struct err *err)
{
	struct feed *f = cookie;

	f->ended = true;
	f->result = result;
	if (err != NULL)
		f->err = *err;
	lane_free(f->lane);
	loop_stop(f->loop);
}

static const struct lane_ops ops = {
	.used = on_used,
	.data = on_data,
	.ended = on_ended,
	.out_window = OUT_WINDOW,
};

static void begin(struct post *post)
{
	push_more((struct feed *)((char *)post - offsetof(struct feed, post)));
}

static void run(struct feed *f)
{
	struct err err;

	f->loop = loop_create(0, &err);
	assert_non_null(f->loop);
	f->lane = lane_start(f->loop, WINDOW + 5000, echo, NULL, &ops, f, &err);
	assert_non_null(f->lane);
	f->post.run = begin;
	loop_post(f->loop, &f->post);
	loop_run(f->loop);
	assert_true(f->ended);
	loop_free(f->loop);
}

static void all_of_it_comes_back(void **state)
{
	struct feed f = { 0 };

	(void)state;
	run(&f);
	assert_int_equal(f.result, 0);
	assert_int_equal(f.got, TOTAL);
	assert_int_equal(f.used, TOTAL);
}

static void it_ends_when_it_is_told_to(void **state)
{
	(void)state;
	for (size_t after = 1; after < TOTAL; after = after * 5 + 1) {
		struct feed f = { .stop_after = after };
		run(&f);
		assert_int_equal(f.result, -1);
		assert_int_equal(f.err.code, GRPC_CANCELLED);
	}
}

/* Without credit it waits, and hears of the end there too. */
static void it_waits_for_credit(void **state)
{
	struct feed f = { .hold = true, .stop_after = OUT_WINDOW };

	(void)state;
	run(&f);
	assert_int_equal(f.result, -1);
	assert_true(f.got < OUT_WINDOW + 5000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_of_it_comes_back),
		cmocka_unit_test(it_ends_when_it_is_told_to),
		cmocka_unit_test(it_waits_for_credit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
