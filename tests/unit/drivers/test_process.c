/* Who belongs to a sandbox that has no PID namespace: however many they are. */
#include "drivers/local/process.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/leak.h"

#define NOBODY "00000000-0000-0000-0000-000000000000"
#define CROWD  150 /* more than there is room for at first, and than twice that */

static int setup(void **state)
{
	*state = leak_begin();
	return 0;
}

static int teardown(void **state)
{
	return leak_end(*state);
}

/* A process with many children, all there when this returns. They are orphans once it ends. */
static pid_t begin_crowd(void)
{
	int ready[2];
	pid_t pid;
	char byte;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		for (int i = 0; i < CROWD; i++)
			if (fork() == 0)
				for (;;)
					pause();
		(void)!write(ready[1], "r", 1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void test_all_of_a_crowd(void **state)
{
	pid_t pid = begin_crowd();
	size_t count;

	(void)state;
	assert_int_equal(process_signal_members(pid, NOBODY, SIGKILL, &count), 0);
	assert_int_equal(count, CROWD);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* Nobody is taken to be gone because nobody could look. */
static void test_nobody_can_look(void **state)
{
	struct rlimit before, none;
	struct err err;
	size_t count;

	(void)state;
	assert_int_equal(process_end_members(NOBODY, 0, &err), -1); /* one look is not enough */
	assert_int_equal(process_end_members(NOBODY, 1000, &err), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	int looked = process_signal_members(0, NOBODY, SIGKILL, &count);
	int ended = process_end_members(NOBODY, 50, &err);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(looked, -1);
	assert_int_equal(ended, -1);
	assert_int_equal(err.code, GRPC_DEADLINE_EXCEEDED);
	assert_non_null(strstr(err.text, "cannot be seen"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_all_of_a_crowd, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nobody_can_look, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
