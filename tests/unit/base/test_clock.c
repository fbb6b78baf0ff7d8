/* The clock of the boot: one for all processes, and it counts seconds. */
#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void it_is_one_for_all(void **state)
{
	uint64_t boot = clock_boot();
	int status;

	(void)state;
	assert_int_not_equal(boot, 0);
	assert_int_equal(clock_boot(), boot);
	pid_t child = fork();
	if (child == 0)
		_exit(clock_boot() == boot ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void it_counts(void **state)
{
	uint64_t before = clock_boot_s();

	(void)state;
	assert_true(before >= 1);
	nanosleep(&(struct timespec){ .tv_sec = 1, .tv_nsec = 100000000 }, NULL);
	uint64_t passed = clock_boot_s() - before;
	assert_in_range(passed, 1, 60);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_one_for_all),
		cmocka_unit_test(it_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
