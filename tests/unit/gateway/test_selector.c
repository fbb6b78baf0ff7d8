/* Label selectors: what they say, and what they match. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/selector.h"
#include "support/alloc.h"

typedef Openshell__Datamodel__V1__ObjectMeta__LabelsEntry label;

static bool matches(const char *text, label *const *labels, size_t count)
{
	struct selector s;
	struct err err;
	bool result;

	assert_int_equal(selector_parse(&s, text, &err), 0);
	result = selector_matches(&s, labels, count);
	selector_free(&s);
	return result;
}

static void test_matches(void **state)
{
	label tier = OPENSHELL__DATAMODEL__V1__OBJECT_META__LABELS_ENTRY__INIT;
	label env = OPENSHELL__DATAMODEL__V1__OBJECT_META__LABELS_ENTRY__INIT;
	label *const both[] = { &tier, &env };

	(void)state;
	tier.key = "tier";
	tier.value = "web";
	env.key = "env";
	env.value = "";
	assert_true(matches("", both, 2));
	assert_true(matches("", NULL, 0));
	assert_true(matches("  ", NULL, 0));
	assert_true(matches("tier=web", both, 2));
	assert_true(matches(" tier = web , env= ", both, 2));
	assert_true(matches("env=,tier=web", both, 2));
	assert_false(matches("tier=web,env=x", both, 2));
	assert_false(matches("tier=we", both, 2));
	assert_false(matches("tie=web", both, 2));
	assert_false(matches("tier=web", NULL, 0));
}

static void test_malformed(void **state)
{
	static const char *const bad[] = { "tier", "=web", ",", "a=1,", ",a=1", "a=1,,b=2" };
	struct selector s;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err err = { 0 };

		if (selector_parse(&s, bad[i], &err) == 0)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
		assert_null(s.text);
	}
}

static void test_limits(void **state)
{
	char terms[4 * (SELECTOR_TERMS_MAX + 1) + 1] = "",
						  *long_text = malloc(SELECTOR_TEXT_MAX + 4);
	struct selector s;
	struct err err;

	(void)state;
	for (size_t i = 0; i <= SELECTOR_TERMS_MAX; i++)
		memcpy(terms + 4 * i, "a=b,", 5);
	terms[4 * SELECTOR_TERMS_MAX - 1] = '\0';
	assert_int_equal(selector_parse(&s, terms, &err), 0);
	selector_free(&s);
	terms[4 * SELECTOR_TERMS_MAX - 1] = ',';
	terms[4 * SELECTOR_TERMS_MAX + 3] = '\0';
	assert_int_equal(selector_parse(&s, terms, &err), -1);

	memset(long_text, 'a', SELECTOR_TEXT_MAX + 1);
	memcpy(long_text, "k=", 2);
	long_text[SELECTOR_TEXT_MAX + 1] = '\0';
	assert_int_equal(selector_parse(&s, long_text, &err), -1);
	free(long_text);
}

static void parse_once(void *cookie)
{
	struct selector s;
	struct err err;

	(void)cookie;
	if (selector_parse(&s, "a=b,c=d", &err) == 0)
		selector_free(&s);
	else
		assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
}

static void test_no_memory(void **state)
{
	(void)state;
	alloc_torture(parse_once, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matches),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
