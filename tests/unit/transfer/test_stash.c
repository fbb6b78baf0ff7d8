/* What an interrupted download leaves, and what of that the next one goes on with. */
#include "transfer/stash.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/alloc.h"
#include "support/leak.h"

#define TOTAL ((uint64_t)3 << 20)

static const uint8_t key[DIGEST_SIZE] = "source";
static char content[TOTAL];

struct fixture {
	struct leak *leak;
	int slash;
	const char *path; /* of the target */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->leak = leak_begin();
	f->slash = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	f->path = leak_path(f->leak, "f");
	*state = f;
	for (size_t i = 0; i < sizeof(content); i++)
		content[i] = (char)(i * 7 + i / 4096);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int r;

	close(f->slash);
	r = leak_end(f->leak);
	free(f);
	return r;
}

static struct stash *create(const struct fixture *f, uint64_t total, size_t count, struct err *err)
{
	struct stash_source source = { .etag = "etag", .total = total };

	memcpy(source.key, key, sizeof(key));
	return stash_create(f->slash, f->path, &source, count, false, err);
}

static struct stash *find(const struct fixture *f)
{
	struct err err = { 0 };
	struct stash *s = stash_find(f->slash, f->path, key, false, &err);

	assert_int_equal(err.code, GRPC_OK);
	return s;
}

static void fill(struct stash *s, size_t range, uint64_t n)
{
	struct stash_range r = stash_range(s, range);
	struct err err;

	assert_int_equal(stash_write(s, range, content + r.begin + r.done, n, &err), 0);
	assert_int_equal(stash_mark(s, range, &err), 0);
}

static void assert_content(const char *path)
{
	char *got = malloc(TOTAL + 1);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(read(fd, got, TOTAL + 1), TOTAL);
	assert_memory_equal(got, content, TOTAL);
	close(fd);
	free(got);
}

static void test_nothing_is_replaced(void **state)
{
	const struct fixture *f = *state;
	struct err err;
	struct stash *s = create(f, TOTAL, 1, &err);
	int fd = open(f->path, O_WRONLY | O_CREAT | O_EXCL, 0600);

	assert_true(fd >= 0);
	close(fd);
	fill(s, 0, TOTAL);
	assert_int_equal(stash_commit(s, 0600, NULL, false, &err), -1);
	assert_int_equal(err.code, GRPC_ALREADY_EXISTS);
	assert_int_equal(unlink(f->path), 0);
	s = create(f, TOTAL, 1, &err);
	fill(s, 0, TOTAL);
	assert_int_equal(stash_commit(s, 0600, NULL, false, &err), 0);
	assert_content(f->path);
	assert_int_equal(unlink(f->path), 0);
}

static void test_all_at_once(void **state)
{
	const struct fixture *f = *state;
	const struct timespec mtime = { .tv_sec = 1000, .tv_nsec = 5 };
	struct err err;
	struct stat st;
	struct stash *s = create(f, TOTAL, 1, &err);

	fill(s, 0, TOTAL);
	assert_int_equal(access(f->path, F_OK), -1);
	assert_int_equal(stash_commit(s, 06754, &mtime, true, &err), 0);
	assert_content(f->path);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0754);
	assert_int_equal(st.st_mtim.tv_sec, 1000);
	assert_int_equal(st.st_mtim.tv_nsec, 5);
	assert_int_equal(unlink(f->path), 0);
}

static void test_kept_and_found(void **state)
{
	const struct fixture *f = *state;
	struct digest *digest = digest_create(), *want = digest_create();
	uint8_t a[DIGEST_SIZE], b[DIGEST_SIZE];
	struct err err;
	struct stash *s = create(f, TOTAL, 3, &err);

	fill(s, 0, 700000);
	fill(s, 2, 1 << 20);
	assert_int_equal(stash_keep(s), 700000 + (1 << 20));
	s = find(f);
	assert_int_equal(stash_count(s), 3);
	assert_int_equal(stash_source(s)->total, TOTAL);
	assert_string_equal(stash_source(s)->etag, "etag");
	assert_int_equal(stash_range(s, 0).done, 700000);
	assert_int_equal(stash_range(s, 1).done, 0);
	assert_int_equal(stash_range(s, 2).done, 1 << 20);
	assert_int_equal(stash_digest(s, 2, 10, 1000, digest, &err), 0);
	digest_update(want, content + (2 << 20) + 10, 1000);
	digest_value(digest, a);
	digest_value(want, b);
	assert_memory_equal(a, b, sizeof(a));
	digest_free(digest);
	digest_free(want);
	stash_rewind(s, 2);
	fill(s, 2, 1);
	fill(s, 0, (1 << 20) - 700000);
	fill(s, 1, 1 << 20);
	assert_int_equal(stash_commit(s, 0600, NULL, true, &err), 0);
	assert_content(f->path);
	assert_int_equal(unlink(f->path), 0);
}

static void test_little_is_not_kept(void **state)
{
	const struct fixture *f = *state;
	struct err err;
	struct stash *s = create(f, TOTAL, 1, &err);

	fill(s, 0, STASH_KEEP_MIN - 1);
	assert_int_equal(stash_keep(s), 0);
	assert_null(find(f));
}

