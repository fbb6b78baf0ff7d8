/* An event loop on one thread: posts, timers and stopping. */
#include "base/loop.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "deaths.h"
#include "leaks.h"

#define TURN 4096UL /* posts that run between two looks at what else there is */

/* What ran, in order, as letters. */
struct trail {
	struct loop *loop;
	char text[64];
};

static void mark(struct trail *t, char c)
{
	size_t len = strlen(t->text);

	assert_true(len + 1 < sizeof(t->text));
	t->text[len] = c;
	t->text[len + 1] = '\0';
}

/* A post that leaves its letter, and may post another one. */
struct step {
	struct post post;
	struct trail *trail;
	char letter;
	struct step *next;
};

static void run_step(struct post *p)
{
	struct step *s = (struct step *)p;

	assert_false(p->pending);
	mark(s->trail, s->letter);
	if (s->next != NULL) {
		loop_post(s->trail->loop, &s->next->post);
		mark(s->trail, '.'); /* the next one has not run */
	}
}

static struct step step(struct trail *t, char letter, struct step *next)
{
	return (struct step){ .post.run = run_step, .trail = t, .letter = letter, .next = next };
}

static void begin(struct trail *t)
{
	struct err e;

	*t = (struct trail){ .loop = loop_create(3, &e) };
	assert_non_null(t->loop);
}

static void test_create(void **state)
{
	struct trail t;
	uint64_t before = loop_now_us();

	(void)state;
	begin(&t);
	assert_int_equal(loop_index(t.loop), 3);
	assert_true(loop_is_current(t.loop));
	assert_int_equal(loop_now_ms(t.loop) / 1000, loop_now_us() / 1000000);
	assert_true(loop_now_us() >= before);
	loop_run_idle(t.loop); /* nothing to wait for */
	loop_free(t.loop);
	loop_free(NULL);
}

/* No descriptor of a loop gets into a child. */
static void test_descriptors_are_closed_on_exec(void **state)
{
	struct trail t;
	bool open_before[64];
	unsigned found = 0;

	(void)state;
	for (int fd = 0; fd < 64; fd++)
		open_before[fd] = fcntl(fd, F_GETFD) >= 0;
	begin(&t);
	for (int fd = 0; fd < 64; fd++) {
		int flags = fcntl(fd, F_GETFD);

		if (open_before[fd] || flags < 0)
			continue;
		assert_int_equal(flags, FD_CLOEXEC);
		found++;
	}
	assert_true(found > 0);
	loop_free(t.loop);
}

static void test_posts_run_later_and_in_order(void **state)
{
	struct trail t;
	struct step c = step(&t, 'c', NULL), b = step(&t, 'b', NULL), a = step(&t, 'a', &c);

	(void)state;
	begin(&t);
	loop_post(t.loop, &a.post);
	loop_post(t.loop, &b.post);
	assert_true(a.post.pending);
	assert_string_equal(t.text, "");
	loop_run_idle(t.loop);
	assert_string_equal(t.text, "a.bc");
	assert_false(a.post.pending);
	loop_post(t.loop, &b.post); /* again */
	loop_run_idle(t.loop);
	assert_string_equal(t.text, "a.bcb");
	loop_free(t.loop);
}

struct ticker {
	struct trail *trail;
	struct step *step;
	char letter;
};

static void post_from_timer(void *cookie)
{
	struct ticker *k = cookie;

	mark(k->trail, k->letter);
	if (k->step != NULL)
		loop_post(k->trail->loop, &k->step->post);
}

/* What was posted before the loop ran comes before what is posted in its first turn. */
static void test_posts_from_before_come_first(void **state)
{
	struct trail t;
	struct step a = step(&t, 'a', NULL), b = step(&t, 'b', NULL);
	struct ticker tick = { &t, &b, '!' };

	(void)state;
	begin(&t);
	struct timer *timer = timer_create_on(t.loop, post_from_timer, &tick);
	timer_start(timer, 0);
	loop_post(t.loop, &a.post);
	loop_run_idle(t.loop);
	assert_true(strcmp(t.text, "!ab") == 0 || strcmp(t.text, "a!b") == 0);
	timer_free(timer);
	loop_free(t.loop);
}

/* Posts that go on and on. */
struct runner {
	struct post post;
	struct loop *loop;
	unsigned long runs, max;
	bool stop;
};

static void run_on(struct post *p)
{
	struct runner *r = (struct runner *)p;

	if (++r->runs < r->max && !r->stop)
		loop_post(r->loop, p);
}

static void stop_runner(void *cookie)
{
	((struct runner *)cookie)->stop = true;
}

