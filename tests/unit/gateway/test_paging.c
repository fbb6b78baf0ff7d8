/* Page sizes and page tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/paging.h"
#include "support/alloc.h"

static void test_size(void **state)
{
	size_t size;
	struct err err;

	(void)state;
	assert_int_equal(paging_size(0, &size, &err), 0);
	assert_int_equal(size, PAGING_DEFAULT);
	assert_int_equal(paging_size(1, &size, &err), 0);
	assert_int_equal(size, 1);
	assert_int_equal(paging_size(INT32_MAX, &size, &err), 0);
	assert_int_equal(size, PAGING_MAX);
	assert_int_equal(paging_size(-1, &size, &err), -1);
	assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
}

static void test_round_trip(void **state)
{
	char *token = paging_token("sandboxes\ndefault\n", "default/web-1"), *last;
	struct err err;

	(void)state;
	assert_non_null(token);
	assert_int_equal(paging_after(token, "sandboxes\ndefault\n", &last, &err), 0);
	assert_string_equal(last, "default/web-1");
	free(last);
	assert_int_equal(paging_after("", "any", &last, &err), 0);
	assert_string_equal(last, "");
	free(last);
	free(token);
}

static void refused(const char *token, const char *scope)
{
	struct err err = { 0 };
	char *last;

	if (paging_after(token, scope, &last, &err) == 0)
		fail_msg("\"%s\" was taken", token);
	assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
}

static void test_refused(void **state)
{
	char *token = paging_token("scope", "key"), *huge = malloc(4002);

	(void)state;
	refused("x", "scope");
	refused("zz", "scope");
	refused("next", "scope");
	refused("00", "scope");
	refused("0000000000000000", "scope");
	refused("000000000000000061", "scope");
	refused(token, "another scope");
	token[0] = token[0] == '0' ? '1' : '0';
	refused(token, "scope");
	memset(huge, 'a', 4001);
	huge[4001] = '\0';
	refused(huge, "scope");
	huge[4000] = '\0';
	refused(huge, "scope");
	free(huge);
	free(token);
}

static void round_trip(void *cookie)
{
	char *token = paging_token("scope", "key"), *last;
	struct err err;

	(void)cookie;
	if (token == NULL)
		return;
	if (paging_after(token, "scope", &last, &err) == 0)
		free(last);
	free(token);
}

static void test_no_memory(void **state)
{
	(void)state;
	alloc_torture(round_trip, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
