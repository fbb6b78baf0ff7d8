/* Both ends of a sync, joined by two pipes in memory, on two trees of real files. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/beneath.h"
#include "support/alloc.h"
#include "trees.h"

static void fill(int root)
{
	assert_int_equal(mkdirat(root, "d", 0755), 0);
	write_text(root, "d/a", "a");
	write_text(root, "d.a", "sorts behind d/a");
	write_random(root, "large", 300000, 1);
	assert_int_equal(symlinkat("d/a", root, "link"), 0);
}

static void a_tree_and_then_what_differs(void **state)
{
	const struct sync_options o = { .prune = false };
	struct trees *t = *state;

	fill(t->source);
	sync_well(t, &o);
	assert_int_equal(t->from.counts.files, 3);
	assert_int_equal(t->from.counts.directories, 1);
	assert_int_equal(t->from.counts.links, 1);
	assert_same_file(t, "d/a");
	assert_same_file(t, "large");

	sync_well(t, &o);
	assert_int_equal(t->from.counts.files, 0);
	assert_int_equal(t->from.counts.same, 5);

	write_random(t->source, "large", 300000, 1); /* another time */
	sync_well(t, &o);
	assert_int_equal(t->from.counts.touched, 1);
	assert_int_equal(t->from.counts.literal, 0);
	assert_same_file(t, "large");

	int fd = openat(t->source, "large", O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "changed", 7, 150000), 7);
	close(fd);
	sync_well(t, &o);
	assert_int_equal(t->from.counts.files, 1);
	assert_true(t->from.counts.literal < 10000);
	assert_same_file(t, "large");
}

static void what_is_no_more_is_deleted_when_asked(void **state)
{
	struct trees *t = *state;

	fill(t->source);
	fill(t->target);
	assert_int_equal(mkdirat(t->target, "d/more", 0700), 0);
	write_text(t->target, "d/more/x", "x");
	write_text(t->target, "zz", "z");
	sync_well(t, &(struct sync_options){ .checksum = true });
	assert_true(is_there(t->target, "zz"));
	sync_well(t, &(struct sync_options){ .prune = true, .dry_run = true });
	assert_int_equal(t->from.counts.deleted, 3);
	assert_true(is_there(t->target, "zz"));
	sync_well(t, &(struct sync_options){ .prune = true });
	assert_int_equal(t->to.counts.deleted, 3);
	assert_false(is_there(t->target, "zz"));
	assert_false(is_there(t->target, "d/more"));
}

static bool leave_out(void *cookie, const char *path, bool directory)
{
	(void)cookie;
	(void)directory;
	return strstr(path, "keep") != NULL;
}

static void what_is_left_out_is_neither_sent_nor_deleted(void **state)
{
	struct trees *t = *state;

	write_text(t->source, "keep1", "1");
	assert_int_equal(mkdirat(t->target, "d", 0700), 0);
	write_text(t->target, "d/keep2", "2");
	write_text(t->target, "d/other", "3");
	sync_well(t, &(struct sync_options){ .prune = true, .excluded = leave_out });
	assert_false(is_there(t->target, "keep1"));
	assert_true(is_there(t->target, "d/keep2"));
	assert_false(is_there(t->target, "d/other"));
	assert_int_equal(t->to.counts.deleted, 1);
	assert_int_equal(t->to.notes, 1);
}

