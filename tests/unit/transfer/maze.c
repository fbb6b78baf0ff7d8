#include "maze.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/beneath.h"
#include "base/text.h"
#include "support/alloc.h"

/* What is outside. */

static const char *const directories[] = { "out", "out/sub", "out/sub/sub", "out/t", "out/t/u",
	"out/new" };
static const char *const names[] = { "f0", "f1", "moved", "l" };

static void make_outside_file(int folder, const char *directory, const char *name)
{
	const struct timespec times[2] = { { .tv_sec = 1000000001 }, { .tv_sec = 1000000002 } };
	char path[64], content[MAZE_SIZE];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	memset(content, '-', sizeof(content));
	memcpy(content, MAZE_MARK, sizeof(MAZE_MARK) - 1);
	int fd = openat(folder, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, sizeof(content)), sizeof(content));
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
}

static void make_outside(int folder)
{
	for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]); i++) {
		assert_int_equal(mkdirat(folder, directories[i], 0711), 0);
		for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++)
			make_outside_file(folder, directories[i], names[k]);
		make_outside_file(folder, directories[i], MAZE_SECRET);
	}
}

/* All of one entry but the time of its last reading, which is ours. */
static void tell(struct text *t, const char *path, const struct stat *st)
{
	text_addf(t,
	    "%s %o %u:%u inode %ju links %ju size %jd modified %jd.%09ld changed %jd.%09ld\n", path,
	    st->st_mode, st->st_uid, st->st_gid, (uintmax_t)st->st_ino, (uintmax_t)st->st_nlink,
	    (intmax_t)st->st_size, (intmax_t)st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
	    (intmax_t)st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
}

static void tell_content(struct text *t, int dir, const char *name)
{
	char content[2 * MAZE_SIZE];
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, content, sizeof(content)) : 0;

	if (n > 0)
		text_add(t, content, (size_t)n);
	if (fd >= 0)
		close(fd);
}

static void tell_tree(struct text *t, int dir, const char *path)
{
	struct dirent **entries;
	struct stat st;

	assert_int_equal(fstat(dir, &st), 0);
	tell(t, path, &st);
	int n = scandirat(dir, ".", &entries, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		const char *name = entries[i]->d_name;
		char below[256];

		snprintf(below, sizeof(below), "%.100s/%.100s", path, name);
		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
		    fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
			int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (fd >= 0) {
				tell_tree(t, fd, below);
				close(fd);
			} else {
				tell(t, below, &st);
				tell_content(t, dir, name);
			}
		}
		free(entries[i]);
	}
	if (n >= 0)
		free(entries);
}