/* They do not keep a timer from firing. */
static void test_posts_leave_time(void **state)
{
	struct trail t;
	struct runner r = { .post.run = run_on, .max = (unsigned long)-1 };
	struct timer *timer;

	(void)state;
	begin(&t);
	r.loop = t.loop;
	timer = timer_create_on(t.loop, stop_runner, &r);
	timer_start(timer, 20);
	loop_post(t.loop, &r.post);
	loop_run_idle(t.loop);
	assert_true(r.stop && r.runs > TURN);
	timer_free(timer);
	loop_free(t.loop);
}

/* All of them run, however many turns that takes. */
static void test_posts_all_run(void **state)
{
	static const unsigned long counts[] = { 1, TURN - 1, TURN, TURN + 1, 2 * TURN, 2 * TURN + 1,
		3 * TURN, 5 * TURN - 1 };
	struct trail t;

	(void)state;
	begin(&t);
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		struct runner r = { .post.run = run_on, .loop = t.loop, .max = counts[i] };

		loop_post(t.loop, &r.post);
		loop_run_idle(t.loop);
		assert_int_equal(r.runs, counts[i]);
	}
	loop_free(t.loop);
}

struct last {
	struct timer *timer;
	struct runner *runner;
};

static void go_and_leave_posts(void *cookie)
{
	struct last *l = cookie;

	timer_free(l->timer);
	loop_post(l->runner->loop, &l->runner->post);
}

/* Also when the last handle is gone and nothing but posts is left. */
static void test_posts_outlive_handles(void **state)
{
	struct trail t;
	struct runner r = { .post.run = run_on };
	struct last last = { .runner = &r };

	(void)state;
	begin(&t);
	r.loop = t.loop;
	for (unsigned long n = TURN - 1; n < 3 * TURN; n += TURN / 2) {
		r.runs = 0;
		r.max = n;
		last.timer = timer_create_on(t.loop, go_and_leave_posts, &last);
		timer_start(last.timer, 1);
		loop_run_idle(t.loop);
		assert_int_equal(r.runs, n);
	}
	loop_free(t.loop);
}

/* What is posted still runs before the loop is gone, with all that follows from it. */
static void test_free_runs_posts(void **state)
{
	struct trail t;
	struct step d = step(&t, 'd', NULL), c = step(&t, 'c', &d), b = step(&t, 'b', NULL),
		    a = step(&t, 'a', &c);

	(void)state;
	begin(&t);
	loop_post(t.loop, &a.post);
	loop_post(t.loop, &b.post);
	loop_free(t.loop);
	assert_string_equal(t.text, "a.bc.d");
	assert_false(d.post.pending);
}

struct unposter {
	struct post post;
	struct trail *trail;
	struct step *steps;
};

static void unpost_some(struct post *p)
{
	struct unposter *u = (struct unposter *)p;
	struct loop *l = u->trail->loop;

	for (size_t i = 0; i < 5; i++)
		loop_post(l, &u->steps[i].post);
	assert_true(loop_unpost(l, &u->steps[4].post));
	assert_true(loop_unpost(l, &u->steps[0].post));
	assert_true(loop_unpost(l, &u->steps[2].post));
	assert_false(loop_unpost(l, &u->steps[2].post));
	loop_post(l, &u->steps[0].post);
}

static void test_unpost(void **state)
{
	struct trail t;
	struct step steps[5];
	struct unposter u = { .post.run = unpost_some, .trail = &t, .steps = steps };

	(void)state;
	for (size_t i = 0; i < 5; i++)
		steps[i] = step(&t, (char)('a' + i), NULL);
	begin(&t);
	/* While the loop does not run: */
	unpost_some(&u.post);
	loop_run_idle(t.loop);
	assert_string_equal(t.text, "bda");
	assert_false(loop_unpost(t.loop, &steps[1].post)); /* it has run */
	/* and while it does. */
	loop_post(t.loop, &u.post);
	loop_run_idle(t.loop);
	assert_string_equal(t.text, "bdabda");
	/* All of them gone, and the list is good again. */
	loop_post(t.loop, &steps[0].post);
	assert_true(loop_unpost(t.loop, &steps[0].post));
	loop_post(t.loop, &steps[1].post);
	loop_run_idle(t.loop);
	assert_string_equal(t.text, "bdabdab");
	loop_free(t.loop);
}

static void stop_loop(void *cookie)
{
	loop_stop(cookie);
}

