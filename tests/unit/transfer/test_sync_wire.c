/* The records of a sync: there and back, in whatever pieces, and what is no record. */
#include "transfer/sync/sync_wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/alloc.h"

/* What one end has pushed, and the other pulls in pieces of ${step}. */
struct pipe {
	uint8_t *data;
	size_t len, at, step;
};

static int push(void *cookie, const void *bytes, size_t len, struct err *err)
{
	struct pipe *p = cookie;

	(void)err;
	alloc_hold();
	p->data = realloc(p->data, p->len + len);
	alloc_release();
	memcpy(p->data + p->len, bytes, len);
	p->len += len;
	return 0;
}

static ssize_t pull(void *cookie, const void **bytes, struct err *err)
{
	struct pipe *p = cookie;
	size_t n = p->len - p->at < p->step ? p->len - p->at : p->step;

	(void)err;
	*bytes = p->data + p->at;
	p->at += n;
	return (ssize_t)n;
}

static const struct sync_entry entries[] = {
	{ .kind = SYNC_KIND_DIRECTORY, .path = "a", .mode = 0755, .mtime = 1000, .attributes = 1 },
	{ .kind = SYNC_KIND_FILE, .path = "a/b", .mode = 0644, .size = 0, .mtime = 1 },
	{ .kind = SYNC_KIND_FILE,
	    .path = "a/bc",
	    .mode = 0644,
	    .size = UINT64_MAX,
	    .mtime = INT64_MIN },
	{ .kind = SYNC_KIND_FILE,
	    .path = "a/bcd\xff\n",
	    .mode = 0777,
	    .size = 127,
	    .mtime = INT64_MAX,
	    .has_digest = true,
	    .digest = "0123456789abcde" },
	{ .kind = SYNC_KIND_LINK, .path = "b", .mode = 0644, .link = "../x", .mtime = -5 },
	{ .kind = SYNC_KIND_OTHER, .path = "c", .mode = 0600 },
	{ .kind = SYNC_KIND_FILE, .path = "d/n0001.txt", .mode = 0600, .size = 4096, .mtime = 9 },
	{ .kind = SYNC_KIND_DIRECTORY, .path = "d/n0001.u", .mode = 0600, .mtime = -1 },
	{ .kind = SYNC_KIND_FILE,
	    .path = "d/n0002.txt",
	    .mode = 0600,
	    .size = 4096,
	    .mtime = 8,
	    .file = 65536 },
	{ .kind = SYNC_KIND_FILE,
	    .path = "d/n0003.txt",
	    .mode = 0600,
	    .size = 4096,
	    .mtime = 7,
	    .file = 1,
	    .attributes = UINT64_MAX },
	{ .kind = SYNC_KIND_FILE, .path = "d/n0010.txt", .mode = 0600, .size = 4096, .mtime = 7 },
	{ .kind = SYNC_KIND_FILE, .path = "d/n0010.txtt", .mode = 0600, .size = 4097, .mtime = 7 },
	{ .kind = SYNC_KIND_FILE,
	    .path = "d/n0010.txttttt",
	    .mode = 0600,
	    .size = 4097,
	    .mtime = 7 },
	{ .kind = SYNC_KIND_FILE,
	    .path = "d/n0010.txttttz",
	    .mode = 0600,
	    .size = 4097,
	    .mtime = 7 },
};

#define ENTRIES (sizeof(entries) / sizeof(entries[0]))

static void put_all(struct sync_out *o, struct err *err)
{
	struct sync_entries s;

	sync_begin(o, SYNC_ENTRIES);
	sync_entries_init(&s);
	for (size_t i = 0; i < ENTRIES; i++)
		sync_put_entry(o, &s, &entries[i]);
	assert_int_equal(sync_end(o, err), 0);
	sync_begin(o, SYNC_LISTED);
	assert_int_equal(sync_end(o, err), 0);
}

