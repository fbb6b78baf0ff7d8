/* Names and ids, workspaces, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/directory.h"

#define A "11111111-1111-4111-8111-111111111111"
#define B "22222222-2222-4222-8222-222222222222"

static const struct err let_in = { 0 };
static const struct err stopped = { .code = GRPC_FAILED_PRECONDITION, .text = "it is STOPPED" };

static int setup(void **state)
{
	struct err err;
	struct directory *d = directory_create(&err);

	directory_put(d, A, "default", "web", &let_in, &err);
	directory_put(d, B, "team", "web", &stopped, &err);
	*state = d;
	return 0;
}

static int teardown(void **state)
{
	directory_free(*state);
	return 0;
}

static const char *resolve(struct directory *d, const char *sandbox, const char *workspace)
{
	static char id[NAMES_ID_MAX + 1];
	struct err err = { 0 };

	if (directory_resolve(d, sandbox, workspace, id, &err) == 0)
		return id;
	return err_code_name(err.code);
}

static void test_resolve(void **state)
{
	assert_string_equal(resolve(*state, "web", NULL), A);
	assert_string_equal(resolve(*state, "web", "default"), A);
	assert_string_equal(resolve(*state, "web", "team"), B);
	assert_string_equal(resolve(*state, "web", "other"), "NOT_FOUND");
	assert_string_equal(resolve(*state, "api", NULL), "NOT_FOUND");
	/* An id that comes alone is good everywhere; beside a workspace, in that one. */
	assert_string_equal(resolve(*state, A, NULL), A);
	assert_string_equal(resolve(*state, B, NULL), B);
	assert_string_equal(resolve(*state, B, "team"), B);
	assert_string_equal(resolve(*state, B, "default"), "NOT_FOUND");
	assert_string_equal(resolve(*state, "", NULL), "INVALID_ARGUMENT");
	assert_string_equal(resolve(*state, "team/web", NULL), "NOT_FOUND");
}

static void test_admit(void **state)
{
	char id[NAMES_ID_MAX + 1];
	struct err err = { 0 };

	assert_int_equal(directory_admit(*state, "web", NULL, id, &err), 0);
	assert_string_equal(id, A);
	assert_int_equal(directory_admit(*state, "web", "team", id, &err), -1);
	assert_int_equal(err.code, GRPC_FAILED_PRECONDITION);
	assert_string_equal(err.text, "it is STOPPED");
	assert_int_equal(directory_put(*state, B, "team", "web", &let_in, &err), 0);
	assert_int_equal(directory_admit(*state, "web", "team", id, &err), 0);
	assert_string_equal(id, B);
}

static void test_remove(void **state)
{
	struct err err;

	directory_remove(*state, A);
	directory_remove(*state, A);
	assert_string_equal(resolve(*state, "web", NULL), "NOT_FOUND");
	assert_string_equal(resolve(*state, A, NULL), "NOT_FOUND");
	assert_string_equal(resolve(*state, "web", "team"), B);
	assert_int_equal(directory_put(*state, A, "default", "web", &let_in, &err), 0);
	assert_string_equal(resolve(*state, "web", NULL), A);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_resolve, setup, teardown),
		cmocka_unit_test_setup_teardown(test_admit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
