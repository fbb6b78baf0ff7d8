/* What one end of a sync may make the other keep, and what happens past it. */
#include <fcntl.h>
#include <pthread.h>
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
#include "transfer/sync/sync_links.h"
#include "transfer/sync/sync_send.h"
#include "transfer/sync/sync_team.h"
#include "transfer/sync/sync_walk.h"

#define LONG_PATH 3900 /* bytes of one that long_path() makes */

/* An end that is told what was put together before, by a peer who may read nothing. */
struct peer {
	struct leak *leak;
	int root;
	struct sync_out out; /* what the end will be told */
	uint8_t *told, *heard;
	size_t told_len, heard_len;
	bool deaf;
	pthread_mutex_t lock; /* over what follows */
	pthread_cond_t moved;
	bool stopped;
};

static int append(uint8_t **data, size_t *len, const void *bytes, size_t n)
{
	uint8_t *more = realloc(*data, *len + n);

	assert_non_null(more);
	memcpy(more + *len, bytes, n);
	*data = more;
	*len += n;
	return 0;
}

static int tell(void *cookie, const void *bytes, size_t len, struct err *err)
{
	struct peer *p = cookie;

	(void)err;
	return append(&p->told, &p->told_len, bytes, len);
}

static ssize_t pull(void *cookie, const void **bytes, struct err *err)
{
	struct peer *p = cookie;
	ssize_t n = (ssize_t)p->told_len;

	(void)err;
	*bytes = p->told;
	p->told_len = 0;
	return n;
}

static int push(void *cookie, const void *bytes, size_t len, struct err *err)
{
	struct peer *p = cookie;

	if (!p->deaf)
		return append(&p->heard, &p->heard_len, bytes, len);
	pthread_mutex_lock(&p->lock);
	while (!p->stopped)
		pthread_cond_wait(&p->moved, &p->lock);
	pthread_mutex_unlock(&p->lock);
	return err_set(err, GRPC_CANCELLED, "stopped");
}

static void stop(void *cookie, const struct err *why)
{
	struct peer *p = cookie;

	(void)why;
	pthread_mutex_lock(&p->lock);
	p->stopped = true;
	pthread_cond_broadcast(&p->moved);
	pthread_mutex_unlock(&p->lock);
}

static int setup(void **state)
{
	struct peer *p = calloc(1, sizeof(*p));
	struct err err;

	p->leak = leak_begin();
	p->root = open(leak_folder(p->leak), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->moved, NULL);
	assert_int_equal(sync_out_init(&p->out, tell, p, &err), 0);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct peer *p = *state;

	sync_out_free(&p->out);
	free(p->told);
	free(p->heard);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->moved);
	close(p->root);
	int r = leak_end(p->leak);
	free(p);
	return r;
}

static int run(struct peer *p, bool prune, struct sync_counts *counts, struct err *err)
{
	const struct sync_link link = { .pull = pull, .push = push, .stop = stop, .cookie = p };
	const struct sync_options o = { .prune = prune };

	assert_int_equal(sync_flush(&p->out, err), 0);
	return sync_target(p->root, &o, &link, counts, err);
}

static void put_done(struct peer *p, uint64_t items)
{
	const struct sync_counts counts = { .items = items };
	struct err err;

	sync_begin(&p->out, SYNC_WALKED);
	sync_end(&p->out, &err);
	sync_begin(&p->out, SYNC_DONE);
	sync_put_counts(&p->out, &counts);
	assert_int_equal(sync_end(&p->out, &err), 0);
}

/* Different ones, that begin alike. */
static const char *long_path(char path[static TREE_PATH_MAX], unsigned number)
{
	for (size_t i = 0; i < LONG_PATH; i++)
		path[i] = i % 200 == 199 ? '/' : 'n';
	snprintf(path + LONG_PATH - 8, 9, "%08u", number);
	return path;
}

static void put_signs(struct peer *p, size_t count, bool length)
{
	char path[TREE_PATH_MAX];
	struct err err;

	for (unsigned i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "f%u", i);
		sync_begin(&p->out, SYNC_SIGN);
		sync_put_text(&p->out, length ? long_path(path, i) : path);
		assert_int_equal(sync_end(&p->out, &err), 0);
	}
}