static void get_all(struct sync_in *in)
{
	struct sync_entries s;
	struct sync_entry e;
	struct sync_body b;
	struct err err = { 0 };

	assert_int_equal(sync_next(in, &b, &err), 1);
	assert_int_equal(b.type, SYNC_ENTRIES);
	sync_entries_init(&s);
	for (size_t i = 0; i < ENTRIES; i++) {
		assert_true(sync_get_entry(&b, &s, &e));
		assert_int_equal(e.kind, entries[i].kind);
		assert_string_equal(e.path, entries[i].path);
		assert_int_equal(e.mode, entries[i].mode);
		assert_true(e.size == entries[i].size);
		assert_true(e.mtime == entries[i].mtime || e.kind == SYNC_KIND_OTHER);
		assert_true(e.file == entries[i].file);
		assert_true(e.attributes == entries[i].attributes);
		if (e.kind == SYNC_KIND_LINK)
			assert_string_equal(e.link, entries[i].link);
		assert_int_equal(e.has_digest, entries[i].has_digest);
		assert_memory_equal(e.digest, entries[i].digest, DIGEST_SIZE);
	}
	assert_false(sync_get_entry(&b, &s, &e));
	assert_int_equal(sync_get_done(&b, &err), 0);
	assert_int_equal(sync_next(in, &b, &err), 1);
	assert_int_equal(b.type, SYNC_LISTED);
	assert_int_equal(sync_next(in, &b, &err), 0);
}

static void entries_go_there_and_back(void **state)
{
	(void)state;
	for (size_t step = 1; step < 200; step += 13) {
		struct pipe p = { .step = step };
		struct err err = { 0 };
		struct sync_out o;
		struct sync_in in;

		assert_int_equal(sync_out_init(&o, push, &p, &err), 0);
		put_all(&o, &err);
		assert_int_equal(sync_flush(&o, &err), 0);
		assert_int_equal(o.total, p.len);
		assert_int_equal(sync_in_init(&in, pull, &p, &err), 0);
		get_all(&in);
		assert_int_equal(in.total, o.total);
		sync_in_free(&in);
		sync_out_free(&o);
		free(p.data);
	}
}

static void numbers_go_there_and_back(void **state)
{
	static const int64_t numbers[] = { 0, 1, -1, 63, 64, -64, -65, 127, 128, INT64_MAX,
		INT64_MIN };
	struct pipe p = { .step = SIZE_MAX };
	struct err err = { 0 };
	struct sync_out o;
	struct sync_in in;
	struct sync_body b;

	(void)state;
	assert_int_equal(sync_out_init(&o, push, &p, &err), 0);
	assert_int_equal(sync_in_init(&in, pull, &p, &err), 0);
	sync_begin(&o, SYNC_DONE);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		sync_put_signed(&o, numbers[i]);
		sync_put_number(&o, (uint64_t)numbers[i]);
	}
	assert_int_equal(sync_end(&o, &err), 0);
	sync_begin(&o, SYNC_DONE);
	sync_put_number(&o, 5);
	sync_drop(&o);
	assert_int_equal(sync_flush(&o, &err), 0);
	assert_int_equal(sync_next(&in, &b, &err), 1);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		assert_true(sync_get_signed(&b) == numbers[i]);
		assert_true(sync_get_number(&b) == (uint64_t)numbers[i]);
	}
	assert_int_equal(sync_get_done(&b, &err), 0);
	assert_int_equal(sync_next(&in, &b, &err), 0);
	sync_in_free(&in);
	sync_out_free(&o);
	free(p.data);
}

