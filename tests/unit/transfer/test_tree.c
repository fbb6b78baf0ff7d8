/* Trees as tar streams: what goes in comes out, and nothing gets out of the directory. */
#include "transfer/tree/tree.h"

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

#include "base/beneath.h"
#include "support/leak.h"
#include "tar.h"

struct fixture {
	struct leak *leak;
	int root; /* of what is unpacked: "in" */
	struct tar tar;
	size_t at, step; /* of the pull: so many bytes at a time */
	char notes[1024];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->leak = leak_begin();
	assert_int_equal(mkdir(leak_path(f->leak, "in"), 0700), 0);
	f->root = open(leak_path(f->leak, "in"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->step = 1000;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	struct err err;
	int folder = open(leak_folder(f->leak), O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	close(f->root);
	assert_int_equal(beneath_remove_tree(folder, "in", &err), 0);
	beneath_remove_tree(folder, "tree", &err);
	close(folder);
	r = leak_end(f->leak);
	free(f);
	return r;
}

static ssize_t pull(void *cookie, const void **bytes, struct err *err)
{
	struct fixture *f = cookie;
	size_t n = f->tar.len - f->at < f->step ? f->tar.len - f->at : f->step;

	(void)err;
	*bytes = f->tar.bytes + f->at;
	f->at += n;
	return (ssize_t)n;
}

static int push(void *cookie, const void *bytes, size_t len, struct err *err)
{
	struct fixture *f = cookie;

	if (len > sizeof(f->tar.bytes) - f->tar.len)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "the test's buffer");
	memcpy(f->tar.bytes + f->tar.len, bytes, len);
	f->tar.len += len;
	return 0;
}

static void note(void *cookie, const char *text)
{
	struct fixture *f = cookie;

	size_t at = strlen(f->notes);
	snprintf(f->notes + at, sizeof(f->notes) - at, "%s", text);
}

static int unpack(struct fixture *f, struct tree_result *result, struct err *err)
{
	struct tree_unpack u = {
		.root = f->root, .pull = pull, .note = note, .cookie = f, .links = true
	};

	memset(err, 0, sizeof(*err));
	f->at = 0;
	return tree_unpack(&u, result, err);
}

static void write_text(struct fixture *f, const char *name, const char *text, mode_t mode)
{
	int fd = open(leak_path(f->leak, name), O_WRONLY | O_CREAT | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void assert_text(struct fixture *f, const char *name, const char *text)
{
	char got[64] = "";
	int fd = open(leak_path(f->leak, name), O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		fail_msg("%s: %s", name, strerror(errno));
	assert_int_equal(read(fd, got, sizeof(got) - 1), strlen(text));
	assert_string_equal(got, text);
	close(fd);
}

static void make_tree(struct fixture *f)
{
	assert_int_equal(mkdir(leak_path(f->leak, "tree"), 0755), 0);
	assert_int_equal(mkdir(leak_path(f->leak, "tree/sub"), 0750), 0);
	assert_int_equal(mkdir(leak_path(f->leak, "tree/empty"), 0700), 0);
	write_text(f, "tree/a", "hello", 0644);
	write_text(f, "tree/sub/b", "", 0755);
	write_text(f, "tree/sub/n\xc3\xa4me \xff", "odd", 0600);
	assert_int_equal(symlink("sub/b", leak_path(f->leak, "tree/link")), 0);
	assert_int_equal(symlink("/etc/passwd", leak_path(f->leak, "tree/outward")), 0);
	assert_int_equal(mkfifo(leak_path(f->leak, "tree/pipe"), 0600), 0);
}

static void round_trip(struct fixture *f, enum tree_compression compression)
{
	struct tree_result packed, unpacked;
	struct err err = { 0 };
	struct stat st;
	char target[64] = "";
	int root = open(leak_path(f->leak, "tree"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct tree_pack p = { .root = root,
		.name = ".",
		.compression = compression,
		.push = push,
		.note = note,
		.cookie = f };

	f->tar.len = 0;
	f->notes[0] = '\0';
	if (tree_pack(&p, &packed, &err) != 0)
		fail_msg("%s", err.text);
	close(root);
	assert_int_equal(packed.entries, 7);
	assert_int_equal(packed.skipped, 2);
	assert_non_null(strstr(f->notes, "outward"));
	assert_non_null(strstr(f->notes, "pipe"));
	if (unpack(f, &unpacked, &err) != 0)
		fail_msg("%s", err.text);
	assert_int_equal(unpacked.entries, packed.entries);
	assert_int_equal(unpacked.bytes, packed.bytes);
	assert_text(f, "in/a", "hello");
	assert_text(f, "in/sub/n\xc3\xa4me \xff", "odd");
	assert_int_equal(readlink(leak_path(f->leak, "in/link"), target, sizeof(target) - 1), 5);
	assert_string_equal(target, "sub/b");
	assert_int_equal(stat(leak_path(f->leak, "in/sub/b"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	assert_int_equal(stat(leak_path(f->leak, "in/empty"), &st), 0);
	assert_true(S_ISDIR(st.st_mode));
}

static void packs_and_unpacks(void **state)
{
	struct fixture *f = *state;

	make_tree(f);
	for (size_t step = 1; step < 100000; step *= 7) {
		f->step = step;
		round_trip(f, TREE_COMPRESSION_NONE);
	}
	round_trip(f, TREE_COMPRESSION_GZIP);
	round_trip(f, TREE_COMPRESSION_ZSTD);
}

static void packs_one_file(void **state)
{
	struct fixture *f = *state;
	struct tree_result r;
	struct err err = { 0 };
	struct tree_pack p = { .name = "tree/a", .push = push, .cookie = f };

	make_tree(f);
	p.root = open(leak_folder(f->leak), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(tree_pack(&p, &r, &err), 0);
	close(p.root);
	assert_int_equal(r.entries, 1);
	assert_int_equal(unpack(f, &r, &err), 0);
	assert_text(f, "in/a", "hello");
}

/* What a hostile archive holds, and how it is answered. */
static const struct hostile {
	char type;
	const char *name, *link;
	enum grpc_code code;
} hostile[] = {
	{ '0', "/abs", "", GRPC_PERMISSION_DENIED },
	{ '0', "../up", "", GRPC_PERMISSION_DENIED },
	{ '0', "a/../../up", "", GRPC_PERMISSION_DENIED },
	{ '2', "out", "/etc/passwd", GRPC_PERMISSION_DENIED },
	{ '2', "a/out", "../../x", GRPC_PERMISSION_DENIED },
	{ '1', "hard", "/etc/passwd", GRPC_PERMISSION_DENIED },
	{ '1', "hard", "../../etc/passwd", GRPC_PERMISSION_DENIED },
	{ '1', "hard", "missing", GRPC_NOT_FOUND },
	{ '3', "null", "", GRPC_PERMISSION_DENIED },
	{ '4', "disk", "", GRPC_PERMISSION_DENIED },
	{ '6', "fifo", "", GRPC_PERMISSION_DENIED },
};

static void hostile_entries_are_refused(void **state)
{
	struct fixture *f = *state;
	struct tree_result r;
	struct err err;

	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		const struct hostile *h = &hostile[i];
		f->tar.len = 0;
		tar_add(&f->tar, '0', "before", "", 0644, 1, "1", 1);
		tar_add(
		    &f->tar, h->type, h->name, h->link, 0644, h->type == '0', "x", h->type == '0');
		tar_add(&f->tar, '0', "after", "", 0644, 1, "3", 1);
		tar_end(&f->tar);
		assert_int_equal(unpack(f, &r, &err), -1);
		if (err.code != h->code || strstr(err.text, h->name) == NULL)
			fail_msg("%s: %s %s", h->name, err_code_name(err.code), err.text);
		assert_int_equal(r.failed, 1);
		assert_int_equal(r.entries, 3);
		assert_int_equal(unlinkat(f->root, "after", 0), 0);
		assert_int_equal(access(leak_path(f->leak, "up"), F_OK), -1);
	}
}

static void setuid_is_dropped(void **state)
{
	struct fixture *f = *state;
	struct tree_result r;
	struct err err;
	struct stat st;

	tar_add(&f->tar, '0', "tool", "", 06755, 1, "x", 1);
	tar_end(&f->tar);
	assert_int_equal(unpack(f, &r, &err), 0);
	assert_int_equal(fstatat(f->root, "tool", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
}

/* A link made by an earlier entry leads no later one anywhere. */
static void links_are_not_followed(void **state)
{
	struct fixture *f = *state;
	struct tree_result r;
	struct err err;

	tar_add(&f->tar, '5', "d", "", 0755, 0, "", 0);
	tar_add(&f->tar, '2', "l", "d", 0777, 0, "", 0);
	tar_add(&f->tar, '0', "l/x", "", 0644, 1, "x", 1);
	tar_end(&f->tar);
	assert_int_equal(unpack(f, &r, &err), -1);
	assert_int_equal(faccessat(f->root, "d/x", F_OK, 0), -1);
}

static void lying_headers(void **state)
{
	struct fixture *f = *state;
	struct tree_result r;
	struct err err;

	/* More is promised than comes. */
	tar_add(&f->tar, '0', "short", "", 0644, 100000, "x", 1);
	assert_int_equal(unpack(f, &r, &err), -1);
	assert_int_equal(faccessat(f->root, "short", F_OK, 0), -1);
	/* No archive at all. */
	memset(f->tar.bytes, 'z', 4096);
	f->tar.len = 4096;
	assert_int_equal(unpack(f, &r, &err), -1);
	assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
	/* None is an empty tree. */
	f->tar.len = 0;
	assert_int_equal(unpack(f, &r, &err), 0);
	assert_int_equal(r.entries, 0);
}

static void limits_are_kept(void **state)
{
	struct fixture *f = *state;
	struct tree_result r;
	struct err err = { 0 };
	struct tree_unpack u = { .root = f->root, .pull = pull, .cookie = f, .max_entries = 2 };
	char name[16];

	for (int i = 0; i < 3; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		tar_add(&f->tar, '0', name, "", 0644, 0, "", 0);
	}
	tar_end(&f->tar);
	assert_int_equal(tree_unpack(&u, &r, &err), -1);
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	assert_non_null(strstr(err.text, "f2"));
	u.max_entries = 0;
	u.max_bytes = 10;
	f->at = f->tar.len = 0;
	tar_add(&f->tar, '0', "big", "", 0644, 11, "01234567890", 11);
	tar_end(&f->tar);
	assert_int_equal(tree_unpack(&u, &r, &err), -1);
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
}

static void write_zeros(struct fixture *f, const char *name, size_t size)
{
	static const char zeros[1 << 20];
	int fd = open(leak_path(f->leak, name), O_WRONLY | O_CLOEXEC);

	for (; size > 0; size -= sizeof(zeros))
		assert_int_equal(write(fd, zeros, sizeof(zeros)), sizeof(zeros));
	close(fd);
}

/* A file of zeros that zstd makes tiny. */
static void bombs_are_defused(void **state)
{
	struct fixture *f = *state;
	struct tree_result r;
	struct err err = { 0 };
	struct stat st;
	struct tree_pack p = {
		.name = ".", .compression = TREE_COMPRESSION_ZSTD, .push = push, .cookie = f
	};

	assert_int_equal(mkdir(leak_path(f->leak, "tree"), 0755), 0);
	write_text(f, "tree/zeros", "", 0644);
	write_zeros(f, "tree/zeros", 64 << 20);
	p.root = open(leak_path(f->leak, "tree"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(tree_pack(&p, &r, &err), 0);
	close(p.root);
	f->step = 100;
	assert_int_equal(unpack(f, &r, &err), -1);
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	assert_non_null(strstr(err.text, "zeros"));
	assert_int_equal(fstatat(f->root, "zeros", &st, 0), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(packs_and_unpacks, setup, teardown),
		cmocka_unit_test_setup_teardown(packs_one_file, setup, teardown),
		cmocka_unit_test_setup_teardown(hostile_entries_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(setuid_is_dropped, setup, teardown),
		cmocka_unit_test_setup_teardown(links_are_not_followed, setup, teardown),
		cmocka_unit_test_setup_teardown(lying_headers, setup, teardown),
		cmocka_unit_test_setup_teardown(limits_are_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(bombs_are_defused, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
