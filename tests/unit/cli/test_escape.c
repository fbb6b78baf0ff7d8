/* Keys that are for us, whatever the pieces they come in. */
#include "cli/escape.h"

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
	const char *typed, *sent;
	bool leaves;
} cases[] = {
	{ "", "", false },
	{ "ls\r", "ls\r", false },
	{ "~.", "", true },
	{ "ls\r~.rest", "ls\r", true },
	{ "ls\n~.", "ls\n", true },
	{ "a~.", "a~.", false },
	{ " ~.", " ~.", false },
	{ "~~.", "~.", false },
	{ "~~", "~", false },
	{ "~x", "~x", false },
	{ "~", "", false }, /* not before the next key */
	{ "~\r~.", "~\r", true },
	{ "\r\r~~\r~.", "\r\r~\r", true },
	{ "cd ~/x\r", "cd ~/x\r", false },
	{ "~/bin/x\r", "~/bin/x\r", false },
};

/* Types ${typed} in pieces of ${piece} keys. */
static void type(const char *typed, size_t piece, char *sent, bool *leave)
{
	struct escape e = { 0 };
	size_t len = strlen(typed), n = 0;

	*leave = false;
	for (size_t at = 0; at < len && !*leave; at += piece) {
		size_t part = len - at < piece ? len - at : piece;
		uint8_t out[64];
		size_t got = escape_filter(&e, (const uint8_t *)typed + at, part, out, leave);

		assert_true(got <= part + 1);
		memcpy(sent + n, out, got);
		n += got;
	}
	sent[n] = '\0';
}

static void test_in_any_pieces(void **state)
{
	char sent[64];
	bool leave;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (size_t piece = 1; piece <= 16; piece++) {
			type(cases[i].typed, piece, sent, &leave);
			assert_string_equal(sent, cases[i].sent);
			assert_int_equal(leave, cases[i].leaves);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_in_any_pieces, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