static void what_is_no_record_is_refused(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
	} rows[] = {
		{ "\x10", 1 },              /* the end within a head */
		{ "\x10\x02\x00\x00x", 5 }, /* and within a body */
		{ "\x10\x01\x00\x02", 4 },  /* 128 KiB and one more */
		{ "\x10\xff\xff\xff", 4 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (size_t step = 1; step < 8; step += 5) {
			struct pipe p = {
				.data = (uint8_t *)rows[i].bytes, .len = rows[i].len, .step = step
			};
			struct err err = { 0 };
			struct sync_in in;
			struct sync_body b;

			assert_int_equal(sync_in_init(&in, pull, &p, &err), 0);
			assert_int_equal(sync_next(&in, &b, &err), -1);
			assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
			sync_in_free(&in);
		}
}

static bool body_is_bad(const char *bytes, size_t len)
{
	struct sync_body b = { .at = (const uint8_t *)bytes, .end = (const uint8_t *)bytes + len };
	char path[TREE_PATH_MAX];
	struct err err;

	sync_get_path(&b, path);
	return sync_get_done(&b, &err) != 0;
}

static void what_is_in_it_is_checked(void **state)
{
	(void)state;
	assert_false(body_is_bad("\x01x", 2));
	assert_true(body_is_bad("\x01x!", 3));   /* something behind it */
	assert_true(body_is_bad("\x02x", 2));    /* more than there is */
	assert_true(body_is_bad("\x03x\0y", 4)); /* a NUL */
	assert_true(body_is_bad("", 0));
	assert_true(body_is_bad("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 10)); /* past 64 bits */
	assert_true(body_is_bad("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11));
	assert_true(body_is_bad("\x02..", 3));
}

static void only_clean_paths_are_paths(void **state)
{
	char deep[3 * TREE_DEPTH_MAX], name[300];

	(void)state;
	assert_true(sync_path_is_clean("a"));
	assert_true(sync_path_is_clean("a/..b/c. /..."));
	assert_true(sync_path_is_clean(".a"));
	for (const char *const *p = (const char *[]){ "", "/", "/a", "a/", "a//b", ".", "./a",
		 "a/.", "..", "../a", "a/..", "a/../b", NULL };
	     *p != NULL; p++)
		assert_false(sync_path_is_clean(*p));
	memset(name, 'n', sizeof(name));
	name[255] = '\0';
	assert_true(sync_path_is_clean(name));
	name[255] = 'n';
	name[256] = '\0';
	assert_false(sync_path_is_clean(name));
	for (size_t i = 0; i < sizeof(deep); i++)
		deep[i] = i % 2 == 0 ? 'd' : '/';
	deep[2 * TREE_DEPTH_MAX - 1] = '\0';
	assert_true(sync_path_is_clean(deep));
	deep[2 * TREE_DEPTH_MAX - 1] = '/';
	deep[2 * TREE_DEPTH_MAX + 1] = '\0';
	assert_false(sync_path_is_clean(deep));
}

/* A directory comes right before what is in it, whatever its name's neighbours are. */
static void trees_have_one_order(void **state)
{
	static const char *const sorted[] = { "a", "a/b", "a/b/c", "a/b\x01", "a\x01", "a\x01/b",
		"a b", "a.b", "a0", "b", "\xff" };
	const size_t n = sizeof(sorted) / sizeof(sorted[0]);

	(void)state;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < n; k++) {
			int r = sync_compare(sorted[i], sorted[k]);
			assert_int_equal((r > 0) - (r < 0), (i > k) - (i < k));
		}
}

static void try_without_memory(void *cookie)
{
	struct pipe p = { .step = 7 };
	struct err err = { 0 };
	struct sync_out o = { 0 };
	struct sync_in in = { 0 };

	(void)cookie;
	int r = sync_out_init(&o, push, &p, &err) == 0 && sync_in_init(&in, pull, &p, &err) == 0;
	assert_int_equal(r, !alloc_has_failed());
	sync_in_free(&in);
	sync_out_free(&o);
}

static void no_memory(void **state)
{
	(void)state;
	alloc_torture(try_without_memory, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(entries_go_there_and_back),
		cmocka_unit_test(numbers_go_there_and_back),
		cmocka_unit_test(what_is_no_record_is_refused),
		cmocka_unit_test(what_is_in_it_is_checked),
		cmocka_unit_test(only_clean_paths_are_paths),
		cmocka_unit_test(trees_have_one_order),
		cmocka_unit_test(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
