/* Errors: the text is always safe to show and short enough, and the reason survives. */
#include "base/err.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "leaks.h"

static bool ends_in(const char *text, const char *end)
{
	size_t len = strlen(text), n = strlen(end);

	return len >= n && strcmp(text + len - n, end) == 0;
}

/* ${count} times ${unit} behind ${shift} single letters. Good until the next call. */
static const char *repeat(const char *unit, size_t shift, size_t count)
{
	static char text[4096];
	size_t len = strlen(unit);

	assert_true(shift + count * len < sizeof(text));
	memset(text, 'a', shift);
	for (size_t i = 0; i < count; i++)
		memcpy(text + shift + i * len, unit, len);
	text[shift + count * len] = '\0';
	return text;
}

static void test_set(void **state)
{
	struct err e = { .sys = 7 };

	(void)state;
	assert_int_equal(err_set(&e, GRPC_NOT_FOUND, "sandbox %s: %d", "x", 3), -1);
	assert_int_equal(e.code, GRPC_NOT_FOUND);
	assert_int_equal(e.sys, 0);
	assert_string_equal(e.text, "sandbox x: 3");
	err_clear(&e);
	assert_int_equal(e.code, GRPC_OK);
	assert_string_equal(e.text, "");
}

static void test_nobody_asks(void **state)
{
	(void)state;
	assert_int_equal(err_set(NULL, GRPC_INTERNAL, "x"), -1);
	assert_int_equal(err_sys(NULL, ENOENT, "x"), -1);
	assert_int_equal(err_wrap(NULL, "x"), -1);
}

static void test_lengths(void **state)
{
	struct err e;

	(void)state;
	for (size_t n = 0; n < 3 * (size_t)ERR_TEXT_MAX; n++) {
		const char *text = repeat("b", 0, n);

		err_set(&e, GRPC_INTERNAL, "%s", text);
		if (n < ERR_TEXT_MAX) {
			assert_string_equal(e.text, text);
			continue;
		}
		assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
		assert_memory_equal(e.text, text, ERR_TEXT_MAX - 4);
		assert_true(ends_in(e.text, "b..."));
	}
}

/* What is before the "..." is a whole number of characters, and no more is lost than must be. */
static void assert_cut_between(const struct err *e, size_t shift, size_t unit)
{
	size_t len = strlen(e->text);

	assert_true(ends_in(e->text, "..."));
	assert_true(len < ERR_TEXT_MAX && len + unit >= ERR_TEXT_MAX);
	assert_int_equal((len - 3 - shift) % unit, 0);
}

static void test_cut_at_a_character(void **state)
{
	static const char *const units[] = { "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x9a\xa2", "\x01",
		"\xc2\x9b" };
	static const size_t sizes[] = { 2, 3, 4, 4, 8 };
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		for (size_t shift = 0; shift < 9; shift++) {
			err_set(&e, GRPC_INTERNAL, "%s", repeat(units[i], shift, 300));
			/* The two bytes of U+009B are escaped one by one. */
			assert_cut_between(&e, shift, sizes[i] == 8 ? 4 : sizes[i]);
		}
	}
}

static void test_escapes(void **state)
{
	static const struct {
		const char *raw, *safe;
	} rows[] = {
		{ "a\x1b[31mb\r\n", "a\\x1b[31mb\\x0d\\x0a" },
		{ "\x7f", "\\x7f" },
		{ "\xc2\x9b"
		  "31m",
		    "\\xc2\\x9b31m" },
		{ "\xc2\xa0\xc3\xa9", "\xc2\xa0\xc3\xa9" },
		{ "\xff\xfe", "\\xff\\xfe" },
		{ "\xc3", "\\xc3" },
		{ "\xc0\xaf", "\\xc0\\xaf" },
		{ "\xed\xa0\x80", "\\xed\\xa0\\x80" },
		{ "back\\slash \"q\"", "back\\slash \"q\"" },
	};
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		err_set(&e, GRPC_INTERNAL, "%s", rows[i].raw);
		assert_string_equal(e.text, rows[i].safe);
		err_wrap(&e, "again");
		assert_string_equal(e.text + strlen("again: "), rows[i].safe);
	}
	for (char c = 1; c < 0x20; c++) {
		char want[8];

		snprintf(want, sizeof(want), "\\x%02x", (unsigned)c);
		err_set(&e, GRPC_INTERNAL, "%c", c);
		assert_string_equal(e.text, want);
	}
}

