/* How many go when many come, and what --startups takes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "sshd/admission.h"

static void test_the_more_there_are_the_likelier_one_goes(void **state)
{
	const struct sshd_limits l = {
		.startups_start = 10, .startups_rate = 30, .startups_full = 110
	};

	(void)state;
	assert_int_equal(admission_drop_rate(&l, 0), 0);
	assert_int_equal(admission_drop_rate(&l, 9), 0);
	assert_int_equal(admission_drop_rate(&l, 10), 30);
	assert_int_equal(admission_drop_rate(&l, 60), 65);
	assert_int_equal(admission_drop_rate(&l, 110), 100);
	assert_int_equal(admission_drop_rate(&l, 100000), 100);
}

static void test_startups(void **state)
{
	static const char *const wrong[] = { "", "10", "10:30",
		"10:30:", "10:30:100:", "10:101:100", "100:30:10", "a:b:c", "10:30:100 ", "0:0:0",
		"-1:30:100" };
	struct sshd_limits l = { 0 };

	(void)state;
	assert_int_equal(admission_parse_startups("10:30:100", &l, NULL), 0);
	assert_int_equal(l.startups_start, 10);
	assert_int_equal(l.startups_rate, 30);
	assert_int_equal(l.startups_full, 100);
	assert_int_equal(admission_parse_startups("5:0:5", &l, NULL), 0);
	assert_int_equal(admission_drop_rate(&l, 5), 100);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct err err = { 0 };

		assert_int_equal(admission_parse_startups(wrong[i], &l, &err), -1);
		assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_more_there_are_the_likelier_one_goes),
		cmocka_unit_test(test_startups),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