/* Each kind in the place of each other kind. */
static void kinds_change(void **state)
{
	struct trees *t = *state;

	assert_int_equal(mkdirat(t->source, "to_dir", 0755), 0);
	write_text(t->source, "to_dir/x", "x");
	write_text(t->target, "to_dir", "a file");
	assert_int_equal(symlinkat(".", t->source, "to_link"), 0);
	assert_int_equal(mkdirat(t->target, "to_link", 0755), 0);
	write_text(t->target, "to_link/y", "y");
	write_text(t->source, "to_file", "file");
	assert_int_equal(mkdirat(t->target, "to_file", 0755), 0);
	write_text(t->target, "to_file/z", "z");
	assert_int_equal(mkdirat(t->source, "over_link", 0755), 0);
	write_text(t->source, "over_link/x", "x");
	assert_int_equal(symlinkat("../source", t->target, "over_link"), 0);

	/* A directory that is not empty goes with --delete only. */
	sync_well(t, &(struct sync_options){ .prune = false });
	assert_int_equal(t->from.counts.failed, 2);
	assert_true(is_there(t->target, "to_file/z"));
	sync_well(t, &(struct sync_options){ .prune = true });
	assert_int_equal(t->from.counts.failed, 0);
	assert_same_file(t, "to_dir/x");
	assert_same_file(t, "to_file");
	assert_same_file(t, "over_link/x");
	struct stat st;
	assert_int_equal(fstatat(t->target, "to_link", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(fstatat(t->target, "over_link", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISDIR(st.st_mode));
}

static void what_is_kept_keeps_its_directory(void **state)
{
	struct trees *t = *state;

	write_text(t->target, "extra", "x");
	assert_int_equal(mkdirat(t->target, "a", 0755), 0);
	write_text(t->target, "a/keep", "x");
	assert_int_equal(symlinkat(".", t->source, "a"), 0);
	sync_well(t, &(struct sync_options){ .prune = true, .excluded = leave_out });
	assert_int_equal(t->from.counts.failed, 1);
	assert_true(is_there(t->target, "a/keep"));
	assert_false(is_there(t->target, "extra"));
}

static void nothing_is_deleted_when_something_failed(void **state)
{
	struct trees *t = *state;
	char path[2 * TREE_DEPTH_MAX + 8] = "d";

	for (size_t i = 0; i < TREE_DEPTH_MAX + 1; i++) {
		assert_int_equal(mkdirat(t->source, path, 0755), 0);
		memcpy(path + strlen(path), "/d", 3);
	}
	write_text(t->source, "new", "x");
	write_text(t->target, "extra", "x");
	sync_well(t, &(struct sync_options){ .prune = true });
	assert_int_equal(t->from.counts.failed, 1);
	assert_same_file(t, "new");
	assert_true(is_there(t->target, "extra"));
}

static void part_files_of_the_dead_are_removed(void **state)
{
	struct trees *t = *state;

	write_text(t->target, ".towline-sync-0123456789abcdef", "half");
	write_text(t->source, ".towline-sync-0123456789abcdee", "not to be sent");
	sync_well(t, &(struct sync_options){ .prune = false });
	assert_false(is_there(t->target, ".towline-sync-0123456789abcdef"));
	assert_false(is_there(t->target, ".towline-sync-0123456789abcdee"));
}

static void names_of_one_file_stay_that(void **state)
{
	const struct sync_options o = { .prune = true };
	struct trees *t = *state;

	write_text(t->source, "a", "a");
	write_random(t->source, "large", 300000, 1);
	assert_int_equal(linkat(t->source, "a", t->source, "b", 0), 0);
	assert_int_equal(linkat(t->source, "large", t->source, "z", 0), 0);
	sync_well(t, &o);
	assert_int_equal(t->from.counts.links, 2);
	assert_int_equal(inode_of(t->target, "a"), inode_of(t->target, "b"));
	assert_int_equal(inode_of(t->target, "large"), inode_of(t->target, "z"));
	sync_well(t, &o);
	assert_int_equal(t->from.counts.same, 4);

	/* Patched under its first name; a link in the place of a directory. */
	int fd = openat(t->source, "z", O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, "changed", 7, 150000), 7);
	close(fd);
	assert_int_equal(unlinkat(t->target, "b", 0), 0);
	assert_int_equal(mkdirat(t->target, "b", 0700), 0);
	sync_well(t, &o);
	assert_int_equal(t->from.counts.failed, 0);
	assert_same_file(t, "z");
	assert_int_equal(inode_of(t->target, "large"), inode_of(t->target, "z"));
	sync_well(t, &o);
	assert_int_equal(inode_of(t->target, "a"), inode_of(t->target, "b"));
	sync_well(t, &o);
	assert_int_equal(t->from.counts.same, 4);
}

static void holes_attributes_and_times_of_directories(void **state)
{
	const struct sync_options o = { .prune = false };
	const struct timespec times[2] = { { .tv_sec = 7 }, { .tv_sec = 7, .tv_nsec = 8 } };
	struct trees *t = *state;
	struct stat st;
	char value[8];

	write_text(t->source, "holes", "x");
	int fd = openat(t->source, "holes", O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 200 << 20), 0);
	assert_int_equal(pwrite(fd, "y", 1, 100 << 20), 1);
	bool kept = fsetxattr(fd, "user.x", "value", 5, 0) == 0; /* not on every file system */
	close(fd);
	assert_int_equal(mkdirat(t->source, "d", 0755), 0);
	write_text(t->source, "d/f", "f");
	assert_int_equal(fchmodat(t->source, "d", 0555, 0), 0);
	assert_int_equal(utimensat(t->source, "d", times, 0), 0);
	sync_well(t, &o);
	assert_int_equal(fstatat(t->target, "holes", &st, 0), 0);
	assert_true(st.st_size == 200 << 20 && st.st_blocks < 200);
	assert_true(t->from.counts.literal < 100000);
	fd = openat(t->target, "holes", O_RDONLY | O_CLOEXEC);
	if (kept)
		assert_int_equal(fgetxattr(fd, "user.x", value, sizeof(value)), 5);
	close(fd);
	assert_int_equal(fstatat(t->target, "d", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0555);
	assert_true(st.st_mtim.tv_sec == 7 && st.st_mtim.tv_nsec == 8);
	sync_well(t, &o);
	assert_int_equal(t->from.counts.same, 3);
}

/* One that is written right behind the sync, which its time may not tell. */
static void what_is_written_in_one_tick_is_seen(void **state)
{
	const struct sync_options o = { .prune = false };
	struct trees *t = *state;

	for (const char *at = "abcdefghijklmnopqrstuvwxyz"; *at != '\0'; at++) {
		write_file(t->source, "f", at, 1);
		sync_well(t, &o);
		assert_int_equal(t->from.counts.files, 1);
	}
	assert_same_file(t, "f");
}

static void fill_forest(int root)
{
	char path[64];

	for (uint32_t i = 0; i < 1600; i++) {
		snprintf(path, sizeof(path), "d%u", i % 9);
		mkdirat(root, path, 0755);
		snprintf(path, sizeof(path), "d%u/f%u", i % 9, i);
		write_random(root, path, i % 4000, i);
	}
	for (uint32_t i = 0; i < 8; i++) {
		snprintf(path, sizeof(path), "large%u", i);
		write_random(root, path, 1000000, i);
	}
	assert_int_equal(linkat(root, "large0", root, "z", 0), 0);
}

static void several_streams(void **state)
{
	const struct sync_options o = { .prune = true };
	struct trees *t = *state;

	fill_forest(t->source);
	write_text(t->target, "d3", "a directory there");
	write_text(t->target, "extra", "x");
	sync_in_streams(t, &o);
	assert_int_equal(t->from.result | t->to.result, 0);
	assert_int_equal(t->from.counts.files, 1608);
	assert_int_equal(t->to.counts.files, 1608);
	assert_int_equal(t->from.counts.bytes, t->from.counts.literal);
	assert_int_equal(t->from.counts.deleted, 1);
	for (char name[] = "large0"; name[5] < '8'; name[5]++)
		assert_same_file(t, name);
	assert_same_file(t, "d8/f1592");
	assert_int_equal(inode_of(t->target, "large0"), inode_of(t->target, "z"));
	sync_well(t, &o);
	assert_int_equal(t->from.counts.same, 1608 + 1 + 9);

	/* Patches, with the sums of what is there. */
	for (char name[] = "large0"; name[5] < '8'; name[5]++) {
		int fd = openat(t->source, name, O_WRONLY | O_CLOEXEC);
		assert_int_equal(pwrite(fd, name, 6, 500000), 6);
		close(fd);
	}
	sync_in_streams(t, &o);
	assert_int_equal(t->from.result | t->to.result, 0);
	assert_int_equal(t->from.counts.files, 8);
	assert_true(t->from.counts.literal < 50000);
	sync_well(t, &o);
	assert_int_equal(t->from.counts.same, 1608 + 1 + 9);
}

static void try_without_memory(void *cookie)
{
	struct trees *t = cookie;
	struct err err;

	alloc_hold();
	beneath_remove_tree(t->folder, "target", &err);
	close(t->target);
	t->target = make_folder(t, "target");
	write_random(t->target, "large", 300000, 1);
	write_text(t->target, "extra", "x");
	alloc_release();
	sync_them(t, &(struct sync_options){ .prune = true });
	if (!alloc_has_failed())
		assert_int_equal(t->from.result | t->to.result, 0);
	/* Either all, or somebody says that not all. */
	if (t->from.result == 0 && t->to.result == 0 && t->to.counts.failed == 0) {
		assert_same_file(t, "large");
		assert_same_file(t, "d/a");
		assert_false(is_there(t->target, "extra"));
	}
}

static void no_memory(void **state)
{
	struct trees *t = *state;

	fill(t->source);
	write_random(t->source, "large", 310000, 1);
	assert_int_equal(linkat(t->source, "large", t->source, "name", 0), 0);
	alloc_torture(try_without_memory, t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREES(a_tree_and_then_what_differs),
		TREES(what_is_no_more_is_deleted_when_asked),
		TREES(what_is_left_out_is_neither_sent_nor_deleted),
		TREES(kinds_change),
		TREES(what_is_kept_keeps_its_directory),
		TREES(nothing_is_deleted_when_something_failed),
		TREES(part_files_of_the_dead_are_removed),
		TREES(names_of_one_file_stay_that),
		TREES(holes_attributes_and_times_of_directories),
		TREES(what_is_written_in_one_tick_is_seen),
		TREES(several_streams),
		TREES(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
