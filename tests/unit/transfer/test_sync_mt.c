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
#include "support/leak.h"
#include "transfer/sync/sync_peer.h"
#include "transfer/sync/sync_team.h"

#define PIPE_SIZE ((size_t)512 << 10)

/* Bytes one way. Full or empty, it makes its end wait. */
struct pipe {
	pthread_mutex_t lock;
	pthread_cond_t moved;
	uint8_t *data;
	size_t at, len, pulled;
	bool closed;
	const char *why; /* it was broken off; NULL: the writer is done */
	uint8_t *out;    /* what the reader has */
};

static void pipe_open(struct pipe *p)
{
	*p = (struct pipe){ .data = malloc(PIPE_SIZE), .out = malloc(PIPE_SIZE) };
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->moved, NULL);
}

static void pipe_free(struct pipe *p)
{
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->moved);
	free(p->data);
	free(p->out);
}

static void pipe_close(struct pipe *p, const char *why)
{
	pthread_mutex_lock(&p->lock);
	if (!p->closed)
		p->why = why;
	p->closed = true;
	pthread_cond_broadcast(&p->moved);
	pthread_mutex_unlock(&p->lock);
}

/* An end: what it is given, and what it says. */
struct end {
	struct pipe *in, *out;
	int root;
	struct sync_options options;
	struct sync_counts counts;
	struct err err;
	int result;
	int (*run)(int, const struct sync_options *, const struct sync_link *, struct sync_counts *,
	    struct err *);
	size_t notes;
};

static ssize_t pull(void *cookie, const void **bytes, struct err *err)
{
	struct pipe *p = ((struct end *)cookie)->in;
	ssize_t n;

	pthread_mutex_lock(&p->lock);
	while (p->len == 0 && !p->closed)
		pthread_cond_wait(&p->moved, &p->lock);
	if (p->len == 0 && p->why != NULL) {
		n = err_set(err, GRPC_CANCELLED, "%s", p->why);
	} else {
		n = (ssize_t)(p->len < 1000 ? p->len : p->len / 2);
		memcpy(p->out, p->data, (size_t)n);
		memmove(p->data, p->data + n, p->len - (size_t)n);
		p->len -= (size_t)n;
		*bytes = p->out;
	}
	pthread_cond_broadcast(&p->moved);
	pthread_mutex_unlock(&p->lock);
	return n;
}

static int push(void *cookie, const void *bytes, size_t len, struct err *err)
{
	struct pipe *p = ((struct end *)cookie)->out;
	int r = 0;

	pthread_mutex_lock(&p->lock);
	while (p->len + len > PIPE_SIZE && !p->closed)
		pthread_cond_wait(&p->moved, &p->lock);
	if (p->closed) {
		r = err_set(err, GRPC_CANCELLED, "nobody reads");
	} else {
		memcpy(p->data + p->len, bytes, len);
		p->len += len;
	}
	pthread_cond_broadcast(&p->moved);
	pthread_mutex_unlock(&p->lock);
	return r;
}

static void stop(void *cookie, const struct err *why)
{
	struct end *e = cookie;

	(void)why;
	pipe_close(e->in, "stopped");
	pipe_close(e->out, "stopped");
}

static void note(void *cookie, const char *text)
{
	(void)text;
	((struct end *)cookie)->notes++;
}

static void *end_main(void *cookie)
{
	struct end *e = cookie;
	const struct sync_link link = { .pull = pull, .push = push, .stop = stop, .cookie = e };

	e->options.cookie = e;
	e->options.note = note;
	e->result = e->run(e->root, &e->options, &link, &e->counts, &e->err);
	pipe_close(e->out, e->result == 0 ? NULL : "the other end has failed");
	pipe_close(e->in, e->result == 0 ? NULL : "the other end has failed");
	return NULL;
}

struct trees {
	struct leak *leak;
	int folder, source, target;
	struct end from, to;
};

