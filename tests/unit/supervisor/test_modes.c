/* Terminal modes of RFC 4254: what they set, what they leave alone, and what is broken. */
#include "supervisor/modes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct termios sane(void)
{
	struct termios t;

	memset(&t, 0, sizeof(t));
	t.c_iflag = ICRNL | IXON;
	t.c_oflag = OPOST | ONLCR;
	t.c_cflag = CS8 | CREAD | B38400;
	t.c_lflag = ISIG | ICANON | ECHO | ECHOE | IEXTEN;
	t.c_cc[VINTR] = 3;
	t.c_cc[VEOF] = 4;
	return t;
}

#define APPLY(t, ...) apply(t, (const uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ }))

static void apply(struct termios *t, const uint8_t *modes, size_t len)
{
	struct err err = { 0 };

	assert_int_equal(modes_apply(modes, len, t, &err), 0);
	assert_int_equal(err.code, GRPC_OK);
}

static void test_flags(void **state)
{
	struct termios t = sane();

	(void)state;
	APPLY(&t, 53, 0, 0, 0, 0, 36, 0, 0, 0, 0, 42, 0, 0, 0, 1, 72, 0, 0, 0, 0, 0);
	assert_int_equal(t.c_lflag, ISIG | ICANON | ECHOE | IEXTEN);
	assert_int_equal(t.c_iflag, IXON | IUTF8);
	assert_int_equal(t.c_oflag, OPOST);
}

static void test_characters(void **state)
{
	struct termios t = sane();

	(void)state;
	APPLY(&t, 1, 0, 0, 0, 7, 5, 0, 0, 0, 255, 11, 0, 0, 0, 9);
	assert_int_equal(t.c_cc[VINTR], 7);
	assert_int_equal(t.c_cc[VEOF], _POSIX_VDISABLE);
}

static void test_size_of_characters(void **state)
{
	struct termios t = sane();

	(void)state;
	APPLY(&t, 91, 0, 0, 0, 0); /* not eight bits is no size */
	assert_int_equal(t.c_cflag & CSIZE, CS8);
	APPLY(&t, 90, 0, 0, 0, 1);
	assert_int_equal(t.c_cflag & CSIZE, CS7);
}

static void test_speeds(void **state)
{
	struct termios t = sane();

	(void)state;
	APPLY(&t, 128, 0, 0, 0x25, 0x80, 129, 0, 0, 0x25, 0x80);
	assert_int_equal(cfgetospeed(&t), B9600);
	APPLY(&t, 129, 0, 0, 0, 1); /* no speed of ours */
	assert_int_equal(cfgetospeed(&t), B9600);
}

static void test_what_ends_them(void **state)
{
	struct termios t = sane(), before = t;

	(void)state;
	apply(&t, NULL, 0);
	APPLY(&t, 0, 53, 0, 0, 0, 0);
	APPLY(&t, 160, 53, 0, 0, 0, 0);
	APPLY(&t, 255);
	APPLY(&t, 99, 1, 2, 3, 4, 159, 0, 0, 0, 0); /* of no meaning, but with a value */
	assert_memory_equal(&t, &before, sizeof(t));
}

static void test_value_cut_off(void **state)
{
	static const uint8_t modes[] = { 53, 0, 0, 0, 0, 36, 0, 0, 0, 0 };
	struct err err;

	(void)state;
	for (size_t len = 0; len <= sizeof(modes); len++) {
		struct termios t = sane(), before = t;
		int r = modes_apply(modes, len, &t, &err);

		assert_int_equal(r, len % 5 == 0 ? 0 : -1);
		if (r != 0) {
			assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
			assert_memory_equal(&t, &before, sizeof(t));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_flags),
		cmocka_unit_test(test_characters),
		cmocka_unit_test(test_size_of_characters),
		cmocka_unit_test(test_speeds),
		cmocka_unit_test(test_what_ends_them),
		cmocka_unit_test(test_value_cut_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
