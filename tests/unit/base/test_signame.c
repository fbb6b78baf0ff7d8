/* Signals by name and number. */
#include "base/signame.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_both_ways(void **state)
{
	static const char *const names[] = { "ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL",
		"PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2" };
	char local[32];

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int number = signame_number(names[i]);

		assert_true(number > 0);
		assert_string_equal(signame_of(number, local), names[i]);
	}
	assert_int_equal(signame_number("TERM"), SIGTERM);
}

static void test_what_is_no_name(void **state)
{
	(void)state;
	assert_int_equal(signame_number(""), -1);
	assert_int_equal(signame_number("SIGTERM"), -1);
	assert_int_equal(signame_number("term"), -1);
	assert_int_equal(signame_number("STOP"), -1);
	assert_int_equal(signame_number("15"), -1);
}

static void test_local_names(void **state)
{
	char local[32];

	(void)state;
	assert_string_equal(signame_of(SIGBUS, local), "BUS@towline");
	assert_string_equal(signame_of(SIGXCPU, local), "XCPU@towline");
	assert_string_equal(signame_of(SIGRTMIN + 3, local), "SIG@towline");
	assert_string_equal(signame_of(0, local), "SIG@towline");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_ways),
		cmocka_unit_test(test_what_is_no_name),
		cmocka_unit_test(test_local_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
