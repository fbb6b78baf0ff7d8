/* Paths that must not leave their directory. */
#include "base/beneath.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "garden.h"

#define NOBODY 65534

static const enum beneath_links all_links[] = { BENEATH_FOLLOW, BENEATH_IN_ROOT, BENEATH_NO_LINKS };

static const char *repeat(char c, size_t n)
{
	static char text[8192];

	memset(text, c, n);
	text[n] = '\0';
	return text;
}

static void test_check(void **state)
{
	struct err e = { 0 };

	(void)state;
	assert_int_equal(beneath_check("a/../b", 6, &e), 0);
	assert_int_equal(beneath_check("", 0, &e), -1);
	assert_string_equal(e.text, "an empty path");
	assert_int_equal(beneath_check("a\0b", 3, &e), -1);
	assert_int_equal(e.code, GRPC_INVALID_ARGUMENT);
	assert_string_equal(e.text, "a path with a NUL in it");
	assert_int_equal(beneath_check("a", 2, &e), -1);
	assert_int_equal(beneath_check(repeat('x', 4095), 4095, &e), 0);
	assert_int_equal(beneath_check(repeat('x', 4096), 4096, &e), -1);
	assert_int_equal(beneath_check(repeat('x', 5000), 5000, &e), -1);
	assert_int_equal(e.code, GRPC_INVALID_ARGUMENT);
	assert_string_equal(e.text,
	    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...: a path of 5000 bytes; 4095 are the "
	    "most");
}

static void test_root(void **state)
{
	static const struct {
		const char *path;
		int fd;
		const char *rest;
	} rows[] = {
		{ "a/b", 1, "a/b" },
		{ "", 1, "." },
		{ "../x", 1, "../x" },
		{ "/", 2, "." },
		{ "///", 2, "." },
		{ "/a", 2, "a" },
		{ "//a//b/", 2, "a//b/" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *rest = NULL;

		assert_int_equal(beneath_root(1, 2, rows[i].path, &rest), rows[i].fd);
		assert_string_equal(rest, rows[i].rest);
	}
}

/* What is within can be reached, by links as far as they are followed. */
static void test_reaches_what_is_within(void **state)
{
	static const struct {
		const char *path;
		bool without_links;
	} rows[] = {
		{ "file", true },
		{ "./file", true },
		{ "a//file", true },
		{ "a/../file", true },
		{ "a/../a/./../file", true },
		{ "to_file", false },
		{ "to_a/file", false },
		{ "a/to_top", false },
		{ "to_a/to_top", false },
	};
	struct garden *g = *state;
	struct err e = { 0 };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (size_t l = 0; l < 3; l++) {
			bool may = rows[i].without_links || all_links[l] != BENEATH_NO_LINKS;
			int fd = beneath_open(g->root, rows[i].path, O_RDONLY, 0, all_links[l], &e);

			assert_int_equal(fd >= 0, may);
			if (may)
				assert_true(garden_is_inside(fd));
			else
				assert_int_equal(e.code, GRPC_FAILED_PRECONDITION);
		}
	}
}

