/* Which directories are watched, and where they are. */
#include "transfer/files/watch_tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "support/alloc.h"

static void path_is(const struct watch_node *n, const char *path)
{
	struct text t;

	text_init(&t, 4096);
	text_add(&t, "", 0);
	watch_tree_path(n, &t);
	assert_string_equal(t.data, path);
	text_free(&t);
}

static void count(void *cookie, const struct watch_node *node)
{
	(void)node;
	++*(int *)cookie;
}

static void test_moves(void **state)
{
	struct watch_tree t = { 0 };
	struct err err;
	int gone = 0;

	(void)state;
	assert_null(watch_tree_find(&t, 1));
	struct watch_node *top = watch_tree_add(&t, NULL, "", 1, &err);
	struct watch_node *a = watch_tree_add(&t, top, "a", 2, &err);
	struct watch_node *b = watch_tree_add(&t, a, "b", 3, &err);
	struct watch_node *c = watch_tree_add(&t, top, "c", 66, &err); /* the same hash as 2 */
	path_is(top, "");
	path_is(b, "a/b/");
	assert_ptr_equal(watch_tree_find(&t, 66), c);
	assert_ptr_equal(watch_tree_find(&t, 2), a);
	assert_ptr_equal(watch_tree_child(top, "c"), c);
	assert_null(watch_tree_child(top, "b"));
	assert_int_equal(watch_tree_move(a, c, "new"), 0);
	path_is(b, "c/new/b/");
	assert_int_equal(watch_tree_move(c, b, "loop"), -1);
	assert_int_equal(watch_tree_move(c, c, "loop"), -1);
	watch_tree_drop(&t, c, count, &gone);
	assert_int_equal(gone, 3);
	assert_int_equal(t.count, 1);
	assert_null(watch_tree_find(&t, 3));
	watch_tree_free(&t);
}

static void test_many(void **state)
{
	struct watch_tree t = { 0 };
	struct err err = { 0 };
	struct watch_node *n = watch_tree_add(&t, NULL, "", 0, &err);
	char name[16];

	(void)state;
	for (int i = 1; i < WATCH_TREE_MAX; i++) {
		snprintf(name, sizeof(name), "%d", i);
		/* Deep and wide; the deep part is deeper than a path can say. */
		struct watch_node *made = watch_tree_add(&t, i < 5000 ? n : t.top, name, i, &err);
		assert_non_null(made);
		if (i < 5000)
			n = made;
	}
	assert_null(watch_tree_add(&t, t.top, "x", WATCH_TREE_MAX, &err));
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	assert_string_equal(watch_tree_find(&t, 40000)->name, "40000");
	watch_tree_free(&t);
	assert_int_equal(t.count, 0);
}

static void without_memory(void *cookie)
{
	struct watch_tree t = { 0 };
	struct err err = { 0 };
	struct watch_node *top = watch_tree_add(&t, NULL, "", 1, &err);

	(void)cookie;
	for (int i = 2; top != NULL && i < 200; i++)
		if (watch_tree_add(&t, top, "x", i, &err) == NULL) {
			assert_true(alloc_has_failed());
			break;
		}
	watch_tree_free(&t);
}

static void test_no_memory(void **state)
{
	(void)state;
	alloc_torture(without_memory, NULL);
}

/* The path of the first that is too deep is none, rather than another's. */
static void test_depth(void **state)
{
	struct watch_tree t = { 0 };
	struct text path;
	struct err err;
	struct watch_node *n = watch_tree_add(&t, NULL, "", 1, &err);

	(void)state;
	for (int i = 0; i < WATCH_DEPTH_MAX; i++)
		n = watch_tree_add(&t, n, "a", 2 + i, &err);
	text_init(&path, (size_t)4 * WATCH_DEPTH_MAX);
	watch_tree_path(n, &path);
	assert_false(path.failed);
	assert_int_equal(path.len, 2 * WATCH_DEPTH_MAX);
	path.len = 0;
	watch_tree_path(watch_tree_add(&t, n, "a", 2 + WATCH_DEPTH_MAX, &err), &path);
	assert_true(path.failed);
	assert_int_equal(path.len, 0);
	text_free(&path);
	watch_tree_free(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moves),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