static void test_without_an_etag(void **state)
{
	const struct fixture *f = *state;
	struct stash_source source = { .total = TOTAL };
	struct err err;
	struct stash *s = stash_create(f->slash, f->path, &source, 1, false, &err);

	fill(s, 0, 2 << 20);
	assert_int_equal(stash_keep(s), 0);
}

static void keep_some(const struct fixture *f)
{
	struct err err;
	struct stash *s = create(f, TOTAL, 2, &err);

	assert_non_null(s);
	fill(s, 1, 1 << 20);
	assert_int_equal(stash_keep(s), 1 << 20);
}

static void test_of_another_source(void **state)
{
	const struct fixture *f = *state;
	uint8_t other[DIGEST_SIZE] = "other";
	struct err err = { 0 };

	keep_some(f);
	assert_null(stash_find(f->slash, f->path, other, false, &err));
	assert_int_equal(err.code, GRPC_OK);
	keep_some(f);
	assert_null(stash_find(f->slash, f->path, key, true, &err));
	assert_int_equal(err.code, GRPC_OK);
}

/* Each byte of what is known of it, changed; only how far ranges are may be. */
static void test_damaged(void **state)
{
	struct fixture *f = *state;
	const char *part = leak_path(f->leak, ".f.towline-get");
	struct stash_range bad = { .done = UINT64_MAX };
	struct stat st;

	keep_some(f);
	assert_int_equal(stat(part, &st), 0);
	for (off_t at = (off_t)TOTAL; at < st.st_size; at += 5) {
		struct stash *s;
		uint8_t byte;
		int fd = open(part, O_RDWR | O_CLOEXEC);

		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 0x80;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
		close(fd);
		if ((s = find(f)) != NULL) {
			struct stash_range r = stash_range(s, 0);

			assert_true(r.done <= r.end - r.begin);
			stash_remove(s);
		}
		assert_int_equal(access(part, F_OK), -1);
		keep_some(f);
	}
	/* Further than its range reaches. */
	int fd = open(part, O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite(fd, &bad.done, 8, st.st_size - 16 * (off_t)sizeof(bad) + 16), 8);
	close(fd);
	assert_null(find(f));
	keep_some(f);
	assert_int_equal(truncate(part, st.st_size - 1), 0);
	assert_null(find(f));
}

static void test_two_at_once(void **state)
{
	const struct fixture *f = *state;
	struct err err = { 0 };
	struct stash *s = create(f, TOTAL, 1, &err);

	assert_null(stash_find(f->slash, f->path, key, false, &err));
	assert_int_equal(err.code, GRPC_ABORTED);
	assert_null(create(f, TOTAL, 1, &err));
	assert_int_equal(err.code, GRPC_ABORTED);
	stash_remove(s);
}

static void test_what_is_in_the_way(void **state)
{
	struct fixture *f = *state;
	const char *part = leak_path(f->leak, ".f.towline-get");
	struct err err = { 0 };

	assert_int_equal(symlink("/etc/passwd", part), 0);
	assert_null(create(f, TOTAL, 1, &err));
	assert_int_equal(unlink(part), 0);
	assert_int_equal(mkfifo(part, 0600), 0);
	assert_null(create(f, TOTAL, 1, &err));
	assert_int_equal(err.code, GRPC_PERMISSION_DENIED);
	assert_int_equal(unlink(part), 0);
	assert_int_equal(mkdir(f->path, 0700), 0);
	assert_null(create(f, TOTAL, 1, &err));
	assert_int_equal(err.code, GRPC_FAILED_PRECONDITION);
	assert_int_equal(rmdir(f->path), 0);
	f->path = leak_path(f->leak, "missing/f");
	assert_null(create(f, TOTAL, 1, &err));
	assert_int_equal(err.code, GRPC_NOT_FOUND);
}

static void test_sizes_that_cannot_be(void **state)
{
	const struct fixture *f = *state;
	const uint64_t sizes[] = { UINT64_MAX, INT64_MAX, (uint64_t)INT64_MAX - 100,
		(uint64_t)1 << 62 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct stash_source source = { .etag = "e", .total = sizes[i] };
		struct err err = { 0 };

		assert_null(create(f, sizes[i], 1, &err));
		assert_int_not_equal(err.code, GRPC_OK);
		err_clear(&err);
		/* Nor as a file of holes, where the file system has an end. */
		stash_remove(stash_create(f->slash, f->path, &source, 1, true, &err));
	}
}

static void make_one(void *cookie)
{
	const struct fixture *f = cookie;
	struct err err = { 0 };
	struct stash *s = create(f, TOTAL, 1, &err);

	assert_true(s != NULL || err.code == GRPC_RESOURCE_EXHAUSTED);
	stash_remove(s);
	err_clear(&err);
	s = stash_find(f->slash, f->path, key, false, &err);
	assert_null(s);
}

static void test_without_memory(void **state)
{
	alloc_torture(make_one, *state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_all_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing_is_replaced, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kept_and_found, setup, teardown),
		cmocka_unit_test_setup_teardown(test_little_is_not_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_without_an_etag, setup, teardown),
		cmocka_unit_test_setup_teardown(test_of_another_source, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_two_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_in_the_way, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sizes_that_cannot_be, setup, teardown),
		cmocka_unit_test_setup_teardown(test_without_memory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
