/* What a transfer may not pass: how many at once, how deep and how long the names. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/beneath.h"
#include "support/leak.h"
#include "tar.h"
#include "transfer/transfers.h"
#include "transfer/tree/tree.h"

static void transfers_and_archives_are_counted(void **state)
{
	struct transfers *t = transfers_create(&(struct transfer_options){ 0 }, NULL);
	struct err err;

	(void)state;
	for (size_t i = 0; i < TRANSFER_ARCHIVES_MAX; i++)
		assert_int_equal(transfers_enter(t, true, &err), 0);
	assert_int_equal(transfers_enter(t, true, &err), -1);
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	for (size_t i = TRANSFER_ARCHIVES_MAX; i < TRANSFER_MAX; i++)
		assert_int_equal(transfers_enter(t, false, &err), 0);
	assert_int_equal(transfers_enter(t, false, &err), -1);
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	transfers_leave(t, true);
	assert_int_equal(transfers_enter(t, true, &err), 0);
	for (size_t i = 0; i < TRANSFER_MAX; i++)
		transfers_leave(t, i < TRANSFER_ARCHIVES_MAX);
	transfers_free(t);
}

/* Trees. */

struct fixture {
	struct leak *leak;
	int folder;
	struct tar tar;
	size_t at;
	unsigned notes;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->leak = leak_begin();
	f->folder = open(leak_folder(f->leak), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return f->folder >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	struct err err;
	int r;

	assert_int_equal(beneath_remove_tree(f->folder, "d", &err), 0);
	close(f->folder);
	r = leak_end(f->leak);
	free(f);
	return r;
}

static ssize_t pull(void *cookie, const void **bytes, struct err *err)
{
	struct fixture *f = cookie;
	size_t n = f->tar.len - f->at;

	(void)err;
	*bytes = f->tar.bytes + f->at;
	f->at += n;
	return (ssize_t)n;
}

/* A directory of that name, however long (GNU's extension, type L). */
static int unpack(struct fixture *f, const char *name, struct err *err)
{
	struct tree_unpack u = { .root = f->folder, .pull = pull, .cookie = f };
	struct tree_result result;

	f->tar.len = f->at = 0;
	tar_add(&f->tar, 'L', "././@LongLink", "", 0644, strlen(name) + 1, name, strlen(name) + 1);
	tar_add(&f->tar, '5', "d", "", 0755, 0, "", 0);
	tar_end(&f->tar);
	return tree_unpack(&u, &result, err);
}

/* "d/d/d...", so many of them. */
static char *deep(char *out, size_t depth)
{
	for (size_t i = 0; i < depth; i++)
		memcpy(out + 2 * i, "d/", 2);
	out[2 * depth - 1] = '\0';
	return out;
}

static void names_in_an_archive_have_limits(void **state)
{
	struct fixture *f = *state;
	struct err err = { 0 };
	char name[2 * TREE_PATH_MAX];

	assert_int_equal(unpack(f, deep(name, TREE_DEPTH_MAX), &err), 0);
	assert_int_equal(unpack(f, deep(name, TREE_DEPTH_MAX + 1), &err), -1);
	assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
	assert_non_null(strstr(err.text, "too deep"));
	for (size_t i = 0; i < TREE_PATH_MAX; i += 128) { /* few, but long */
		memset(name + i, 'd', 128);
		name[i + 127] = '/';
	}
	memcpy(name + TREE_PATH_MAX, "d", 2);
	assert_int_equal(unpack(f, name, &err), -1);
	assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
}

static int drop(void *cookie, const void *bytes, size_t len, struct err *err)
{
	(void)cookie;
	(void)bytes;
	(void)len;
	(void)err;
	return 0;
}

static void note(void *cookie, const char *text)
{
	struct fixture *f = cookie;

	assert_non_null(strstr(text, "too deep"));
	f->notes++;
}

static void what_is_too_deep_is_left_out(void **state)
{
	struct fixture *f = *state;
	struct err err = { 0 };
	struct tree_result result;
	struct tree_pack p = {
		.root = f->folder, .name = ".", .push = drop, .note = note, .cookie = f
	};
	char name[2 * (TREE_DEPTH_MAX + 3)];

	assert_int_equal(
	    beneath_mkdir(f->folder, deep(name, TREE_DEPTH_MAX + 2), 0755, BENEATH_NO_LINKS, &err),
	    0);
	assert_int_equal(tree_pack(&p, &result, &err), 0);
	assert_int_equal(result.skipped, 1);
	assert_int_equal(result.entries, 1 + TREE_DEPTH_MAX);
	assert_int_equal(f->notes, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transfers_and_archives_are_counted),
		cmocka_unit_test_setup_teardown(names_in_an_archive_have_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_too_deep_is_left_out, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
