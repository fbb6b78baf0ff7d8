/* How far it is looked for what transfers have left. */
#include "transfer/sweep.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/beneath.h"
#include "support/leak.h"

#define EXPIRY_MS 1000
#define PART      ".f.towline-%08x" /* of an upload that cannot be resumed */

struct fixture {
	struct leak *leak;
	int workdir;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->leak = leak_begin();
	f->workdir = open(leak_folder(f->leak), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return f->workdir >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	struct err err;

	assert_int_equal(beneath_remove_tree(f->workdir, "d", &err), 0);
	close(f->workdir);
	int r = leak_end(f->leak);
	free(f);
	return r;
}

static int make_directory(int parent, const char *name)
{
	assert_int_equal(mkdirat(parent, name, 0700), 0);
	return openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void make_part(int dir, unsigned number)
{
	const struct timespec long_ago[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
	char name[64];

	snprintf(name, sizeof(name), PART, number);
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(futimens(fd, long_ago), 0);
	close(fd);
}

static size_t sweep(struct fixture *f, size_t entries)
{
	return sweep_tree(f->workdir, EXPIRY_MS, 0, entries);
}

/* "." and ".." are entries too. */
static void entries_of_a_directory(void **state)
{
	struct fixture *f = *state;
	int d = make_directory(f->workdir, "d");

	for (unsigned i = 0; i < SWEEP_DIRECTORY_MAX + 10; i++)
		make_part(d, i);
	assert_in_range(
	    sweep_directory(d, EXPIRY_MS, 0), SWEEP_DIRECTORY_MAX - 2, SWEEP_DIRECTORY_MAX);
	assert_in_range(sweep_directory(d, EXPIRY_MS, 0), 10, 12);
	assert_int_equal(sweep_directory(d, EXPIRY_MS, 0), 0);
	close(d);
}

/* What is used up in a directory is so in those above it. */
static void entries_of_a_tree(void **state)
{
	struct fixture *f = *state;
	size_t found;
	int d = make_directory(f->workdir, "d");

	for (unsigned i = 0; i < 10; i++) {
		char name[8];
		snprintf(name, sizeof(name), "e%u", i);
		int e = make_directory(d, name);
		for (unsigned j = 0; j < 10; j++)
			make_part(e, j);
		close(e);
	}
	close(d);
	/* Three directories' "." and "..", and of the last as much as is left. */
	found = sweep(f, 24);
	assert_in_range(found, 1, 24);
	assert_int_equal(sweep(f, SWEEP_TREE_MAX), 100 - found);
}

static void directories_in_each_other(void **state)
{
	struct fixture *f = *state;
	int dir = make_directory(f->workdir, "d");

	/* "d" is the first below; the last of them is looked into, and the next is not. */
	for (unsigned depth = 1; depth <= SWEEP_DEPTH_MAX + 1; depth++) {
		make_part(dir, 0);
		int next = make_directory(dir, "d");
		close(dir);
		dir = next;
	}
	close(dir);
	assert_int_equal(sweep(f, SWEEP_TREE_MAX), SWEEP_DEPTH_MAX);
	assert_int_equal(sweep(f, SWEEP_TREE_MAX), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(entries_of_a_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(entries_of_a_tree, setup, teardown),
		cmocka_unit_test_setup_teardown(directories_in_each_other, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
