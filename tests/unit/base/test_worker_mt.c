/* Work on other threads: where it runs, in which order, and how much may wait. */
#include "base/worker.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "latch.h"
#include "leaks.h"

#define JOBS 2000

/* A job that notes where it was run, and when its loop was told. */
struct task {
	struct job job;
	pthread_t home;    /* of its loop */
	atomic_uint *turn; /* counts the runs */
	unsigned ran_at;
	bool ran_at_home, done, done_elsewhere;
	struct latch *hold; /* not to be run through before; may be NULL */
	struct latch *told; /* may be NULL */
};

static void run_task(struct job *job)
{
	struct task *t = (struct task *)job;

	t->ran_at_home = pthread_equal(t->home, pthread_self());
	t->ran_at = atomic_fetch_add(t->turn, 1);
	if (t->hold != NULL)
		latch_wait(t->hold);
}

static void task_done(struct job *job)
{
	struct task *t = (struct task *)job;

	t->done = true;
	t->done_elsewhere = !pthread_equal(t->home, pthread_self());
	if (t->told != NULL)
		latch_reach(t->told);
}

static struct task task(atomic_uint *turn, struct latch *hold)
{
	return (struct task){ .job = { .run = run_task, .done = task_done },
		.home = pthread_self(),
		.turn = turn,
		.hold = hold };
}

static struct loop *new_loop(void)
{
	struct err e;
	struct loop *l = loop_create(0, &e);

	assert_non_null(l);
	return l;
}

static struct workers *new_workers(size_t threads, size_t max_queued)
{
	const struct workers_options opt = { .threads = threads, .max_queued = max_queued };
	struct err e;
	struct workers *w = workers_create(&opt, &e);

	assert_non_null(w);
	return w;
}

/* Runs elsewhere, done here; with one thread in order. */
static void test_jobs(void **state)
{
	static const size_t threads[] = { 1, 3 };
	struct task *tasks = calloc(JOBS, sizeof(*tasks));

	(void)state;
	for (size_t n = 0; n < 2; n++) {
		struct workers *w = new_workers(threads[n], JOBS);
		struct loop *l = new_loop();
		atomic_uint turn = 0;

		for (unsigned i = 0; i < JOBS; i++) {
			tasks[i] = task(&turn, NULL);
			assert_int_equal(workers_submit(w, l, &tasks[i].job), 0);
		}
		workers_free(w); /* what is queued is run all the same */
		assert_int_equal(turn, JOBS);
		for (unsigned i = 0; i < JOBS; i++)
			assert_false(tasks[i].done);
		loop_run_idle(l);
		for (unsigned i = 0; i < JOBS; i++) {
			assert_true(tasks[i].done && !tasks[i].done_elsewhere);
			assert_false(tasks[i].ran_at_home);
			if (threads[n] == 1)
				assert_int_equal(tasks[i].ran_at, i);
		}
		loop_free(l);
	}
	free(tasks);
}

/* So many wait and no more; what was refused is not called, and can come again. */
static void test_full_queue(void **state)
{
	struct workers *w = new_workers(1, 3);
	struct loop *l = new_loop();
	struct latch hold;
	atomic_uint turn = 0;
	struct task tasks[6];

	(void)state;
	latch_init(&hold, 1);
	for (unsigned i = 0; i < 6; i++)
		tasks[i] = task(&turn, &hold);
	assert_int_equal(workers_submit(w, l, &tasks[0].job), 0);
	while (atomic_load(&turn) == 0) /* the thread has taken it */
		usleep(1000);
	for (unsigned i = 1; i < 4; i++)
		assert_int_equal(workers_submit(w, l, &tasks[i].job), 0);
	for (unsigned i = 4; i < 6; i++)
		assert_int_equal(workers_submit(w, l, &tasks[i].job), -1);
	latch_reach(&hold);
	while (atomic_load(&turn) < 4)
		usleep(1000);
	assert_int_equal(workers_submit(w, l, &tasks[5].job), 0);
	workers_free(w);
	loop_run_idle(l);
	loop_free(l);
	latch_free(&hold);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(tasks[i].done, i != 4);
	assert_int_equal(turn, 5);
}

/* All threads take part: so many jobs that wait for one another could not end otherwise. */
struct meeting {
	struct job job;
	struct latch *all;
};

static void meet(struct job *job)
{
	struct meeting *m = (struct meeting *)job;

	latch_reach(m->all);
	latch_wait(m->all);
}

static void met(struct job *job)
{
	((struct meeting *)job)->all = NULL;
}

static void test_threads_work_at_once(void **state)
{
	struct workers *w = new_workers(4, 4);
	struct loop *l = new_loop();
	struct latch all;
	struct meeting m[4];

	(void)state;
	latch_init(&all, 4);
	for (unsigned i = 0; i < 4; i++) {
		m[i] = (struct meeting){ .job = { .run = meet, .done = met }, .all = &all };
		assert_int_equal(workers_submit(w, l, &m[i].job), 0);
	}
	workers_free(w);
	loop_free(l); /* also runs what is done */
	latch_free(&all);
	for (unsigned i = 0; i < 4; i++)
		assert_null(m[i].all);
}

