/* A file that is put in its place in several goes: what stays between them, and what goes. */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/digest.h"
#include "support/alloc.h"
#include "support/leak.h"
#include "transfer/journal.h"
#include "transfer/part.h"
#include "transfer/place.h"
#include "transfer/sweep.h"

#define DAY_MS ((uint64_t)24 * 3600 * 1000)

static const char text[] = "the quick brown fox";
#define TEXT_LEN (sizeof(text) - 1)

struct fixture {
	struct leak *leak;
	struct claims *claims;
	int workdir, slash;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->leak = leak_begin();
	f->claims = claims_create();
	f->workdir = open(leak_folder(f->leak), O_PATH | O_DIRECTORY | O_CLOEXEC);
	f->slash = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int r;

	claims_free(f->claims);
	close(f->workdir);
	close(f->slash);
	r = leak_end(f->leak);
	free(f);
	return r;
}

static struct place_options options(const struct fixture *f, uint64_t offset)
{
	return (struct place_options){ .workdir = f->workdir,
		.slash = f->slash,
		.path = "f",
		.size_known = true,
		.size = TEXT_LEN,
		.id = "id",
		.offset = offset,
		.expiry_ms = DAY_MS,
		.boot = clock_boot(),
		.claims = f->claims };
}

static struct place *opened(const struct place_options *o)
{
	struct err err = { 0 };
	struct place *p = place_open(o, &err);

	if (p == NULL)
		fail_msg("%s: %s", err_code_name(err.code), err.text);
	while (!place_is_ready(p))
		if (place_prepare(p, &err) != 0)
			fail_msg("%s", err.text);
	return p;
}

static void refused(const struct place_options *o, enum grpc_code code)
{
	struct err err = { 0 };
	struct place *p = place_open(o, &err);

	if (p != NULL) {
		place_abort(p);
		fail_msg("it was taken");
	}
	if (err.code != code)
		fail_msg("%s: %s", err_code_name(err.code), err.text);
}

/* Writes [from, to) of the text. */
static void write_some(struct place *p, size_t from, size_t to)
{
	struct err err = { 0 };

	assert_int_equal(place_write(p, text + from, to - from, &err), 0);
}

static void begin_and_suspend(const struct fixture *f, size_t n)
{
	struct place_options o = options(f, 0);
	struct place *p = opened(&o);

	write_some(p, 0, n);
	place_suspend(p);
}

static uint64_t durable(const struct fixture *f)
{
	struct place_options o = options(f, 0);
	struct place_state s;
	struct err err = { 0 };

	if (place_query(&o, &s, &err) == 0)
		return s.durable;
	assert_int_equal(err.code, GRPC_NOT_FOUND);
	return 0;
}

static void finish_from(struct fixture *f, size_t from)
{
	struct place_options o = options(f, from);
	struct place *p = opened(&o);
	struct err err = { 0 };
	uint8_t digest[DIGEST_SIZE], want[DIGEST_SIZE];
	uint64_t bytes;
	char got[64] = "";

	write_some(p, from, TEXT_LEN);
	assert_int_equal(place_commit(p, &bytes, digest, &err), 0);
	assert_int_equal(bytes, TEXT_LEN);
	digest_of(text, TEXT_LEN, want);
	assert_memory_equal(digest, want, sizeof(want));
	int fd = open(leak_path(f->leak, "f"), O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, got, sizeof(got) - 1), TEXT_LEN);
	assert_string_equal(got, text);
	close(fd);
	assert_int_equal(unlink(leak_path(f->leak, "f")), 0);
}

static void goes_on_from_each_byte(void **state)
{
	struct fixture *f = *state;

	for (size_t had = 1; had <= TEXT_LEN; had++)
		for (size_t from = 0; from <= had; from++) {
			begin_and_suspend(f, had);
			assert_int_equal(durable(f), had);
			finish_from(f, from);
			assert_int_equal(durable(f), 0);
		}
}

static void what_was_not_synced_is_not_promised(void **state)
{
	struct fixture *f = *state;
	struct place_options o = options(f, 0);
	struct place *p = opened(&o);
	struct err err = { 0 };

	write_some(p, 0, 5);
	assert_int_equal(durable(f), 0);
	assert_int_equal(place_sync(p, 5, &err), 0);
	write_some(p, 5, 9);
	assert_int_equal(durable(f), 5);
	assert_int_equal(place_sync(p, 9, &err), 0);
	assert_int_equal(durable(f), 9);
	place_suspend(p);
	finish_from(f, 9);
}

