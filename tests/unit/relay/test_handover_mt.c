/* A pump whose sink is on another loop: order, credit, and either side leaving first. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "relay/handover.h"
#include "rig.h"

#define WINDOW ((size_t)1 << 20)
#define TOTAL  ((uint64_t)64 << 20)

/* Both ends of one handover; each field is of one loop. */
struct ends {
	struct loop *near, *far;
	struct handover *handover;

	struct post push; /* near */
	uint64_t pushed, credited;
	size_t largest;
	uint64_t near_sum;
	struct pump_sink sink;

	struct post drain; /* far */
	uint64_t received, far_sum;
	size_t waiting; /* received and not yet reported as sent */
	unsigned finished, stopped;
	struct err why;

	size_t piece;
	uint32_t dice;
	atomic_uint left; /* sides that have */
};

static uint64_t add_up(uint64_t sum, const uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i += 61)
		sum = sum * 1099511628211u + data[i] + len;
	return sum;
}

static void side_left(struct ends *e)
{
	if (atomic_fetch_add(&e->left, 1) == 1) {
		loop_stop(e->near);
		loop_stop(e->far);
	}
}

/* Near. */

static void run_push(struct post *post)
{
	struct ends *e = (struct ends *)((char *)post - offsetof(struct ends, push));
	struct slice s;

	while (e->pushed < TOTAL) {
		size_t n = 1 + (e->dice = e->dice * 1664525 + 1013904223) % e->piece;

		if (n > TOTAL - e->pushed)
			n = (size_t)(TOTAL - e->pushed);
		if (e->pushed + n - e->credited > WINDOW)
			return; /* until credit comes */
		s = (struct slice){ .owner = block_new(n) };
		assert_non_null(s.owner);
		s.data = block_data(s.owner);
		s.len = n;
		memset(block_data(s.owner), (int)(e->dice >> 8), n);
		e->near_sum = add_up(e->near_sum, s.data, n);
		e->pushed += n;
		assert_int_equal(e->sink.write(e->sink.self, s), 0);
	}
	e->sink.finish(e->sink.self);
}

static void near_sent(void *cookie, size_t bytes)
{
	const struct err why = { .code = GRPC_UNAVAILABLE, .text = "the end" };
	struct ends *e = cookie;

	e->credited += bytes;
	assert_true(e->credited <= e->pushed);
	if (e->credited < TOTAL) {
		if (e->pushed < TOTAL && !e->push.pending)
			loop_post(e->near, &e->push);
		return;
	}
	e->sink.stop(e->sink.self, &why);
	handover_leave_near(e->handover);
	side_left(e);
}

/* Far. */

static void run_drain(struct post *post)
{
	struct ends *e = (struct ends *)((char *)post - offsetof(struct ends, drain));
	size_t n = e->waiting;

	e->waiting = 0;
	handover_sent(e->handover, n);
}

static int far_write(void *self, struct slice s)
{
	struct ends *e = self;

	assert_int_equal(e->finished, 0);
	e->received += s.len;
	e->far_sum = add_up(e->far_sum, s.data, s.len);
	e->waiting += s.len;
	assert_true(e->waiting <= WINDOW);
	slice_release(&s);
	if (!e->drain.pending)
		loop_post(e->far, &e->drain);
	return 0;
}

static void far_finish(void *self)
{
	struct ends *e = self;

	assert_int_equal(e->received, TOTAL);
	e->finished++;
}

static void far_stop(void *self, const struct err *why)
{
	struct ends *e = self;

	assert_int_equal(e->finished, 1);
	e->stopped++;
	e->why = *why;
	handover_leave_far(e->handover);
	side_left(e);
}

static void *run_loop(void *loop)
{
	loop_run(loop);
	return NULL;
}

static void begin_ends(struct ends *e, size_t piece)
{
	struct err err;

	*e = (struct ends){ .piece = piece, .dice = 1 };
	e->near = loop_create(0, &err);
	e->far = loop_create(1, &err);
	assert_true(e->near != NULL && e->far != NULL);
	e->handover = handover_create(e->near, e->far,
	    (struct pump_sink){
		.write = far_write, .finish = far_finish, .stop = far_stop, .self = e },
	    near_sent, e);
	assert_non_null(e->handover);
	e->sink = handover_sink(e->handover);
	e->push.run = run_push;
	e->drain.run = run_drain;
}

