/* The sandbox that was used last. */
#include "cli/names.h"

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

static void live_in(struct leak *leak)
{
	setenv("XDG_CONFIG_HOME", leak_path(leak, "config"), 1);
	setenv("XDG_STATE_HOME", leak_path(leak, "state"), 1);
}

static void remove_all(struct leak *leak)
{
	static const char *const folders[] = { "config/openshell/gateways/g",
		"config/openshell/gateways", "config/openshell", "config",
		"state/openshell/endpoints/http_127.0.0.1_1",
		"state/openshell/endpoints/unix_run_x_..", "state/openshell/endpoints",
		"state/openshell", "state" };

	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		rmdir(leak_path(leak, folders[i]));
}

static void expect_last(const struct names *n, const char *want)
{
	struct err err = { 0 };
	char *last = names_last(n, &err);

	if (want == NULL) {
		assert_null(last);
		assert_int_equal(err.code, GRPC_NOT_FOUND);
		return;
	}
	assert_non_null(last);
	assert_string_equal(last, want);
	free(last);
}

static void test_of_each_gateway_and_workspace(void **state)
{
	const struct names all[] = {
		{ .gateway = "g", .endpoint = "http://127.0.0.1:1" },
		{ .gateway = "g", .endpoint = "http://127.0.0.1:1", .workspace = "team" },
		{ .endpoint = "http://127.0.0.1:1" },
		{ .endpoint = "unix:/run/x/.." },
	};
	static const char *const box[] = { "a", "b", "c", "d" };

	live_in(*state);
	for (size_t i = 0; i < 4; i++)
		expect_last(&all[i], NULL);
	for (size_t i = 0; i < 4; i++)
		names_remember(&all[i], box[i]);
	for (size_t i = 0; i < 4; i++)
		expect_last(&all[i], box[i]);
	for (size_t i = 0; i < 4; i++) {
		names_forget(&all[i], "other");
		expect_last(&all[i], box[i]);
		names_forget(&all[i], box[i]);
		expect_last(&all[i], NULL);
	}
	remove_all(*state);
}

static void test_the_default_workspace_has_one_name(void **state)
{
	const struct names plain = { .gateway = "g" };
	const struct names named = { .gateway = "g", .workspace = "default" };

	live_in(*state);
	names_remember(&plain, "box");
	expect_last(&named, "box");
	names_remember(&named, "other");
	expect_last(&plain, "other");
	names_forget(&plain, "other");
	remove_all(*state);
}

/* OpenShell's tools end the line. */
static void test_written_by_others(void **state)
{
	const struct names n = { .gateway = "g" };
	const char *path = leak_path(*state, "config/openshell/gateways/g/last_sandbox");
	FILE *f;

	live_in(*state);
	names_remember(&n, "x");
	f = fopen(path, "w");
	assert_non_null(f);
	fputs("theirs\n", f);
	fclose(f);
	expect_last(&n, "theirs");
	names_forget(&n, "theirs");
	remove_all(*state);
}

static void test_without_a_home(void **state)
{
	const struct names n = { .gateway = "g" };

	(void)state;
	unsetenv("XDG_CONFIG_HOME");
	unsetenv("XDG_STATE_HOME");
	unsetenv("HOME");
	names_remember(&n, "x");
	expect_last(&n, NULL);
	names_forget(&n, "x");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_of_each_gateway_and_workspace, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_the_default_workspace_has_one_name, setup, teardown),
		cmocka_unit_test_setup_teardown(test_written_by_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_without_a_home, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