/* Jobs of several loops, each told on its own. */
struct office {
	struct loop *loop;
	pthread_t thread;
	struct workers *workers;
	struct task tasks[JOBS / 4];
	struct post post;
	atomic_uint *turn;
	struct latch told;
	unsigned refused;
};

static void submit_all(struct post *p)
{
	struct office *o = (struct office *)((char *)p - offsetof(struct office, post));

	for (unsigned i = 0; i < JOBS / 4; i++) {
		o->tasks[i] = task(o->turn, NULL);
		o->tasks[i].told = &o->told;
		if (workers_submit(o->workers, o->loop, &o->tasks[i].job) != 0)
			o->refused++;
	}
}

static void *run_office(void *arg)
{
	loop_run(((struct office *)arg)->loop);
	return NULL;
}

static void test_jobs_of_several_loops(void **state)
{
	struct workers *w = new_workers(3, JOBS);
	struct office *offices = calloc(3, sizeof(*offices));
	atomic_uint turn = 0;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct office *o = &offices[i];

		o->loop = new_loop();
		o->workers = w;
		o->turn = &turn;
		o->post.run = submit_all;
		latch_init(&o->told, JOBS / 4);
		assert_int_equal(pthread_create(&o->thread, NULL, run_office, o), 0);
		loop_post(o->loop, &o->post);
	}
	for (unsigned i = 0; i < 3; i++) {
		struct office *o = &offices[i];

		latch_wait(&o->told);
		loop_stop(o->loop);
		pthread_join(o->thread, NULL);
		loop_free(o->loop);
		latch_free(&o->told);
		assert_int_equal(o->refused, 0);
		for (unsigned j = 0; j < JOBS / 4; j++)
			assert_true(o->tasks[j].done && !o->tasks[j].done_elsewhere);
	}
	workers_free(w);
	free(offices);
}

/* What a thread does first. */
struct entry {
	pthread_mutex_t lock;
	unsigned entered, fail_at; /* which of them fails, from 1; 0: none */
	pthread_t who[8];
};

static int enter(void *cookie, struct err *err)
{
	struct entry *e = cookie;
	unsigned n;

	pthread_mutex_lock(&e->lock);
	e->who[e->entered] = pthread_self();
	n = ++e->entered;
	pthread_mutex_unlock(&e->lock);
	return n == e->fail_at ? err_set(err, GRPC_PERMISSION_DENIED, "not thread %u", n) : 0;
}

static void test_each_thread_enters(void **state)
{
	struct entry entry = { .lock = PTHREAD_MUTEX_INITIALIZER };
	const struct workers_options opt = {
		.threads = 5, .max_queued = 1, .enter = enter, .cookie = &entry
	};
	struct err e = { 0 };
	struct workers *w = workers_create(&opt, &e);

	(void)state;
	assert_non_null(w);
	/* All of them have, once it is made. */
	assert_int_equal(entry.entered, 5);
	for (unsigned i = 0; i < 5; i++) {
		assert_false(pthread_equal(entry.who[i], pthread_self()));
		for (unsigned j = 0; j < i; j++)
			assert_false(pthread_equal(entry.who[i], entry.who[j]));
	}
	workers_free(w);
	workers_free(NULL);
}

static void test_a_thread_that_cannot_enter(void **state)
{
	(void)state;
	for (unsigned i = 1; i <= 5; i++) {
		struct entry entry = { .lock = PTHREAD_MUTEX_INITIALIZER, .fail_at = i };
		const struct workers_options opt = {
			.threads = 5, .max_queued = 1, .enter = enter, .cookie = &entry
		};
		struct err e = { 0 };

		assert_null(workers_create(&opt, i == 5 ? NULL : &e));
		if (i == 5)
			continue;
		assert_int_equal(e.code, GRPC_PERMISSION_DENIED);
		assert_memory_equal(e.text, "not thread ", 11);
	}
}

/* Signals are the loop's: no thread of the workers takes any. */
struct mask {
	struct job job;
	unsigned open;
};

static void look_at_mask(struct job *job)
{
	struct mask *m = (struct mask *)job;
	sigset_t now;

	pthread_sigmask(SIG_SETMASK, NULL, &now);
	for (int s = 1; s < 32; s++)
		m->open += s != SIGKILL && s != SIGSTOP && !sigismember(&now, s);
}

static void mask_done(struct job *job)
{
	(void)job;
}

static void test_signals_are_blocked(void **state)
{
	struct workers *w = new_workers(1, 1);
	struct loop *l = new_loop();
	struct mask m = { .job = { .run = look_at_mask, .done = mask_done } };
	sigset_t now;

	(void)state;
	assert_int_equal(workers_submit(w, l, &m.job), 0);
	workers_free(w);
	loop_free(l);
	assert_int_equal(m.open, 0);
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	assert_int_equal(sigismember(&now, SIGTERM), 0); /* here they are not */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		leaks_test(test_jobs),
		leaks_test(test_full_queue),
		leaks_test(test_threads_work_at_once),
		leaks_test(test_jobs_of_several_loops),
		leaks_test(test_each_thread_enters),
		leaks_test(test_a_thread_that_cannot_enter),
		leaks_test(test_signals_are_blocked),
	};

	/* The first loop opens a pipe that libuv keeps for good. */
	loop_free(new_loop());
	return cmocka_run_group_tests(tests, NULL, NULL);
}
