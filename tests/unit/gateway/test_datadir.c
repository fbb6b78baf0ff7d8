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

static void test_lock(void **state)
{
	struct leak *leak = *state;
	const char *path = leak_path(leak, "a/b");
	struct datadir *first, *second;
	struct stat st;
	char pid[32];
	struct err err;

	first = datadir_open(path, &err);
	assert_non_null(first);
	assert_string_equal(datadir_path(first), path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	second = datadir_open(path, &err);
	assert_null(second);
	assert_int_equal(err.code, GRPC_FAILED_PRECONDITION);
	snprintf(pid, sizeof(pid), "process %ld", (long)getpid());
	assert_non_null(strstr(err.text, pid));
	datadir_close(first);
	second = datadir_open(path, &err);
	assert_non_null(second);
	datadir_close(second);
	unlink(leak_path(leak, "a/b/lock"));
	rmdir(path);
	rmdir(leak_path(leak, "a"));
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
		cmocka_unit_test_setup_teardown(test_in_the_way, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write_file, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
