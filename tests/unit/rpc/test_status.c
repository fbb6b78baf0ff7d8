/* Status, messages and timeouts as they look on the wire. */
#include "rpc/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void a_message_is_percent_encoded(void **state)
{
	static const struct {
		const char *text, *wire;
	} cases[] = {
		{ "", "" },
		{ "plain text ~", "plain text ~" },
		{ "100%", "100%25" },
		{ " ", "%20" },
		{ " both ends ", "%20both ends%20" },
		{ "\t\ntest\r\n", "%09%0Atest%0D%0A" },
		{ "\xe2\x98\xba", "%E2%98%BA" },
		{ "\x7f\x1f", "%7F%1F" },
	};
	char wire[STATUS_MESSAGE_MAX], text[ERR_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		status_encode_message(cases[i].text, wire);
		assert_string_equal(wire, cases[i].wire);
		status_decode_message(wire, strlen(wire), text);
		assert_string_equal(text, cases[i].text);
	}
}

static void the_longest_message_fits(void **state)
{
	char text[ERR_TEXT_MAX], wire[STATUS_MESSAGE_MAX], back[ERR_TEXT_MAX];

	(void)state;
	memset(text, '%', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	status_encode_message(text, wire);
	assert_int_equal(strlen(wire), 3 * (sizeof(text) - 1));
	status_decode_message(wire, strlen(wire), back);
	assert_string_equal(back, text);
}

static void bad_escapes_stay_as_they_are(void **state)
{
	static const struct {
		const char *wire, *text;
	} cases[] = {
		{ "%", "%" },
		{ "%4", "%4" },
		{ "%zz", "%zz" },
		{ "%4g%41", "%4gA" },
		{ "%%41", "%A" },
		{ "%aF", "\xaf" },
		{ "a%E2%98", "a\xe2\x98" },
	};
	char text[ERR_TEXT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		status_decode_message(cases[i].wire, strlen(cases[i].wire), text);
		assert_string_equal(text, cases[i].text);
	}
}

/* With the cut at every place of a character of 2, 3 and 4 bytes. */
static void a_long_message_ends_in_a_whole_character(void **state)
{
	static const char *const characters[] = { "\xc3\xa4", "\xe2\x98\xba", "\xf0\x9f\x98\x88" };
	char wire[2 * ERR_TEXT_MAX], text[ERR_TEXT_MAX];

	(void)state;
	for (size_t c = 0; c < 3; c++) {
		size_t size = strlen(characters[c]);

		for (size_t before = ERR_TEXT_MAX - 6; before < ERR_TEXT_MAX; before++) {
			memset(wire, 'a', sizeof(wire));
			memcpy(wire + before, characters[c], size);
			status_decode_message(wire, sizeof(wire), text);

			size_t len = strlen(text);

			if (before + size <= ERR_TEXT_MAX - 1 || before == ERR_TEXT_MAX - 1)
				assert_int_equal(len, ERR_TEXT_MAX - 1);
			else
				assert_int_equal(len, before);
		}
	}
}

static void bytes_that_are_no_text_do_no_harm(void **state)
{
	char wire[ERR_TEXT_MAX + 8], text[ERR_TEXT_MAX];

	(void)state;
	for (int c = 0x80; c < 0x100; c++) {
		memset(wire, c, sizeof(wire));
		status_decode_message(wire, sizeof(wire), text);
		assert_true(strlen(text) >= ERR_TEXT_MAX - 4);
	}
}

static void a_status_becomes_an_error(void **state)
{
	struct err err;

	(void)state;
	status_parse("5", "no sandbox %22a%22", &err);
	assert_int_equal(err.code, GRPC_NOT_FOUND);
	assert_string_equal(err.text, "no sandbox \"a\"");

	status_parse("0", "ignored", &err);
	assert_int_equal(err.code, GRPC_OK);
	assert_string_equal(err.text, "");

	status_parse("16", NULL, &err);
	assert_int_equal(err.code, GRPC_UNAUTHENTICATED);

	status_parse("00", NULL, &err);
	assert_int_equal(err.code, GRPC_OK);
}

static void what_is_no_code_is_unknown(void **state)
{
	static const char *const codes[] = { "", "17", "99", "-1", "1x", "x", "100", " 1", "001" };
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		status_parse(codes[i], "why", &err);
		assert_int_equal(err.code, GRPC_UNKNOWN);
		assert_non_null(strstr(err.text, "why"));
	}
	status_parse(NULL, NULL, &err);
	assert_int_equal(err.code, GRPC_UNKNOWN);
}

