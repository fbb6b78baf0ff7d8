/* Who has a target, and what is remembered of who had it. */
#include "transfer/claims.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/alloc.h"

static void one_has_a_target(void **state)
{
	struct claims *c = claims_create();
	struct claim a = { 0 }, b = { 0 };
	struct claim_target x, y;
	struct err err = { 0 };
	int dir = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	(void)state;
	assert_int_equal(claim_target_of(&x, dir, "x", &err), 0);
	assert_int_equal(claim_target_of(&y, dir, "y", &err), 0);
	assert_int_equal(claims_take(c, &a, &x, &err), 0);
	assert_int_equal(claims_take(c, &b, &x, &err), -1);
	assert_int_equal(err.code, GRPC_ABORTED);
	assert_int_equal(claims_take(c, &b, &y, &err), 0);
	claims_drop(&a);
	claims_drop(&a);
	assert_int_equal(claims_take(c, &a, &x, &err), 0);
	claims_drop(&b);
	claims_drop(&a);
	close(dir);
	claims_free(c);
}

static void the_last_are_remembered(void **state)
{
	struct claims *c = claims_create();
	struct claim_target target = { .device = 1, .directory = 2 };
	struct claim_record r;
	struct stat st = { .st_size = 7 };
	uint8_t digest[DIGEST_SIZE] = { 1 };
	char id[16];

	(void)state;
	for (unsigned i = 0; i <= CLAIMS_KEPT; i++) {
		snprintf(id, sizeof(id), "id%u", i);
		st.st_ino = i;
		claims_finished(c, &target, id, &st, digest);
	}
	assert_false(claims_find(c, &target, "id0", &r));
	assert_true(claims_find(c, &target, "id1", &r));
	assert_int_equal(r.inode, 1);
	assert_int_equal(r.size, 7);
	assert_true(claims_find(c, &target, id, &r));
	assert_memory_equal(r.digest, digest, sizeof(digest));
	/* Of two the later counts. */
	st.st_ino = 99;
	claims_finished(c, &target, id, &st, digest);
	assert_true(claims_find(c, &target, id, &r));
	assert_int_equal(r.inode, 99);
	target.directory = 3;
	assert_false(claims_find(c, &target, id, &r));
	claims_free(c);
}

static void without_memory_there_is_none(void **state)
{
	(void)state;
	alloc_fail_at(1, false);
	assert_null(claims_create());
	alloc_fail_at(0, false);
	claims_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_has_a_target),
		cmocka_unit_test(the_last_are_remembered),
		cmocka_unit_test(without_memory_there_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