static void another_file_is_refused(void **state)
{
	struct fixture *f = *state;
	struct place_options o;

	begin_and_suspend(f, 5);
	o = options(f, 6);
	refused(&o, GRPC_OUT_OF_RANGE);
	o = options(f, 0);
	o.size++;
	refused(&o, GRPC_FAILED_PRECONDITION);
	o = options(f, 5);
	o.size_known = false;
	refused(&o, GRPC_FAILED_PRECONDITION);
	o = options(f, 5);
	o.digest = PLACE_DIGEST_XXH3_128;
	refused(&o, GRPC_FAILED_PRECONDITION);
	o = options(f, 5);
	o.id = "another";
	refused(&o, GRPC_OUT_OF_RANGE);
	assert_int_equal(durable(f), 5);
	finish_from(f, 5);
}

/* From then on it is what it was begun with, and decides whether the file is put in place. */
static void a_digest_is_added(void **state)
{
	struct fixture *f = *state;
	struct place_options o;
	struct err err = { 0 };
	uint8_t digest[DIGEST_SIZE];
	uint64_t bytes;

	begin_and_suspend(f, 5);
	o = options(f, 5);
	o.digest = PLACE_DIGEST_XXH3_128;
	o.adds_digest = true;
	place_suspend(opened(&o));
	o.expected[0] ^= 1;
	refused(&o, GRPC_FAILED_PRECONDITION);
	o.expected[0] ^= 1;
	o.adds_digest = false;
	struct place *p = opened(&o);
	write_some(p, 5, TEXT_LEN);
	assert_int_equal(place_commit(p, &bytes, digest, &err), -1);
	assert_int_equal(err.code, GRPC_DATA_LOSS);
	assert_int_equal(durable(f), 0);
}

static void one_at_a_time(void **state)
{
	struct fixture *f = *state;
	struct place_options o = options(f, 0), other = options(f, 0);
	struct place *p = opened(&o);
	struct err err = { 0 };

	write_some(p, 0, 3);
	refused(&o, GRPC_ABORTED);
	other.id = NULL;
	refused(&other, GRPC_ABORTED);
	/* Another process has claims of its own, but not the lock. */
	other = options(f, 0);
	other.claims = NULL;
	refused(&other, GRPC_ABORTED);
	assert_int_equal(place_sync(p, 3, &err), 0);
	assert_int_equal(place_forget(&o, &err), -1);
	assert_int_equal(err.code, GRPC_ABORTED);
	place_suspend(p);
	err_clear(&err);
	assert_int_equal(place_forget(&o, &err), 0);
	assert_int_equal(place_forget(&o, &err), -1);
	assert_int_equal(err.code, GRPC_NOT_FOUND);
}

static void nothing_is_kept_of_nothing(void **state)
{
	struct fixture *f = *state;
	struct place_options o = options(f, 0);

	place_suspend(opened(&o));
	place_abort(opened(&o));
	begin_and_suspend(f, 3);
	o.offset = 3;
	place_abort(opened(&o));
}

static void finished_is_remembered(void **state)
{
	struct fixture *f = *state;
	struct place_options o = options(f, 0);
	struct place_state s;
	struct err err = { 0 };
	uint8_t digest[DIGEST_SIZE], again[DIGEST_SIZE];
	uint64_t bytes;
	struct place *p = opened(&o);

	write_some(p, 0, TEXT_LEN);
	assert_int_equal(place_commit(p, &bytes, digest, &err), 0);
	assert_int_equal(place_query(&o, &s, &err), 0);
	assert_true(s.complete);
	o.offset = TEXT_LEN;
	p = opened(&o);
	assert_int_equal(place_write(p, "x", 1, &err), -1);
	err_clear(&err);
	assert_int_equal(place_commit(p, &bytes, again, &err), 0);
	assert_int_equal(bytes, TEXT_LEN);
	assert_memory_equal(digest, again, sizeof(digest));
	assert_int_equal(truncate(leak_path(f->leak, "f"), 3), 0);
	refused(&o, GRPC_OUT_OF_RANGE);
	assert_int_equal(unlink(leak_path(f->leak, "f")), 0);
}

