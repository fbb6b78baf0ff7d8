/* KEY=VALUE, again and again. */
#include "cli/pairs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static void test_good(void **state)
{
	const struct config_list_value list = {
		.item = { (char *)"A=1", (char *)"B=", (char *)"C=x=y", (char *)"d e=\n" },
		.count = 4
	};
	static const char *const keys[] = { "A", "B", "C", "d e" };
	static const char *const values[] = { "1", "", "x=y", "\n" };
	struct err err = { 0 };
	struct pairs p;

	(void)state;
	assert_int_equal(pairs_parse(&p, &list, "--env", &err), 0);
	assert_int_equal(p.count, 4);
	for (size_t i = 0; i < p.count; i++) {
		assert_string_equal(p.key[i], keys[i]);
		assert_string_equal(p.value[i], values[i]);
	}
	pairs_free(&p);
	assert_int_equal(p.count, 0);
	pairs_free(&p);
}

static void test_bad(void **state)
{
	static const char *const bad[] = { "", "=", "=x", "novalue" };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const struct config_list_value list = { .item = { (char *)"OK=1", (char *)bad[i] },
			.count = 2 };
		struct err err = { 0 };
		struct pairs p;

		assert_int_equal(pairs_parse(&p, &list, "--env", &err), -1);
		assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
		assert_non_null(strstr(err.text, "--env"));
		assert_non_null(strstr(err.text, bad[i]));
		pairs_free(&p);
	}
}

static void test_as_many_as_options_can_be(void **state)
{
	struct config_list_value list = { .count = CONFIG_LIST_MAX };
	struct err err = { 0 };
	struct pairs p;

	(void)state;
	for (size_t i = 0; i < CONFIG_LIST_MAX; i++)
		list.item[i] = (char *)"K=V";
	assert_int_equal(pairs_parse(&p, &list, "--env", &err), 0);
	assert_int_equal(p.count, CONFIG_LIST_MAX);
	pairs_free(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_good, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad, setup, teardown),
		cmocka_unit_test_setup_teardown(test_as_many_as_options_can_be, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