/* The listing cannot leave, so none of them is answered. */
static void signatures_that_wait(void **state)
{
	struct peer *p = *state;
	struct sync_counts counts;
	struct err err = { 0 };

	p->deaf = true;
	put_signs(p, SYNC_SIGNS_MAX, false);
	put_done(p, 1); /* that they were all taken is seen by another error */
	assert_int_equal(run(p, false, &counts, &err), -1);
	assert_int_equal(err.code, GRPC_DATA_LOSS);
	p->stopped = false;
	put_signs(p, SYNC_SIGNS_MAX + 1, false);
	assert_int_equal(run(p, false, &counts, &err), -1);
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	p->stopped = false;
	put_signs(p, SYNC_NAMES_QUEUED / LONG_PATH + 1, true);
	assert_int_equal(run(p, false, &counts, &err), -1);
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
}

/* What is too much stays, and since that has failed all the others do too. */
static void deletions_that_wait(void **state)
{
	const size_t most = SYNC_DELETES_MAX / (LONG_PATH + 2), more = 100;
	struct peer *p = *state;
	struct sync_counts counts;
	char path[TREE_PATH_MAX];
	struct err err = { 0 };

	for (unsigned i = 0; i < most + more; i++) {
		sync_begin(&p->out, SYNC_DELETE);
		sync_put_text(&p->out, long_path(path, i));
		sync_put_number(&p->out, 0);
		assert_int_equal(sync_end(&p->out, &err), 0);
	}
	sync_begin(&p->out, SYNC_PRUNE);
	sync_put_number(&p->out, 0);
	sync_end(&p->out, &err);
	put_done(p, most + more);
	assert_int_equal(run(p, true, &counts, &err), 0);
	assert_int_equal(counts.failed, more);
	assert_int_equal(counts.deleted, 0);
}

static ssize_t pull_heard(void *cookie, const void **bytes, struct err *err)
{
	struct peer *p = cookie;
	ssize_t n = (ssize_t)p->heard_len;

	(void)err;
	*bytes = p->heard;
	p->heard_len = 0;
	return n;
}

/* So many files are to be touched, and none is there. How many of them are told. */
static size_t count_told(struct peer *p, unsigned count, bool length)
{
	struct sync_counts counts;
	struct sync_body b;
	struct sync_in in;
	size_t told = 0;
	char path[TREE_PATH_MAX];
	struct err err = { 0 };

	for (unsigned i = 0; i < count; i++) {
		snprintf(path, sizeof(path), "f%u", i);
		sync_begin(&p->out, SYNC_TOUCH);
		sync_put_text(&p->out, length ? long_path(path, i) : path);
		sync_put_number(&p->out, 0644);
		sync_put_signed(&p->out, 0);
		assert_int_equal(sync_end(&p->out, &err), 0);
	}
	put_done(p, count);
	assert_int_equal(run(p, false, &counts, &err), 0);
	assert_int_equal(counts.failed, count);
	assert_int_equal(sync_in_init(&in, pull_heard, p, &err), 0);
	while (sync_next(&in, &b, &err) > 0)
		told += b.type == SYNC_FAILED;
	sync_in_free(&in);
	return told;
}

static void failures_that_are_told(void **state)
{
	const size_t most = SYNC_TOLD_BYTES / LONG_PATH;
	struct peer *p = *state;

	assert_int_equal(count_told(p, SYNC_TOLD_MAX + 10, false), SYNC_TOLD_MAX);
	assert_in_range(count_told(p, (unsigned)most + 10, true), most / 2, most);
}

static void directories_that_wait_for_their_times(void **state)
{
	struct peer *p = *state;
	char path[TREE_PATH_MAX];
	struct err err;
	struct sync_dirs *d = sync_dirs_create(&err);
	unsigned i;

	for (i = 0; i <= SYNC_DIRS_MAX / (2 * LONG_PATH); i++)
		sync_dirs_set(d, long_path(path, i), 0755, 0);
	sync_dirs_set(d, long_path(path, 0), 0755, 1); /* one that is known takes no room */
	uint64_t lost = sync_dirs_settle(d, p->root);
	assert_true(lost > 0 && lost < i / 50);
	sync_dirs_free(d);
}

