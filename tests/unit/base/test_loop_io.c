/* What a loop waits for and receives: descriptors, signals, and the block that reads fill. */
#include "base/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/leak.h"

#define TURN 4096 /* posts that run between two looks at what else there is */

/* A loop, a pair of connected sockets with a watch on the first, and what it was told. */
struct fixture {
	struct leak *leak;
	struct loop *loop;
	int fds[2];
	struct watch *watch;
	unsigned calls, events;          /* events: of the last call */
	void (*react)(struct fixture *); /* after a call has been noted; may be NULL */
};

static void on_ready(void *cookie, unsigned events)
{
	struct fixture *f = cookie;

	f->calls++;
	f->events = events;
	if (f->react != NULL)
		f->react(f);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err e;

	f->leak = leak_begin();
	f->loop = loop_create(0, &e);
	assert_int_equal(
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, f->fds), 0);
	f->watch = watch_create(f->loop, f->fds[0], on_ready, f, &e);
	*state = f;
	return f->loop != NULL && f->watch != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int r;

	watch_free(f->watch);
	loop_free(f->loop);
	close(f->fds[0]);
	if (f->fds[1] >= 0)
		close(f->fds[1]);
	r = leak_end(f->leak);
	free(f);
	return r;
}

static void stop_loop(void *cookie)
{
	loop_stop(cookie);
}

static void run_for(struct fixture *f, uint64_t ms)
{
	struct timer *timer = timer_create_on(f->loop, stop_loop, f->loop);

	timer_start(timer, ms);
	loop_run(f->loop);
	timer_free(timer);
}

static void say(struct fixture *f, const char *text)
{
	assert_int_equal(write(f->fds[1], text, strlen(text)), strlen(text));
}

static void want_nothing(struct fixture *f)
{
	watch_want(f->watch, WATCH_NONE);
}

static void read_all(struct fixture *f)
{
	char bytes[64];

	while (read(f->fds[0], bytes, sizeof(bytes)) > 0)
		;
}

static void test_nothing_asked(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(watch_wanted(f->watch), WATCH_NONE);
	say(f, "x");
	loop_run_idle(f->loop); /* such a watch does not keep it */
	run_for(f, 10);
	assert_int_equal(f->calls, 0);
}

static void test_reading(void **state)
{
	struct fixture *f = *state;

	f->react = read_all;
	watch_want(f->watch, WATCH_READ);
	assert_int_equal(watch_wanted(f->watch), WATCH_READ);
	run_for(f, 5);
	assert_int_equal(f->calls, 0);
	say(f, "x");
	run_for(f, 10);
	assert_int_equal(f->calls, 1);
	assert_int_equal(f->events, WATCH_READ);
	watch_want(f->watch, WATCH_NONE);
	say(f, "y");
	run_for(f, 10);
	assert_int_equal(f->calls, 1);
	watch_want(f->watch, WATCH_READ); /* it is still there */
	run_for(f, 10);
	assert_int_equal(f->calls, 2);
}

static void read_one_of_three(struct fixture *f)
{
	char c;

	assert_int_equal(read(f->fds[0], &c, 1), 1);
	if (c == '3')
		want_nothing(f);
}

/* What is not read is reported again. */
static void test_level_triggered(void **state)
{
	struct fixture *f = *state;

	f->react = read_one_of_three;
	watch_want(f->watch, WATCH_READ);
	say(f, "123");
	loop_run_idle(f->loop);
	assert_int_equal(f->calls, 3);
}

static void test_writing(void **state)
{
	struct fixture *f = *state;
	static char block[65536];

	f->react = want_nothing;
	watch_want(f->watch, WATCH_WRITE);
	loop_run_idle(f->loop);
	assert_int_equal(f->calls, 1);
	assert_int_equal(f->events, WATCH_WRITE);
	while (write(f->fds[0], block, sizeof(block)) > 0)
		;
	watch_want(f->watch, WATCH_WRITE);
	run_for(f, 10);
	assert_int_equal(f->calls, 1); /* full */
	while (read(f->fds[1], block, sizeof(block)) > 0)
		;
	loop_run_idle(f->loop);
	assert_int_equal(f->calls, 2);
	say(f, "x");
	watch_want(f->watch, WATCH_READ | WATCH_WRITE | WATCH_ERROR);
	assert_int_equal(watch_wanted(f->watch), WATCH_READ | WATCH_WRITE);
	loop_run_idle(f->loop);
	assert_int_equal(f->events, WATCH_READ | WATCH_WRITE);
}

