/* Which port to forward, as people write it. */
#include "cli/forward_spec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static const struct {
	const char *text, *bind;
	uint16_t port, target;
} good[] = {
	{ "8080", "127.0.0.1", 8080, 8080 },
	{ "0", "127.0.0.1", 0, 0 },
	{ "0:80", "127.0.0.1", 0, 80 },
	{ "9000:8000", "127.0.0.1", 9000, 8000 },
	{ "0.0.0.0:80", "0.0.0.0", 80, 80 },
	{ "0.0.0.0:80:81", "0.0.0.0", 80, 81 },
	{ "localhost:65535:1", "localhost", 65535, 1 },
	{ "[::1]:80", "::1", 80, 80 },
	{ "[::]:0:80", "::", 0, 80 },
	{ "007:008", "127.0.0.1", 7, 8 },
};

static void test_good(void **state)
{
	struct forward_spec spec;
	struct err err = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(forward_spec_parse(good[i].text, &spec, &err), 0);
		assert_string_equal(spec.bind, good[i].bind);
		assert_int_equal(spec.port, good[i].port);
		assert_int_equal(spec.target, good[i].target);
	}
}

static void test_bad(void **state)
{
	static const char *const bad[] = { "", ":", ":80", "80:", "80:0", "65536", "80:65536", "-1",
		"80x", "x", "[::1]", "[::1]80", "[::1:80", "::1:80", "1.2.3.4", "1.2.3.4:", "a:b:c",
		"1:2:3:4", " 80", "80 ", "99999999999999999999", "[]:80", "host:80:90:100" };
	struct forward_spec spec;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err err = { 0 };

		if (forward_spec_parse(bad[i], &spec, &err) == 0)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
		assert_non_null(strstr(err.text, bad[i]));
	}
}

static void test_a_host_that_is_too_long(void **state)
{
	char text[FORWARD_BIND_MAX + 8];
	struct forward_spec spec;
	struct err err = { 0 };

	(void)state;
	memset(text, 'h', FORWARD_BIND_MAX);
	memcpy(text + FORWARD_BIND_MAX, ":80", 4);
	assert_int_equal(forward_spec_parse(text, &spec, &err), -1);
	assert_int_equal(forward_spec_parse(text + 1, &spec, &err), 0);
	assert_int_equal(strlen(spec.bind), FORWARD_BIND_MAX - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_good, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_host_that_is_too_long, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