/* A stop before the run counts for it, and for it alone. */
static void test_stop(void **state)
{
	struct trail t;
	struct ticker tick = { &t, NULL, '!' };
	struct timer *timer, *stopper;

	(void)state;
	begin(&t);
	timer = timer_create_on(t.loop, post_from_timer, &tick);
	stopper = timer_create_on(t.loop, stop_loop, t.loop);
	timer_start(timer, 0);
	loop_stop(t.loop);
	loop_run(t.loop);
	assert_string_equal(t.text, "");
	timer_start(stopper, 5);
	loop_run(t.loop);
	assert_string_equal(t.text, "!");
	/* A running timer does not end with the run. */
	timer_start(timer, 20);
	timer_start(stopper, 0);
	loop_run(t.loop);
	assert_string_equal(t.text, "!");
	assert_true(timer_is_running(timer));
	loop_run_idle(t.loop);
	assert_string_equal(t.text, "!!");
	timer_free(timer);
	timer_free(stopper);
	loop_free(t.loop);
}

static void test_timers(void **state)
{
	struct trail t;
	struct ticker ticks[4];
	struct timer *timers[4];
	uint64_t start;

	(void)state;
	begin(&t);
	for (size_t i = 0; i < 4; i++) {
		ticks[i] = (struct ticker){ &t, NULL, (char)('a' + i) };
		timers[i] = timer_create_on(t.loop, post_from_timer, &ticks[i]);
		assert_false(timer_is_running(timers[i]));
	}
	timer_start(timers[0], 30);
	timer_start(timers[1], 10);
	timer_start(timers[2], 1);
	timer_start(timers[2], 20); /* starting it again moves it */
	timer_start(timers[3], 5);
	timer_stop(timers[3]);
	assert_true(timer_is_running(timers[2]));
	assert_false(timer_is_running(timers[3]));
	start = loop_now_us();
	loop_run_idle(t.loop);
	assert_string_equal(t.text, "bca");
	assert_true(loop_now_us() - start >= 28000);
	assert_false(timer_is_running(timers[0])); /* one shot */
	timer_start(timers[3], 0);
	loop_run_idle(t.loop);
	assert_string_equal(t.text, "bcad");
	/* One that is freed does not fire, nor keep the loop. */
	timer_start(timers[0], 1);
	timer_start(timers[1], 100000);
	for (size_t i = 0; i < 4; i++)
		timer_free(timers[i]);
	timer_free(NULL);
	loop_run_idle(t.loop);
	assert_string_equal(t.text, "bcad");
	loop_free(t.loop);
}

struct self {
	struct timer *timer;
	unsigned fired;
};

static void fire_self(void *cookie)
{
	struct self *s = cookie;

	if (++s->fired < 3)
		timer_start(s->timer, 1);
	else
		timer_free(s->timer);
}

static void test_a_timer_of_itself(void **state)
{
	struct self s = { 0 };
	struct trail t;

	(void)state;
	begin(&t);
	s.timer = timer_create_on(t.loop, fire_self, &s);
	timer_start(s.timer, 1);
	loop_run_idle(t.loop);
	assert_int_equal(s.fired, 3);
	loop_free(t.loop);
}

static struct loop *new_loop(void)
{
	struct err e;

	return loop_create(0, &e);
}

static void nothing(struct post *p)
{
	(void)p;
}

static void post_twice(void)
{
	struct post p = { .run = nothing };
	struct loop *l = new_loop();

	loop_post(l, &p);
	loop_post(l, &p);
}

static void tick(void *cookie)
{
	(void)cookie;
}

static void leave_a_timer(void)
{
	struct loop *l = new_loop();

	timer_create_on(l, tick, NULL);
	loop_free(l);
}

static void leave_a_slice(void)
{
	struct loop *l = new_loop();
	size_t room;

	loop_recv_reserve(l, 1, &room);
	loop_recv_take(l, 1);
	loop_free(l);
}

static void leave_nothing(void)
{
	struct post p = { .run = nothing };
	struct loop *l = new_loop();
	struct timer *timer = timer_create_on(l, tick, NULL);

	loop_post(l, &p);
	timer_start(timer, 1000000);
	timer_free(timer);
	loop_free(l);
}

static void test_faults_end_the_program(void **state)
{
	(void)state;
	assert_true(deaths_abort(post_twice));
	assert_true(deaths_abort(leave_a_timer));
	assert_true(deaths_abort(leave_a_slice));
	assert_false(deaths_abort(leave_nothing));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		leaks_test(test_create),
		leaks_test(test_descriptors_are_closed_on_exec),
		leaks_test(test_posts_run_later_and_in_order),
		leaks_test(test_posts_from_before_come_first),
		leaks_test(test_posts_leave_time),
		leaks_test(test_posts_all_run),
		leaks_test(test_posts_outlive_handles),
		leaks_test(test_free_runs_posts),
		leaks_test(test_unpost),
		leaks_test(test_stop),
		leaks_test(test_timers),
		leaks_test(test_a_timer_of_itself),
		leaks_test(test_faults_end_the_program),
	};

	/* The first loop opens a pipe that libuv keeps for good. */
	loop_free(new_loop());
	return cmocka_run_group_tests(tests, NULL, NULL);
}