static void test_end_of_stream(void **state)
{
	struct fixture *f = *state;

	f->react = want_nothing;
	close(f->fds[1]);
	f->fds[1] = -1;
	watch_want(f->watch, WATCH_READ);
	loop_run_idle(f->loop);
	assert_int_equal(f->calls, 1);
	assert_true(f->events & WATCH_READ);
}

/* A pipe nobody reads: said once with all that was asked for, and asked for again if need be. */
static void test_broken(void **state)
{
	struct fixture *f = *state;
	struct err e;
	int fds[2];

	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	watch_free(f->watch);
	f->watch = watch_create(f->loop, fds[1], on_ready, f, &e);
	close(fds[0]);
	watch_want(f->watch, WATCH_WRITE);
	loop_run_idle(f->loop);
	assert_int_equal(f->calls, 1);
	assert_int_equal(f->events, WATCH_WRITE | WATCH_ERROR);
	assert_int_equal(watch_wanted(f->watch), WATCH_NONE);
	watch_want(f->watch, WATCH_WRITE);
	loop_run_idle(f->loop);
	assert_int_equal(f->calls, 2);
	watch_free(f->watch);
	f->watch = NULL;
	close(fds[1]);
}

static void free_watch(struct fixture *f)
{
	watch_free(f->watch);
	f->watch = NULL;
	close(f->fds[1]);
	f->fds[1] = -1;
}

/* From within its own call, with more to report. */
static void test_freed_when_called(void **state)
{
	struct fixture *f = *state;

	f->react = free_watch;
	say(f, "x");
	watch_want(f->watch, WATCH_READ | WATCH_WRITE);
	loop_run_idle(f->loop);
	assert_int_equal(f->calls, 1);
}

/* Its descriptor's number may be another's at once. */
static void test_number_used_again(void **state)
{
	struct fixture *f = *state;
	struct err e;
	int fds[2];

	say(f, "x");
	watch_want(f->watch, WATCH_READ);
	watch_free(f->watch);
	close(f->fds[0]);
	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(fds[0], f->fds[0]);
	f->watch = watch_create(f->loop, fds[0], on_ready, f, &e);
	watch_want(f->watch, WATCH_READ);
	run_for(f, 10);
	assert_int_equal(f->calls, 0);
	assert_int_equal(write(fds[1], "y", 1), 1);
	f->react = want_nothing;
	loop_run_idle(f->loop);
	assert_int_equal(f->calls, 1);
	close(fds[1]);
}

static void test_what_cannot_be_watched(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	assert_null(watch_create(f->loop, fd, on_ready, f, &e));
	assert_int_equal(e.sys, EPERM);
	assert_memory_equal(e.text, "wait for a descriptor: ", 23);
	close(fd);
	assert_null(watch_create(f->loop, fd, on_ready, f, &e));
	assert_int_equal(e.sys, EBADF);
	watch_free(NULL);
}

/* Posts from a descriptor's call, more than fit a turn, when the last handle is gone. */
struct runner {
	struct post post;
	struct loop *loop;
	unsigned runs;
};

static struct runner runner;

static void run_on(struct post *p)
{
	struct runner *r = (struct runner *)p;

	if (++r->runs < 2 * TURN + 5)
		loop_post(r->loop, p);
}

static void leave_posts(struct fixture *f)
{
	watch_free(f->watch);
	f->watch = NULL;
	loop_post(f->loop, &runner.post);
}

static void test_posts_outlive_the_watch(void **state)
{
	struct fixture *f = *state;

	runner = (struct runner){ .post.run = run_on, .loop = f->loop };
	f->react = leave_posts;
	say(f, "x");
	watch_want(f->watch, WATCH_READ);
	loop_run_idle(f->loop);
	assert_int_equal(runner.runs, 2 * TURN + 5);
}

