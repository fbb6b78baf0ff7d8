/* Which user names could be a session's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "sshd/user.h"

static void test_names(void **state)
{
	static const struct {
		const char *name;
		int result;
	} rows[] = {
		{ "box.0123456789abcdef", 0 },
		{ "a.0000000000000000", 0 },
		{ "abcdefghij-12345678.ffffffffffffffff", 0 },
		{ "abcdefghij-123456789.ffffffffffffffff", -1 },
		{ "box.0123456789abcde", -1 },
		{ "box.0123456789abcdef0", -1 },
		{ "box.0123456789ABCDEF", -1 },
		{ "box.0123456789abcdeg", -1 },
		{ "box.0123456789abcdef.", -1 },
		{ "box.0123456789abcdef\n", -1 },
		{ ".0123456789abcdef", -1 },
		{ "Box.0123456789abcdef", -1 },
		{ "b x.0123456789abcdef", -1 },
		{ "b/../x.0123456789abcdef", -1 },
		{ "box", -1 },
		{ "box.", -1 },
		{ ".", -1 },
		{ "", -1 },
		{ NULL, -1 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct err err = { 0 };

		assert_int_equal(user_parse(rows[i].name, &err), rows[i].result);
		assert_int_equal(err.code, rows[i].result == 0 ? GRPC_OK : GRPC_INVALID_ARGUMENT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_names) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