static void names_of_files_that_have_several(void **state)
{
	struct sync_entry e = { .kind = SYNC_KIND_FILE, .file = 1 };
	char path[TREE_PATH_MAX];
	struct err err;
	struct sync_links *l = sync_links_create(&err);
	const char *name, *first;
	unsigned i = 1, count = 0;

	(void)state;
	e.path = long_path(path, 0);
	assert_int_equal(sync_links_add(l, &e, NULL), SYNC_LINK_NONE);
	for (long_path(path, 1); sync_links_add(l, &e, NULL) == SYNC_LINK_WAITS; i++)
		long_path(path, i + 1);
	assert_int_equal(i - 1, SYNC_LINKS_MAX / (2 * (LONG_PATH + 1)));
	while (sync_links_next(l, &name, &first)) {
		count++;
		assert_string_equal(first, long_path(path, 0));
		assert_string_equal(name, long_path(path, count));
	}
	assert_int_equal(count, i - 1);

	/* First names have a limit of their own. Past it, every name is a file. */
	for (e.file = 2; e.file < SYNC_LINKS_MAX / LONG_PATH + 2; e.file++)
		assert_int_equal(sync_links_add(l, &e, NULL), SYNC_LINK_NONE);
	e.file--;
	assert_int_equal(sync_links_add(l, &e, NULL), SYNC_LINK_NONE);
	sync_links_free(l);
}

/* Names that are long, and how many of them there may be. */

#define NAME_LEN 250
#define NAMES    ((unsigned)(SYNC_NAMES_MAX / (NAME_LEN + 1 + sizeof(uint32_t))))

