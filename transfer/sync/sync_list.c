#include "transfer/sync/sync_list.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/random.h"
#include "transfer/sync/sync_delta.h"
#include "transfer/sync/sync_walk.h"

#define BATCH ((size_t)16 << 10) /* bytes of a batch of entries: the source need not wait long */
#define SUMS  ((size_t)1024)     /* blocks of a record */

struct sync_list {
	int root;
	const struct sync_options *opt;
	const struct sync_link *link;
	struct sync_out *out;
	void (*failed)(void *cookie, const char *path, const struct err *);
	void *cookie;
	pthread_t thread;
	struct err err;
	int result;

	pthread_mutex_t lock; /* over all that follows */
	pthread_cond_t moved;
	struct sync_names asked;
	bool walked, stopped;
};

/* Signatures. */

static int read_block(int fd, uint8_t *block, size_t len, uint64_t at)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = pread(fd, block + have, len - have, (off_t)(at + have));
		if (n <= 0)
			return -1; /* it shrinks: the digest will tell */
		have += (size_t)n;
	}
	return 0;
}

static int put_sums(
    struct sync_list *l, int fd, uint64_t size, size_t block, uint64_t seed, struct err *err)
{
	uint64_t count = (size + block - 1) / block;
	uint8_t *bytes = calloc(1, block);

	if (bytes == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	for (uint64_t i = 0; i < count && err->code == GRPC_OK; i++) {
		size_t len = size - i * block < block ? (size_t)(size - i * block) : block;
		if (i % SUMS == 0)
			sync_begin(l->out, SYNC_BLOCKS);
		if (read_block(fd, bytes, len, i * block) != 0)
			memset(bytes, 0, len);
		sync_sum(bytes, len, seed, sync_put_space(l->out, SYNC_SUM_SIZE));
		if (i % SUMS == SUMS - 1 || i == count - 1)
			sync_end(l->out, err);
	}
	free(bytes);
	return err->code == GRPC_OK ? 0 : -1;
}

/* What cannot be signed has a signature of nothing, and comes whole. */
static int sign(struct sync_list *l, const char *path, struct err *err)
{
	struct err why;
	struct stat st = { 0 };
	uint64_t seed, size = 0;
	size_t block = 0;
	int fd = beneath_open(
		l->root, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, BENEATH_NO_LINKS, &why),
	    r = 0;

	random_bytes(&seed, sizeof(seed));
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		size = (uint64_t)st.st_size;
	if (size > 0 && (block = sync_block_of(size)) == 0)
		size = 0;
	sync_begin(l->out, SYNC_SIGNATURE);
	sync_put_number(l->out, size);
	sync_put_number(l->out, block);
	sync_put_number(l->out, seed);
	if (sync_end(l->out, err) != 0 ||
	    (size > 0 && put_sums(l, fd, size, block, seed, err) != 0))
		r = -1;
	if (fd >= 0)
		close(fd);
	return r;
}

/* The next that is asked for: 1, or 0 if there is none; with ${wait} only when there will
 * be none. */
static int next_asked(struct sync_list *l, char path[static TREE_PATH_MAX], bool wait)
{
	const char *first;
	int r = 0;

	pthread_mutex_lock(&l->lock);
	while (wait && l->asked.count == 0 && !l->walked && !l->stopped)
		pthread_cond_wait(&l->moved, &l->lock);
	if (!l->stopped && (first = sync_names_first(&l->asked)) != NULL) {
		memcpy(path, first, strlen(first) + 1);
		sync_names_drop(&l->asked);
		r = 1;
	}
	pthread_mutex_unlock(&l->lock);
	return r;
}

static int sign_asked(struct sync_list *l, bool wait, struct err *err)
{
	char path[TREE_PATH_MAX];

	while (next_asked(l, path, wait) > 0)
		if (sign(l, path, err) != 0 || sync_flush(l->out, err) != 0)
			return -1;
	return 0;
}

/* The listing. */

static bool excluded(void *cookie, const char *path, bool directory)
{
	const struct sync_options *o = ((struct sync_list *)cookie)->opt;

	return o->excluded != NULL && o->excluded(o->cookie, path, directory);
}

static void walk_failed(void *cookie, const char *path, const struct err *why)
{
	struct sync_list *l = cookie;

	l->failed(l->cookie, path, why);
}

static int end_batch(struct sync_list *l, struct err *err)
{
	if (sync_end(l->out, err) != 0 || sync_flush(l->out, err) != 0)
		return -1;
	return sign_asked(l, false, err);
}

static int put_entries(struct sync_list *l, struct sync_walk *w, struct err *err)
{
	struct sync_entries batch;
	struct sync_entry e;
	size_t in_batch = 0;
	int r;

	while ((r = sync_walk_next(w, &e, err)) > 0) {
		if (in_batch == 0) {
			sync_begin(l->out, SYNC_ENTRIES);
			sync_entries_init(&batch);
		}
		sync_put_entry(l->out, &batch, &e);
		in_batch++;
		if (SYNC_BODY_MAX - sync_room(l->out) >= BATCH ||
		    sync_room(l->out) < SYNC_ENTRY_MAX) {
			if (end_batch(l, err) != 0)
				return -1;
			in_batch = 0;
		}
	}
	if (r < 0 || (in_batch > 0 && sync_end(l->out, err) != 0))
		return -1;
	return 0;
}

static int list(struct sync_list *l, struct err *err)
{
	struct sync_walk_options o = { .root = l->root,
		.remove_parts = !l->opt->dry_run,
		.digests = l->opt->checksum,
		.cookie = l,
		.excluded = excluded,
		.failed = walk_failed };
	struct sync_walk *w = NULL;
	int r = 0;

	if (l->root >= 0)
		r = (w = sync_walk_create(&o, err)) != NULL ? put_entries(l, w, err) : -1;
	sync_walk_free(w);
	if (r != 0)
		return -1;
	sync_begin(l->out, SYNC_LISTED);
	if (sync_end(l->out, err) != 0 || sync_flush(l->out, err) != 0)
		return -1;
	return sign_asked(l, true, err);
}

static void *thread_main(void *arg)
{
	struct sync_list *l = arg;

	l->result = list(l, &l->err);
	if (l->result != 0)
		l->link->stop(l->link->cookie, &l->err);
	return NULL;
}

struct sync_list *sync_list_start(int root, const struct sync_options *opt,
    const struct sync_link *link, struct sync_out *out,
    void (*failed)(void *cookie, const char *path, const struct err *), void *cookie,
    struct err *err)
{
	struct sync_list *l = calloc(1, sizeof(*l));

