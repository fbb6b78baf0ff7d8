/* The data directory: made, locked, and files written whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/datadir.h"
#include "support/leak.h"

static int setup(void **state)
{
	*state = leak_begin();
	return 0;
}

static int teardown(void **state)
{
	return leak_end(*state);
}

/* Whether another process gets the directory; what it hears goes to ${text}. */
static bool another_gets_it(const char *path, char *text, size_t size)
{
	int ends[2], status;
	ssize_t len;
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	child = fork();
	if (child == 0) {
		struct err err = { 0 };
		struct datadir *d = datadir_open(path, &err);

		(void)!write(ends[1], err.text, strlen(err.text));
		datadir_close(d);
		_exit(d != NULL ? 0 : 1);
	}
	close(ends[1]);
	len = read(ends[0], text, size - 1);
	text[len > 0 ? len : 0] = '\0';
	close(ends[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	return status == 0;
}

static void test_lock(void **state)
{
	struct leak *leak = *state;
	const char *path = leak_path(leak, "a/b");
	char text[ERR_TEXT_MAX], pid[32];
	struct datadir *d;
	struct stat st;
	struct err err;

	d = datadir_open(path, &err);
	assert_non_null(d);
	assert_string_equal(datadir_path(d), path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_false(another_gets_it(path, text, sizeof(text)));
	snprintf(pid, sizeof(pid), "process %ld", (long)getpid());
	assert_non_null(strstr(text, pid));
	datadir_close(d);
	assert_true(another_gets_it(path, text, sizeof(text)));
	unlink(leak_path(leak, "a/b/lock"));
	rmdir(path);
	rmdir(leak_path(leak, "a"));
}

/* A child that lives on does not keep the lock. */
static void test_lock_is_the_process_own(void **state)
{
	struct leak *leak = *state;
	const char *path = leak_path(leak, "dir");
	int hold[2], held[2], status;
	char byte, text[ERR_TEXT_MAX];
	pid_t owner;

	assert_int_equal(pipe(hold), 0);
	assert_int_equal(pipe(held), 0);
	owner = fork();
	if (owner == 0) {
		struct err err;

		if (datadir_open(path, &err) == NULL)
			_exit(1);
		if (fork() == 0) {
			close(hold[1]);
			(void)!read(hold[0], &byte, 1); /* with all descriptors, until the end */
			_exit(0);
		}
		(void)!write(held[1], "x", 1);
		_exit(0);
	}
	assert_int_equal(read(held[0], &byte, 1), 1);
	assert_int_equal(waitpid(owner, &status, 0), owner);
	assert_int_equal(status, 0);
	assert_true(another_gets_it(path, text, sizeof(text)));
	close(hold[0]);
	close(hold[1]);
	close(held[0]);
	close(held[1]);
	unlink(leak_path(leak, "dir/lock"));
	rmdir(path);
}

static void test_in_the_way(void **state)
{
	struct leak *leak = *state;
	const char *path = leak_path(leak, "file");
	struct err err;

	assert_int_equal(datadir_write_file(path, "x", &err), 0);
	assert_null(datadir_open(leak_path(leak, "file/dir"), &err));
	assert_null(datadir_open("", &err));
	assert_null(datadir_open(path, &err));
	unlink(path);
}

static void test_write_file(void **state)
{
	struct leak *leak = *state;
	const char *path = leak_path(leak, "ready");
	char text[64] = "";
	struct err err;
	FILE *file;

	assert_int_equal(datadir_write_file(path, "old", &err), 0);
	assert_int_equal(datadir_write_file(path, "{\"a\":1}\n", &err), 0);
	file = fopen(path, "r");
	assert_non_null(fgets(text, sizeof(text), file));
	fclose(file);
	assert_string_equal(text, "{\"a\":1}\n");
	unlink(path);
	assert_int_equal(datadir_write_file(leak_path(leak, "none/ready"), "x", &err), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_lock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lock_is_the_process_own, setup, teardown),
		cmocka_unit_test_setup_teardown(test_in_the_way, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write_file, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
