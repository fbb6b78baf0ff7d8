/* An SSH endpoint's program that does not come to run. */
#include "gateway/ssh_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/loop.h"
#include "support/leak.h"
#include "support/lease.h"

#define TIMEOUT_MS 200

static int setup(void **state)
{
	*state = leak_begin();
	return 0;
}

static int teardown(void **state)
{
	return leak_end(*state);
}

static int spawn(const char *program, struct err *err)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), pidfd;
	char *argv[] = { (char *)"towline-sshd", NULL };
	struct ssh_spawn s = { .program = program, .timeout_ms = TIMEOUT_MS, .argv = argv };
	pid_t pid;

	for (int i = 0; i < SSH_SPAWN_END; i++)
		s.fd[i] = null;
	pidfd = ssh_spawn(&s, &pid, err);
	close(null);
	return pidfd;
}

static void test_a_program_that_cannot_be_read(void **state)
{
	struct leak *leak = *state;
	const char *program = leak_path(leak, "program");
	int held = lease_program(program);
	struct err err = { 0 };

	if (held < 0)
		skip(); /* a file system without leases */
	uint64_t began = loop_now_us();
	assert_int_equal(spawn(program, &err), -1);
	assert_true((loop_now_us() - began) / 1000 >= TIMEOUT_MS);
	assert_int_equal(err.code, GRPC_DEADLINE_EXCEEDED);
	assert_non_null(strstr(err.text, program));
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* it is dead, and has been waited for */
	assert_int_equal(errno, ECHILD);
	close(held);
	assert_int_equal(unlink(program), 0);
}

static void test_a_program_that_is_none(void **state)
{
	struct leak *leak = *state;
	const char *program = leak_path(leak, "program");
	struct err err = { 0 };

	assert_int_equal(spawn(program, &err), -1);
	assert_int_equal(err.code, GRPC_NOT_FOUND);
	close(open(program, O_RDWR | O_CREAT | O_CLOEXEC, 0644));
	assert_int_equal(spawn(program, &err), -1);
	assert_int_equal(err.code, GRPC_PERMISSION_DENIED);
	assert_int_equal(unlink(program), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_a_program_that_cannot_be_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_program_that_is_none, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
