/* The master of a pseudo-terminal as a pump end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

#include "ends.h"
#include "support/leak.h"

#define IDLE_MS     100
#define IDLE_CPU_MS 30

struct fixture {
	struct leak *leak;
	struct loop *loop;
	struct end end; /* the master */
	int slave;      /* -1: closed */
	char got[4096]; /* what the slave has read */
	size_t len;
	unsigned ends; /* reads that returned nothing */
	size_t want;
};

static void open_terminal(struct fixture *f, size_t window)
{
	char name[64];
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	assert_true(master >= 0);
	assert_int_equal(grantpt(master), 0);
	assert_int_equal(unlockpt(master), 0);
	assert_int_equal(ptsname_r(master, name, sizeof(name)), 0);
	f->slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	assert_true(f->slave >= 0);
	end_open(&f->end, f->loop, master, master, window);
}

static void set_mode(struct fixture *f, bool raw)
{
	struct termios mode;

	assert_int_equal(tcgetattr(f->slave, &mode), 0);
	if (raw)
		cfmakeraw(&mode);
	mode.c_lflag &= ~(tcflag_t)ECHO;
	assert_int_equal(tcsetattr(f->slave, TCSANOW, &mode), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->leak = leak_begin();
	f->loop = loop_create(0, NULL);
	assert_non_null(f->loop);
	loop_ignore_sigpipe();
	open_terminal(f, 0);
	set_mode(f, false);
	*state = f;
	return 0;
}

static void slave_close(struct fixture *f)
{
	close(f->slave);
	f->slave = -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	struct leak *leak = f->leak;

	end_close(&f->end);
	if (f->slave >= 0)
		close(f->slave);
	loop_free(f->loop);
	free(f);
	return leak_end(leak);
}

static void type(struct fixture *f, const char *text)
{
	struct slice s = slice_copy(text, strlen(text));

	assert_non_null(s.data);
	assert_int_equal(fdio_write(f->end.fdio, s), 0);
}

/* The program behind the terminal reads: until it has what is wanted and an end. */
static bool slave_reads(void *cookie)
{
	struct fixture *f = cookie;
	ssize_t n = read(f->slave, f->got + f->len, sizeof(f->got) - f->len);

	assert_true(n >= 0 || errno == EAGAIN);
	if (n > 0)
		f->len += (size_t)n;
	f->ends += n == 0;
	return f->len >= f->want && (f->ends > 0 || f->want > 0);
}

static bool has_eof(void *cookie)
{
	return ((struct end *)cookie)->eofs > 0;
}

static bool has_write_failed(void *cookie)
{
	return ((struct end *)cookie)->write_fails > 0;
}

static void check_input(struct fixture *f, const char *text)
{
	ends_wait(f->loop, slave_reads, f);
	assert_int_equal(f->ends, 1);
	assert_int_equal(f->len, strlen(text));
	assert_memory_equal(f->got, text, f->len);
	assert_int_equal(f->end.sent, strlen(text)); /* and not what ends the input */
	ends_idle(f->loop, 10);
	slave_reads(f);
	assert_int_equal(f->ends, 1);
	assert_int_equal(f->end.read_fails + f->end.write_fails + f->end.eofs, 0);
}

static void test_end_of_input_after_a_line(void **state)
{
	struct fixture *f = *state;

	type(f, "one\n");
	fdio_finish(f->end.fdio);
	assert_int_equal(fdio_queued(f->end.fdio), 4);
	check_input(f, "one\n");
}

static void test_end_of_input_within_a_line(void **state)
{
	struct fixture *f = *state;

	type(f, "one\ntwo");
	fdio_finish(f->end.fdio);
	check_input(f, "one\ntwo");
}

static void test_end_of_no_input(void **state)
{
	struct fixture *f = *state;

	fdio_finish(f->end.fdio);
	fdio_finish(f->end.fdio);
	assert_int_equal(fdio_queued(f->end.fdio), 0);
	check_input(f, "");
}

/* Programs that edit lines themselves look for the character. */
static void test_end_of_input_of_a_raw_terminal(void **state)
{
	struct fixture *f = *state;

	set_mode(f, true);
	type(f, "one\r");
	fdio_finish(f->end.fdio);
	f->want = 5;
	ends_wait(f->loop, slave_reads, f);
	assert_memory_equal(f->got, "one\r\x04", 5);
	assert_int_equal(f->end.sent, 4);
}

static void test_output_goes_on_after_the_end_of_input(void **state)
{
	struct fixture *f = *state;

	set_mode(f, true);
	fdio_finish(f->end.fdio);
	ends_idle(f->loop, 10);
	assert_int_equal(write(f->slave, "bye", 3), 3);
	slave_close(f);
	ends_wait(f->loop, has_eof, &f->end);
	assert_int_equal(f->end.len, 3);
	assert_memory_equal(f->end.got, "bye", 3);
	assert_int_equal(f->end.read_fails, 0);
}

/* EIO is how the output of a terminal ends, and nothing is lost before it. */
static void test_last_output(void **state)
{
	struct fixture *f = *state;
	char text[3000];

	set_mode(f, true);
	memset(text, 'x', sizeof(text));
	assert_int_equal(write(f->slave, text, sizeof(text)), sizeof(text));
	slave_close(f);
	ends_wait(f->loop, has_eof, &f->end);
	assert_int_equal(f->end.len, sizeof(text));
	assert_true(ends_idle(f->loop, IDLE_MS) < IDLE_CPU_MS);
}

/* Nobody reads the input, and then nobody is there: the kernel calls that writable, and
 * takes nothing. */
static void test_gone_while_blocked(void **state)
{
	struct fixture *f = *state;
	const size_t len = (size_t)1 << 20;

	set_mode(f, true);
	f->end.hold = true;
	end_write(&f->end, 0, len);
	assert_true(ends_idle(f->loop, IDLE_MS) < IDLE_CPU_MS);
	assert_true(fdio_queued(f->end.fdio) > 0);
	slave_close(f);
	ends_wait(f->loop, has_write_failed, &f->end);
	ends_wait(f->loop, has_eof, &f->end);
	assert_int_equal(f->end.sent, len);
	assert_true(ends_idle(f->loop, IDLE_MS) < IDLE_CPU_MS);
}

/* The same, while the output is not read either: only writing can find out. */
static void test_gone_while_blocked_both_ways(void **state)
{
	struct fixture *f = *state;
	const size_t len = (size_t)1 << 20;

	end_close(&f->end);
	slave_close(f);
	open_terminal(f, 4);
	set_mode(f, true);
	f->end.hold = true;
	assert_int_equal(write(f->slave, "12345678", 8), 8);
	end_write(&f->end, 0, len);
	ends_idle(f->loop, 20);
	slave_close(f);
	ends_wait(f->loop, has_write_failed, &f->end);
	assert_true(ends_idle(f->loop, IDLE_MS) < IDLE_CPU_MS);
	assert_int_equal(f->end.len, 4);
	f->end.hold = false;
	end_give_credit(&f->end, 4);
	ends_wait(f->loop, has_eof, &f->end);
	assert_int_equal(f->end.len, 8);
}

#define tty_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		tty_test(test_end_of_input_after_a_line),
		tty_test(test_end_of_input_within_a_line),
		tty_test(test_end_of_no_input),
		tty_test(test_end_of_input_of_a_raw_terminal),
		tty_test(test_output_goes_on_after_the_end_of_input),
		tty_test(test_last_output),
		tty_test(test_gone_while_blocked),
		tty_test(test_gone_while_blocked_both_ways),
	};

	/* The first loop of a process opens what all of them share. */
	loop_free(loop_create(0, NULL));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