static void make_names(int root, const char *directory, unsigned count)
{
	char name[BENEATH_NAME_MAX];

	assert_int_equal(mkdirat(root, directory, 0700), 0);
	int dir = openat(root, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%0*u", NAME_LEN, i);
		int fd = openat(dir, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
		close(fd);
	}
	close(dir);
}

static void tell_too_many(void *cookie, const char *path, const struct err *why)
{
	assert_string_equal(path, "d/many");
	assert_int_equal(why->code, GRPC_RESOURCE_EXHAUSTED);
	assert_non_null(strstr(why->text, "24 MiB"));
	++*(unsigned *)cookie;
}

static unsigned walk(int root, unsigned *failed)
{
	const struct sync_walk_options o = {
		.root = root, .cookie = failed, .failed = tell_too_many
	};
	struct err err = { 0 };
	struct sync_walk *w = sync_walk_create(&o, &err);
	struct sync_entry e;
	unsigned count = 0;

	assert_non_null(w);
	*failed = 0;
	while (sync_walk_next(w, &e, &err) > 0)
		count++;
	assert_int_equal(err.code, GRPC_OK);
	sync_walk_free(w);
	return count;
}

/* All directories that are open at once count. One that is too much is told of, and the walk
 * goes on behind it. */
static void names_that_are_open_at_once(void **state)
{
	struct peer *p = *state;
	unsigned failed;
	struct err err;

	make_names(p->root, "d", NAMES - 50);
	make_names(p->root, "d/few", 10);
	make_names(p->root, "d/many", 100);
	make_names(p->root, "e", 100);
	assert_int_equal(walk(p->root, &failed), 2 + NAMES - 50 + 2 + 10 + 100);
	assert_int_equal(failed, 1);
	assert_int_equal(beneath_remove_tree(p->root, "d/many", &err), 0);
	make_names(p->root, "d/many", 20);
	assert_int_equal(walk(p->root, &failed), 2 + NAMES - 50 + 2 + 10 + 20 + 100);
	assert_int_equal(failed, 0);
	assert_int_equal(beneath_remove_tree(p->root, "d", &err), 0);
	assert_int_equal(beneath_remove_tree(p->root, "e", &err), 0);
}

/* One more looks like a file of its own, twice. */
static void files_of_several_names_on_a_walk(void **state)
{
	struct peer *p = *state;
	const struct sync_walk_options o = { .root = p->root, .max_files = 3 };
	struct sync_entry e;
	struct err err = { 0 };
	uint64_t names[4] = { 0 };
	char one[8], other[8];

	for (unsigned i = 0; i < 5; i++) {
		snprintf(one, sizeof(one), "a%u", i);
		snprintf(other, sizeof(other), "b%u", i);
		close(openat(p->root, one, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
		assert_int_equal(linkat(p->root, one, p->root, other, 0), 0);
	}
	struct sync_walk *w = sync_walk_create(&o, &err);
	assert_non_null(w);
	while (sync_walk_next(w, &e, &err) > 0) {
		assert_in_range(e.file, 0, 3);
		names[e.file]++;
	}
	assert_int_equal(names[0], 4);
	for (size_t i = 1; i <= 3; i++)
		assert_int_equal(names[i], 2);
	sync_walk_free(w);
	for (unsigned i = 0; i < 10; i++) {
		snprintf(one, sizeof(one), "%c%u", "ab"[i / 5], i % 5);
		assert_int_equal(unlinkat(p->root, one, 0), 0);
	}
}

static int give(struct sync_team *t, uint64_t after, struct sync_sums *sums)
{
	struct sync_job job = { .path = strdup("f"), .after = after, .sums = sums };
	int r = sync_team_give(t, &job);

	if (r != 0)
		job.sums = NULL;
	sync_job_free(&job);
	return r;
}

static void jobs_that_wait(void **state)
{
	struct err err;
	struct sync_team *t = sync_team_create(&err);
	struct sync_sums *sums = NULL;
	struct sync_job job = { 0 };

	(void)state;
	for (size_t i = 0; i <= SYNC_JOBS_SUMS; i++) {
		sums = sync_sums_create(4096, SYNC_BLOCK_MIN, 0, &err);
		assert_int_equal(give(t, 0, sums), i < SYNC_JOBS_SUMS ? 0 : -1);
	}
	sync_sums_free(sums);
	for (size_t i = SYNC_JOBS_SUMS; i < SYNC_JOBS_MAX; i++)
		assert_int_equal(give(t, i, NULL), 0);
	assert_int_equal(give(t, 0, NULL), -1);
	assert_int_equal(sync_team_take(t, &job, false, NULL, &err), 1);
	assert_non_null(job.sums);
	sync_job_free(&job);
	assert_int_equal(give(t, 0, NULL), 0);
	sync_team_release(t);
}

/* A listing without an end, as a peer can make it up. */
struct listing {
	struct sync_out out;
	uint8_t *data;
	size_t len;
	unsigned next;
};

static int keep(void *cookie, const void *bytes, size_t len, struct err *err)
{
	struct listing *l = cookie;

	(void)err;
	return append(&l->data, &l->len, bytes, len);
}

static ssize_t pull_listing(void *cookie, const void **bytes, struct err *err)
{
	struct listing *l = cookie;
	struct sync_entries batch;
	char path[16];

	l->len = 0;
	sync_begin(&l->out, SYNC_ENTRIES);
	for (sync_entries_init(&batch); sync_room(&l->out) > SYNC_ENTRY_MAX; l->next++) {
		snprintf(path, sizeof(path), "%09u", l->next);
		sync_put_entry(&l->out, &batch,
		    &(struct sync_entry){ .kind = SYNC_KIND_FILE, .path = path, .mode = 0644 });
	}
	if (sync_end(&l->out, err) != 0 || sync_flush(&l->out, err) != 0)
		return -1;
	*bytes = l->data;
	return (ssize_t)l->len;
}

static int push_nowhere(void *cookie, const void *bytes, size_t len, struct err *err)
{
	(void)cookie;
	(void)bytes;
	(void)len;
	(void)err;
	return 0;
}

static void stop_nothing(void *cookie, const struct err *why)
{
	(void)cookie;
	(void)why;
}

static void a_listing_without_an_end(void **state)
{
	struct peer *p = *state;
	const struct sync_options o = { .prune = false };
	struct sync_counts counts;
	struct err err = { 0 };
	struct listing l = { 0 };
	const struct sync_link link = {
		.pull = pull_listing, .push = push_nowhere, .stop = stop_nothing, .cookie = &l
	};

	if (getenv("TOWLINE_LONG") == NULL)
		skip();
	assert_int_equal(sync_out_init(&l.out, keep, &l, &err), 0);
	assert_int_equal(sync_source(p->root, &o, &link, &counts, &err), -1);
	assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
	assert_true(l.next > SYNC_LISTED_MAX);
	sync_out_free(&l.out);
	free(l.data);
}

#define PEER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PEER(signatures_that_wait),
		PEER(deletions_that_wait),
		PEER(failures_that_are_told),
		PEER(directories_that_wait_for_their_times),
		PEER(names_of_files_that_have_several),
		PEER(names_that_are_open_at_once),
		PEER(files_of_several_names_on_a_walk),
		PEER(jobs_that_wait),
		PEER(a_listing_without_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