	if (l == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	*l = (struct sync_list){ .root = root,
		.opt = opt,
		.link = link,
		.out = out,
		.failed = failed,
		.cookie = cookie,
		.asked.max = SYNC_NAMES_QUEUED };
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->moved, NULL);
	int r = pthread_create(&l->thread, NULL, thread_main, l); /* our mask: no signals */
	if (r == 0)
		return l;
	err_sys(err, r, "a thread for the listing");
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->moved);
	free(l);
	return NULL;
}

int sync_list_sign(struct sync_list *l, const char *path, struct err *err)
{
	pthread_mutex_lock(&l->lock);
	int r =
	    l->walked || l->asked.count >= SYNC_SIGNS_MAX || sync_names_add(&l->asked, path) != 0
	    ? err_set(err, GRPC_RESOURCE_EXHAUSTED, "more signatures are asked for than may be")
	    : 0;
	pthread_cond_signal(&l->moved);
	pthread_mutex_unlock(&l->lock);
	return r;
}

void sync_list_walked(struct sync_list *l)
{
	pthread_mutex_lock(&l->lock);
	l->walked = true;
	pthread_cond_signal(&l->moved);
	pthread_mutex_unlock(&l->lock);
}

void sync_list_stop(struct sync_list *l)
{
	pthread_mutex_lock(&l->lock);
	l->stopped = true;
	pthread_cond_signal(&l->moved);
	pthread_mutex_unlock(&l->lock);
}

int sync_list_join(struct sync_list *l, struct err *err)
{
	pthread_join(l->thread, NULL);
	int r = l->result;
	if (r != 0)
		*err = l->err;
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->moved);
	sync_names_free(&l->asked);
	free(l);
	return r;
}