static void run_ends(struct ends *e)
{
	pthread_t threads[2];

	assert_int_equal(pthread_create(&threads[0], NULL, run_loop, e->near), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, run_loop, e->far), 0);
	for (size_t i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	loop_free(e->near);
	loop_free(e->far);
}

static void move_all(size_t piece)
{
	struct ends e;

	begin_ends(&e, piece);
	loop_post(e.near, &e.push);
	run_ends(&e);
	assert_int_equal(e.received, TOTAL);
	assert_int_equal(e.near_sum, e.far_sum);
	assert_int_equal(e.finished, 1);
	assert_int_equal(e.stopped, 1);
	assert_string_equal(e.why.text, "the end");
}

static void test_order_and_credit(void **state)
{
	(void)state;
	move_all(4 << 10);
	move_all(64 << 10);
	move_all(1 << 20);
}

/* What is queued for a side that has left is released, and nobody is called. */

struct leaving {
	struct post post;
	struct ends *ends;
};

static void run_far_leaves(struct post *post)
{
	struct ends *e = ((struct leaving *)post)->ends;

	handover_leave_far(e->handover);
	loop_stop(e->far);
}

static void run_near_writes_and_leaves(struct post *post)
{
	struct ends *e = ((struct leaving *)post)->ends;

	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(e->sink.write(e->sink.self, slice_copy("x", 1)), 0);
	e->sink.finish(e->sink.self);
	handover_leave_near(e->handover);
	loop_stop(e->near);
}

static int leaving_write(void *self, struct slice s)
{
	struct ends *e = self;

	e->received += s.len;
	slice_release(&s);
	return 0;
}

static void leaving_finish(void *self)
{
	((struct ends *)self)->finished++;
}

static void test_either_side_leaves(void **state)
{
	struct ends e;

	(void)state;
	for (unsigned round = 0; round < 50; round++) {
		struct leaving far = { .post.run = run_far_leaves, .ends = &e };
		struct leaving near = { .post.run = run_near_writes_and_leaves, .ends = &e };

		begin_ends(&e, 1);
		handover_leave_near(e.handover);
		handover_leave_far(e.handover);
		e.handover = handover_create(e.near, e.far,
		    (struct pump_sink){ .write = leaving_write,
			.finish = leaving_finish,
			.stop = far_stop,
			.self = &e },
		    near_sent, &e);
		assert_non_null(e.handover);
		e.sink = handover_sink(e.handover);
		loop_post(e.near, &near.post);
		loop_post(e.far, &far.post);
		run_ends(&e);
		assert_true(e.received <= 100 && e.finished <= 1);
		assert_int_equal(e.stopped, 0);
	}
}

/* Typing, while the far loop is busy with something else: more slices than may be queued. */

#define TYPED (3 * HANDOVER_SLICES_MAX + 7)

static int typed_write(void *self, struct slice s)
{
	struct ends *e = self;

	for (size_t i = 0; i < s.len; i++)
		assert_int_equal(s.data[i], (uint8_t)((e->received + i) % 251));
	e->received += s.len;
	slice_release(&s);
	return 0;
}

static void test_more_slices_than_are_queued(void **state)
{
	const struct err why = { .code = GRPC_UNAVAILABLE, .text = "the end" };
	struct ends e;

	(void)state;
	begin_ends(&e, 1);
	handover_leave_near(e.handover);
	handover_leave_far(e.handover);
	e.handover = handover_create(e.near, e.far,
	    (struct pump_sink){
		.write = typed_write, .finish = leaving_finish, .stop = far_stop, .self = &e },
	    near_sent, &e);
	assert_non_null(e.handover);
	e.sink = handover_sink(e.handover);
	for (unsigned i = 0; i < TYPED; i++) {
		const uint8_t byte = (uint8_t)(i % 251);
		assert_int_equal(e.sink.write(e.sink.self, slice_copy(&byte, 1)), 0);
	}
	e.sink.finish(e.sink.self);
	e.sink.stop(e.sink.self, &why);
	handover_leave_near(e.handover);
	side_left(&e);
	run_ends(&e);
	assert_int_equal(e.received, TYPED);
	assert_int_equal(e.finished, 1);
	assert_int_equal(e.stopped, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_order_and_credit),
		TEST(test_either_side_leaves),
		TEST(test_more_slices_than_are_queued),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
