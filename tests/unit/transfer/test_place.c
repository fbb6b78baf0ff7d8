/* A file appears complete and verified, or not at all, and nothing is left beside it. */
#include "transfer/place.h"

#include <dirent.h>
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

#include "base/digest.h"
#include "rpc/crypto.h"
#include "support/leak.h"

struct fixture {
	struct leak *leak;
	int workdir, slash;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->leak = leak_begin();
	f->workdir = open(leak_folder(f->leak), O_PATH | O_DIRECTORY | O_CLOEXEC);
	f->slash = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int r;

	close(f->workdir);
	close(f->slash);
	r = leak_end(f->leak);
	free(f);
	return r;
}

static struct place_options options(const struct fixture *f, const char *path, uint64_t size)
{
	return (struct place_options){ .workdir = f->workdir,
		.slash = f->slash,
		.path = path,
		.make_parents = true,
		.size_known = true,
		.size = size };
}

static void put_file(struct fixture *f, const char *name, const char *text, mode_t mode)
{
	int fd = open(leak_path(f->leak, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	assert_int_equal(chmod(leak_path(f->leak, name), mode), 0);
}

static void assert_file(struct fixture *f, const char *name, const char *text, mode_t mode)
{
	char got[256] = "";
	struct stat st;
	int fd = open(leak_path(f->leak, name), O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(read(fd, got, sizeof(got) - 1), strlen(text));
	assert_string_equal(got, text);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, mode);
	close(fd);
}

/* How many entries the folder has. */
static unsigned entries(struct fixture *f)
{
	DIR *d = opendir(leak_folder(f->leak));
	unsigned n = 0;

	for (struct dirent *e; (e = readdir(d)) != NULL;)
		n += e->d_name[0] != '.' || strlen(e->d_name) > 2;
	closedir(d);
	return n;
}

static void remove_file(struct fixture *f, const char *name)
{
	assert_int_equal(unlink(leak_path(f->leak, name)), 0);
}

static void commits_whole_file(void **state)
{
	struct fixture *f = *state;
	struct place_options o = options(f, "new", 5);
	struct err err = { 0 };
	uint64_t bytes;
	uint8_t digest[16], want[16];

	o.mode = 0640;
	o.has_mtime = true;
	o.mtime.tv_sec = 1000000000;
	struct place *p = place_open(&o, &err);
	assert_non_null(p);
	assert_int_equal(place_write(p, "he", 2, &err), 0);
	assert_int_not_equal(access(leak_path(f->leak, "new"), F_OK), 0);
	assert_int_equal(place_write(p, "llo", 3, &err), 0);
	assert_int_equal(place_commit(p, &bytes, digest, &err), 0);
	assert_int_equal(bytes, 5);
	assert_file(f, "new", "hello", 0640);

	struct digest *d = digest_create();
	digest_update(d, "hello", 5);
	digest_value(d, want);
	digest_free(d);
	assert_memory_equal(digest, want, sizeof(want));

	struct stat st;
	assert_int_equal(stat(leak_path(f->leak, "new"), &st), 0);
	assert_int_equal(st.st_mtim.tv_sec, 1000000000);
	remove_file(f, "new");
}

/* Each way to fail: the old file stays as it was, and no part file remains. */
static void failure_leaves_old_file(void **state)
{
	struct fixture *f = *state;
	struct err err;
	uint64_t bytes;
	uint8_t digest[16];

	put_file(f, "old", "old", 0600);
	for (int way = 0; way < 4; way++) {
		struct place_options o = options(f, "old", 3);
		memset(&err, 0, sizeof(err));
		if (way == 2)
			o.digest = PLACE_DIGEST_XXH3_128; /* of zeros, which is wrong */
		if (way == 3)
			o.digest = PLACE_DIGEST_SHA256;
		struct place *p = place_open(&o, &err);
		assert_non_null(p);
		if (way == 0) { /* too few */
			assert_int_equal(place_write(p, "ne", 2, &err), 0);
			assert_int_equal(place_commit(p, &bytes, digest, &err), -1);
		} else if (way == 1) { /* too many */
			assert_int_equal(place_write(p, "newer", 5, &err), -1);
			place_abort(p);
		} else {
			assert_int_equal(place_write(p, "new", 3, &err), 0);
			assert_int_equal(place_commit(p, &bytes, digest, &err), -1);
		}
		assert_int_equal(err.code, GRPC_DATA_LOSS);
		assert_non_null(strstr(err.text, "old"));
		assert_file(f, "old", "old", 0600);
		assert_int_equal(entries(f), 1);
	}
	remove_file(f, "old");
}

static void keeps_mode_and_drops_setuid(void **state)
{
	struct fixture *f = *state;
	struct err err = { 0 };
	uint64_t bytes;
	uint8_t digest[16];

	put_file(f, "tool", "x", 04755);
	struct place_options o = options(f, "tool", 1);
	struct place *p = place_open(&o, &err);
	assert_non_null(p);
	assert_int_equal(place_write(p, "y", 1, &err), 0);
	assert_int_equal(place_commit(p, &bytes, digest, &err), 0);
	assert_file(f, "tool", "y", 0755);
	remove_file(f, "tool");
}

/* It is the link that goes: what it leads to is not looked at, and stays. */
static void a_link_is_replaced(void **state)
{
	struct fixture *f = *state;
	struct err err = { 0 };
	uint64_t bytes;
	uint8_t digest[16];
	struct stat st;

	put_file(f, "secret", "secret", 0600);
	for (int i = 0; i < 2; i++) {
		const char *to = i == 0 ? "secret" : "nowhere";
		struct place_options o = options(f, "link", 1);

		assert_int_equal(symlink(to, leak_path(f->leak, "link")), 0);
		if (geteuid() == 0) {
			assert_int_equal(chown(leak_path(f->leak, "secret"), 1, 1), 0);
			assert_int_equal(lchown(leak_path(f->leak, "link"), 2, 3), 0);
		}
		struct place *p = place_open(&o, &err);
		assert_non_null(p);
		assert_int_equal(place_write(p, "y", 1, &err), 0);
		assert_int_equal(place_commit(p, &bytes, digest, &err), 0);
		assert_file(f, "link", "y", 0644);
		assert_int_equal(lstat(leak_path(f->leak, "link"), &st), 0);
		assert_true(S_ISREG(st.st_mode));
		assert_int_equal(st.st_uid, geteuid() == 0 ? 2 : geteuid());
		assert_int_equal(st.st_gid, geteuid() == 0 ? 3 : getegid());
		remove_file(f, "link");
	}
	assert_file(f, "secret", "secret", 0600);
	remove_file(f, "secret");
}

static void sha256_is_checked(void **state)
{
	struct fixture *f = *state;
	struct err err = { 0 };
	struct place_options o = options(f, "sum", 3);
	uint64_t bytes;
	uint8_t digest[16];

	o.digest = PLACE_DIGEST_SHA256;
	crypto_sha256("abc", 3, o.expected);
	struct place *p = place_open(&o, &err);
	assert_non_null(p);
	assert_int_equal(place_write(p, "abc", 3, &err), 0);
	assert_int_equal(place_commit(p, &bytes, digest, &err), 0);
	remove_file(f, "sum");
}

static void refuses(struct fixture *f, const char *path, bool parents, enum grpc_code code)
{
	struct err err = { 0 };
	struct place_options o = options(f, path, 1);

	o.make_parents = parents;
	struct place *p = place_open(&o, &err);
	if (p != NULL) {
		place_abort(p);
		fail_msg("%s was taken", path);
	}
	if (err.code != code)
		fail_msg("%s: %s %s", path, err_code_name(err.code), err.text);
}

static void refuses_bad_targets(void **state)
{
	struct fixture *f = *state;
	char *longest = malloc(5001);

	memset(longest, 'a', 5000);
	longest[5000] = '\0';
	assert_int_equal(mkdir(leak_path(f->leak, "dir"), 0700), 0);
	assert_int_equal(symlink("/etc", leak_path(f->leak, "out")), 0);
	refuses(f, "dir", true, GRPC_FAILED_PRECONDITION);
	refuses(f, "missing/x", false, GRPC_NOT_FOUND);
	refuses(f, "../x", true, GRPC_PERMISSION_DENIED);
	refuses(f, "dir/../../x", true, GRPC_PERMISSION_DENIED);
	refuses(f, "out/x", true, GRPC_PERMISSION_DENIED);
	refuses(f, "out", true, GRPC_FAILED_PRECONDITION);
	refuses(f, longest, true, GRPC_INVALID_ARGUMENT);
	refuses(f, "dir/..", true, GRPC_INVALID_ARGUMENT);
	assert_int_equal(rmdir(leak_path(f->leak, "dir")), 0);
	remove_file(f, "out");
	free(longest);
}

/* An absolute path may go through absolute links: it is the sandbox's whole tree. */
static void absolute_paths_follow_links(void **state)
{
	struct fixture *f = *state;
	struct err err = { 0 };
	uint64_t bytes;
	uint8_t digest[16];
	char path[512];

	assert_int_equal(mkdir(leak_path(f->leak, "real"), 0700), 0);
	assert_int_equal(symlink(leak_path(f->leak, "real"), leak_path(f->leak, "link")), 0);
	snprintf(path, sizeof(path), "%s/link/sub/x", leak_folder(f->leak));
	struct place_options o = options(f, path, 1);
	struct place *p = place_open(&o, &err);
	if (p == NULL)
		fail_msg("%s", err.text);
	assert_int_equal(place_write(p, "1", 1, &err), 0);
	assert_int_equal(place_commit(p, &bytes, digest, &err), 0);
	assert_file(f, "real/sub/x", "1", 0644);
	remove_file(f, "real/sub/x");
	assert_int_equal(rmdir(leak_path(f->leak, "real/sub")), 0);
	assert_int_equal(rmdir(leak_path(f->leak, "real")), 0);
	remove_file(f, "link");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(commits_whole_file, setup, teardown),
		cmocka_unit_test_setup_teardown(failure_leaves_old_file, setup, teardown),
		cmocka_unit_test_setup_teardown(keeps_mode_and_drops_setuid, setup, teardown),
		cmocka_unit_test_setup_teardown(a_link_is_replaced, setup, teardown),
		cmocka_unit_test_setup_teardown(sha256_is_checked, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_bad_targets, setup, teardown),
		cmocka_unit_test_setup_teardown(absolute_paths_follow_links, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