/* Each way out, and the code for it: with links followed, with "/" the root, and without links. */
static void test_nothing_leads_out(void **state)
{
	static const struct {
		const char *path;
		enum grpc_code codes[3];
	} rows[] = {
		{ "..", { GRPC_PERMISSION_DENIED, GRPC_OK, GRPC_PERMISSION_DENIED } },
		{ "../out/secret",
		    { GRPC_PERMISSION_DENIED, GRPC_FAILED_PRECONDITION, GRPC_PERMISSION_DENIED } },
		{ "a/../../out/secret",
		    { GRPC_PERMISSION_DENIED, GRPC_FAILED_PRECONDITION, GRPC_PERMISSION_DENIED } },
		{ "../in/file",
		    { GRPC_PERMISSION_DENIED, GRPC_NOT_FOUND, GRPC_PERMISSION_DENIED } },
		{ "/etc/passwd",
		    { GRPC_PERMISSION_DENIED, GRPC_NOT_FOUND, GRPC_PERMISSION_DENIED } },
		{ "out",
		    { GRPC_PERMISSION_DENIED, GRPC_FAILED_PRECONDITION,
			GRPC_FAILED_PRECONDITION } },
		{ "out/secret",
		    { GRPC_PERMISSION_DENIED, GRPC_FAILED_PRECONDITION,
			GRPC_FAILED_PRECONDITION } },
		{ "a/out/secret",
		    { GRPC_PERMISSION_DENIED, GRPC_FAILED_PRECONDITION,
			GRPC_FAILED_PRECONDITION } },
		{ "hop/secret",
		    { GRPC_PERMISSION_DENIED, GRPC_FAILED_PRECONDITION,
			GRPC_FAILED_PRECONDITION } },
		{ "absolute",
		    { GRPC_PERMISSION_DENIED, GRPC_NOT_FOUND, GRPC_FAILED_PRECONDITION } },
		{ "self",
		    { GRPC_FAILED_PRECONDITION, GRPC_FAILED_PRECONDITION,
			GRPC_FAILED_PRECONDITION } },
		{ "to_nothing", { GRPC_NOT_FOUND, GRPC_NOT_FOUND, GRPC_FAILED_PRECONDITION } },
		{ "file/..",
		    { GRPC_FAILED_PRECONDITION, GRPC_FAILED_PRECONDITION,
			GRPC_FAILED_PRECONDITION } },
	};
	struct garden *g = *state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (size_t l = 0; l < 3; l++) {
			struct err e = { 0 };
			struct stat st;
			int fd = beneath_open(g->root, rows[i].path, O_RDONLY, 0, all_links[l], &e);

			assert_int_equal(e.code, rows[i].codes[l]);
			assert_int_equal(fd >= 0, e.code == GRPC_OK);
			if (fd >= 0)
				close(fd);
			else
				assert_non_null(strstr(e.text, rows[i].path));
			/* Of a last name that is a link, a look at it is allowed. */
			bool look = all_links[l] == BENEATH_NO_LINKS &&
			    garden_has(g, rows[i].path) && e.code == GRPC_FAILED_PRECONDITION &&
			    strchr(rows[i].path, '/') == NULL;
			assert_int_equal(beneath_stat(g->root, rows[i].path, &st, all_links[l], &e),
			    fd >= 0 || look ? 0 : -1);
			assert_true(!look || S_ISLNK(st.st_mode));
		}
	}
}

/* Beneath "/" as the root ".." stays there, and an absolute link begins there. */
static void test_a_root_is_its_own_parent(void **state)
{
	struct garden *g = *state;
	struct err e;

	assert_int_equal(symlinkat("/a/file", g->root, "rooted"), 0);
	assert_int_equal(symlinkat("/../../file", g->root, "rooted_up"), 0);
	assert_true(garden_is_inside(
	    beneath_open(g->root, "../../file", O_RDONLY, 0, BENEATH_IN_ROOT, &e)));
	assert_true(garden_is_inside(
	    beneath_open(g->root, "a/../../a/file", O_RDONLY, 0, BENEATH_IN_ROOT, &e)));
	assert_true(
	    garden_is_inside(beneath_open(g->root, "rooted", O_RDONLY, 0, BENEATH_IN_ROOT, &e)));
	assert_true(
	    garden_is_inside(beneath_open(g->root, "rooted_up", O_RDONLY, 0, BENEATH_IN_ROOT, &e)));
}

/* The links of /proc that lead to what they name without a path. */
static void test_magic_links(void **state)
{
	static const char *const paths[] = { "root/etc/passwd", "cwd", "exe", "fd/0", "root" };
	int proc = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		for (size_t l = 0; l < 3; l++) {
			int fd = beneath_open(proc, paths[i], O_RDONLY, 0, all_links[l], &e);

			assert_int_equal(fd, -1);
			assert_int_equal(e.code, GRPC_FAILED_PRECONDITION);
		}
	}
	close(proc);
}

static void test_one_mount(void **state)
{
	struct err e = { 0 };
	int slash = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	assert_int_equal(beneath_open(slash, "proc/self", O_PATH, 0, BENEATH_ONE_MOUNT, &e), -1);
	assert_int_equal(e.code, GRPC_FAILED_PRECONDITION);
	assert_string_equal(e.text, "proc/self: another file system is mounted there");
	int fd = beneath_open(slash, "etc", O_PATH, 0, BENEATH_ONE_MOUNT, &e);
	assert_true(fd >= 0);
	close(fd);
	close(slash);
}