static int make_folder(struct trees *t, const char *name)
{
	assert_int_equal(mkdirat(t->folder, name, 0755), 0);
	int fd = openat(t->folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static int setup(void **state)
{
	struct trees *t = calloc(1, sizeof(*t));

	t->leak = leak_begin();
	t->folder = open(leak_folder(t->leak), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	t->source = make_folder(t, "source");
	t->target = make_folder(t, "target");
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct trees *t = *state;
	struct err err;

	beneath_remove_tree(t->folder, "source", &err);
	beneath_remove_tree(t->folder, "target", &err);
	close(t->source);
	close(t->target);
	close(t->folder);
	int r = leak_end(t->leak);
	free(t);
	return r;
}

static void sync_them_with(
    struct trees *t, const struct sync_options *from, const struct sync_options *to)
{
	struct pipe there, back;
	pthread_t thread;

	alloc_hold();
	pipe_open(&there);
	pipe_open(&back);
	alloc_release();
	t->from = (struct end){ &back, &there, t->source, .options = *from, .run = sync_source };
	t->to = (struct end){ &there, &back, t->target, .options = *to, .run = sync_target };
	assert_int_equal(pthread_create(&thread, NULL, end_main, &t->from), 0);
	end_main(&t->to);
	pthread_join(thread, NULL);
	pipe_free(&there);
	pipe_free(&back);
}

static void sync_them(struct trees *t, const struct sync_options *o)
{
	sync_them_with(t, o, o);
}

/* With more streams, whose calls are there before they are asked for. */

static int run_source(int root, const struct sync_options *o, const struct sync_link *link,
    struct sync_counts *c, struct err *err)
{
	(void)root;
	return sync_source_stream(o->team, link, c, err);
}

static int run_target(int root, const struct sync_options *o, const struct sync_link *link,
    struct sync_counts *c, struct err *err)
{
	(void)root;
	return sync_target_stream(o->team, link, c, err);
}

#define STREAMS 3

static void sync_in_streams(struct trees *t, const struct sync_options *o)
{
	struct sync_options from = *o, to = *o;
	struct end ends[STREAMS][2];
	struct pipe pipes[STREAMS][2];
	pthread_t threads[STREAMS][2];
	struct err err = { 0 };

	from.team = sync_team_create(&err);
	to.team = sync_team_create(&err);
	for (size_t i = 0; i < STREAMS; i++) {
		pipe_open(&pipes[i][0]);
		pipe_open(&pipes[i][1]);
		ends[i][0] = (struct end){ &pipes[i][1], &pipes[i][0], -1, .options = from,
			.run = run_source };
		ends[i][1] = (struct end){ &pipes[i][0], &pipes[i][1], -1, .options = to,
			.run = run_target };
		for (size_t k = 0; k < 2; k++)
			assert_int_equal(
			    pthread_create(&threads[i][k], NULL, end_main, &ends[i][k]), 0);
	}
	sync_them_with(t, &from, &to);
	for (size_t i = 0; i < STREAMS; i++) {
		/* Both ends have both pipes. */
		pthread_join(threads[i][0], NULL);
		pthread_join(threads[i][1], NULL);
		pipe_free(&pipes[i][0]);
		pipe_free(&pipes[i][1]);
	}
	sync_team_release(from.team);
	sync_team_release(to.team);
}

static void sync_well(struct trees *t, const struct sync_options *o)
{
	sync_them(t, o);
	if (t->from.result != 0 || t->to.result != 0)
		print_error("source: %s; target: %s\n", t->from.err.text, t->to.err.text);
	assert_int_equal(t->from.result, 0);
	assert_int_equal(t->to.result, 0);
	assert_int_equal(t->from.counts.files, t->to.counts.files);
	assert_int_equal(t->from.counts.same, t->to.counts.same);
	assert_int_equal(t->from.counts.failed, t->to.counts.failed);
	assert_int_equal(t->from.counts.sent, t->to.counts.received);
	assert_int_equal(t->from.counts.received, t->to.counts.sent);
}

static void write_file(int root, const char *path, const void *bytes, size_t len)
{
	int fd = openat(root, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), len);
	close(fd);
}

static void write_text(int root, const char *path, const char *text)
{
	write_file(root, path, text, strlen(text));
}

/* ${len} bytes that depend on ${seed}. */
static void write_random(int root, const char *path, size_t len, uint32_t seed)
{
	uint8_t *bytes = malloc(len);

	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
	write_file(root, path, bytes, len);
	free(bytes);
}

static void assert_same_file(struct trees *t, const char *path)
{
	int a = openat(t->source, path, O_RDONLY | O_CLOEXEC);
	int b = openat(t->target, path, O_RDONLY | O_CLOEXEC);
	char x[4096], y[4096];
	struct stat s1, s2;
	ssize_t n;

	assert_true(a >= 0 && b >= 0);
	assert_int_equal(fstat(a, &s1), 0);
	assert_int_equal(fstat(b, &s2), 0);
	assert_int_equal(s1.st_mode, s2.st_mode);
	assert_int_equal(s1.st_mtim.tv_nsec, s2.st_mtim.tv_nsec);
	do {
		n = read(a, x, sizeof(x));
		assert_int_equal(read(b, y, sizeof(y)), n);
		assert_memory_equal(x, y, (size_t)n);
	} while (n > 0);
	close(a);
	close(b);
}

static bool is_there(int root, const char *path)
{
	struct stat st;

	return fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

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

static ino_t inode_of(int root, const char *path)
{
	struct stat st;

	assert_int_equal(fstatat(root, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_ino;
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

#define TREES(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

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
