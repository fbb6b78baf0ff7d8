/* The pump between two arrays: every window, slice size and stall, closed at each step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "relay/pump.h"
#include "support/alloc.h"

#define STEPS       12
#define STEP_SLICES 32
#define BYTES_MAX   ((size_t)64 << 10)
#define QUEUE_MAX   ((size_t)1 << 20)
#define LENGTH(all) (sizeof(all) / sizeof((all)[0]))

enum ending { END_EOF, END_FAIL, END_REFUSE, END_FREE, END_FREE_IN_STOP };

/* How much a sink lets go of in a step. */
enum stall { STALL_NEVER, STALL_DRIP, STALL_HALF, STALL_THIRD, STALL_AT_ONCE, STALL_TO_THE_END };

struct rig {
	struct loop *loop;
	struct pump *pump;
	struct block *bytes; /* what the source has, over and over */
	bool in_call;        /* of the pump's functions */

	/* The source. */
	size_t window, slice, room;
	uint64_t pushed, credited;
	unsigned source_stops;

	/* The sink. */
	enum stall stall;
	struct bufq queue;
	uint64_t written, sent;
	bool refuses, frees;
	unsigned finishes, sink_stops;

	unsigned dones;
	struct err why;
};

static void fired(void *cookie)
{
	(void)cookie;
}

/* Runs what has been posted, also before the loop ran. */
static void settle(struct loop *loop)
{
	struct timer *timer = timer_create_on(loop, fired, NULL);

	assert_non_null(timer);
	timer_start(timer, 0);
	loop_run_idle(loop);
	timer_free(timer);
}

static void source_credit(void *self, size_t bytes)
{
	struct rig *r = self;

	r->room += bytes;
	r->credited += bytes;
}

static void source_stop(void *self, const struct err *why)
{
	struct rig *r = self;

	assert_int_not_equal(why->code, GRPC_OK);
	r->source_stops++;
	if (r->frees) {
		pump_free(r->pump);
		r->pump = NULL;
	}
}

/* The bytes are those that belong here in the stream. */
static void check_bytes(struct rig *r, const struct slice *s)
{
	size_t at = (size_t)(r->written % BYTES_MAX);

	assert_true(s->len <= BYTES_MAX - at);
	assert_memory_equal(s->data, block_data(r->bytes) + at, s->len);
}

static void rig_sent(struct rig *r, size_t bytes)
{
	r->sent += bytes;
	pump_sent(r->pump, bytes);
}

static int sink_write(void *self, struct slice s)
{
	struct rig *r = self;
	size_t len = s.len;

	assert_int_equal(r->finishes, 0);
	assert_int_equal(r->sink_stops, 0);
	if (r->refuses)
		return -1;
	check_bytes(r, &s);
	r->written += len;
	assert_int_equal(bufq_push(&r->queue, s), 0);
	if (r->stall != STALL_AT_ONCE)
		return 0;
	bufq_drop(&r->queue, len);
	rig_sent(r, len);
	return 0;
}

static void sink_finish(void *self)
{
	struct rig *r = self;

	assert_int_equal(r->written, r->pushed);
	r->finishes++;
}

static void sink_stop(void *self, const struct err *why)
{
	struct rig *r = self;

	assert_int_not_equal(why->code, GRPC_OK);
	r->sink_stops++;
}

static void on_done(void *cookie, const struct err *why)
{
	struct rig *r = cookie;

	assert_false(r->in_call);
	r->dones++;
	r->why = *why;
}

static void rig_open(struct rig *r)
{
	*r = (struct rig){ .window = 1, .room = 1, .slice = 1 };
	r->loop = loop_create(0, NULL);
	r->bytes = block_new(BYTES_MAX);
	assert_non_null(r->loop);
	assert_non_null(r->bytes);
	for (size_t i = 0; i < BYTES_MAX; i++)
		block_data(r->bytes)[i] = (uint8_t)(i * 31);
	bufq_init(&r->queue, BYTES_MAX, QUEUE_MAX);
	r->pump = pump_create(r->loop,
	    (struct pump_source){ .credit = source_credit, .stop = source_stop, .self = r },
	    (struct pump_sink){
		.write = sink_write, .finish = sink_finish, .stop = sink_stop, .self = r },
	    on_done, r);
	assert_non_null(r->pump);
}

/* The pump may still have something to say; then it must be silent for good. */
static void rig_close(struct rig *r)
{
	settle(r->loop);
	pump_free(r->pump);
	bufq_free(&r->queue);
	settle(r->loop);
	loop_free(r->loop);
	assert_true(block_is_unshared(r->bytes));
	block_unref(r->bytes);
}