static void test_sys(void **state)
{
	struct err e;

	(void)state;
	assert_int_equal(err_sys(&e, ENOENT, "open %s", "/x"), -1);
	assert_int_equal(e.code, GRPC_NOT_FOUND);
	assert_int_equal(e.sys, ENOENT);
	assert_string_equal(e.text, "open /x: No such file or directory");
	err_sys(&e, -ECONNREFUSED, "dial");
	assert_int_equal(e.code, GRPC_UNAVAILABLE);
	assert_int_equal(e.sys, ECONNREFUSED);
	assert_string_equal(e.text, "dial: Connection refused");
}

static void test_reason_survives(void **state)
{
	static const char *const units[] = { "n", "\xc3\xa9", "\xf0\x9f\x9a\xa2", "\x01", "\xff" };
	struct err e;

	(void)state;
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		for (size_t shift = 0; shift < 4; shift++) {
			err_sys(&e, ENOTEMPTY, "%s", repeat(units[i], shift, 400));
			assert_true(ends_in(e.text, "...: Directory not empty"));
			assert_in_range(strlen(e.text), ERR_TEXT_MAX - 4, ERR_TEXT_MAX - 1);
		}
	}
}

static void test_wrap(void **state)
{
	struct err e;

	(void)state;
	err_sys(&e, EACCES, "open");
	assert_int_equal(err_wrap(&e, "upload %d", 4), -1);
	assert_int_equal(e.code, GRPC_PERMISSION_DENIED);
	assert_int_equal(e.sys, EACCES);
	assert_string_equal(e.text, "upload 4: open: Permission denied");
}

/* However long the context is, half of the room is the reason's; and the other way round. */
static void test_wrap_of_much(void **state)
{
	struct err e;
	const char *end;

	(void)state;
	err_set(&e, GRPC_INTERNAL, "the reason");
	err_wrap(&e, "%s", repeat("\xc3\xa9", 1, 300));
	assert_true(ends_in(e.text, "\xc3\xa9...: the reason"));
	assert_in_range(strlen(e.text), ERR_TEXT_MAX - 2, ERR_TEXT_MAX - 1);
	err_set(&e, GRPC_INTERNAL, "%s", repeat("r", 0, 300));
	err_wrap(&e, "short");
	assert_memory_equal(e.text, "short: rrr", 10);
	assert_int_equal(strlen(e.text), ERR_TEXT_MAX - 1);
	err_wrap(&e, "%s", repeat("c", 0, 300));
	end = strstr(e.text, "...: short: rrr");
	assert_non_null(end);
	assert_in_range((size_t)(end - e.text), ERR_TEXT_MAX / 2 - 8, ERR_TEXT_MAX / 2);
}

static void test_codes(void **state)
{
	static const struct {
		int sys;
		enum grpc_code code;
	} rows[] = {
		{ EPERM, GRPC_PERMISSION_DENIED },
		{ EXDEV, GRPC_PERMISSION_DENIED },
		{ EEXIST, GRPC_ALREADY_EXISTS },
		{ ENOSPC, GRPC_RESOURCE_EXHAUSTED },
		{ EDQUOT, GRPC_RESOURCE_EXHAUSTED },
		{ EMFILE, GRPC_RESOURCE_EXHAUSTED },
		{ ENOMEM, GRPC_RESOURCE_EXHAUSTED },
		{ ENOTDIR, GRPC_FAILED_PRECONDITION },
		{ ELOOP, GRPC_FAILED_PRECONDITION },
		{ ENAMETOOLONG, GRPC_INVALID_ARGUMENT },
		{ ECONNRESET, GRPC_UNAVAILABLE },
		{ EPIPE, GRPC_UNAVAILABLE },
		{ ETIMEDOUT, GRPC_DEADLINE_EXCEEDED },
		{ ECANCELED, GRPC_CANCELLED },
		{ ENOSYS, GRPC_UNIMPLEMENTED },
		{ EBADF, GRPC_INTERNAL },
		{ 0, GRPC_INTERNAL },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		assert_int_equal(err_code_of(rows[i].sys), rows[i].code);
		assert_int_equal(err_code_of(-rows[i].sys), rows[i].code);
	}
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(err_code_name(GRPC_OK), "OK");
	assert_string_equal(err_code_name(GRPC_DEADLINE_EXCEEDED), "DEADLINE_EXCEEDED");
	assert_string_equal(err_code_name(GRPC_UNAUTHENTICATED), "UNAUTHENTICATED");
	assert_string_equal(err_code_name((enum grpc_code)17), "UNKNOWN");
	assert_string_equal(err_code_name((enum grpc_code) - 1), "UNKNOWN");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		leaks_test(test_set),
		leaks_test(test_nobody_asks),
		leaks_test(test_lengths),
		leaks_test(test_cut_at_a_character),
		leaks_test(test_escapes),
		leaks_test(test_sys),
		leaks_test(test_reason_survives),
		leaks_test(test_wrap),
		leaks_test(test_wrap_of_much),
		leaks_test(test_codes),
		leaks_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