static void timeouts_are_rounded_up_to_milliseconds(void **state)
{
	static const struct {
		const char *wire;
		uint64_t ms;
	} cases[] = {
		{ "0n", 0 },
		{ "1n", 1 },
		{ "1000000n", 1 },
		{ "1000001n", 2 },
		{ "99999999n", 100 },
		{ "1u", 1 },
		{ "1500u", 2 },
		{ "7m", 7 },
		{ "3S", 3000 },
		{ "2M", 120000 },
		{ "00000001H", 3600000 },
		{ "99999999H", UINT64_C(359999996400000) },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t ms = 12345;

		assert_int_equal(status_parse_timeout(cases[i].wire, &ms), 0);
		assert_int_equal(ms, cases[i].ms);
	}
}

static void malformed_timeouts_are_refused(void **state)
{
	static const char *const wires[] = { "", "1", "S", "123456789m", "1s", "1 S", "-1S", "+1S",
		"1SS", "1h", " 1S", "1.5S" };

	(void)state;
	for (size_t i = 0; i < sizeof(wires) / sizeof(wires[0]); i++) {
		uint64_t ms = 12345;

		assert_int_equal(status_parse_timeout(wires[i], &ms), -1);
		assert_int_equal(ms, 12345);
	}
}

static void a_formatted_timeout_is_never_shorter(void **state)
{
	static const struct {
		uint64_t ms;
		const char *wire;
	} cases[] = {
		{ 0, "0m" },
		{ 1, "1m" },
		{ 99999999, "99999999m" },
		{ 100000000, "100000S" },
		{ 100000001, "100001S" },
		{ UINT64_C(100000000000), "1666667M" },
		{ UINT64_C(6000000000000), "1666667H" },
		{ UINT64_MAX, "99999999H" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char wire[16];

		status_format_timeout(cases[i].ms, wire);
		assert_string_equal(wire, cases[i].wire);
	}
}

static void http_and_h2_map_as_the_protocol_says(void **state)
{
	(void)state;
	assert_int_equal(status_from_http(400), GRPC_INTERNAL);
	assert_int_equal(status_from_http(401), GRPC_UNAUTHENTICATED);
	assert_int_equal(status_from_http(403), GRPC_PERMISSION_DENIED);
	assert_int_equal(status_from_http(404), GRPC_UNIMPLEMENTED);
	assert_int_equal(status_from_http(429), GRPC_UNAVAILABLE);
	assert_int_equal(status_from_http(502), GRPC_UNAVAILABLE);
	assert_int_equal(status_from_http(503), GRPC_UNAVAILABLE);
	assert_int_equal(status_from_http(504), GRPC_UNAVAILABLE);
	assert_int_equal(status_from_http(500), GRPC_UNKNOWN);
	assert_int_equal(status_from_http(200), GRPC_UNKNOWN);

	assert_int_equal(status_from_h2(0), GRPC_INTERNAL);
	assert_int_equal(status_from_h2(1), GRPC_INTERNAL);
	assert_int_equal(status_from_h2(7), GRPC_UNAVAILABLE);
	assert_int_equal(status_from_h2(8), GRPC_CANCELLED);
	assert_int_equal(status_from_h2(11), GRPC_RESOURCE_EXHAUSTED);
	assert_int_equal(status_from_h2(12), GRPC_PERMISSION_DENIED);
	assert_int_equal(status_from_h2(0x4711), GRPC_UNKNOWN);
}

static void a_reset_never_promises_that_nothing_was_done(void **state)
{
	(void)state;
	for (int code = GRPC_OK; code <= GRPC_UNAUTHENTICATED; code++)
		assert_int_not_equal(status_to_h2((enum grpc_code)code), 7 /* REFUSED_STREAM */);
	assert_int_equal(status_to_h2(GRPC_OK), 0);
	assert_int_equal(status_to_h2(GRPC_CANCELLED), 8);
	assert_int_equal(status_to_h2(GRPC_DEADLINE_EXCEEDED), 8);
	assert_int_equal(status_to_h2(GRPC_INTERNAL), 2);
	assert_int_equal(status_to_h2(GRPC_RESOURCE_EXHAUSTED), 11);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_is_percent_encoded),
		cmocka_unit_test(the_longest_message_fits),
		cmocka_unit_test(bad_escapes_stay_as_they_are),
		cmocka_unit_test(a_long_message_ends_in_a_whole_character),
		cmocka_unit_test(bytes_that_are_no_text_do_no_harm),
		cmocka_unit_test(a_status_becomes_an_error),
		cmocka_unit_test(what_is_no_code_is_unknown),
		cmocka_unit_test(timeouts_are_rounded_up_to_milliseconds),
		cmocka_unit_test(malformed_timeouts_are_refused),
		cmocka_unit_test(a_formatted_timeout_is_never_shorter),
		cmocka_unit_test(http_and_h2_map_as_the_protocol_says),
		cmocka_unit_test(a_reset_never_promises_that_nothing_was_done),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