/* The name of the part file, or with ".journal" behind it. */
static const char *part_path(struct fixture *f, const char *suffix)
{
	char name[300] = "";
	DIR *d = opendir(leak_folder(f->leak));

	for (struct dirent *e; (e = readdir(d)) != NULL;)
		if (part_is_name(e->d_name) && strstr(e->d_name, ".journal") == NULL)
			snprintf(name, sizeof(name), "%s%s", e->d_name, suffix);
	closedir(d);
	assert_string_not_equal(name, "");
	return leak_path(f->leak, name);
}

static void put(const char *path, const void *bytes, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, n), n);
	close(fd);
}

static void what_cannot_be_believed_begins_at_0(void **state)
{
	struct fixture *f = *state;
	char path[300];

	for (unsigned way = 0; way < 6; way++) {
		begin_and_suspend(f, 8);
		snprintf(path, sizeof(path), "%s", part_path(f, way < 3 ? ".journal" : ""));
		if (way == 0) {
			put(path, "", 0);
		} else if (way == 1) {
			put(path, "nonsense", 8);
		} else if (way == 2) {
			assert_int_equal(unlink(path), 0);
			assert_int_equal(symlink("/etc/passwd", path), 0);
		} else if (way == 3) { /* less than the journal says */
			assert_int_equal(truncate(path, 7), 0);
		} else if (way == 4) { /* it has another name, so somebody put it there */
			assert_int_equal(link(path, leak_path(f->leak, "other")), 0);
		} else {
			assert_int_equal(unlink(path), 0);
			assert_int_equal(mkfifo(path, 0600), 0);
		}
		assert_int_equal(durable(f), 0);
		finish_from(f, 0);
		if (way == 4)
			assert_int_equal(unlink(leak_path(f->leak, "other")), 0);
	}
}

