/* More comes than is kept while whoever wants it is busy: it is not asked for, or the flow fails. */
#include <fcntl.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/worker.h"
#include "support/leak.h"
#include "transfer/flow.h"
#include "transfer/lane.h"
#include "transfer/sync/sync_flow.h"

#define AHEAD ((size_t)512 << 10) /* bytes credited that are not written */

struct fixture {
	struct leak *leak;
	struct loop *loop;
	struct workers *workers;
	struct job busy; /* the one worker there is, until ${go} */
	sem_t go;
	struct inflow *in;
	struct sync_flow *sync;
	size_t pushed, used; /* bytes */
	struct err err;
	struct post post;
};

static void wait_to_go(struct fixture *f)
{
	while (sem_wait(&f->go) != 0)
		;
}

static void run_busy(struct job *job)
{
	wait_to_go((struct fixture *)((char *)job - offsetof(struct fixture, busy)));
}

static void after_busy(struct job *job)
{
	(void)job;
}

/* On a tree's or a sync's thread. */
static int open_late(void *cookie, struct err *err)
{
	struct fixture *f = cookie;

	(void)err;
	wait_to_go(f);
	return open(leak_folder(f->leak), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int setup(void **state)
{
	const struct workers_options one = { .threads = 1, .max_queued = 8 };
	struct fixture *f = calloc(1, sizeof(*f));
	struct err err;

	loop_free(loop_create(0, NULL)); /* the first opens what all of them share */
	f->leak = leak_begin();
	f->loop = loop_create(0, &err);
	f->workers = workers_create(&one, &err);
	sem_init(&f->go, 0, 0);
	f->busy = (struct job){ .run = run_busy, .done = after_busy };
	*state = f;
	return f->loop != NULL && f->workers != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	inflow_free(f->in);
	sync_flow_free(f->sync);
	workers_free(f->workers);
	loop_free(f->loop);
	sem_destroy(&f->go);
	int r = leak_end(f->leak);
	free(f);
	return r;
}

static void used(void *cookie, size_t bytes)
{
	((struct fixture *)cookie)->used += bytes;
}

static void ended(void *cookie, const struct err *err)
{
	struct fixture *f = cookie;

	f->err = *err;
	loop_stop(f->loop);
}

static void sync_ended(void *cookie, const struct sync_counts *counts, const struct err *err)
{
	(void)counts;
	ended(cookie, err);
}

static struct inflow_env env_of(struct fixture *f)
{
	return (struct inflow_env){
		.flow = { .loop = f->loop, .workers = f->workers, .ended = ended, .cookie = f },
		.used = used,
	};
}

/* Slices of a byte, as many as are kept and one more. */
static void push_too_many(struct post *post)
{
	struct fixture *f = (struct fixture *)((char *)post - offsetof(struct fixture, post));

	for (; f->pushed <= LANE_SLICES_MAX; f->pushed++) {
		struct slice s = slice_copy("x", 1);
		assert_non_null(s.data);
		if (f->in != NULL)
			inflow_push(f->in, s);
		else
			sync_flow_push(f->sync, s);
	}
	if (f->in != NULL)
		inflow_eof(f->in, NULL);
	else
		sync_flow_eof(f->sync);
	sem_post(&f->go);
}

static void run(struct fixture *f)
{
	f->post.run = push_too_many;
	loop_post(f->loop, &f->post);
	loop_run(f->loop);
	assert_int_equal(f->err.code, GRPC_RESOURCE_EXHAUSTED);
	assert_string_equal(f->err.text, "the chunks are too small and too many");
}

/* It cannot be written yet. */
static void begin_file(struct fixture *f, struct place_options *o)
{
	const struct inflow_env env = env_of(f);
	struct err err;

	o->workdir = open(leak_folder(f->leak), O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(workers_submit(f->workers, f->loop, &f->busy), 0);
	f->in = inflow_file(&env, o, &err);
	assert_non_null(f->in);
}

static void of_a_file(void **state)
{
	struct fixture *f = *state;
	struct place_options o = { .path = "f", .slash = -1 };

	begin_file(f, &o);
	run(f);
	assert_int_equal(f->used, f->pushed); /* all of it is credited */
	close(o.workdir);
}

/* A chunk at a time, until no more is credited at once; then the worker may go on. */
static void push_until_it_waits(struct post *post)
{
	struct fixture *f = (struct fixture *)((char *)post - offsetof(struct fixture, post));
	static const uint8_t chunk[64 << 10];

	while (f->used == f->pushed) {
		inflow_push(f->in, slice_copy(chunk, sizeof(chunk)));
		f->pushed += sizeof(chunk);
	}
	assert_int_equal(f->used, AHEAD);
	inflow_eof(f->in, NULL);
	sem_post(&f->go);
}

static void it_asks_for_no_more_than_it_can_write(void **state)
{
	struct fixture *f = *state;
	struct place_options o = { .path = "f", .slash = -1 };

	begin_file(f, &o);
	f->post.run = push_until_it_waits;
	loop_post(f->loop, &f->post);
	loop_run(f->loop);
	assert_int_equal(f->err.code, GRPC_OK);
	assert_int_equal(f->used, f->pushed);
	assert_int_equal(unlinkat(o.workdir, "f", 0), 0);
	close(o.workdir);
}

static void of_a_tree(void **state)
{
	struct fixture *f = *state;
	const struct inflow_env env = env_of(f);
	struct err err;

	f->in = inflow_tree(&env, open_late, f, &err);
	assert_non_null(f->in);
	run(f);
}

static void of_a_sync(void **state)
{
	struct fixture *f = *state;
	const struct sync_flow_env env = {
		.loop = f->loop, .open = open_late, .ended = sync_ended, .cookie = f
	};
	struct err err;

	f->sync = sync_flow_start(&env, &err);
	assert_non_null(f->sync);
	run(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(of_a_file, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    it_asks_for_no_more_than_it_can_write, setup, teardown),
		cmocka_unit_test_setup_teardown(of_a_tree, setup, teardown),
		cmocka_unit_test_setup_teardown(of_a_sync, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