static void test_long_names(void **state)
{
	struct garden *g = *state;
	const char *names[] = { "", NULL };
	char long_name[5001], deep[4096], last[BENEATH_NAME_MAX];
	struct stat st;
	struct err e;

	memcpy(long_name, repeat('n', 5000), 5001);
	for (size_t i = 0; i + 2 < sizeof(deep); i += 2)
		memcpy(deep + i, "./", 3);
	names[1] = long_name;
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(
		    beneath_open(g->root, names[i], O_RDONLY, 0, BENEATH_FOLLOW, &e), -1);
		assert_int_equal(e.code, GRPC_INVALID_ARGUMENT);
		assert_int_equal(beneath_stat(g->root, names[i], &st, BENEATH_FOLLOW, &e), -1);
		assert_int_equal(e.code, GRPC_INVALID_ARGUMENT);
		assert_int_equal(beneath_mkdir(g->root, names[i], 0700, BENEATH_FOLLOW, &e), -1);
		assert_int_equal(e.code, GRPC_INVALID_ARGUMENT);
		assert_int_equal(
		    beneath_parent(g->root, names[i], true, BENEATH_FOLLOW, last, &e), -1);
		assert_int_equal(e.code, GRPC_INVALID_ARGUMENT);
		assert_int_equal(beneath_remove_tree(g->root, names[i], &e), -1);
		assert_int_equal(e.code, GRPC_INVALID_ARGUMENT);
	}
	/* A name of 255 bytes may be, one of 256 may not, wherever it stands. */
	long_name[255] = '\0';
	int fd = beneath_open(g->root, long_name, O_RDWR | O_CREAT, 0600, BENEATH_FOLLOW, &e);
	assert_true(fd >= 0);
	close(fd);
	fd = beneath_parent(g->root, long_name, false, BENEATH_FOLLOW, last, &e);
	assert_string_equal(last, long_name);
	close(fd);
	assert_int_equal(beneath_remove_tree(g->root, long_name, &e), 0);
	long_name[255] = 'n';
	long_name[256] = '\0';
	assert_int_equal(
	    beneath_open(g->root, long_name, O_RDWR | O_CREAT, 0600, BENEATH_FOLLOW, &e), -1);
	assert_int_equal(e.code, GRPC_INVALID_ARGUMENT);
	assert_int_equal(beneath_parent(g->root, long_name, false, BENEATH_FOLLOW, last, &e), -1);
	assert_int_equal(e.code, GRPC_INVALID_ARGUMENT);
	assert_int_equal(beneath_mkdir(g->root, long_name, 0700, BENEATH_FOLLOW, &e), -1);
	assert_int_equal(e.code, GRPC_INVALID_ARGUMENT);
	/* A path of 4,094 bytes is one; it has too many components for directories to be made. */
	fd = beneath_open(g->root, deep, O_PATH, 0, BENEATH_NO_LINKS, &e);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(beneath_mkdir(g->root, deep, 0700, BENEATH_FOLLOW, &e), -1);
	assert_non_null(strstr(e.text, "./...: more than 512 directories deep"));
}

static void test_open_creates(void **state)
{
	struct garden *g = *state;
	struct stat st;
	struct err e;
	int fd =
	    beneath_open(g->root, "a/new", O_WRONLY | O_CREAT | O_EXCL, 0640, BENEATH_FOLLOW, &e);

	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	close(fd);
	assert_int_equal(
	    beneath_open(g->root, "a/new", O_WRONLY | O_CREAT | O_EXCL, 0640, BENEATH_FOLLOW, &e),
	    -1);
	assert_int_equal(e.code, GRPC_ALREADY_EXISTS);
	/* By a link to nothing within, but never through one that leads out. */
	fd = beneath_open(g->root, "to_nothing", O_WRONLY | O_CREAT, 0600, BENEATH_FOLLOW, &e);
	assert_true(fd >= 0);
	close(fd);
	assert_true(garden_has(g, "nothing"));
	assert_int_equal(symlinkat("../out/new", g->root, "new"), 0);
	for (size_t l = 0; l < 3; l++) {
		assert_int_equal(
		    beneath_open(g->root, "new", O_WRONLY | O_CREAT, 0600, all_links[l], &e), -1);
		assert_int_equal(
		    beneath_open(g->root, "out/new", O_WRONLY | O_CREAT, 0600, all_links[l], &e),
		    -1);
		assert_int_equal(
		    beneath_open(g->root, "out/secret", O_WRONLY | O_TRUNC, 0, all_links[l], &e),
		    -1);
	}
}

