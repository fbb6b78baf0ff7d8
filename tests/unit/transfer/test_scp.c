/* The far end of scp -O, told what scp says, and what it answers. */
#include "transfer/sftp/scp.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/beneath.h"
#include "chat.h"
#include "support/alloc.h"
#include "support/leak.h"

struct fixture {
	struct leak *leak;
	struct scp_options options;
	struct chat chat;
	char *paths[4];
};

static struct fixture *fixture;

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->leak = leak_begin();
	f->options.workdir = open(leak_folder(f->leak), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->options.slash = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->options.workdir_path = leak_folder(f->leak);
	f->options.paths = f->paths;
	chat_begin(&f->chat);
	*state = fixture = f;
	return f->options.slash >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
	static const char *const made[] = { "a", "b", "c", "d", "f", "link", "x", "a*", "\n" };
	struct fixture *f = *state;
	struct err err;

	chat_end(&f->chat);
	for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++)
		assert_int_equal(beneath_remove_tree(f->options.workdir, made[i], &err), 0);
	close(f->options.workdir);
	close(f->options.slash);
	int r = leak_end(f->leak);
	free(f);
	return r;
}

/* Says all of it at once; the exit code, or -1. */
static int run(bool sink, const char *path, const void *said, size_t len)
{
	struct fixture *f = fixture;
	struct err err = { 0 };
	int exit_code = -1;

	f->options.sink = sink;
	f->paths[0] = (char *)path;
	f->options.count = 1;
	size_t piece = f->chat.piece;
	chat_end(&f->chat);
	chat_begin(&f->chat);
	f->chat.piece = piece;
	chat_say(&f->chat, said, len);
	if (scp_run(&f->options, &f->chat.talk, &exit_code, &err) != 0 ||
	    talk_flush(&f->chat.talk, &err) != 0) {
		assert_true(err.code != GRPC_OK);
		return -1;
	}
	return exit_code;
}

#define SINK(path, said)   run(true, path, said, sizeof(said) - 1)
#define SOURCE(path, said) run(false, path, said, sizeof(said) - 1)

static void told(const char *bytes, size_t len)
{
	struct chat *c = &fixture->chat;

	if (c->told_len != len || memcmp(c->told, bytes, len) != 0) {
		print_error("told %zu bytes:", c->told_len);
		for (size_t i = 0; i < c->told_len; i++)
			print_error(c->told[i] < 0x20 ? "\\%o" : "%c", c->told[i]);
		fail_msg("not what it should be");
	}
}

#define TOLD(bytes) told(bytes, sizeof(bytes) - 1)

static bool tells(const char *words)
{
	return fixture->chat.told_len > 0 &&
	    memmem(fixture->chat.told, fixture->chat.told_len, words, strlen(words)) != NULL;
}

static void make_file(const char *path, const char *content, mode_t mode)
{
	int fd = openat(fixture->options.workdir, path, O_WRONLY | O_CREAT | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, strlen(content)), (ssize_t)strlen(content));
	close(fd);
}

