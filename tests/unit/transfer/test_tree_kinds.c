/*
 * What a tree has besides files: links of both kinds, holes, attributes, times; what is
 * left out of it; and what becomes of the rest when one entry fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
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
#include "transfer/tree/tree.h"

#define ARCHIVE_BYTES ((size_t)32 << 20)
#define PIECE         777 /* bytes of a pull */
#define LARGE         ((off_t)1 << 20)

struct fixture {
	struct leak *leak;
	int tree, in; /* what is packed, and where it is unpacked */
	uint8_t *archive;
	size_t len, at;
	bool breaks;         /* the stream, where the archive ends */
	const char *shrinks; /* a file that is cut when the first bytes are pushed */
	char notes[4096];
	struct tree_pack pack;
	struct tree_result packed, unpacked;
	struct err err;
};

static int push(void *cookie, const void *bytes, size_t len, struct err *err)
{
	struct fixture *f = cookie;

	if (f->shrinks != NULL)
		assert_int_equal(truncate(leak_path(f->leak, f->shrinks), 1000), 0);
	f->shrinks = NULL;
	if (len > ARCHIVE_BYTES - f->len)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "the test's buffer");
	memcpy(f->archive + f->len, bytes, len);
	f->len += len;
	return 0;
}

static ssize_t pull(void *cookie, const void **bytes, struct err *err)
{
	struct fixture *f = cookie;
	size_t n = f->len - f->at < PIECE ? f->len - f->at : PIECE;

	if (n == 0 && f->breaks)
		return err_set(err, GRPC_UNAVAILABLE, "the connection is gone");
	*bytes = f->archive + f->at;
	f->at += n;
	return (ssize_t)n;
}

static void note(void *cookie, const char *text)
{
	struct fixture *f = cookie;
	size_t at = strlen(f->notes);

	snprintf(f->notes + at, sizeof(f->notes) - at, "%s\n", text);
}

