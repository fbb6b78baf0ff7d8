/* A supervisor's program that does not come to run. */
#include "drivers/local/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/loop.h"
#include "support/leak.h"
#include "support/lease.h"

#define TIMEOUT_MS 1000

static int setup(void **state)
{
	*state = leak_begin();
	return 0;
}

static int teardown(void **state)
{
	return leak_end(*state);
}

/* It is given up when its time is over; the next attempt, with less isolation, is none. */
static void test_a_program_that_cannot_be_read(void **state)
{
	struct leak *leak = *state;
	const char *program = leak_path(leak, "program"), *work = leak_path(leak, "work");
	int held = lease_program(program);
	char *argv[] = { (char *)"program", NULL }, *envp[] = { NULL };
	struct process p = { .instance = "x" };
	struct err err = { 0 };

	if (held < 0)
		skip(); /* a file system without leases */
	assert_int_equal(mkdir(work, 0700), 0);
	int dir = open(leak_folder(leak), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const struct spawn_options o = {
		.supervisor = program,
		.work_dir = work,
		.dir = dir,
		.log_fd = null,
		.token_fd = null,
		.timeout_ms = TIMEOUT_MS,
		.argv = argv,
		.envp = envp,
	};
	uint64_t began = loop_now_us();
	assert_int_equal(spawn_supervisor(&o, &p, &err), -1);
	assert_in_range((loop_now_us() - began) / 1000, TIMEOUT_MS, 2 * TIMEOUT_MS - 1);
	assert_int_equal(err.code, GRPC_DEADLINE_EXCEEDED);
	assert_non_null(strstr(err.text, "start the supervisor"));
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* it is dead, and has been waited for */
	assert_int_equal(errno, ECHILD);
	close(null);
	close(dir);
	close(held);
	unlink(leak_path(leak, "supervisor.pid"));
	assert_int_equal(unlink(program), 0);
	assert_int_equal(rmdir(work), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_a_program_that_cannot_be_read, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
