/* Names: which are taken, and that those made up are among them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/names.h"

static void test_sandbox(void **state)
{
	static const struct {
		const char *name;
		bool good;
	} cases[] = {
		{ "a", true },
		{ "web-1", true },
		{ "a23456789-123456789", true }, /* 19 */
		{ "a23456789-1234567890", false },
		{ "", false },
		{ "1a", false },
		{ "-a", false },
		{ "Web", false },
		{ "a_b", false },
		{ "a.b", false },
		{ "a/b", false },
		{ "a b", false },
		{ "\xc3\xa4rger", false },
		{ "a\n", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err err = { 0 };
		bool good = names_check_sandbox(cases[i].name, &err) == 0;

		if (good != cases[i].good)
			fail_msg("\"%s\"", cases[i].name);
		assert_int_equal(err.code, good ? GRPC_OK : GRPC_INVALID_ARGUMENT);
		assert_true(good || strlen(err.text) > 0);
	}
}

static void test_workspace(void **state)
{
	char name[NAMES_WORKSPACE_MAX + 2];
	struct err err;

	(void)state;
	memset(name, 'w', sizeof(name));
	name[NAMES_WORKSPACE_MAX] = '\0';
	assert_int_equal(names_check_workspace(name, &err), 0);
	name[NAMES_WORKSPACE_MAX] = 'w';
	name[NAMES_WORKSPACE_MAX + 1] = '\0';
	assert_int_equal(names_check_workspace(name, &err), -1);
	assert_non_null(strstr(err.text, "64 characters"));
}

static void test_generate(void **state)
{
	char name[NAMES_SANDBOX_MAX + 1], last[NAMES_SANDBOX_MAX + 1] = "";
	struct err err;
	int same = 0;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		names_generate(name);
		if (names_check_sandbox(name, &err) != 0)
			fail_msg("%s", err.text);
		same += strcmp(name, last) == 0;
		memcpy(last, name, sizeof(last));
	}
	assert_true(same < 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sandbox),
		cmocka_unit_test(test_workspace),
		cmocka_unit_test(test_generate),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
