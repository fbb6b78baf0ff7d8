/* Where our files are, and how long paths and small files may be. */
#include "cli/paths.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

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

/* A path of so many bytes. */
static void make_path(char *path, size_t len)
{
	for (size_t i = 0; i < len; i++)
		path[i] = i % 100 == 0 ? '/' : 'p';
	path[len] = '\0';
}

static void is_too_long(int result, const struct err *err)
{
	assert_int_equal(result, -1);
	assert_int_equal(err->code, GRPC_INVALID_ARGUMENT);
	assert_string_equal(err->text, "a path of more than 4095 bytes");
}

static void test_long_paths(void **state)
{
	char dir[PATHS_MAX + 1], out[PATHS_MAX];
	struct err err;

	(void)state;
	make_path(dir, PATHS_MAX - 2 - 1);
	assert_int_equal(paths_join(out, dir, "f", &err), 0);
	assert_int_equal(strlen(out), PATHS_MAX - 1);
	is_too_long(paths_join(out, dir, "ff", &err), &err);
	setenv("XDG_CONFIG_HOME", dir, 1);
	setenv("XDG_STATE_HOME", dir, 1);
	is_too_long(paths_config(out, "f", &err), &err);
	is_too_long(paths_state(out, "f", &err), &err);
	make_path(dir, PATHS_MAX);
	is_too_long(paths_make_folders(dir, 0700, &err), &err);
	is_too_long(paths_write(dir, "text", &err), &err);
}

static void write_file(const char *path, size_t len)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	for (size_t i = 0; i < len; i++)
		fputc('t', f);
	assert_int_equal(fclose(f), 0);
}

/* What does not fit is not taken for all there is: it may be written again. */
static void test_long_files(void **state)
{
	struct leak *leak = *state;
	const char *path = leak_path(leak, "file");
	struct err err;

	write_file(path, PATHS_FILE_MAX);
	char *text = paths_read(path, &err);
	assert_non_null(text);
	assert_int_equal(strlen(text), PATHS_FILE_MAX);
	free(text);
	write_file(path, PATHS_FILE_MAX + 1);
	assert_null(paths_read(path, &err));
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	assert_non_null(strstr(err.text, "has more than 64 KiB"));
	assert_null(paths_read("/dev/zero", &err));
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	assert_null(paths_read(leak_folder(leak), &err));
	assert_null(paths_read(leak_path(leak, "none"), &err));
	assert_int_equal(err.code, GRPC_NOT_FOUND);
	assert_int_equal(unlink(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_long_paths, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_files, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