static size_t smallest(size_t a, size_t b, size_t c)
{
	size_t least = a < b ? a : b;

	return least < c ? least : c;
}

/* The source sends what it may, but not what it may only because of that. */
static void push_all(struct rig *r)
{
	size_t may = r->room;

	for (unsigned i = 0; i < STEP_SLICES && may > 0 && r->source_stops == 0; i++) {
		size_t at = (size_t)(r->pushed % BYTES_MAX);
		size_t n = smallest(r->slice, may, BYTES_MAX - at);
		may -= n;
		r->room -= n;
		r->pushed += n;
		r->in_call = true;
		pump_push(r->pump, slice_of(r->bytes, at, n));
		r->in_call = false;
	}
}

static size_t share(const struct rig *r, unsigned step)
{
	switch (r->stall) {
	case STALL_DRIP:
		return r->queue.bytes > 0;
	case STALL_HALF:
		return (r->queue.bytes + 1) / 2;
	case STALL_THIRD:
		return step % 3 == 2 ? r->queue.bytes : 0;
	case STALL_TO_THE_END:
		return 0;
	default:
		return r->queue.bytes;
	}
}

static void drain(struct rig *r, size_t bytes)
{
	bufq_drop(&r->queue, bytes);
	r->in_call = true;
	if (bytes > 0)
		rig_sent(r, bytes);
	r->in_call = false;
}

static void check_counts(const struct rig *r)
{
	struct pump_stats stats;

	pump_stats(r->pump, &stats);
	assert_true(stats.under_way <= r->window);
	assert_true(stats.peak <= r->window);
	assert_int_equal(stats.bytes, r->pushed);
	assert_int_equal(stats.under_way, r->pushed - r->sent);
	assert_int_equal(r->credited, r->sent);
	assert_int_equal(pump_state(r->pump), PUMP_OPEN);
}

static void end_well(struct rig *r)
{
	r->in_call = true;
	pump_eof(r->pump);
	pump_eof(r->pump);
	r->in_call = false;
	assert_int_equal(r->finishes, 1);
	while (r->queue.bytes > 0) {
		assert_int_equal(pump_state(r->pump), PUMP_DRAINING);
		settle(r->loop);
		assert_int_equal(r->dones, 0);
		drain(r, (r->queue.bytes + 1) / 2);
	}
	assert_int_equal(pump_state(r->pump), PUMP_DONE);
	settle(r->loop);
	assert_int_equal(r->dones, 1);
	assert_int_equal(r->why.code, GRPC_OK);
	assert_int_equal(r->credited, r->pushed);
	assert_int_equal(r->source_stops + r->sink_stops, 0);
}

static void end_badly(struct rig *r, const struct err *why)
{
	uint64_t credited = r->credited;

	r->in_call = true;
	if (why != NULL) {
		pump_fail(r->pump, why);
	} else {
		r->refuses = true;
		r->room += r->slice; /* one slice that nobody takes */
		push_all(r);
	}
	r->in_call = false;
	assert_int_equal(pump_state(r->pump), PUMP_FAILED);
	assert_int_equal(r->source_stops, 1);
	assert_int_equal(r->sink_stops, 1);
	assert_int_equal(r->finishes, 0);
	settle(r->loop);
	assert_int_equal(r->dones, 1);
	assert_int_equal(r->why.code, why != NULL ? why->code : GRPC_UNAVAILABLE);

	/* Late comers do no harm, and nobody is told twice. */
	drain(r, r->queue.bytes);
	pump_push(r->pump, slice_of(r->bytes, 0, 1));
	pump_eof(r->pump);
	pump_fail(r->pump, &r->why);
	assert_int_equal(r->credited, credited);
	assert_int_equal(r->source_stops + r->sink_stops + r->finishes, 2);
}

static void end_freed(struct rig *r, bool in_stop)
{
	const struct err why = { .code = GRPC_ABORTED, .text = "the test says so" };

	if (in_stop) {
		r->frees = true;
		pump_fail(r->pump, &why);
		assert_int_equal(r->source_stops, 1);
	} else {
		pump_free(r->pump);
		r->pump = NULL;
	}
	assert_int_equal(r->sink_stops + r->finishes, 0);
	settle(r->loop);
	assert_int_equal(r->dones, 0);
}

static void run_case(
    size_t window, size_t slice, enum stall stall, enum ending ending, unsigned steps)
{
	const struct err why = { .code = GRPC_ABORTED, .text = "the test says so" };
	struct rig r;

	rig_open(&r);
	r.window = r.room = window;
	r.slice = slice;
	r.stall = stall;
	for (unsigned step = 0; step < steps; step++) {
		push_all(&r);
		drain(&r, share(&r, step));
		check_counts(&r);
	}
	switch (ending) {
	case END_EOF:
		end_well(&r);
		break;
	case END_FAIL:
		end_badly(&r, &why);
		break;
	case END_REFUSE:
		end_badly(&r, NULL);
		break;
	case END_FREE:
	case END_FREE_IN_STOP:
		end_freed(&r, ending == END_FREE_IN_STOP);
		break;
	}
	rig_close(&r);
}