static bool exists(const char *path)
{
	return faccessat(fixture->options.workdir, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static struct stat file_is(const char *path, const char *content)
{
	char buf[64] = "";
	struct stat st;
	int fd = openat(fixture->options.workdir, path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0); /* reading changes it */
	assert_int_equal(read(fd, buf, sizeof(buf) - 1), (ssize_t)strlen(content));
	assert_string_equal(buf, content);
	close(fd);
	return st;
}

/* Coming. */

static void test_sink_takes_a_file(void **state)
{
	struct stat st;

	(void)state;
	for (size_t piece = 0; piece < 4; piece++) {
		fixture->chat.piece = piece;
		assert_int_equal(SINK("f", "C0775 5 x\nhello\0"), 0);
		TOLD("\0\0\0");
		st = file_is("f", "hello");
		assert_int_equal(st.st_mode & 07777, 0755);
		assert_int_equal(unlinkat(fixture->options.workdir, "f", 0), 0);
	}
	fixture->chat.piece = 0;
	make_file("f", "old", 0600);
	assert_int_equal(SINK("f", "C0775 0 x\n\0"), 0);
	st = file_is("f", "");
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(symlinkat("f", fixture->options.workdir, "link"), 0);
	assert_int_equal(SINK("link", "C0644 2 x\n12\0"), 0);
	st = file_is("f", "12");
	assert_int_equal(st.st_mode & 07777, 0600);
	fixture->options.preserve = true;
	assert_int_equal(SINK("f", "T1000000000 5 7 0\nC6755 1 x\n1\0"), 0);
	TOLD("\0\0\0\0");
	st = file_is("f", "1");
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(st.st_mtim.tv_sec, 1000000000);
	assert_int_equal(st.st_atim.tv_sec, 7);
}

static void test_sink_takes_a_tree(void **state)
{
	(void)state;
	fixture->options.recursive = true;
	assert_int_equal(
	    SINK("d", "D0500 0 x\nC0644 1 a\n1\0D0755 0 sub\nC0644 1 b\n2\0E\nE\n"), 0);
	file_is("d/a", "1");
	struct stat st = file_is("d/sub/b", "2");
	assert_int_equal(fstatat(fixture->options.workdir, "d", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0500);
	/* It is there: into it. */
	assert_int_equal(fchmodat(fixture->options.workdir, "d", 0700, 0), 0);
	assert_int_equal(SINK("d", "D0755 0 x\nC0644 1 a\n3\0E\n"), 0);
	file_is("d/x/a", "3");
}

static void refuses(const char *said, size_t len, const char *words)
{
	assert_int_equal(run(true, "d", said, len), 1);
	if (!tells(words))
		fail_msg("%.*s", (int)fixture->chat.told_len, (char *)fixture->chat.told);
}

#define REFUSES(said, words) refuses(said, sizeof(said) - 1, words)

static void test_sink_refuses(void **state)
{
	char line[2 * SCP_LINE_MAX];

	(void)state;
	assert_int_equal(mkdirat(fixture->options.workdir, "d", 0755), 0);
	fixture->options.recursive = true;
	REFUSES("C0644 1 ../x\n1\0", "unexpected filename");
	REFUSES("C0644 1 ..\n1\0", "unexpected filename");
	REFUSES("C0644 1 .\n1\0", "unexpected filename");
	REFUSES("C0644 1 \n1\0", "unexpected filename");
	REFUSES("C0644 1 a/b\n1\0", "unexpected filename");
	REFUSES("C0644 1 /etc/x\n1\0", "unexpected filename");
	REFUSES("D0755 0 ..\nC0644 1 x\n1\0", "unexpected filename");
	REFUSES("C0644 1 a\033[2J\n1\0", "unexpected filename");
	REFUSES("C0644 1 a\rb\n1\0", "unexpected filename");
	REFUSES("C0844 1 x\n1\0", "bad mode");
	REFUSES("C064 1 x\n1\0", "bad mode");
	REFUSES("C06441 x\n1\0", "mode not delimited");
	REFUSES("C0644 -1 x\n1\0", "bad size");
	REFUSES("C0644 1x\n1\0", "bad size");
	REFUSES("C0644 99999999999999999999 x\n1\0", "bad size");
	REFUSES("C0644 18446744073709551615 x\n1\0", "bad size");
	REFUSES("C0644\n", "mode not delimited");
	REFUSES("T1 0 1\n", "bad times");
	REFUSES("T1 1000000 1 0\n", "bad times");
	REFUSES("T-1 0 1 0\n", "bad times");
	REFUSES("X\n", "expected control record");
	REFUSES("\n", "expected control record");
	memset(line, 'C', sizeof(line));
	refuses(line, sizeof(line), "without an end");
	fixture->options.recursive = false;
	REFUSES("D0755 0 x\nE\n", "without -r");
	fixture->options.directory = true;
	assert_int_equal(SINK("d/missing", "C0644 1 x\n1\0"), 1);
	assert_true(tells("Not a directory"));
	assert_int_equal(SINK("~nobody-here/x", "C0644 1 x\n1\0"), 1);
	assert_true(tells("No such user"));
	assert_int_equal(unlinkat(fixture->options.workdir, "d", AT_REMOVEDIR), 0); /* empty */
}

/* What fails is told, and what comes behind it is taken. */
static void test_sink_goes_on(void **state)
{
	(void)state;
	assert_int_equal(mkdirat(fixture->options.workdir, "d", 0755), 0);
	assert_int_equal(mkdirat(fixture->options.workdir, "d/a", 0755), 0);
	assert_int_equal(mkfifoat(fixture->options.workdir, "d/c", 0600), 0);
	make_file("d/x", "", 0600);
	fixture->options.recursive = true;
	assert_int_equal(SINK("d", "C0644 1 a\nD0755 0 x\nC0644 1 c\nC0644 2 b\n12\0"), 1);
	assert_true(tells("d/a: Is a directory"));
	assert_true(tells("d/x: Not a directory"));
	assert_true(tells("d/c: not a regular file"));
	file_is("d/b", "12");
	/* The other end could not read it: what was there stays. */
	assert_int_equal(SINK("d", "C0644 2 b\n..\1scp: b: Input/output error\nC0644 1 x\n1\0"), 1);
	file_is("d/b", "12");
	file_is("d/x", "1");
	assert_int_equal(SINK("d/missing/f", "C0644 1 b\n"), 1);
	assert_true(tells("\1scp: ") && tells("d/missing"));
}

static void test_depth_has_an_end(void **state)
{
	char said[SCP_DEPTH_MAX * 12 + 1] = "", zeros[4 * SCP_DEPTH_MAX] = { 0 };
	size_t len = 0;

	(void)state;
	fixture->options.recursive = true;
	for (int i = 0; i < SCP_DEPTH_MAX; i++)
		len += (size_t)snprintf(said + len, sizeof(said) - len, "D0755 0 d\n");
	assert_int_equal(run(true, "d", said, len), 1);
	assert_true(tells("directories in 255 others"));
	int deepest = openat(fixture->options.workdir, "d", O_RDONLY | O_CLOEXEC);
	for (int i = 1; i < SCP_DEPTH_MAX; i++) {
		int deeper = openat(deepest, "d", O_RDONLY | O_CLOEXEC);
		close(deepest);
		if ((deepest = deeper) < 0) {
			assert_int_equal(i, SCP_DEPTH_MAX - 1);
			break;
		}
	}
	/* And one deeper, to be sent. */
	char path[2 * SCP_DEPTH_MAX + 2] = "d";
	for (int i = 1; i < SCP_DEPTH_MAX; i++)
		memcpy(path + 2 * i - 1, "/d", 3);
	assert_int_equal(mkdirat(fixture->options.workdir, path, 0755), 0);
	assert_int_equal(run(false, "d", zeros, sizeof(zeros)), 1);
	assert_true(tells("directories in 255 others"));
}

/* Cut anywhere, nothing of the file is there, and no part of it. */
static void test_sink_cut_short(void **state)
{
	static const char said[] = "T1 0 1 0\nC0644 5 x\nhello";

	(void)state;
	for (size_t n = 0; n < sizeof(said); n++) {
		int code = run(true, "f", said, n);
		assert_int_equal(code, n == 0 || n == 9 ? 0 : 1);
		assert_false(exists("f"));
	}
}

/* Going. */

static void test_source_sends_a_file(void **state)
{
	char expected[200];

	(void)state;
	make_file("f", "hello", 0640);
	assert_int_equal(SOURCE("f", "\0\0\0"), 0);
	TOLD("C0640 5 f\nhello\0");
	const struct timespec times[2] = { { .tv_sec = 7 }, { .tv_sec = 1000000000 } };
	assert_int_equal(utimensat(fixture->options.workdir, "f", times, 0), 0);
	fixture->options.preserve = true;
	snprintf(expected, sizeof(expected), "%s//f", fixture->options.workdir_path);
	assert_int_equal(SOURCE(expected, "\0\0\0\0"), 0);
	TOLD("T1000000000 0 7 0\nC0640 5 f\nhello\0");
	/* The other end refuses it. */
	assert_int_equal(SOURCE("f", "\0\0\1no\n"), 1);
	assert_int_equal(SOURCE("f", "\0\2no\n"), 1);
	assert_int_equal(SOURCE("f", "\0"), 1);
	assert_int_equal(SOURCE("f", ""), 1);
}

static void test_source_sends_a_tree(void **state)
{
	(void)state;
	assert_int_equal(mkdirat(fixture->options.workdir, "d", 0700), 0);
	assert_int_equal(mkdirat(fixture->options.workdir, "d/sub", 0755), 0);
	make_file("d/sub/x", "1", 0600);
	assert_int_equal(SOURCE("d", "\0"), 1);
	assert_true(tells("d: not a regular file"));
	fixture->options.recursive = true;
	assert_int_equal(SOURCE("d/", "\0\0\0\0\0\0\0"), 0);
	TOLD("D0700 0 d\nD0755 0 sub\nC0600 1 x\n1\0E\nE\n");
}

static void test_source_goes_on(void **state)
{
	(void)state;
	assert_int_equal(mkdirat(fixture->options.workdir, "d", 0700), 0);
	assert_int_equal(mkfifoat(fixture->options.workdir, "d/fifo", 0600), 0);
	assert_int_equal(symlinkat("nowhere", fixture->options.workdir, "d/dangling"), 0);
	assert_int_equal(symlinkat(".", fixture->options.workdir, "d/loop"), 0);
	make_file("d/new\nline", "1", 0600);
	fixture->options.recursive = true;
	char said[1024] = { 0 };
	assert_int_equal(run(false, "d", said, sizeof(said)), 1);
	assert_true(tells("d/fifo: not a regular file"));
	assert_true(tells("d/dangling: No such file"));
	assert_true(tells("d/new\\x0aline: control characters"));
	assert_true(tells("Too many levels of symbolic links"));
	assert_int_equal(SOURCE("missing", "\0"), 1);
	assert_true(tells("missing: No such file"));
}

static void test_source_expands_patterns(void **state)
{
	(void)state;
	make_file("a", "", 0600);
	make_file("b", "", 0600);
	make_file("a*", "", 0600);
	assert_int_equal(mkdirat(fixture->options.workdir, "d", 0700), 0);
	make_file("d/a1", "", 0600);
	make_file("d/.hidden", "", 0600);
	assert_int_equal(SOURCE("[ab]", "\0\0\0\0\0"), 0);
	TOLD("C0600 0 a\n\0C0600 0 b\n\0");
	assert_int_equal(SOURCE("a\\*", "\0\0\0"), 0);
	TOLD("C0600 0 a*\n\0");
	assert_int_equal(SOURCE("?/*", "\0\0\0"), 0);
	TOLD("C0600 0 a1\n\0");
	assert_int_equal(SOURCE("x*", "\0"), 1);
	assert_true(tells("x*: No such file"));
	make_file("x", "", 0600);
	make_file("f", "", 0600);
	assert_int_equal(
	    renameat(fixture->options.workdir, "f", fixture->options.workdir, "x["), 0);
	assert_int_equal(SOURCE("x[", "\0\0\0"), 0);
	TOLD("C0600 0 x[\n\0");
	assert_int_equal(unlinkat(fixture->options.workdir, "x[", 0), 0);
	setenv("HOME", fixture->options.workdir_path, 1);
	assert_int_equal(SOURCE("~/d/?1", "\0\0\0"), 0);
	TOLD("C0600 0 a1\n\0");
}

/* What is too many for one pattern is not looked at, and that is told. */
static void test_source_expands_no_end_of_names(void **state)
{
	char name[16];

	(void)state;
	assert_int_equal(mkdirat(fixture->options.workdir, "d", 0700), 0);
	int dir = openat(fixture->options.workdir, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned i = 0; i <= SCP_MATCHES_MAX; i++) {
		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(mkfifoat(dir, name, 0600), 0);
	}
	assert_int_equal(SOURCE("d/*/none", "\0"), 1);
	assert_true(tells("d: more names than can be matched"));
	assert_int_equal(unlinkat(dir, "0", 0), 0);
	close(dir);
	assert_int_equal(SOURCE("d/*/none", "\0"), 1);
	assert_true(tells("none: No such file"));
	assert_false(tells("more names"));
}

/* A large file goes in large blocks. */
static void test_source_sends_much(void **state)
{
	(void)state;
	make_file("f", "", 0600);
	assert_int_equal(truncate(leak_path(fixture->leak, "f"), 3000001), 0);
	assert_int_equal(SOURCE("f", "\0\0\0"), 0);
	assert_int_equal(fixture->chat.told_len, strlen("C0600 3000001 f\n") + 3000001 + 1);
	assert_int_equal(fixture->chat.largest, 256 << 10);
}

static void torture(void *cookie)
{
	(void)cookie;
	fixture->options.recursive = fixture->options.preserve = true;
	if (SINK("d", "D0700 0 x\nT1 0 1 0\nC0644 5 a\nhello\0E\n") != 0)
		assert_true(alloc_has_failed());
	if (SOURCE("*", "\0\0\0\0\0\0\0\0\0") != 0)
		assert_true(alloc_has_failed());
	alloc_relent();
	beneath_remove_tree(fixture->options.workdir, "d", NULL);
}

static void test_no_memory(void **state)
{
	(void)state;
	alloc_torture(torture, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sink_takes_a_file),
		TEST(test_sink_takes_a_tree),
		TEST(test_sink_refuses),
		TEST(test_sink_goes_on),
		TEST(test_depth_has_an_end),
		TEST(test_sink_cut_short),
		TEST(test_source_sends_a_file),
		TEST(test_source_sends_a_tree),
		TEST(test_source_goes_on),
		TEST(test_source_expands_patterns),
		TEST(test_source_expands_no_end_of_names),
		TEST(test_source_sends_much),
		TEST(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
