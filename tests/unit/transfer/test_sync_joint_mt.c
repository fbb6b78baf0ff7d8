/* How many files of a sync may be there in part, and who waits for whom. */
#include "transfer/sync/sync_joint.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#include <cmocka.h>

#include "transfer/sync/sync_peer.h"

#define FIRST 100 /* number of the first file */

static void make(void *cookie, struct sync_part *part)
{
	(void)cookie;
	(void)part; /* none: no file system here */
}

static bool is_gone(void *cookie)
{
	return cookie != NULL && atomic_load((atomic_bool *)cookie);
}

/* A range of two. */
static struct sync_joint_file *enter(
    struct sync_joint *j, uint64_t number, size_t range, atomic_bool *gone, struct err *err)
{
	const struct sync_entry e = { .kind = SYNC_KIND_FILE, .path = "f", .size = 20 };
	const struct sync_range r = { .file = number, .size = 10, .number = range };
	const struct sync_joint_user user = { .make = make, .stopped = is_gone, .cookie = gone };

	*err = (struct err){ 0 };
	return sync_joint_enter(j, &e, &r, &user, err);
}

static void begin(struct sync_joint *j, uint64_t number)
{
	struct err err;
	struct sync_joint_file *f = enter(j, number, 0, NULL, &err);

	assert_non_null(f);
	assert_false(sync_joint_leave(f));
}

static void end(struct sync_joint *j, uint64_t number)
{
	struct err err;
	struct sync_joint_file *f = enter(j, number, 1, NULL, &err);

	assert_non_null(f);
	assert_true(sync_joint_leave(f));
	sync_joint_drop(f);
}

/* Somebody who brings a file that comes behind the others. */
struct last {
	struct sync_joint *joint;
	pthread_t thread;
	atomic_bool gone, entered;
	struct err err;
};

static void *last_main(void *cookie)
{
	struct last *l = cookie;
	struct sync_joint_file *f = enter(l->joint, 10 * FIRST, 0, &l->gone, &l->err);

	atomic_store(&l->entered, f != NULL);
	if (f != NULL)
		sync_joint_leave(f);
	return NULL;
}

static void last_begin(struct last *l, struct sync_joint *j)
{
	*l = (struct last){ .joint = j };
	assert_int_equal(pthread_create(&l->thread, NULL, last_main, l), 0);
	usleep(50000);
	assert_false(atomic_load(&l->entered));
}

static struct sync_joint *full(uint64_t wait_ms)
{
	struct err err;
	struct sync_joint *j = sync_joint_create(wait_ms, &err);

	assert_non_null(j);
	for (uint64_t i = 0; i < SYNC_JOINTS_MAX; i++)
		begin(j, FIRST + i);
	return j;
}

static void a_further_file_waits_until_one_is_there(void **state)
{
	struct sync_joint *j = full(SYNC_JOINT_WAIT_MS);
	struct last l;

	(void)state;
	last_begin(&l, j);
	end(j, FIRST + 7);
	pthread_join(l.thread, NULL);
	assert_true(l.entered);
	sync_joint_free(j);
}

static void one_before_all_others_never_waits(void **state)
{
	struct sync_joint *j = full(SYNC_JOINT_WAIT_MS);
	struct err err;

	(void)state;
	for (uint64_t i = 1; i <= SYNC_STREAMS_MAX; i++)
		begin(j, FIRST - i);
	assert_null(enter(j, 1, 0, NULL, &err));
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	end(j, FIRST - 1);
	begin(j, 1);
	sync_joint_free(j);
}

static void nobody_waits_for_who_is_gone(void **state)
{
	struct sync_joint *j = full(SYNC_JOINT_WAIT_MS);
	struct last l;

	(void)state;
	last_begin(&l, j);
	atomic_store(&l.gone, true);
	pthread_join(l.thread, NULL);
	assert_int_equal(l.err.code, GRPC_CANCELLED);
	last_begin(&l, j);
	sync_joint_stop(j);
	pthread_join(l.thread, NULL);
	assert_int_equal(l.err.code, GRPC_CANCELLED);
	sync_joint_free(j);
}

/* All are begun, and nobody brings the rest of any. */
static void nobody_waits_without_end(void **state)
{
	struct sync_joint *j = full(1);
	struct last l = { .joint = j };

	(void)state;
	last_main(&l);
	assert_false(l.entered);
	assert_int_equal(l.err.code, GRPC_DEADLINE_EXCEEDED);
	assert_string_equal(
	    l.err.text, "ranges of 32 files were begun, and nothing more has come of them");
	sync_joint_free(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_further_file_waits_until_one_is_there),
		cmocka_unit_test(one_before_all_others_never_waits),
		cmocka_unit_test(nobody_waits_for_who_is_gone),
		cmocka_unit_test(nobody_waits_without_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
