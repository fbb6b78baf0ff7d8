/* The ring of events. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/events.h"

static void test_ring(void **state)
{
	struct events e;
	char reason[16];

	(void)state;
	events_init(&e, 1000);
	assert_int_equal(events_oldest(&e), 1000);
	assert_null(events_get(&e, 1000));
	for (int i = 0; i < EVENTS_KEPT + 5; i++) {
		snprintf(reason, sizeof(reason), "R%d", i);
		events_add(&e, i % 2, reason, "text");
	}
	assert_int_equal(e.count, EVENTS_KEPT);
	assert_int_equal(events_oldest(&e), 1005);
	assert_null(events_get(&e, 1004));
	assert_string_equal(events_get(&e, 1005)->reason, "R5");
	assert_true(events_get(&e, 1005)->warning);
	assert_string_equal(events_get(&e, e.next - 1)->reason, reason);
	assert_int_equal(events_get(&e, 1010)->serial, 1010);
	assert_null(events_get(&e, e.next));
	events_free(&e);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_ring) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
