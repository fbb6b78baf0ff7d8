/* A gateway of this machine that does not end. */
#include "cli/local.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

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

/* Holds the lock that a gateway holds, and takes no notice of SIGTERM. */
static _Noreturn void be_stubborn(const char *lock, int ready)
{
	const struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	sigaction(SIGTERM, &ignore, NULL);
	if (fd < 0 || fcntl(fd, F_SETLK, &whole) != 0 || write(ready, "r", 1) != 1)
		_exit(2);
	for (;;)
		pause();
}

static void test_a_gateway_that_does_not_end(void **state)
{
	struct leak *leak = *state;
	const char *lock = leak_path(leak, "lock");
	struct local_paths paths = { .log = "the log" };
	struct err err = { 0 };
	int ready[2];
	char byte;

	snprintf(paths.data, sizeof(paths.data), "%s", leak_folder(leak));
	assert_int_equal(local_stop(&paths, 100, &err), -1);
	assert_int_equal(err.code, GRPC_NOT_FOUND);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0)
		be_stubborn(lock, ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	assert_int_equal(local_pid(&paths), pid);
	assert_int_equal(local_stop(&paths, 100, &err), -1);
	assert_int_equal(err.code, GRPC_DEADLINE_EXCEEDED);
	assert_non_null(strstr(err.text, "does not end; its log is the log"));
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(local_pid(&paths), 0);
	close(ready[0]);
	close(ready[1]);
	assert_int_equal(unlink(lock), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_gateway_that_does_not_end, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