static void test_parent(void **state)
{
	static const struct {
		const char *path, *last;
		enum grpc_code code;
	} rows[] = {
		{ "file", "file", GRPC_OK },
		{ "a/file", "file", GRPC_OK },
		{ "a/none///", "none", GRPC_OK },
		{ "to_a/x", "x", GRPC_OK },
		{ "a/../x", "x", GRPC_OK },
		{ "a/..x", "..x", GRPC_OK },
		{ ".", NULL, GRPC_INVALID_ARGUMENT },
		{ "..", NULL, GRPC_INVALID_ARGUMENT },
		{ "/", NULL, GRPC_INVALID_ARGUMENT },
		{ "a/.", NULL, GRPC_INVALID_ARGUMENT },
		{ "a/..", NULL, GRPC_INVALID_ARGUMENT },
		{ "a/../", NULL, GRPC_INVALID_ARGUMENT },
		{ "none/x", NULL, GRPC_NOT_FOUND },
		{ "file/x", NULL, GRPC_FAILED_PRECONDITION },
		{ "../x", NULL, GRPC_PERMISSION_DENIED },
		{ "/x", NULL, GRPC_PERMISSION_DENIED },
		{ "out/x", NULL, GRPC_PERMISSION_DENIED },
		{ "hop/x", NULL, GRPC_PERMISSION_DENIED },
	};
	struct garden *g = *state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char last[BENEATH_NAME_MAX];
		struct err e = { 0 };
		int fd = beneath_parent(g->root, rows[i].path, false, BENEATH_FOLLOW, last, &e);

		assert_int_equal(e.code, rows[i].code);
		assert_int_equal(fd >= 0, e.code == GRPC_OK);
		if (fd < 0)
			continue;
		assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
		assert_string_equal(last, rows[i].last);
		close(fd);
	}
}

static void test_parents_are_made(void **state)
{
	struct garden *g = *state;
	char last[BENEATH_NAME_MAX];
	struct stat st;
	struct err e;
	int fd = beneath_parent(g->root, "x/y/z", true, BENEATH_NO_LINKS, last, &e);

	assert_true(fd >= 0);
	assert_int_equal(mkdirat(fd, last, 0700), 0);
	close(fd);
	assert_int_equal(beneath_stat(g->root, "x/y/z", &st, BENEATH_NO_LINKS, &e), 0);
	assert_int_equal(beneath_parent(g->root, "out/y/z", true, BENEATH_FOLLOW, last, &e), -1);
	assert_int_equal(e.code, GRPC_PERMISSION_DENIED);
	assert_int_equal(beneath_parent(g->root, "file/y/z", true, BENEATH_FOLLOW, last, &e), -1);
	assert_int_equal(e.code, GRPC_FAILED_PRECONDITION);
}

static void test_mkdir(void **state)
{
	static const struct {
		const char *path;
		enum grpc_code code;
		const char *made;
	} rows[] = {
		{ "x", GRPC_OK, "x" },
		{ "x", GRPC_OK, "x" },
		{ "x/y//z/", GRPC_OK, "x/y/z" },
		{ "to_a/b", GRPC_OK, "a/b" },
		{ "x/../w", GRPC_OK, "w" },
		{ ".", GRPC_OK, "." },
		{ "none/../v", GRPC_OK, "v" },
		{ "../x", GRPC_PERMISSION_DENIED, NULL },
		{ "/x", GRPC_PERMISSION_DENIED, NULL },
		{ "out/x", GRPC_PERMISSION_DENIED, NULL },
		{ "a/out/x/y", GRPC_PERMISSION_DENIED, NULL },
		{ "x/../../out/x", GRPC_PERMISSION_DENIED, NULL },
		{ "file", GRPC_FAILED_PRECONDITION, NULL },
		{ "file/x", GRPC_FAILED_PRECONDITION, NULL },
		{ "self/x", GRPC_FAILED_PRECONDITION, NULL },
		{ "to_nothing", GRPC_NOT_FOUND, NULL },
	};
	struct garden *g = *state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err e = { 0 };
		int r = beneath_mkdir(g->root, rows[i].path, 0750, BENEATH_FOLLOW, &e);

		assert_int_equal(e.code, rows[i].code);
		assert_int_equal(r, e.code == GRPC_OK ? 0 : -1);
		if (r == 0)
			assert_true(garden_has(g, rows[i].made));
		else
			assert_non_null(strstr(e.text, rows[i].path));
	}
	assert_false(garden_has(g, "nothing"));
}

