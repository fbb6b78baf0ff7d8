/* Text that grows up to a limit; text of others made safe; numbers, hex and dates. */
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "leaks.h"
#include "support/alloc.h"

#define ROOMY 65536

static void test_grows(void **state)
{
	struct text t;

	(void)state;
	text_init(&t, ROOMY);
	text_add(&t, "", 0);
	assert_string_equal(t.data, "");
	for (unsigned i = 0; i < 1000; i++) {
		text_add(&t, "ab", 2);
		text_addf(&t, "%03u", i);
		assert_int_equal(t.len, 5 * (i + 1));
		assert_int_equal(strlen(t.data), t.len);
	}
	assert_string_equal(t.data + t.len - 10, "ab998ab999");
	assert_false(t.failed);
	text_free(&t);
	assert_null(t.data);
	assert_int_equal(t.len, 0);
	text_add(&t, "x", 1);
	assert_string_equal(t.data, "x");
	text_free(&t);
	text_free(&t);
}

/* Up to the last byte; one more fails and sticks, with what was there untouched. */
static void test_limit(void **state)
{
	struct text t;

	(void)state;
	for (size_t max = 0; max < 300; max++) {
		text_init(&t, max);
		for (size_t i = 0; i < max; i++)
			text_add(&t, "m", 1);
		assert_false(t.failed);
		assert_int_equal(t.len, max);
		if (max % 2 == 0)
			text_addf(&t, "%c", 'n');
		else
			text_add(&t, "n", 1);
		assert_true(t.failed);
		assert_int_equal(t.len, max);
		text_add(&t, "", 0);
		assert_true(t.failed);
		text_free(&t);
	}
	text_init(&t, 10);
	text_add(&t, "0123456789a", (size_t)-1);
	assert_true(t.failed);
	text_free(&t);
	text_init(&t, 4);
	text_addf(&t, "%s", "12345");
	text_addf(&t, "1");
	assert_true(t.failed);
	assert_null(t.data);
	text_free(&t);
}

static void test_no_memory(void **state)
{
	struct text t;

	(void)state;
	text_init(&t, ROOMY);
	text_add(&t, "kept", 4);
	alloc_fail_at(1, true);
	for (unsigned i = 0; i < 100; i++)
		text_add(&t, "more", 4);
	assert_true(alloc_has_failed());
	alloc_fail_at(0, false);
	text_add(&t, "later", 5);
	assert_true(t.failed);
	assert_memory_equal(t.data, "keptmore", 8);
	text_free(&t);
}

struct row {
	const char *raw, *safe;
};

typedef void adder(struct text *, const char *, size_t);

static void assert_rows(adder *add, const struct row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct text t;

		text_init(&t, ROOMY);
		add(&t, rows[i].raw, strlen(rows[i].raw));
		assert_false(t.failed);
		assert_string_equal(t.data != NULL ? t.data : "", rows[i].safe);
		text_free(&t);
	}
}

#define BAD "\\ufffd"

