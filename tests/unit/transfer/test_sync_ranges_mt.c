/* A large file over several streams of a sync, in ranges. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/alloc.h"
#include "trees.h"

#define LARGE ((size_t)5 * SYNC_RANGE_MIN + 12345)

static void sync_in_streams_well(struct trees *t, uint64_t files)
{
	sync_in_streams(t, &(struct sync_options){ 0 });
	assert_int_equal(t->from.result | t->to.result, 0);
	assert_int_equal(t->from.counts.failed, 0);
	assert_int_equal(t->from.counts.files, files);
	assert_int_equal(t->to.counts.files, files);
	assert_int_equal(t->from.counts.literal, t->to.counts.literal);
}

static void a_large_file_in_ranges(void **state)
{
	struct trees *t = *state;
	size_t carried = 0;

	write_random(t->source, "f", LARGE, 1);
	sync_in_streams_well(t, 1);
	assert_int_equal(t->from.counts.bytes, LARGE);
	assert_int_equal(t->from.counts.literal, LARGE);
	for (size_t i = 0; i < STREAMS; i++)
		carried += t->literal[i] > 0;
	assert_true(carried >= 2);
	assert_same_file(t, "f");

	/* What differs, in two of its ranges, and where it ends. */
	write_at(t->source, "f", "changed", 100);
	write_at(t->source, "f", "changed", (off_t)(3 * SYNC_RANGE_MIN + 5));
	write_at(t->source, "f", "longer", LARGE);
	sync_in_streams_well(t, 1);
	assert_true(t->from.counts.literal < 64 << 10);
	assert_same_file(t, "f");
}

static void a_large_file_that_is_the_same(void **state)
{
	const struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 1000 } };
	struct trees *t = *state;

	write_random(t->source, "f", LARGE, 1);
	sync_in_streams_well(t, 1);
	ino_t before = inode_of(t->target, "f");
	assert_int_equal(utimensat(t->source, "f", times, 0), 0);
	sync_in_streams_well(t, 0);
	assert_int_equal(t->from.counts.touched, 1);
	assert_int_equal(inode_of(t->target, "f"), before);
	assert_same_file(t, "f");

	/* All that it has is there, but it is shorter. */
	int fd = openat(t->source, "f", O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, (off_t)(2 * SYNC_RANGE_MIN)), 0);
	close(fd);
	sync_in_streams_well(t, 1);
	assert_int_equal(t->from.counts.literal, 0);
	assert_same_file(t, "f");
}

static void make_with_holes(int root, const char *name, size_t size)
{
	write_text(root, name, "at the beginning");
	int fd = openat(root, name, O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

static void a_large_file_with_holes(void **state)
{
	struct trees *t = *state;
	struct stat st;

	make_with_holes(t->source, "f", LARGE);
	write_at(t->source, "f", "in the middle", (off_t)(2 * SYNC_RANGE_MIN + 100000));
	sync_in_streams_well(t, 1);
	assert_true(t->from.counts.literal < 64 << 10);
	assert_same_file(t, "f");
	assert_int_equal(fstatat(t->target, "f", &st, 0), 0);
	assert_true((uint64_t)st.st_blocks * 512 < LARGE / 10);
}

/* Called when the file is on its way. */
static void change_it(void *cookie, enum sync_act act, const struct sync_entry *e)
{
	struct end *end = cookie;

	if (act == SYNC_ACT_SEND && end->root >= 0 && end->notes++ == 0)
		write_at(end->root, e->path, "changed meanwhile", 5);
}

static void a_large_file_that_changes(void **state)
{
	struct trees *t = *state;

	write_random(t->source, "f", LARGE, 1);
	write_random(t->target, "f", LARGE, 2);
	t->item = change_it;
	sync_in_streams_well(t, 1);
	assert_true(t->from.counts.literal > LARGE);
	assert_same_file(t, "f");
}

/* Their ranges are a few bytes, and one stream is slow: the others are files ahead of it. */
static void many_large_files(void **state)
{
	struct trees *t = *state;
	char name[16];

	for (unsigned i = 0; i < 2 * SYNC_JOINTS_MAX; i++) {
		snprintf(name, sizeof(name), "f%03u", i);
		make_with_holes(t->source, name, 2 * SYNC_RANGE_MIN);
	}
	t->pause_us = 100000;
	sync_in_streams_well(t, (uint64_t)2 * SYNC_JOINTS_MAX);
	assert_same_file(t, "f000");
	assert_same_file(t, name);
}

static void a_large_file_that_fails(void **state)
{
	struct trees *t = *state;

	write_random(t->source, "f", LARGE, 1);
	assert_int_equal(mkdirat(t->target, "f", 0755), 0);
	write_text(t->target, "f/in", "the way");
	sync_in_streams(t, &(struct sync_options){ 0 });
	assert_int_equal(t->from.result | t->to.result, 0);
	assert_int_equal(t->from.counts.failed, 1);
	assert_int_equal(t->to.counts.failed, 1);
	assert_int_equal(t->from.counts.files, 0);
	assert_true(is_there(t->target, "f/in"));
}

static void try_without_memory(void *cookie)
{
	struct trees *t = cookie;

	alloc_hold();
	make_with_holes(t->target, "f", 100000);
	alloc_release();
	sync_in_streams(t, &(struct sync_options){ 0 });
	if (!alloc_has_failed())
		assert_int_equal(t->from.result | t->to.result, 0);
	if (t->from.result == 0 && t->to.result == 0 && t->to.counts.failed == 0)
		assert_same_file(t, "f");
}

static void no_memory(void **state)
{
	struct trees *t = *state;

	make_with_holes(t->source, "f", 2 * SYNC_RANGE_MIN);
	alloc_torture(try_without_memory, t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREES(a_large_file_in_ranges),
		TREES(a_large_file_that_is_the_same),
		TREES(a_large_file_with_holes),
		TREES(a_large_file_that_changes),
		TREES(a_large_file_that_fails),
		TREES(many_large_files),
		TREES(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