static void age(const char *path, time_t hours)
{
	struct timespec times[2];

	clock_gettime(CLOCK_REALTIME, &times[0]);
	times[0].tv_sec -= hours * 3600;
	times[1] = times[0];
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void the_old_is_swept(void **state)
{
	struct fixture *f = *state;

	begin_and_suspend(f, 4);
	age(part_path(f, ""), 25); /* the journal's time counts */
	assert_int_equal(sweep_tree(f->workdir, DAY_MS, 0, SWEEP_TREE_MAX), 0);
	age(part_path(f, ".journal"), 25);
	int held = open(part_path(f, ""), O_RDONLY | O_CLOEXEC);
	assert_int_equal(flock(held, LOCK_EX), 0);
	assert_int_equal(sweep_tree(f->workdir, DAY_MS, 0, SWEEP_TREE_MAX), 0);
	close(held);
	assert_int_equal(sweep_tree(f->workdir, DAY_MS, 0, SWEEP_TREE_MAX), 1);
	assert_int_equal(durable(f), 0);

	assert_int_equal(mkdir(leak_path(f->leak, "d"), 0700), 0);
	put(leak_path(f->leak, "d/.x.towline-01234567"), "x", 1);
	assert_int_equal(
	    sweep_tree(f->workdir, DAY_MS, 0, SWEEP_TREE_MAX), 0); /* somebody may be making it */
	age(leak_path(f->leak, "d/.x.towline-01234567"), 1);
	assert_int_equal(sweep_directory(f->workdir, DAY_MS, 0), 0);
	assert_int_equal(sweep_tree(f->workdir, DAY_MS, 0, SWEEP_TREE_MAX), 1);
	assert_int_equal(rmdir(leak_path(f->leak, "d")), 0);
}

static uint64_t boot_of(const char *journal)
{
	uint8_t bytes[JOURNAL_SIZE];
	struct journal j;
	int fd = open(journal, O_RDONLY | O_CLOEXEC);
	ssize_t n = read(fd, bytes, sizeof(bytes));

	close(fd);
	assert_true(n > 0 && journal_decode(bytes, (size_t)n, &j));
	return j.boot;
}

/* As if it had last been written when this boot began. */
static void store_at_boot(const char *journal, uint64_t boot)
{
	uint8_t slot[JOURNAL_SLOT];
	struct journal j = { .sequence = 100,
		.durable = { .count = 1, .at = { { 0, 4 } } },
		.size_known = true,
		.size = TEXT_LEN,
		.id = "id",
		.boot = boot,
		.stored_s = 1 };
	int fd = open(journal, O_WRONLY | O_CLOEXEC);

	journal_encode(&j, slot);
	assert_int_equal(pwrite(fd, slot, sizeof(slot), journal_offset(&j)), sizeof(slot));
	close(fd);
}

static void the_wall_clock_may_be_set(void **state)
{
	struct fixture *f = *state;
	uint64_t boot = clock_boot();
	char journal[300];

	assert_int_not_equal(boot, 0);
	begin_and_suspend(f, 4);
	snprintf(journal, sizeof(journal), "%s", part_path(f, ".journal"));
	assert_int_equal(boot_of(journal), boot);
	age(journal, 48);
	assert_int_equal(sweep_tree(f->workdir, DAY_MS, boot, SWEEP_TREE_MAX), 0);
	store_at_boot(journal, boot);
	age(journal, -48);
	assert_int_equal(sweep_tree(f->workdir, 1000, 0, SWEEP_TREE_MAX), 0);
	assert_int_equal(sweep_tree(f->workdir, 1000, boot + 1, SWEEP_TREE_MAX),
	    0); /* what it says is of another */
	assert_int_equal(sweep_tree(f->workdir, 1000, boot, SWEEP_TREE_MAX), 1);
}

static void names_are_told_apart(void **state)
{
	static const struct {
		const char *name;
		bool is;
	} cases[] = {
		{ ".f.towline-01234567", true },
		{ ".f.towline-0123456789abcdef", true },
		{ ".f.towline-0123456789abcdef.journal", true },
		{ ".f.towline-01234567.journal", false },
		{ ".f.towline-0123456", false },
		{ ".f.towline-0123456g", false },
		{ "f.towline-01234567", false },
		{ ".f.towline-012345678", false },
		{ "towline-01234567", false },
		{ ".journal", false },
		{ "", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (part_is_name(cases[i].name) != cases[i].is)
			fail_msg("%s", cases[i].name);
}

/* Two goes and the end; whatever allocation fails, what is durable stays a prefix. */
static void in_two_goes(void *cookie)
{
	struct fixture *f = cookie;
	struct place_options o = options(f, 0);
	struct err err = { 0 };
	uint8_t digest[DIGEST_SIZE];
	uint64_t bytes, had = 0;
	struct place_state s;

	for (unsigned go = 0; go < 3; go++) {
		size_t to = go == 0 ? 7 : go == 1 ? 12 : TEXT_LEN;
		o.offset = had;
		struct place *p = place_open(&o, &err);
		while (p != NULL && !place_is_ready(p) && err.code == GRPC_OK)
			place_prepare(p, &err);
		if (p != NULL && err.code == GRPC_OK)
			place_write(p, text + had, to - had, &err);
		if (p != NULL && go < 2)
			place_suspend(p);
		else if (p != NULL)
			place_commit(p, &bytes, digest, &err);
		if (err.code != GRPC_OK) {
			assert_true(alloc_has_failed());
			break;
		}
		had = to;
	}
	alloc_hold();
	err_clear(&err);
	if (place_query(&o, &s, &err) == 0 && !s.complete)
		place_forget(&o, &err);
	unlink(leak_path(f->leak, "f"));
	alloc_release();
}

static void no_memory_no_harm(void **state)
{
	alloc_torture(in_two_goes, *state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(goes_on_from_each_byte, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    what_was_not_synced_is_not_promised, setup, teardown),
		cmocka_unit_test_setup_teardown(a_digest_is_added, setup, teardown),
		cmocka_unit_test_setup_teardown(another_file_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(one_at_a_time, setup, teardown),
		cmocka_unit_test_setup_teardown(nothing_is_kept_of_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(finished_is_remembered, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    what_cannot_be_believed_begins_at_0, setup, teardown),
		cmocka_unit_test_setup_teardown(the_old_is_swept, setup, teardown),
		cmocka_unit_test_setup_teardown(the_wall_clock_may_be_set, setup, teardown),
		cmocka_unit_test(names_are_told_apart),
		cmocka_unit_test_setup_teardown(no_memory_no_harm, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
