/* Forwards of this machine: all that have a port are stopped, however many they are. */
#include "cli/record.h"

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

#include "cli/commands.h"
#include "support/leak.h"

#define FORWARDS 100

static int setup(void **state)
{
	struct leak *leak = leak_begin();

	setenv("XDG_STATE_HOME", leak_folder(leak), 1);
	*state = leak;
	return 0;
}

static int teardown(void **state)
{
	struct leak *leak = *state;

	rmdir(leak_path(leak, "openshell/forwards"));
	rmdir(leak_path(leak, "openshell"));
	return leak_end(leak);
}

/* A process that keeps a forward's record, as 'forward start' does. */
static _Noreturn void be_forward(unsigned number, int ready)
{
	char bind[32];
	struct record r = { .bind = bind,
		.sandbox = (char *)"box",
		.workspace = (char *)"",
		.target_host = (char *)"127.0.0.1",
		.endpoint = (char *)"http://127.0.0.1:9",
		.error = (char *)"",
		.port = number == 0 ? 81 : 80,
		.target_port = 80,
		.pid = getpid() };
	struct err err;

	snprintf(bind, sizeof(bind), "127.0.1.%u", number);
	if (write(ready, record_create(&r, &err) != NULL ? "r" : "f", 1) != 1)
		_exit(2);
	for (;;)
		pause();
}

static void count(void *cookie, const char *file, const struct record *r)
{
	(void)file;
	(void)r;
	++*(size_t *)cookie;
}

static size_t listed(void)
{
	struct err err;
	size_t n = 0;

	assert_int_equal(record_list(count, &n, &err), 0);
	return n;
}

static int stop_port(const char *port)
{
	const struct cli cli = { .quiet = true };
	char *words[] = { (char *)port, NULL };
	const struct cmd_words w = { .word = words, .count = 1 };

	return cmd_forward_stop.run(&cli, NULL, &w);
}

static void test_many_of_a_port(void **state)
{
	int ready[2];
	char byte;

	(void)state;
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	for (unsigned i = 0; i <= FORWARDS; i++) { /* the first has another port */
		if (fork() == 0)
			be_forward(i, ready[1]);
		assert_int_equal(read(ready[0], &byte, 1), 1);
		assert_int_equal(byte, 'r');
	}
	assert_int_equal(listed(), FORWARDS + 1);
	assert_int_equal(stop_port("80"), CLI_EXIT_OK);
	assert_int_equal(listed(), 1);
	assert_int_equal(stop_port("127.0.1.1:81"), CLI_EXIT_FAILED);
	assert_int_equal(stop_port("127.0.1.0:81"), CLI_EXIT_OK);
	assert_int_equal(listed(), 0);
	while (waitpid(-1, NULL, 0) > 0)
		;
	close(ready[0]);
	close(ready[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_many_of_a_port, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
