#include "transfer/sync/sync_dirs.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/map.h"
#include "transfer/sync/sync_walk.h"

struct entry {
	int64_t mtime;
	mode_t mode;
	unsigned depth;
	char path[];
};

struct sync_dirs {
	pthread_mutex_t lock; /* over all that follows */
	struct map *map;      /* by path */
	size_t bytes;
	uint64_t lost;
};

struct sync_dirs *sync_dirs_create(struct err *err)
{
	struct sync_dirs *d = calloc(1, sizeof(*d));

	if (d == NULL || (d->map = map_create()) == NULL) {
		free(d);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&d->lock, NULL);
	return d;
}

static bool free_entry(void *cookie, const char *key, void *value)
{
	(void)cookie;
	(void)key;
	free(value);
	return true;
}

void sync_dirs_free(struct sync_dirs *d)
{
	if (d == NULL)
		return;
	map_each(d->map, free_entry, NULL);
	map_free(d->map);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

static unsigned depth_of(const char *path)
{
	unsigned depth = 0;

	for (; *path != '\0'; path++)
		depth += *path == '/';
	return depth;
}

/* With the lock held. NULL: no more can be remembered. */
static struct entry *find_or_add(struct sync_dirs *d, const char *path, bool *is_new)
{
	struct entry *e = map_get(d->map, path);
	size_t len = strlen(path) + 1;

	*is_new = e == NULL;
	if (e != NULL)
		return e;
	/* The map has the path once more. */
	if (sizeof(*e) + 2 * len > SYNC_DIRS_MAX - d->bytes ||
	    (e = malloc(sizeof(*e) + len)) == NULL || map_put(d->map, path, e) != 0) {
		free(e);
		d->lost++;
		return NULL;
	}
	d->bytes += sizeof(*e) + 2 * len;
	e->depth = depth_of(path);
	memcpy(e->path, path, len);
	return e;
}

void sync_dirs_set(struct sync_dirs *d, const char *path, mode_t mode, int64_t mtime)
{
	bool is_new;

	pthread_mutex_lock(&d->lock);
	struct entry *e = find_or_add(d, path, &is_new);
	if (e != NULL) {
		e->mode = mode;
		e->mtime = mtime;
	}
	pthread_mutex_unlock(&d->lock);
}

static void open_up(int fd, mode_t mode)
{
	int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (again < 0)
		return; /* what is to be done in it will say so */
	(void)fchmod(again, mode | 0700);
	close(again);
}

void sync_dirs_note(struct sync_dirs *d, const char *path, int fd)
{
	struct sync_entry now;
	struct stat st;
	bool is_new;

	if (fstat(fd, &st) != 0)
		return;
	sync_entry_of(&st, &now);
	pthread_mutex_lock(&d->lock);
	struct entry *e = find_or_add(d, path, &is_new);
	if (e != NULL && is_new) {
		e->mode = st.st_mode & 07777; /* nobody has said otherwise */
		e->mtime = now.mtime;
		if ((now.mode & 0700) != 0700)
			open_up(fd, e->mode);
	}
	pthread_mutex_unlock(&d->lock);
}

/* The deepest first: one that may not be entered any more has been. */
static int by_depth(const void *a, const void *b)
{
	const struct entry *x = *(struct entry *const *)a, *y = *(struct entry *const *)b;

	return (x->depth < y->depth) - (x->depth > y->depth);
}

static bool gather(void *cookie, const char *key, void *value)
{
	struct entry ***at = cookie;

	(void)key;
	*(*at)++ = value;
	return true;
}

static void settle(const struct entry *e, int root)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, sync_time_of(e->mtime) };
	struct err err;
	int fd = beneath_open(root, e->path, O_RDONLY | O_DIRECTORY, 0, BENEATH_NO_LINKS, &err);

	if (fd < 0)
		return; /* gone, or somebody else's by now */
	(void)futimens(fd, times);
	(void)fchmod(fd, e->mode);
	close(fd);
}

uint64_t sync_dirs_settle(struct sync_dirs *d, int root)
{
	pthread_mutex_lock(&d->lock);
	size_t count = map_count(d->map);
	struct entry **all = calloc(count + 1, sizeof(struct entry *)), **at = all;
	if (all != NULL) {
		map_each(d->map, gather, &at);
		qsort(all, count, sizeof(struct entry *), by_depth);
	}
	for (size_t i = 0; all != NULL && i < count; i++)
		settle(all[i], root);
	uint64_t lost = d->lost + (all == NULL ? count : 0);
	free(all);
	pthread_mutex_unlock(&d->lock);
	return lost;
}