static void count_signal(void *cookie)
{
	++*(unsigned *)cookie;
}

/* As who starts us may have left it. */
static void test_signal_that_was_blocked(void **state)
{
	struct fixture *f = *state;
	unsigned count = 0;
	sigset_t one;
	struct err e;

	sigemptyset(&one);
	sigaddset(&one, SIGUSR1);
	assert_int_equal(pthread_sigmask(SIG_BLOCK, &one, NULL), 0);
	raise(SIGUSR1);
	struct signal_watch *s = signal_watch_create(f->loop, SIGUSR1, count_signal, &count, &e);
	run_for(f, 10);
	assert_int_equal(count, 1);
	signal_watch_free(s);
	loop_run_idle(f->loop);
}

static void test_signals(void **state)
{
	struct fixture *f = *state;
	struct err e;
	unsigned counts[3] = { 0 };
	struct signal_watch *one =
				signal_watch_create(f->loop, SIGUSR1, count_signal, &counts[0], &e),
			    *two =
				signal_watch_create(f->loop, SIGUSR1, count_signal, &counts[1], &e),
			    *other =
				signal_watch_create(f->loop, SIGUSR2, count_signal, &counts[2], &e);

	raise(SIGUSR1);
	run_for(f, 10);
	assert_int_equal(counts[0], 1);
	assert_int_equal(counts[1], 1);
	assert_int_equal(counts[2], 0);
	signal_watch_free(one);
	raise(SIGUSR1);
	raise(SIGUSR2);
	run_for(f, 10);
	assert_int_equal(counts[0], 1);
	assert_int_equal(counts[1], 2);
	assert_int_equal(counts[2], 1);
	signal_watch_free(two);
	signal_watch_free(other);
	signal_watch_free(NULL);
	assert_null(signal_watch_create(f->loop, SIGKILL, count_signal, counts, &e));
	assert_int_equal(e.sys, EINVAL);
	loop_run_idle(f->loop);
}

static void test_sigpipe_ignored(void **state)
{
	struct fixture *f = *state;

	loop_ignore_sigpipe();
	close(f->fds[1]);
	f->fds[1] = -1;
	assert_int_equal(write(f->fds[0], "x", 1), -1);
	assert_int_equal(errno, EPIPE);
}

/* Receiving. */

static struct slice receive(struct loop *l, size_t want, char c, size_t len)
{
	size_t room = 0;
	uint8_t *at = loop_recv_reserve(l, want, &room);

	assert_non_null(at);
	assert_true(room >= want && len <= room);
	memset(at, c, len);
	return loop_recv_take(l, len);
}

static size_t live_blocks(struct loop *l)
{
	struct pool_stats s;

	pool_stats(loop_pool(l), &s);
	return s.live;
}

/* Small reads share a block, and overwrite none of what is still held. */
static void test_receive_shares_a_block(void **state)
{
	struct fixture *f = *state;
	struct slice slices[100];
	struct block *owner;

	for (size_t i = 0; i < 100; i++) {
		slices[i] = receive(f->loop, 4096, (char)('A' + i % 26), 1 + i * 37 % 1000);
		assert_int_equal(slices[i].len, 1 + i * 37 % 1000);
	}
	owner = slices[0].owner;
	assert_int_equal(live_blocks(f->loop), 1);
	for (size_t i = 0; i < 100; i++) {
		assert_ptr_equal(slices[i].owner, owner);
		assert_int_equal((uintptr_t)slices[i].data % 64, 0);
		for (size_t j = 0; j < slices[i].len; j++)
			assert_int_equal(slices[i].data[j], 'A' + i % 26);
		slice_release(&slices[i]);
	}
	/* From the start again, as nobody looks any more. */
	slices[0] = receive(f->loop, LOOP_BLOCK_SIZE, 'x', 10);
	assert_ptr_equal(slices[0].owner, owner);
	assert_ptr_equal(slices[0].data, block_data(owner));
	slice_release(&slices[0]);
}