static void test_grid(void **state)
{
	static const size_t windows[] = { 1, 7, (size_t)16 << 10, (size_t)64 << 10 };
	static const size_t slices[] = { 1, 5, 1000, (size_t)16 << 10, (size_t)64 << 10 };

	(void)state;
	for (size_t w = 0; w < LENGTH(windows); w++)
		for (size_t s = 0; s < LENGTH(slices); s++)
			for (int stall = STALL_NEVER; stall <= STALL_TO_THE_END; stall++)
				for (int ending = END_EOF; ending <= END_FREE_IN_STOP; ending++)
					for (unsigned steps = 0; steps <= STEPS; steps++)
						run_case(windows[w], slices[s], (enum stall)stall,
						    (enum ending)ending, steps);
}

/* Stalls are counted when a usual window is full, once until it has half emptied. */
static void test_stalls(void **state)
{
	struct rig r;
	struct pump_stats stats;

	(void)state;
	rig_open(&r);
	r.queue.max_bytes = 2 * PUMP_STALL_BYTES;
	r.slice = BYTES_MAX;
	r.window = r.room = PUMP_STALL_BYTES;
	push_all(&r);
	for (int i = 0; i < 3; i++) {
		drain(&r, 1);
		push_all(&r);
	}
	pump_stats(r.pump, &stats);
	assert_int_equal(stats.stalls, 1);
	drain(&r, PUMP_STALL_BYTES / 2 + 1);
	push_all(&r);
	pump_stats(r.pump, &stats);
	assert_int_equal(stats.stalls, 2);
	assert_int_equal(stats.peak, PUMP_STALL_BYTES);
	rig_close(&r);
}

/* A failure overtakes what is under way, also behind an end of stream. */
static void test_failure_while_draining(void **state)
{
	const struct err why = { .code = GRPC_DATA_LOSS, .text = "the test says so" };
	struct rig r;

	(void)state;
	rig_open(&r);
	push_all(&r);
	pump_eof(r.pump);
	pump_fail(r.pump, &why);
	assert_int_equal(pump_state(r.pump), PUMP_FAILED);
	settle(r.loop);
	assert_int_equal(r.dones, 1);
	assert_int_equal(r.why.code, GRPC_DATA_LOSS);
	assert_string_equal(r.why.text, why.text);
	rig_close(&r);
}

/* Once it is done, it is: a failure between the last byte and done() is none. */
static void test_failure_after_the_end(void **state)
{
	const struct err why = { .code = GRPC_DATA_LOSS };
	struct rig r;

	(void)state;
	rig_open(&r);
	pump_eof(r.pump);
	assert_int_equal(pump_state(r.pump), PUMP_DONE);
	pump_fail(r.pump, &why);
	settle(r.loop);
	assert_int_equal(r.dones, 1);
	assert_int_equal(r.why.code, GRPC_OK);
	assert_int_equal(r.source_stops + r.sink_stops, 0);
	rig_close(&r);
}

static void test_empty_slice_is_nothing(void **state)
{
	struct rig r;
	struct pump_stats stats;

	(void)state;
	rig_open(&r);
	pump_push(r.pump, slice_of(r.bytes, 0, 0));
	pump_stats(r.pump, &stats);
	assert_int_equal(stats.bytes, 0);
	assert_int_equal(r.queue.count, 0);
	rig_close(&r);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(pump_state_name(PUMP_OPEN), "OPEN");
	assert_string_equal(pump_state_name(PUMP_DRAINING), "DRAINING");
	assert_string_equal(pump_state_name(PUMP_DONE), "DONE");
	assert_string_equal(pump_state_name(PUMP_FAILED), "FAILED");
	assert_string_equal(pump_state_name((enum pump_state)99), "?");
}

static void test_no_memory(void **state)
{
	struct loop *loop = loop_create(0, NULL);

	(void)state;
	alloc_fail_at(1, false);
	assert_null(
	    pump_create(loop, (struct pump_source){ 0 }, (struct pump_sink){ 0 }, on_done, NULL));
	alloc_fail_at(0, false);
	pump_free(NULL);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grid),
		cmocka_unit_test(test_stalls),
		cmocka_unit_test(test_failure_while_draining),
		cmocka_unit_test(test_failure_after_the_end),
		cmocka_unit_test(test_empty_slice_is_nothing),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