/* Well-formed and not, after table 3-7 of the Unicode standard. */
static void test_json(void **state)
{
	static const struct row rows[] = {
		{ "", "\"\"" },
		{ "plain", "\"plain\"" },
		{ "a\"b\\c", "\"a\\\"b\\\\c\"" },
		{ "\n\r\t\x01\x1f\x7f", "\"\\n\\u000d\\u0009\\u0001\\u001f\\u007f\"" },
		{ "\xc2\x80\xc2\x9b\xc2\x9f\xc2\xa0", "\"\\u0080\\u009b\\u009f\xc2\xa0\"" },
		{ "\xc2\x80\xdf\xbf", "\"\\u0080\xdf\xbf\"" },
		{ "\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf",
		    "\"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf\"" },
		{ "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", "\"\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"" },
		{ "\x80", "\"" BAD "\"" },
		{ "\xc0\xaf", "\"" BAD BAD "\"" },
		{ "\xc1\xbf", "\"" BAD BAD "\"" },
		{ "\xe0\x9f\xbf", "\"" BAD BAD BAD "\"" },
		{ "\xed\xa0\x80", "\"" BAD BAD BAD "\"" },
		{ "\xf0\x8f\xbf\xbf", "\"" BAD BAD BAD BAD "\"" },
		{ "\xf4\x90\x80\x80", "\"" BAD BAD BAD BAD "\"" },
		{ "\xf5\x80\x80\x80", "\"" BAD BAD BAD BAD "\"" },
		{ "\xff\xfe", "\"" BAD BAD "\"" },
		{ "a\xc3", "\"a" BAD "\"" },
		{ "\xe2\x82"
		  "b",
		    "\"" BAD BAD "b\"" },
		{ "\xf0\x9f\x9a"
		  "c",
		    "\"" BAD BAD BAD "c\"" },
		{ "\xc3\"", "\"" BAD "\\\"\"" },
	};

	(void)state;
	assert_rows(text_add_json, rows, sizeof(rows) / sizeof(rows[0]));
}

static void test_logfmt(void **state)
{
	static const struct row rows[] = {
		{ "bare-word_1.2/3:4", "bare-word_1.2/3:4" },
		{ "", "\"\"" },
		{ "two words", "\"two words\"" },
		{ "a=b", "\"a=b\"" },
		{ "q\"", "\"q\\\"\"" },
		{ "b\\", "\"b\\\\\"" },
		{ "x\nlevel=error", "\"x\\nlevel=error\"" },
		{ "\x1b[2J", "\"\\u001b[2J\"" },
		{ "\x7f", "\"\\u007f\"" },
		{ "\xc3\xa9", "\"\xc3\xa9\"" },
		{ "\xff", "\"" BAD "\"" },
	};

	(void)state;
	assert_rows(text_add_logfmt, rows, sizeof(rows) / sizeof(rows[0]));
}

static void test_plain(void **state)
{
	static const struct row rows[] = {
		{ "", "" },
		{ "as \"it\" is\\", "as \"it\" is\\" },
		{ "\x1b[2J\n", "\\x1b[2J\\x0a" },
		{ "\xc2\x9b"
		  "2J",
		    "\\xc2\\x9b2J" },
		{ "\xf0\x9f\x9a\xa2", "\xf0\x9f\x9a\xa2" },
		{ "\xf0\x9f\x9a", "\\xf0\\x9f\\x9a" },
	};

	(void)state;
	assert_rows(text_add_plain, rows, sizeof(rows) / sizeof(rows[0]));
}

/* NUL is a control character like others where a length is given. */
static void test_nul_inside(void **state)
{
	struct text t;

	(void)state;
	text_init(&t, ROOMY);
	text_add_json(&t, "a\0b", 3);
	text_add_plain(&t, "a\0b", 3);
	text_add_logfmt(&t, "a\0b", 3);
	assert_string_equal(t.data, "\"a\\u0000b\"a\\x00b\"a\\u0000b\"");
	text_free(&t);
}

/* A character that the end of the text cuts is not read beyond it. */
static void test_cut_character(void **state)
{
	(void)state;
	assert_int_equal(text_printable("\xf0\x9f\x9a\xa2", 4), 4);
	for (size_t n = 1; n < 4; n++)
		assert_int_equal(text_printable("\xf0\x9f\x9a\xa2", n), 0);
	assert_int_equal(text_printable("a\xc3", 2), 1);
	assert_int_equal(text_printable("\n", 1), 0);
}

static void test_numbers(void **state)
{
	static const char *const bad[] = { "", " 1", "1 ", "-1", "+1", "0x1", "1e3", "four",
		"18446744073709551616", "99999999999999999999999" };
	struct err e;
	uint64_t n = 42;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(text_to_u64(bad[i], 0, UINT64_MAX, &n, &e), -1);
		assert_int_equal(e.code, GRPC_INVALID_ARGUMENT);
		assert_non_null(strstr(e.text, bad[i]));
		assert_int_equal(n, 42);
	}
	assert_int_equal(text_to_u64("18446744073709551615", 0, UINT64_MAX, &n, &e), 0);
	assert_true(n == UINT64_MAX);
	assert_int_equal(text_to_u64("007", 7, 7, &n, &e), 0);
	assert_int_equal(n, 7);
	assert_int_equal(text_to_u64("6", 7, 9, &n, &e), -1);
	assert_string_equal(e.text, "\"6\" is not a number from 7 to 9");
	assert_int_equal(text_to_u64("10", 7, 9, &n, NULL), -1);
	assert_int_equal(n, 7);
}

static void test_hex(void **state)
{
	static const char *const bad[] = { "", "0", "00f", "00ff0", "00fg", "0 ff", "0x0f",
		"-1ff" };
	uint8_t bytes[256], back[256];
	char text[513];

	(void)state;
	for (unsigned i = 0; i < 256; i++)
		bytes[i] = (uint8_t)i;
	text_hex(bytes, 256, text);
	assert_int_equal(strlen(text), 512);
	assert_memory_equal(text, "000102", 6);
	assert_string_equal(text + 504, "fcfdfeff");
	assert_int_equal(text_unhex(text, back, 256), 0);
	assert_memory_equal(back, bytes, 256);
	assert_int_equal(text_unhex("aBFc", back, 2), 0);
	assert_int_equal(back[0] << 8 | back[1], 0xabfc);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(text_unhex(bad[i], back, 2), -1);
	text_hex(bytes, 0, text);
	assert_string_equal(text, "");
	assert_int_equal(text_unhex("", back, 0), 0);
}

static void test_times(void **state)
{
	static const struct {
		int64_t seconds;
		const char *text;
	} rows[] = {
		{ 0, "1970-01-01T00:00:00Z" },
		{ 951782399, "2000-02-28T23:59:59Z" },
		{ 951782400, "2000-02-29T00:00:00Z" },
		{ 4107542400, "2100-03-01T00:00:00Z" },
		{ 253402300799, "9999-12-31T23:59:59Z" },
		{ 253402300800, "1970-01-01T00:00:00Z" },
		{ INT64_MAX, "1970-01-01T00:00:00Z" },
		{ -1, "1969-12-31T23:59:59Z" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char out[21];

		text_time(rows[i].seconds, out);
		assert_string_equal(out, rows[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		leaks_test(test_grows),
		leaks_test(test_limit),
		leaks_test(test_no_memory),
		leaks_test(test_json),
		leaks_test(test_logfmt),
		leaks_test(test_plain),
		leaks_test(test_nul_inside),
		leaks_test(test_cut_character),
		leaks_test(test_numbers),
		leaks_test(test_hex),
		leaks_test(test_times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
