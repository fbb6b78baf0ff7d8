/* A process that may have few descriptors, and then many. */
#include "base/descriptors.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

#define FEW  64
#define MANY 100

static void set_limit(rlim_t soft, rlim_t hard)
{
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ soft, hard }), 0);
}

/* How many more there may be, of ${most}. */
static int count_free(int most)
{
	int fds[MANY], count = 0;

	while (count < most && (fds[count] = dup(0)) >= 0)
		count++;
	assert_true(count == most || errno == EMFILE);
	for (int i = 0; i < count; i++)
		close(fds[i]);
	return count;
}

static void test_allow(void **state)
{
	struct rlimit before;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	set_limit(FEW, before.rlim_max);
	assert_in_range(count_free(MANY), 1, FEW);
	descriptors_allow();
	assert_int_equal(count_free(MANY), MANY);
	descriptors_allow();
	assert_int_equal(count_free(MANY), MANY);
	set_limit(before.rlim_cur, before.rlim_max);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_allow) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