/* The caller frees it. */
static char *outside_of(const struct maze *m)
{
	struct text t;
	int fd = openat(m->folder, "out", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	alloc_hold();
	text_init(&t, (size_t)1 << 20);
	tell_tree(&t, fd, "out");
	alloc_release();
	close(fd);
	assert_false(t.failed);
	return t.data;
}

void maze_check(const struct maze *m)
{
	char *now = outside_of(m);

	if (strcmp(now, m->outside) != 0)
		print_error("outside it was\n%s\nand is\n%s\n", m->outside, now);
	assert_string_equal(now, m->outside);
	free(now);
}

/* Stirring. */

#define AT_ONCE     64 /* exchanges of one pair */
#define REST_EVERY  8  /* pairs, so that longer operations come to an end as well */
#define REST_MAX_US 1000

/* Two names in one directory, of which one is a link that leads out. */
struct pair {
	const char *name, *other;
	bool directory;
	const char *to; /* from its directory; NULL: the absolute one */
	bool left;      /* to others to make; the link alone is made */
};

struct stirrer {
	int root;
	char canary[256]; /* absolute */
	uint32_t random;
	pthread_t thread;
	atomic_bool stop;
	atomic_ulong swaps;
};

static uint32_t draw(struct stirrer *s)
{
	s->random ^= s->random << 13;
	s->random ^= s->random >> 17;
	s->random ^= s->random << 5;
	return s->random;
}

static void make_real(int dir, const char *name, bool directory)
{
	if (directory) {
		mkdirat(dir, name, 0755);
		return;
	}
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return;
	if (write(fd, "inside", 6) != 6)
		abort(); /* no place for a test */
	close(fd);
}

/* What has been removed, moved or replaced is made again. */
static void mend(struct stirrer *s, int dir, const struct pair *p)
{
	struct stat a, b;
	bool has = fstatat(dir, p->name, &a, AT_SYMLINK_NOFOLLOW) == 0;
	bool has_other = fstatat(dir, p->other, &b, AT_SYMLINK_NOFOLLOW) == 0;

	if (!has && !p->left)
		make_real(dir, p->name, p->directory);
	if (has_other && (has || p->left) && (has && S_ISLNK(a.st_mode)) != S_ISLNK(b.st_mode))
		return;
	if (has && S_ISLNK(a.st_mode)) {
		if (has_other)
			unlinkat(dir, p->other, 0);
		make_real(dir, p->other, p->directory);
		return;
	}
	if (has_other)
		beneath_remove_tree(dir, p->other, NULL);
	if (symlinkat(p->to != NULL ? p->to : s->canary, dir, p->other) != 0 && errno == ENOSPC)
		abort();
}

/* Often, so that one falls between two steps of an operation. */
static void swap(struct stirrer *s, int dir, const struct pair *p)
{
	for (uint32_t left = 1 + draw(s) % AT_ONCE; left > 0; left--) {
		mend(s, dir, p);
		if (renameat2(dir, p->name, dir, p->other, RENAME_EXCHANGE) == 0)
			atomic_fetch_add(&s->swaps, 1);
	}
}

/* The one of a pair that is the directory; ${dir} is closed. */
static int enter(int dir, const struct pair *p)
{
	int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dir, p->name, flags);

	if (fd < 0)
		fd = openat(dir, p->other, flags);
	close(dir);
	return fd;
}

static const struct pair top = { "d", "x", true, "../out", false };
static const struct pair below = { "sub", "away", true, MAZE_LINK_DOWN, false };
static const struct pair made = { "t", "y", true, "../../out/t", true };
static const struct pair files[] = {
	{ "f0", "c0", false, "../../out/f0", false },
	{ "f0", "c0", false, NULL, false },
};

static void rest(struct stirrer *s)
{
	const struct timespec t = { .tv_nsec = 1000L * (long)(draw(s) % REST_MAX_US) };

	if (draw(s) % REST_EVERY == 0)
		nanosleep(&t, NULL);
}

static void *stir(void *arg)
{
	struct stirrer *s = arg;

	while (!atomic_load(&s->stop)) {
		rest(s);
		uint32_t which = draw(s) % 10;
		int dir = fcntl(s->root, F_DUPFD_CLOEXEC, 3);

		if (which < 3)
			swap(s, dir, &top);
		else if ((dir = enter(dir, &top)) >= 0 && which < 7)
			swap(s, dir, which < 5 ? &below : &made);
		else if (dir >= 0 && (which == 7 || (dir = enter(dir, &below)) >= 0))
			swap(s, dir, &files[which % 2]);
		if (dir >= 0)
			close(dir);
	}
	return NULL;
}

unsigned long maze_swaps(const struct maze *m)
{
	return atomic_load(&m->stirrer->swaps);
}

void maze_make(struct maze *m)
{
	struct stirrer *s = calloc(1, sizeof(*s));

	m->leak = leak_begin();
	m->folder = open(leak_folder(m->leak), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	make_outside(m->folder);
	assert_int_equal(mkdirat(m->folder, "in", 0755), 0);
	m->root = openat(m->folder, "in", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	m->outside = outside_of(m);
	m->stirrer = s;
	s->root = m->root;
	s->random = 2463534242;
	snprintf(s->canary, sizeof(s->canary), "%s", leak_path(m->leak, "out/sub/f0"));
	assert_int_equal(pthread_create(&s->thread, NULL, stir, s), 0);
}

void maze_clear(struct maze *m)
{
	struct err err;

	atomic_store(&m->stirrer->stop, true);
	pthread_join(m->stirrer->thread, NULL);
	maze_check(m);
	free(m->stirrer);
	free(m->outside);
	close(m->root);
	assert_int_equal(beneath_remove_tree(m->folder, "in", &err), 0);
	assert_int_equal(beneath_remove_tree(m->folder, "out", &err), 0);
	close(m->folder);
	assert_int_equal(leak_end(m->leak), 0);
}