static void test_receive_nothing(void **state)
{
	struct fixture *f = *state;
	size_t room;
	uint8_t *at = loop_recv_reserve(f->loop, 1, &room);
	struct slice s = loop_recv_take(f->loop, 0);

	assert_null(s.owner);
	assert_int_equal(s.len, 0);
	assert_int_equal(room, LOOP_BLOCK_SIZE);
	assert_ptr_equal(loop_recv_reserve(f->loop, 1, &room), at);
}

/* Where less is left than wanted another block begins; what follows a large read is aligned. */
static void test_receive_goes_on_in_another_block(void **state)
{
	struct fixture *f = *state;
	struct slice a = receive(f->loop, 1, 'a', 20000), b = receive(f->loop, 1, 'b', 1),
		     c = receive(f->loop, LOOP_BLOCK_SIZE - 10000, 'c', LOOP_BLOCK_SIZE), d;

	assert_ptr_equal(a.owner, b.owner);
	assert_int_equal((uintptr_t)b.data % 4096, 0);
	assert_ptr_not_equal(b.owner, c.owner);
	assert_int_equal(a.data[19999], 'a');
	assert_int_equal(live_blocks(f->loop), 2);
	d = receive(f->loop, 1, 'd', 1); /* c has filled its own */
	assert_ptr_not_equal(d.owner, c.owner);
	slice_release(&a);
	slice_release(&b);
	slice_release(&c);
	assert_int_equal(live_blocks(f->loop), 1);
	slice_release(&d);
}

static void test_receive_ends_at_the_ceiling(void **state)
{
	struct fixture *f = *state;
	struct slice slices[LOOP_BLOCKS_MAX];
	struct pool_stats stats;
	size_t room;

	for (size_t i = 0; i < LOOP_BLOCKS_MAX; i++) {
		assert_non_null(loop_recv_reserve(f->loop, LOOP_BLOCK_SIZE, &room));
		slices[i] = loop_recv_take(f->loop, LOOP_BLOCK_SIZE);
	}
	assert_null(loop_recv_reserve(f->loop, 1, &room));
	pool_stats(loop_pool(f->loop), &stats);
	assert_int_equal(stats.full, 1);
	slice_release(&slices[7]);
	slices[7] = receive(f->loop, 1, 'x', 1);
	assert_null(loop_recv_reserve(f->loop, LOOP_BLOCK_SIZE, &room));
	for (size_t i = 0; i < LOOP_BLOCKS_MAX; i++)
		slice_release(&slices[i]);
	assert_non_null(loop_recv_reserve(f->loop, LOOP_BLOCK_SIZE, &room));
}

/* A second without need, and an idle loop holds no memory; a held slice stays. */
static void test_idle_holds_nothing(void **state)
{
	struct fixture *f = *state;
	struct pool_stats stats;
	struct slice kept = receive(f->loop, 1, 'k', 4), s;

	s = receive(f->loop, LOOP_BLOCK_SIZE, 's', 4);
	slice_release(&s);
	run_for(f, 1100);
	pool_stats(loop_pool(f->loop), &stats);
	assert_int_equal(stats.live, 1);
	assert_int_equal(stats.spare, 0);
	assert_memory_equal(kept.data, "kkkk", 4);
	slice_release(&kept);
	s = receive(f->loop, 1, 's', 4);
	slice_release(&s);
	run_for(f, 1100);
	assert_int_equal(live_blocks(f->loop), 0);
}

#define test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_nothing_asked),
		test(test_reading),
		test(test_level_triggered),
		test(test_writing),
		test(test_end_of_stream),
		test(test_broken),
		test(test_freed_when_called),
		test(test_number_used_again),
		test(test_what_cannot_be_watched),
		test(test_posts_outlive_the_watch),
		test(test_signals),
		test(test_signal_that_was_blocked),
		test(test_sigpipe_ignored),
		test(test_receive_shares_a_block),
		test(test_receive_nothing),
		test(test_receive_goes_on_in_another_block),
		test(test_receive_ends_at_the_ceiling),
		test(test_idle_holds_nothing),
	};
	struct err e;

	/* The first loop opens a pipe that libuv keeps for good. */
	loop_free(loop_create(0, &e));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
