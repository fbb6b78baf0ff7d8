/* An SSH endpoint's program that does not come to run. */
#include "gateway/ssh_spawn.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/leak.h"
#include "support/lease.h"

static int setup(void **state)
{
	*state = leak_begin();
	return 0;
}

static int teardown(void **state)
{
	return leak_end(*state);
}

/* Its pidfd. */
static int spawn(const char *program, int *report, struct err *err)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), pidfd;
	char *argv[] = { (char *)"towline-sshd", NULL };
	struct ssh_spawn s = { .program = program, .argv = argv };
	pid_t pid;

	for (int i = 0; i < SSH_SPAWN_END; i++)
		s.fd[i] = null;
	pidfd = ssh_spawn(&s, &pid, report, err);
	close(null);
	return pidfd;
}

static siginfo_t wait_end(int pidfd)
{
	siginfo_t info;

	assert_int_equal(waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED), 0);
	close(pidfd);
	return info;
}

/* Nobody waits for it, it holds nothing of ours meanwhile, and it can be killed. */
static void test_a_program_that_cannot_be_read(void **state)
{
	struct leak *leak = *state;
	const char *program = leak_path(leak, "program");
	int held = lease_program(program), ends[2], report;
	struct err err;
	char byte;

	if (held < 0)
		skip(); /* a file system without leases */
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	int pidfd = spawn(program, &report, &err);
	assert_true(pidfd >= 0);
	close(ends[1]);
	assert_int_equal(read(ends[0], &byte, 1), 0); /* its copy is closed, too */
	assert_int_equal(pidfd_send_signal(pidfd, SIGKILL, NULL, 0), 0);
	assert_int_equal(wait_end(pidfd).si_status, SIGKILL);
	assert_false(ssh_spawn_failed(report, program, &err));
	close(report);
	close(ends[0]);
	close(held);
	assert_int_equal(unlink(program), 0);
}

static void test_a_program_that_is_none(void **state)
{
	struct leak *leak = *state;
	const char *program = leak_path(leak, "program");
	struct err err = { 0 };
	int report;

	assert_int_equal(spawn(program, &report, &err), -1);
	assert_int_equal(err.code, GRPC_NOT_FOUND);
	close(open(program, O_RDWR | O_CREAT | O_CLOEXEC, 0644));
	int pidfd = spawn(program, &report, &err);
	assert_true(pidfd >= 0);
	assert_int_equal(wait_end(pidfd).si_status, 127);
	assert_true(ssh_spawn_failed(report, program, &err));
	assert_int_equal(err.code, GRPC_PERMISSION_DENIED);
	assert_non_null(strstr(err.text, program));
	close(report);
	assert_int_equal(unlink(program), 0);
}

static void test_a_program_that_runs(void **state)
{
	struct err err;
	int report, pidfd = spawn("/bin/true", &report, &err);

	(void)state;
	assert_true(pidfd >= 0);
	assert_int_equal(wait_end(pidfd).si_status, 0);
	assert_false(ssh_spawn_failed(report, "/bin/true", &err));
	close(report);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    test_a_program_that_cannot_be_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_program_that_is_none, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_program_that_runs, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
