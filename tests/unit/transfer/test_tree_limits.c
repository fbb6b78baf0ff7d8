/* What of a tree is remembered until its end, and what is told of it. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/beneath.h"
#include "support/leak.h"
#include "tar.h"
#include "transfer/tree/tree.h"
#include "transfer/tree/tree_notes.h"
#include "transfer/tree/tree_rules.h"

#define LONG_DEPTH 15 /* of the directory that makes paths long */
#define LONG_NAME  250
#define LONG_PATH  (LONG_DEPTH * (LONG_NAME + 1)) /* with the slash behind it */
#define OLD        1000000000                     /* seconds */

struct fixture {
	struct leak *leak;
	int folder;
	struct tar tar;
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

	assert_int_equal(beneath_remove_tree(f->folder, "d", &err), 0);
	close(f->folder);
	int r = leak_end(f->leak);
	free(f);
	return r;
}

/* "d/dd...", directories in each other, and a slash. */
static void long_path(char out[static LONG_PATH + 1])
{
	memset(out, 'd', LONG_PATH);
	for (size_t i = 0; i < LONG_DEPTH; i++)
		out[i * (LONG_NAME + 1) + LONG_NAME] = '/';
	out[1] = '/';
	out[LONG_PATH] = '\0';
}

static int make_long(struct fixture *f)
{
	char path[LONG_PATH + 1];
	struct err err;

	long_path(path);
	assert_int_equal(beneath_mkdir(f->folder, path, 0755, BENEATH_NO_LINKS, &err), 0);
	return beneath_open(f->folder, path, O_RDONLY | O_DIRECTORY, 0, BENEATH_NO_LINKS, &err);
}

/* Times of directories. */

/* Directories, one at each pull; their names take two entries. */
struct many {
	struct fixture *f;
	char path[LONG_PATH + 16];
	unsigned next, count;
};

static ssize_t pull(void *cookie, const void **bytes, struct err *err)
{
	struct many *m = cookie;
	struct tar *t = &m->f->tar;

	(void)err;
	t->len = 0;
	if (m->next < m->count) {
		snprintf(m->path + LONG_PATH, 16, "%u", m->next++);
		size_t size = strlen(m->path) + 1;
		tar_add(t, 'L', "././@LongLink", "", 0644, size, m->path, size);
		tar_add(t, '5', "d", "", 0755, 0, "", 0);
	} else if (m->next++ == m->count) {
		tar_end(t);
	}
	*bytes = t->bytes;
	return (ssize_t)t->len;
}

static void note_of_times(void *cookie, const char *text)
{
	struct many *m = cookie;

	assert_non_null(strstr(text, "too many directories to keep its mode and time"));
	m->f->notes++;
}

static unsigned count_old(struct many *m, int dir)
{
	unsigned old = 0;
	char name[16];
	struct stat st;

	for (unsigned i = 0; i < m->count; i++) {
		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW), 0);
		old += st.st_mtim.tv_sec == OLD;
	}
	return old;
}

static void times_of_directories(void **state)
{
	struct fixture *f = *state;
	struct many m = { .f = f, .count = TREE_LATER_MAX / LONG_PATH + 1 };
	struct tree_unpack u = {
		.root = f->folder, .pull = pull, .note = note_of_times, .cookie = &m
	};
	struct tree_result result;
	struct err err = { 0 };
	int dir = make_long(f);

	long_path(m.path);
	assert_int_equal(tree_unpack(&u, &result, &err), 0);
	assert_int_equal(result.entries, m.count);
	assert_int_equal(result.failed, 0);
	assert_in_range(f->notes, 1, m.count / 50);
	assert_int_equal(count_old(&m, dir), m.count - f->notes);
	close(dir);
}

/* Names of files that have several. */

static int drop(void *cookie, const void *bytes, size_t len, struct err *err)
{
	(void)cookie;
	(void)bytes;
	(void)len;
	(void)err;
	return 0;
}

static void make_pair(int dir, unsigned number)
{
	char one[16], other[16];

	snprintf(one, sizeof(one), "a%05u", number);
	snprintf(other, sizeof(other), "b%05u", number);
	int fd = openat(dir, one, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "x", 1), 1);
	close(fd);
	assert_int_equal(linkat(dir, one, dir, other, 0), 0);
}

/* Each has a byte, and those whose name was not kept have it twice. */
static void files_of_several_names(void **state)
{
	const size_t kept = TREE_LINKS_MAX / (LONG_PATH + sizeof("a00000")), files = kept + 10;
	struct fixture *f = *state;
	struct tree_pack p = { .root = f->folder, .name = "d", .push = drop };
	struct tree_result result;
	struct err err = { 0 };
	int dir = make_long(f);

	for (unsigned i = 0; i < files; i++)
		make_pair(dir, i);
	close(dir);
	assert_int_equal(tree_pack(&p, &result, &err), 0);
	assert_int_equal(result.files, 2 * files);
	assert_int_equal(result.bytes, 2 * files - kept);
}

/* Patterns above. */

static void make_file(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* Each file that is one too many is the outermost's. */
static void patterns_above_a_tree(void **state)
{
	struct fixture *f = *state;
	struct tree_pack p = { .name = ".", .push = drop, .git_ignore = true };
	struct tree_result result;
	struct err err = { 0 };
	char name[16];
	int dir = fcntl(f->folder, F_DUPFD_CLOEXEC, 3);

	for (unsigned level = 0; level <= TREE_RULES_ABOVE_MAX + 3; level++) {
		assert_int_equal(mkdirat(dir, "d", 0700), 0);
		int next = openat(dir, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(dir);
		dir = next;
		if (level == 0)
			assert_int_equal(mkdirat(dir, ".git", 0700), 0);
		if (level == TREE_RULES_ABOVE_MAX + 3)
			break;
		snprintf(name, sizeof(name), "f%u", level);
		make_file(dir, ".gitignore", name);
	}
	for (unsigned i = 0; i < TREE_RULES_ABOVE_MAX + 3; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		make_file(dir, name, "");
	}
	p.root = dir;
	assert_int_equal(tree_pack(&p, &result, &err), 0);
	assert_int_equal(result.files, 3);
	assert_int_equal(result.ignored, TREE_RULES_ABOVE_MAX);
	close(dir);
}

/* Notes. */

static void notes_for_an_answer(void **state)
{
	struct tree_notes n = { 0 };
	struct flow_result result = { .skipped = 1000 };
	Towline__V1__TreeReport report;
	char text[1001] = "";

	(void)state;
	for (size_t i = 0; i < TREE_NOTES_MAX + 10; i++)
		tree_notes_add(&n, "skipped f: a socket");
	tree_notes_report(&n, &result, &report);
	assert_int_equal(report.n_notes, TREE_NOTES_MAX);
	assert_int_equal(report.skipped, 1000);
	tree_notes_free(&n);

	memset(text, 'n', sizeof(text) - 1);
	for (size_t i = 0; i < TREE_NOTES_MAX; i++)
		tree_notes_add(&n, text);
	assert_int_equal(n.count, TREE_NOTES_BYTES_MAX / (sizeof(text) - 1));
	assert_string_equal(n.text[n.count - 1], text);
	tree_notes_free(&n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(times_of_directories, setup, teardown),
		cmocka_unit_test_setup_teardown(files_of_several_names, setup, teardown),
		cmocka_unit_test_setup_teardown(patterns_above_a_tree, setup, teardown),
		cmocka_unit_test(notes_for_an_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