static int open_folder(struct fixture *f, const char *name)
{
	assert_int_equal(mkdir(leak_path(f->leak, name), 0755), 0);
	return open(leak_path(f->leak, name), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->leak = leak_begin();
	f->tree = open_folder(f, "tree");
	f->in = open_folder(f, "in");
	f->archive = malloc(ARCHIVE_BYTES);
	f->pack = (struct tree_pack){
		.root = f->tree, .name = ".", .push = push, .note = note, .cookie = f
	};
	*state = f;
	return f->tree >= 0 && f->in >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	struct err err;
	int folder = open(leak_folder(f->leak), O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	close(f->tree);
	close(f->in);
	assert_int_equal(beneath_remove_tree(folder, "tree", &err), 0);
	assert_int_equal(beneath_remove_tree(folder, "in", &err), 0);
	close(folder);
	free(f->archive);
	r = leak_end(f->leak);
	free(f);
	return r;
}

/* A file of ${text}, or of zeros ("" and ${size}) with no hole. */
static void make_file(struct fixture *f, const char *name, const char *text)
{
	int fd = openat(f->tree, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static int pack(struct fixture *f)
{
	f->len = f->at = 0;
	return tree_pack(&f->pack, &f->packed, &f->err);
}

static int unpack(struct fixture *f)
{
	struct tree_unpack u = {
		.root = f->in, .pull = pull, .note = note, .cookie = f, .links = true
	};

	f->at = 0;
	err_clear(&f->err);
	return tree_unpack(&u, &f->unpacked, &f->err);
}

static void there_and_back(struct fixture *f)
{
	if (pack(f) != 0 || unpack(f) != 0)
		fail_msg("%s", f->err.text);
	assert_int_equal(f->unpacked.entries, f->packed.entries);
	assert_int_equal(f->unpacked.files, f->packed.files);
	assert_int_equal(f->unpacked.bytes, f->packed.bytes);
}

static bool is_in(struct fixture *f, const char *name)
{
	return faccessat(f->in, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static struct stat stat_in(struct fixture *f, const char *name)
{
	struct stat st;

	if (fstatat(f->in, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		fail_msg("%s: %s", name, strerror(errno));
	return st;
}

static void files_of_several_names_stay_one(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkdirat(f->tree, "d", 0755), 0);
	make_file(f, "d/one", "content");
	assert_int_equal(linkat(f->tree, "d/one", f->tree, "two", 0), 0);
	assert_int_equal(linkat(f->tree, "d/one", f->tree, "d/three", 0), 0);
	make_file(f, "alone", "x");
	there_and_back(f);
	assert_int_equal(f->packed.bytes, 8); /* once */
	assert_int_equal(f->packed.files, 4);
	assert_int_equal(stat_in(f, "two").st_ino, stat_in(f, "d/one").st_ino);
	assert_int_equal(stat_in(f, "two").st_ino, stat_in(f, "d/three").st_ino);
	assert_int_equal(stat_in(f, "two").st_nlink, 3);
	there_and_back(f); /* over itself */
	assert_int_equal(stat_in(f, "two").st_nlink, 3);
}

static void set_time(struct fixture *f, const char *name, long nanoseconds)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, { 1000000000, nanoseconds } };

	assert_int_equal(utimensat(f->tree, name, times, AT_SYMLINK_NOFOLLOW), 0);
}

static void times_are_kept(void **state)
{
	static const char *const names[] = { "d/f", "d/l", "d/e", "d" };
	struct fixture *f = *state;

	assert_int_equal(mkdirat(f->tree, "d", 0755), 0);
	assert_int_equal(mkdirat(f->tree, "d/e", 0755), 0);
	make_file(f, "d/f", "x");
	make_file(f, "d/e/g", "x");
	assert_int_equal(symlinkat("f", f->tree, "d/l"), 0);
	for (size_t i = 0; i < 4; i++)
		set_time(f, names[i], 123456789 + (long)i);
	assert_int_equal(fchmodat(f->tree, "d/e", 0555, 0), 0);
	there_and_back(f);
	for (size_t i = 0; i < 4; i++) {
		struct stat st = stat_in(f, names[i]);
		assert_int_equal(st.st_mtim.tv_sec, 1000000000);
		assert_int_equal(st.st_mtim.tv_nsec, 123456789 + (long)i);
	}
	assert_int_equal(stat_in(f, "d/e").st_mode & 07777, 0555);
	assert_int_equal(fchmodat(f->in, "d/e", 0755, 0), 0);
	assert_int_equal(fchmodat(f->tree, "d/e", 0755, 0), 0);
}

/* A file of data at each of ${count} places, holes of 64 KiB before each and after all. */
static void make_sparse(struct fixture *f, const char *name, unsigned count)
{
	int fd = openat(f->tree, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	for (unsigned i = 0; i < count; i++)
		assert_int_equal(pwrite(fd, "data", 4, (off_t)(i * 2 + 1) << 16), 4);
	assert_int_equal(ftruncate(fd, (off_t)(count * 2 + 1) << 16), 0);
	close(fd);
}

static void compare_files(struct fixture *f, const char *name)
{
	static char a[1 << 16], b[1 << 16];
	int left = openat(f->tree, name, O_RDONLY | O_CLOEXEC);
	int right = openat(f->in, name, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	assert_true(left >= 0 && right >= 0);
	while ((n = read(left, a, sizeof(a))) > 0) {
		assert_int_equal(read(right, b, sizeof(b)), n);
		assert_memory_equal(a, b, (size_t)n);
	}
	assert_int_equal(read(right, b, sizeof(b)), 0);
	close(left);
	close(right);
}

static void holes_stay_holes(void **state)
{
	struct fixture *f = *state;

	make_sparse(f, "some", 3);
	make_sparse(f, "none", 0);
	assert_int_equal(truncate(leak_path(f->leak, "tree/none"), (off_t)100 << 30), 0);
	make_sparse(f, "first", 0);
	int fd = openat(f->tree, "first", O_WRONLY | O_CLOEXEC);
	assert_int_equal(write(fd, "data", 4), 4);
	close(fd);
	there_and_back(f);
	assert_true(f->len < 200000);
	compare_files(f, "some");
	compare_files(f, "first");
	assert_int_equal(stat_in(f, "none").st_size, (off_t)100 << 30);
	assert_int_equal(stat_in(f, "none").st_blocks, 0);
	struct stat old, new = stat_in(f, "some");
	assert_int_equal(fstatat(f->tree, "some", &old, 0), 0);
	assert_int_equal(new.st_blocks, old.st_blocks);
}

/* The lengths around which a name no longer fits the archive's plain header. */
static void a_sparse_file_keeps_its_name(void **state)
{
	struct fixture *f = *state;
	char name[NAME_MAX + 1] = "";

	assert_int_equal(mkdirat(f->tree, "in", 0755), 0);
	for (int len = 92; len <= 104; len++) {
		snprintf(name, sizeof(name), "%0*d", len, 1);
		make_sparse(f, name, 1);
		snprintf(name, sizeof(name), "in/%0*d", len, 1);
		make_sparse(f, name, 1);
		snprintf(name, sizeof(name), "\xe4%0*d", len, 2);
		make_sparse(f, name, 1);
	}
	make_sparse(f, memset(name, 'n', NAME_MAX), 1);
	memset(name, 'd', 160);
	name[160] = '\0';
	assert_int_equal(mkdirat(f->tree, name, 0755), 0);
	snprintf(name + 160, 3, "/f");
	make_sparse(f, name, 1);
	there_and_back(f);
	compare_files(f, name);
	for (int len = 92; len <= 104; len++) {
		snprintf(name, sizeof(name), "%0*d", len, 1);
		compare_files(f, name);
		snprintf(name, sizeof(name), "in/%0*d", len, 1);
		compare_files(f, name);
		snprintf(name, sizeof(name), "\xe4%0*d", len, 2);
		compare_files(f, name);
	}
	memset(name, 'n', NAME_MAX);
	compare_files(f, name);
}

static void holes_are_counted(void **state)
{
	struct fixture *f = *state;

	make_sparse(f, "many", TREE_HOLES_MAX - 1);
	there_and_back(f);
	assert_int_equal(f->packed.bytes, (TREE_HOLES_MAX - 1) * 4096);
	compare_files(f, "many");
	assert_int_equal(unlinkat(f->tree, "many", 0), 0);
	make_sparse(f, "many", TREE_HOLES_MAX); /* and the rest as it is */
	there_and_back(f);
	assert_int_equal(f->packed.bytes, TREE_HOLES_MAX * 4096 + 2 * 65536 - 4096);
	compare_files(f, "many");
}

static bool has_attributes(struct fixture *f)
{
	int fd = openat(f->tree, "f", O_RDONLY | O_CLOEXEC);
	bool has = fsetxattr(fd, "user.a", "1\0002", 3, 0) == 0;

	close(fd);
	return has;
}

static void attributes_of_users_are_kept(void **state)
{
	struct fixture *f = *state;
	char value[16];

	make_file(f, "f", "x");
	if (!has_attributes(f))
		skip();
	setxattr(leak_path(f->leak, "tree"), "user.root", "r", 1, 0);
	(void)setxattr(leak_path(f->leak, "tree/f"), "trusted.b", "1", 1, 0);
	assert_int_equal(mkdirat(f->tree, "d", 0755), 0);
	setxattr(leak_path(f->leak, "tree/d"), "user.dir", "dir", 3, 0);
	setxattr(leak_path(f->leak, "tree/d"), "user.%", "odd", 3, 0);
	there_and_back(f);
	assert_int_equal(getxattr(leak_path(f->leak, "in/f"), "user.a", value, 16), 3);
	assert_memory_equal(value, "1\0002", 3);
	assert_int_equal(getxattr(leak_path(f->leak, "in/d"), "user.dir", value, 16), 3);
	assert_int_equal(f->packed.skipped, 1);
	assert_int_equal(getxattr(leak_path(f->leak, "in/f"), "trusted.b", value, 16), -1);
}

static void attributes_have_a_limit(void **state)
{
	struct fixture *f = *state;
	char *value = calloc(1, TREE_XATTRS_MAX);

	make_file(f, "f", "x");
	bool has =
	    setxattr(leak_path(f->leak, "tree/f"), "user.a", value, TREE_XATTRS_MAX, 0) == 0 &&
	    setxattr(leak_path(f->leak, "tree/f"), "user.b", value, 1, 0) == 0;
	free(value);
	if (!has)
		skip();
	there_and_back(f);
	assert_int_equal(f->packed.skipped, 1);
	assert_non_null(strstr(f->notes, "extended attributes"));
}

static void nothing_waits_for_a_pipe(void **state)
{
	struct fixture *f = *state;

	make_file(f, "f", "x");
	assert_int_equal(mkfifoat(f->tree, "pipe", 0600), 0);
	assert_int_equal(symlinkat("pipe", f->tree, "to-pipe"), 0);
	there_and_back(f);
	assert_int_equal(f->packed.skipped, 1);
	f->pack.follow_links = true;
	assert_int_equal(pack(f), 0);
	assert_int_equal(f->packed.skipped, 2);
}

static void links_can_be_followed(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkdirat(f->tree, "d", 0755), 0);
	make_file(f, "d/f", "content");
	assert_int_equal(symlinkat("d/f", f->tree, "to-file"), 0);
	assert_int_equal(symlinkat("d", f->tree, "to-dir"), 0);
	assert_int_equal(symlinkat("..", f->tree, "d/up"), 0);
	assert_int_equal(symlinkat("/etc/hostname", f->tree, "away"), 0);
	assert_int_equal(symlinkat("nowhere", f->tree, "broken"), 0);
	f->pack.follow_links = true;
	there_and_back(f);
	assert_true(S_ISREG(stat_in(f, "to-file").st_mode));
	assert_true(S_ISREG(stat_in(f, "to-dir/f").st_mode));
	assert_true(S_ISREG(stat_in(f, "away").st_mode));
	assert_false(is_in(f, "broken"));
	assert_int_equal(f->packed.skipped, 3); /* that, and "up" in "d" and in "to-dir" */
	assert_non_null(strstr(f->notes, "a directory it is in"));
}

/* What is left out. */

static void patterns_leave_out(void **state)
{
	static const char *const patterns[] = { "*.o", "/build/", "!keep.o", NULL };
	struct fixture *f = *state;
	struct ignore *g = ignore_list(patterns, &f->err);

	assert_int_equal(mkdirat(f->tree, "build", 0755), 0);
	assert_int_equal(mkdirat(f->tree, "d", 0755), 0);
	assert_int_equal(mkdirat(f->tree, "d/build", 0755), 0);
	make_file(f, "build/x", "");
	make_file(f, "d/build/x", "");
	make_file(f, "d/a.o", "");
	make_file(f, "d/keep.o", "");
	f->pack.exclude = g;
	there_and_back(f);
	assert_int_equal(f->packed.ignored, 2);
	assert_false(is_in(f, "build"));
	assert_true(is_in(f, "d/build/x"));
	assert_false(is_in(f, "d/a.o"));
	assert_true(is_in(f, "d/keep.o"));
	ignore_free(g);
}

static void gitignore_files_are_heeded(void **state)
{
	static const char *const patterns[] = { "!wanted.log", NULL };
	struct fixture *f = *state;
	struct ignore *g = ignore_list(patterns, &f->err);

	assert_int_equal(mkdirat(f->tree, "d", 0755), 0);
	assert_int_equal(mkdirat(f->tree, ".git", 0755), 0);
	make_file(f, ".git/HEAD", "");
	make_file(f, ".gitignore", "*.log\n/only-here\n");
	make_file(f, "d/.gitignore", "!again.log\n");
	make_file(f, "only-here", "");
	make_file(f, "d/only-here", "");
	make_file(f, "a.log", "");
	make_file(f, "d/b.log", "");
	make_file(f, "d/again.log", "");
	make_file(f, "d/wanted.log", "");
	f->pack.git_ignore = true;
	f->pack.exclude = g;
	there_and_back(f);
	assert_int_equal(f->packed.ignored, 4);
	assert_false(is_in(f, ".git") || is_in(f, "a.log") || is_in(f, "d/b.log"));
	assert_false(is_in(f, "only-here"));
	assert_true(is_in(f, ".gitignore") && is_in(f, "d/only-here"));
	assert_true(is_in(f, "d/again.log") && is_in(f, "d/wanted.log"));
	ignore_free(g);
}

static void those_above_the_tree_are_heeded_too(void **state)
{
	struct fixture *f = *state;
	int root;

	assert_int_equal(mkdirat(f->tree, ".git", 0755), 0);
	assert_int_equal(mkdirat(f->tree, ".git/info", 0755), 0);
	assert_int_equal(mkdirat(f->tree, "src", 0755), 0);
	assert_int_equal(mkdirat(f->tree, "src/sub", 0755), 0);
	make_file(f, ".git/info/exclude", "*.tmp\n");
	make_file(f, ".gitignore", "*.o\n/src/sub/x\n");
	make_file(f, "src/.gitignore", "*.bak\n");
	make_file(f, "src/sub/x", "");
	make_file(f, "src/sub/a.o", "");
	make_file(f, "src/sub/a.tmp", "");
	make_file(f, "src/sub/a.bak", "");
	make_file(f, "src/sub/a", "");
	root = openat(f->tree, "src/sub", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->pack.root = root;
	f->pack.git_ignore = true;
	there_and_back(f);
	assert_int_equal(f->packed.files, 1);
	assert_true(is_in(f, "a"));
	/* What is named is not asked whether it should have been. */
	make_file(f, ".gitignore", "sub/  \n            \n");
	there_and_back(f);
	assert_int_equal(f->packed.files, 5);
	close(root);
}

/* One that fails, and the rest. */

/* "shrinks" in the tree has so many bytes and another name, and is cut once it has begun.
 * Beneath "in" something of that name is there. */
static void make_shrinking(struct fixture *f, off_t size)
{
	make_file(f, "before", "x");
	make_file(f, "shrinks", "");
	assert_int_equal(truncate(leak_path(f->leak, "tree/shrinks"), size), 0);
	int fd = openat(f->tree, "shrinks", O_WRONLY | O_CLOEXEC);
	for (off_t at = size - LARGE; at < size; at += PIECE)
		assert_int_equal(pwrite(fd, f->archive, PIECE, at), PIECE);
	close(fd);
	assert_int_equal(linkat(f->tree, "shrinks", f->tree, "its other name", 0), 0);
	make_file(f, "the end", "y");
	fd = openat(f->in, "shrinks", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	assert_int_equal(write(fd, "old", 3), 3);
	close(fd);
	f->shrinks = "tree/shrinks";
}

static off_t size_in(struct fixture *f, const char *name)
{
	struct stat st;

	return fstatat(f->in, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_size : -1;
}

/* Whichever of its names is read first: the other one is a file of its own then. */
static void check_withdrawn(struct fixture *f)
{
	assert_int_equal(f->err.code, GRPC_ABORTED);
	assert_non_null(strstr(f->err.text, "1 of 4 entries failed"));
	assert_non_null(strstr(f->notes, "it shrank while it was read"));
	assert_true(f->packed.complete);
	assert_int_equal(f->packed.failed, 1);
	if (unpack(f) != 0)
		fail_msg("%s", f->err.text);
	assert_int_equal(f->unpacked.entries, f->packed.entries);
	assert_int_equal(f->unpacked.files, f->packed.files);
	assert_int_equal(f->unpacked.bytes, f->packed.bytes);
	assert_true(is_in(f, "before") && is_in(f, "the end"));
	if (is_in(f, "its other name")) {
		assert_int_equal(size_in(f, "its other name"), 1000);
		assert_int_equal(size_in(f, "shrinks"), 3);
	} else {
		assert_int_equal(size_in(f, "shrinks"), 1000);
	}
	assert_false(is_in(f, ".towline-unpack"));
}

static void what_shrinks_half_way_is_withdrawn(void **state)
{
	struct fixture *f = *state;

	make_shrinking(f, LARGE);
	assert_int_equal(pack(f), -1);
	check_withdrawn(f);
}

static void and_so_if_it_has_holes(void **state)
{
	struct fixture *f = *state;

	make_shrinking(f, 8 * LARGE);
	assert_int_equal(pack(f), -1);
	check_withdrawn(f);
}

/* Zeros are not put in place as a file because the stream breaks before it is withdrawn. */
static void what_might_be_withdrawn_waits(void **state)
{
	struct fixture *f = *state;

	make_shrinking(f, LARGE);
	f->pack.name = "shrinks";
	assert_int_equal(pack(f), -1);
	size_t len = f->len;
	f->breaks = true;
	for (f->len = LARGE; f->len <= len - 1024; f->len += 512) {
		assert_int_equal(unpack(f), -1);
		assert_int_equal(size_in(f, "shrinks"), 3);
		assert_false(is_in(f, ".towline-unpack"));
	}
}

static void what_is_in_the_way_fails_alone(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkdirat(f->tree, "d", 0755), 0);
	make_file(f, "d/f", "x");
	make_file(f, "file", "x");
	make_file(f, "fine", "x");
	assert_int_equal(mkdirat(f->in, "file", 0755), 0);
	close(openat(f->in, "d", O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	assert_int_equal(pack(f), 0);
	assert_int_equal(unpack(f), -1);
	assert_true(f->unpacked.complete);
	assert_int_equal(f->unpacked.failed, 3); /* "file", "d" and what is in it */
	assert_non_null(strstr(f->err.text, "3 of 5 entries failed, the first: "));
	assert_non_null(strstr(f->notes, "failed d/f: "));
	assert_true(is_in(f, "fine"));
}

static void pack_or_not(void *cookie)
{
	struct fixture *f = cookie;

	if (pack(f) != 0) {
		assert_int_equal(f->err.code, GRPC_RESOURCE_EXHAUSTED);
		return;
	}
	if (unpack(f) != 0)
		assert_true(f->err.code != GRPC_OK);
}

static void memory_may_be_short(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkdirat(f->tree, "d", 0755), 0);
	make_file(f, "d/f", "x");
	assert_int_equal(linkat(f->tree, "d/f", f->tree, "g", 0), 0);
	make_file(f, ".gitignore", "*.o\n");
	make_file(f, "x.o", "");
	f->pack.git_ignore = true;
	alloc_torture(pack_or_not, f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(files_of_several_names_stay_one, setup, teardown),
		cmocka_unit_test_setup_teardown(times_are_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(holes_stay_holes, setup, teardown),
		cmocka_unit_test_setup_teardown(a_sparse_file_keeps_its_name, setup, teardown),
		cmocka_unit_test_setup_teardown(holes_are_counted, setup, teardown),
		cmocka_unit_test_setup_teardown(attributes_of_users_are_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(attributes_have_a_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_waits_for_a_pipe, setup, teardown),
		cmocka_unit_test_setup_teardown(links_can_be_followed, setup, teardown),
		cmocka_unit_test_setup_teardown(patterns_leave_out, setup, teardown),
		cmocka_unit_test_setup_teardown(gitignore_files_are_heeded, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    those_above_the_tree_are_heeded_too, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    what_shrinks_half_way_is_withdrawn, setup, teardown),
		cmocka_unit_test_setup_teardown(and_so_if_it_has_holes, setup, teardown),
		cmocka_unit_test_setup_teardown(what_might_be_withdrawn_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_in_the_way_fails_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(memory_may_be_short, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
