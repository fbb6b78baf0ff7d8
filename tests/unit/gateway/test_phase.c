/* The phases: every step there is, and none that is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/phase.h"

static const enum phase all[] = { PHASE_PROVISIONING, PHASE_READY, PHASE_ERROR, PHASE_DELETING,
	PHASE_STOPPING, PHASE_STOPPED, PHASE_STARTING };

#define COUNT (sizeof(all) / sizeof(all[0]))

static void test_names(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT; i++)
		assert_true(phase_is_known((int)all[i]));
	assert_string_equal(phase_name(PHASE_READY), "READY");
	assert_string_equal(phase_name((enum phase)5), "UNKNOWN");
	assert_string_equal(phase_name((enum phase)99), "UNKNOWN");
	assert_false(phase_is_known(-1));
	assert_false(phase_is_known(0));
	assert_false(phase_is_known(9));
}

/* Everything may be deleted, nothing comes back from it, nothing follows itself. */
static void test_rules(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		assert_false(phase_may_follow(all[i], all[i]));
		assert_false(phase_may_follow(PHASE_DELETING, all[i]));
		assert_false(phase_may_follow(all[i], PHASE_PROVISIONING));
		if (all[i] != PHASE_DELETING)
			assert_true(phase_may_follow(all[i], PHASE_DELETING));
	}
	assert_false(phase_may_follow(PHASE_STOPPING, PHASE_READY));
	assert_false(phase_may_follow(PHASE_STOPPED, PHASE_STOPPING));
}

/* Whatever the facts, where they lead is a step that is allowed, and facts that have led
 * somewhere do not lead on in a circle. */
static void test_settle_everywhere(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT; i++) {
		for (unsigned bits = 0; bits < 64; bits++) {
			struct phase_facts f = {
				.inspected = bits & 1,
				.stale = bits & 2,
				.busy = bits & 4,
				.connected = bits & 8,
				.driver = (enum driver_state)(bits >> 4),
			};
			struct phase_step step = phase_settle(all[i], &f), next;

			assert_true(step.to == all[i] || phase_may_follow(all[i], step.to));
			assert_true(step.to == all[i] || step.reason != NULL);
			next = phase_settle(step.to, &f);
			assert_true(next.to == step.to);
			if (!f.inspected)
				assert_int_equal(phase_work(all[i], &f), PHASE_WORK_INSPECT);
		}
	}
}

static void test_way_up(void **state)
{
	struct phase_facts f = { .inspected = true, .driver = DRIVER_STATE_ABSENT };

	(void)state;
	assert_int_equal(phase_work(PHASE_PROVISIONING, &f), PHASE_WORK_LAUNCH);
	f.connected = true; /* it may be faster than the driver's answer */
	assert_int_equal(phase_settle(PHASE_PROVISIONING, &f).to, PHASE_PROVISIONING);
	f.driver = DRIVER_STATE_RUNNING;
	assert_int_equal(phase_settle(PHASE_PROVISIONING, &f).to, PHASE_READY);
	assert_int_equal(phase_work(PHASE_READY, &f), PHASE_WORK_NONE);
	f.connected = false;
	assert_int_equal(phase_settle(PHASE_READY, &f).to, PHASE_READY);
	assert_int_equal(phase_shown(PHASE_READY, &f), PHASE_PROVISIONING);
	f.driver = DRIVER_STATE_FAILED;
	assert_int_equal(phase_settle(PHASE_READY, &f).to, PHASE_ERROR);
	assert_string_equal(phase_settle(PHASE_READY, &f).reason, "SupervisorExited");
	assert_string_equal(phase_settle(PHASE_STARTING, &f).reason, "SupervisorFailed");
}

static void test_way_down(void **state)
{
	struct phase_facts f = { .inspected = true, .driver = DRIVER_STATE_RUNNING };

	(void)state;
	assert_int_equal(phase_work(PHASE_STOPPING, &f), PHASE_WORK_STOP);
	f.driver = DRIVER_STATE_STOPPED;
	f.busy = true; /* a launch that has not answered yet */
	assert_int_equal(phase_settle(PHASE_STOPPING, &f).to, PHASE_STOPPING);
	f.busy = false;
	assert_int_equal(phase_settle(PHASE_STOPPING, &f).to, PHASE_STOPPED);
	assert_int_equal(phase_work(PHASE_STOPPED, &f), PHASE_WORK_NONE);
	assert_int_equal(phase_work(PHASE_DELETING, &f), PHASE_WORK_DESTROY);
}

/* Started anew from ERROR while the old supervisor still runs: that one goes first. */
static void test_stale(void **state)
{
	struct phase_facts f = {
		.inspected = true, .driver = DRIVER_STATE_RUNNING, .stale = true, .connected = true
	};

	(void)state;
	assert_int_equal(phase_settle(PHASE_STARTING, &f).to, PHASE_STARTING);
	assert_int_equal(phase_work(PHASE_STARTING, &f), PHASE_WORK_STOP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_settle_everywhere),
		cmocka_unit_test(test_way_up),
		cmocka_unit_test(test_way_down),
		cmocka_unit_test(test_stale),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