static void test_stat(void **state)
{
	struct garden *g = *state;
	struct stat st;
	struct err e;

	assert_int_equal(beneath_stat(g->root, "to_file", &st, BENEATH_FOLLOW, &e), 0);
	assert_true(S_ISREG(st.st_mode) && st.st_size == 6);
	assert_int_equal(beneath_stat(g->root, "to_file", &st, BENEATH_NO_LINKS, &e), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(beneath_stat(g->root, "to_a/file", &st, BENEATH_NO_LINKS, &e), -1);
	assert_int_equal(beneath_stat(g->root, "none", &st, BENEATH_FOLLOW, &e), -1);
	assert_string_equal(e.text, "none: No such file or directory");
}

static void test_remove_tree(void **state)
{
	struct garden *g = *state;
	struct err e;

	assert_int_equal(beneath_remove_tree(g->root, "to_a", &e), 0); /* the link */
	assert_false(garden_has(g, "to_a"));
	assert_int_equal(beneath_remove_tree(g->root, "out", &e), 0);
	assert_int_equal(beneath_remove_tree(g->root, "a", &e), 0); /* with links to outside */
	assert_false(garden_has(g, "a"));
	assert_int_equal(beneath_remove_tree(g->root, "a", &e), 0);
	assert_int_equal(beneath_remove_tree(g->root, "none/a", &e), 0);
	assert_int_equal(beneath_remove_tree(g->root, "file", &e), 0);
	assert_false(garden_has(g, "file"));
}

static void test_remove_tree_refuses(void **state)
{
	static const struct {
		const char *path;
		enum grpc_code code;
	} rows[] = {
		{ ".", GRPC_INVALID_ARGUMENT },
		{ "..", GRPC_INVALID_ARGUMENT },
		{ "a/..", GRPC_INVALID_ARGUMENT },
		{ "/", GRPC_INVALID_ARGUMENT },
		{ "../out", GRPC_PERMISSION_DENIED },
		{ "/etc", GRPC_PERMISSION_DENIED },
		{ "out/secret", GRPC_FAILED_PRECONDITION },
		{ "to_a/file", GRPC_FAILED_PRECONDITION },
	};
	struct garden *g = *state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err e = { 0 };

		assert_int_equal(beneath_remove_tree(g->root, rows[i].path, &e), -1);
		assert_int_equal(e.code, rows[i].code);
		assert_int_equal(beneath_remove_tree(g->root, rows[i].path, NULL), -1);
	}
	assert_true(garden_has(g, "a/file"));
}

static void make_deep(int root, unsigned depth)
{
	int fd = dup(root);

	for (unsigned i = 0; i < depth; i++) {
		int next;

		assert_int_equal(mkdirat(fd, "d", 0700), 0);
		next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(fd);
		fd = next;
	}
	close(fd);
}

/* Deeper than there are descriptors, and than a path can be long; with names in it that the
 * removal might want for itself. */
static void test_remove_deep_tree(void **state)
{
	struct garden *g = *state;
	struct rlimit old, few;
	struct err e;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	make_deep(g->root, 3000);
	assert_int_equal(beneath_mkdir(g->root, "d/.removed-0/x", 0700, BENEATH_FOLLOW, &e), 0);
	assert_int_equal(linkat(g->root, "file", g->root, "d/.removed-1", 0), 0);
	few = (struct rlimit){ .rlim_cur = 64, .rlim_max = old.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	int r = beneath_remove_tree(g->root, "d", &e);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(r, 0);
	assert_false(garden_has(g, "d"));
	assert_true(garden_has(g, "file"));
}

/* Modes do not stop the owner, who need not be root. In a process of its own. */
static int remove_as_nobody(const struct garden *g)
{
	struct err e;

	if (geteuid() == 0 &&
	    (setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0))
		return 1;
	if (mkdirat(g->root, "m", 0700) != 0 || mkdirat(g->root, "m/x", 0700) != 0 ||
	    mkdirat(g->root, "m/x/y", 0) != 0 || mkdirat(g->root, "m/r", 0) != 0 ||
	    symlinkat("../../out", g->root, "m/x/out") != 0 ||
	    fchmodat(g->root, "m/x", 0500, 0) != 0 || fchmodat(g->root, "m", 0, 0) != 0)
		return 2;
	return beneath_remove_tree(g->root, "m", &e) == 0 ? 0 : 3;
}

static void test_remove_what_is_closed(void **state)
{
	struct garden *g = *state;
	int status;

	assert_int_equal(geteuid() != 0 || fchown(g->root, NOBODY, NOBODY) == 0, 1);
	pid_t child = fork();
	if (child == 0)
		_exit(remove_as_nobody(g));
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_false(garden_has(g, "m"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		garden_test(test_check),
		garden_test(test_root),
		garden_test(test_reaches_what_is_within),
		garden_test(test_nothing_leads_out),
		garden_test(test_a_root_is_its_own_parent),
		garden_test(test_magic_links),
		garden_test(test_one_mount),
		garden_test(test_long_names),
		garden_test(test_open_creates),
		garden_test(test_parent),
		garden_test(test_parents_are_made),
		garden_test(test_mkdir),
		garden_test(test_stat),
		garden_test(test_remove_tree),
		garden_test(test_remove_tree_refuses),
		garden_test(test_remove_deep_tree),
		garden_test(test_remove_what_is_closed),
	};

	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
