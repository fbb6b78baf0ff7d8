#include "transfer/sync/sync_walk.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/map.h"
#include "transfer/sync/sync_attributes.h"

#define INODE_TEXT  64 /* "device:inode" */
#define READ_SIZE   ((size_t)64 << 10)
#define PART_LINK_S 60 /* from its making to its renaming, a link takes no time */

/* A directory that is open. */
struct level {
	int fd;
	uint32_t *names; /* sorted; where each begins in ${store} */
	char *store;
	size_t count, next, cost;
	size_t path_len; /* of the directory's own path */
};

struct sync_walk {
	struct sync_walk_options opt;
	struct level levels[TREE_DEPTH_MAX + 1];
	size_t depth; /* open levels */
	size_t cost;  /* of SYNC_NAMES_MAX */
	bool enter;   /* the entry given last is a directory yet to be entered */
	char path[TREE_PATH_MAX], link[TREE_PATH_MAX];
	char name[BENEATH_NAME_MAX];
	int dir; /* of the entry given last */
	struct sync_attributes *attributes;
	struct map *files; /* "device:inode" of those with several names, to their number */
};

static int no_memory(struct err *err)
{
	return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

static void tell_failed(struct sync_walk *w, const struct err *why)
{
	if (w->opt.failed != NULL)
		w->opt.failed(w->opt.cookie, w->path, why);
}

static void close_level(struct sync_walk *w)
{
	struct level *l = &w->levels[--w->depth];

	w->cost -= l->cost;
	free(l->names);
	free(l->store);
	close(l->fd);
}

/* A link has no lock: one that was made a while ago is nobody's any more. */
static bool is_old_link(int dir, const char *name)
{
	struct timespec now;
	struct stat st;

	clock_gettime(CLOCK_REALTIME, &now);
	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode) &&
	    now.tv_sec - st.st_ctim.tv_sec > PART_LINK_S;
}

/* A part file whose writer is gone: nobody has the lock. */
static void remove_part(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd >= 0 ? flock(fd, LOCK_EX | LOCK_NB) == 0 : is_old_link(dir, name))
		unlinkat(dir, name, 0);
	if (fd >= 0)
		close(fd);
}

static bool is_part(const char *name)
{
	return strncmp(name, SYNC_PART, sizeof(SYNC_PART) - 1) == 0;
}

/* Names one behind the other, each with its NUL. */
struct names {
	char *store;
	size_t len, cap, count;
};

static int add_name(struct sync_walk *w, struct names *n, const char *name, struct err *err)
{
	size_t len = strlen(name) + 1;

	if (w->cost + n->len + len + (n->count + 1) * sizeof(uint32_t) > SYNC_NAMES_MAX)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "its names take more than %zu MiB of memory", SYNC_NAMES_MAX >> 20);
	if (n->len + len > n->cap) {
		size_t cap = (n->len + len) * 2;
		char *store = realloc(n->store, cap);
		if (store == NULL)
			return no_memory(err);
		n->store = store;
		n->cap = cap;
	}
	memcpy(n->store + n->len, name, len);
	n->len += len;
	n->count++;
	return 0;
}

static int read_names(struct sync_walk *w, DIR *list, struct names *n, struct err *err)
{
	struct dirent *e;

	for (errno = 0; (e = readdir(list)) != NULL; errno = 0) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (is_part(e->d_name)) {
			if (w->opt.remove_parts)
				remove_part(dirfd(list), e->d_name);
			continue;
		}
		if (add_name(w, n, e->d_name, err) != 0)
			return -1;
	}
	return errno == 0 ? 0 : err_sys(err, errno, "read a directory");
}

static int compare_names(const void *a, const void *b, void *store)
{
	const char *names = store;

	return strcmp(names + *(const uint32_t *)a, names + *(const uint32_t *)b);
}

/* The level has its names then. */
static int sort_names(struct level *l, const struct names *n, struct err *err)
{
	if ((l->names = calloc(n->count + 1, sizeof(*l->names))) == NULL)
		return no_memory(err);
	for (size_t at = 0; at < n->len; at += strlen(n->store + at) + 1)
		l->names[l->count++] = (uint32_t)at;
	if (l->count > 1)
		qsort_r(l->names, l->count, sizeof(*l->names), compare_names, n->store);
	l->cost = n->len + n->count * sizeof(*l->names);
	return 0;
}

/* Takes ${fd}. */
static int open_level(struct sync_walk *w, int fd, struct err *err)
{
	struct level *l = &w->levels[w->depth];
	struct names n = { 0 };
	int again = fcntl(fd, F_DUPFD_CLOEXEC, 3), r = -1;
	DIR *list = again >= 0 ? fdopendir(again) : NULL;

	*l = (struct level){ .fd = fd, .path_len = w->depth > 0 ? strlen(w->path) : 0 };
	if (list == NULL)
		err_sys(err, errno, "read a directory");
	else if (read_names(w, list, &n, err) == 0 && sort_names(l, &n, err) == 0)
		r = 0;
	if (list != NULL)
		closedir(list);
	else if (again >= 0)
		close(again);
	l->store = n.store;
	if (r != 0) {
		free(l->store);
		close(fd);
		return -1;
	}
	w->cost += l->cost;
	w->depth++;
	return 0;
}

struct sync_walk *sync_walk_create(const struct sync_walk_options *opt, struct err *err)
{
	struct sync_walk *w = calloc(1, sizeof(*w));
	int fd;

	if (w == NULL) {
		no_memory(err);
		return NULL;
	}
	w->opt = *opt;
	if ((w->attributes = sync_attributes_create(err)) == NULL)
		;
	else if ((w->files = map_create()) == NULL)
		no_memory(err);
	else if ((fd = beneath_open(
		      opt->root, ".", O_RDONLY | O_DIRECTORY, 0, BENEATH_NO_LINKS, err)) >= 0 &&
	    open_level(w, fd, err) == 0)
		return w;
	sync_walk_free(w);
	return NULL;
}

void sync_walk_free(struct sync_walk *w)
{
	if (w == NULL)
		return;
	while (w->depth > 0)
		close_level(w);
	sync_attributes_free(w->attributes);
	map_free(w->files);
	free(w);
}

int sync_walk_directory(const struct sync_walk *w)
{
	return w->dir;
}

const char *sync_walk_name(const struct sync_walk *w)
{
	return w->name;
}

void sync_entry_of(const struct stat *st, struct sync_entry *e)
{
	*e = (struct sync_entry){ .kind = SYNC_KIND_OTHER };
	if (S_ISREG(st->st_mode))
		e->kind = SYNC_KIND_FILE;
	else if (S_ISDIR(st->st_mode))
		e->kind = SYNC_KIND_DIRECTORY;
	else if (S_ISLNK(st->st_mode))
		e->kind = SYNC_KIND_LINK;
	e->size = e->kind == SYNC_KIND_FILE ? (uint64_t)st->st_size : 0;
	/* Links have no mode of their own. */
	e->mode = e->kind == SYNC_KIND_LINK ? 0644 : st->st_mode & 0777;
	e->mtime =
	    (int64_t)((uint64_t)st->st_mtim.tv_sec * 1000000000 + (uint64_t)st->st_mtim.tv_nsec);
}

struct timespec sync_time_of(int64_t ns)
{
	int64_t rest = ns % 1000000000;

	rest += rest < 0 ? 1000000000 : 0;
	return (struct timespec){ .tv_sec = (ns - rest) / 1000000000, .tv_nsec = rest };
}

int sync_open(int dir, const char *name)
{
	return openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

int sync_digest_of(int fd, const char *path, uint8_t out[static DIGEST_SIZE], struct err *err)
{
	struct digest *d = digest_create();
	uint8_t *bytes = malloc(READ_SIZE);
	ssize_t n = 0;

	if (d == NULL || bytes == NULL) {
		digest_free(d);
		free(bytes);
		return no_memory(err);
	}
	while ((n = read(fd, bytes, READ_SIZE)) > 0 || (n < 0 && errno == EINTR))
		if (n > 0)
			digest_update(d, bytes, (size_t)n);
	if (n < 0)
		err_sys(err, errno, "%s", path);
	digest_value(d, out);
	digest_free(d);
	free(bytes);
	return n < 0 ? -1 : 0;
}

/* The same number for every name of a file, as they come. */
static uint64_t number_of(struct sync_walk *w, const struct stat *st)
{
	size_t count = map_count(w->files);
	char key[INODE_TEXT];

	if (!S_ISREG(st->st_mode) || st->st_nlink < 2)
		return 0;
	snprintf(
	    key, sizeof(key), "%" PRIx64 ":%" PRIx64, (uint64_t)st->st_dev, (uint64_t)st->st_ino);
	void *number = map_get(w->files, key);
	if (number == NULL && count < (w->opt.max_files != 0 ? w->opt.max_files : SYNC_FILES_MAX)) {
		number = (void *)(uintptr_t)(count + 1);
		if (map_put(w->files, key, number) != 0)
			number = NULL;
	}
	return (uint64_t)(uintptr_t)number;
}

static int read_link(struct sync_walk *w, struct sync_entry *e, struct err *err)
{
	ssize_t n = readlinkat(w->dir, w->name, w->link, sizeof(w->link) - 1);

	if (n <= 0)
		return err_sys(err, n < 0 ? errno : EINVAL, "%s", w->path);
	w->link[n] = '\0';
	e->link = w->link;
	return 0;
}

/* What the entry has besides its stat; -1: it cannot be had. Who only cannot read it is
 * told so when it is to be sent. */
static int complete(struct sync_walk *w, struct sync_entry *e, struct err *err)
{
	bool digest = e->kind == SYNC_KIND_FILE && w->opt.digests, left_out;
	int r = 0;

	if (e->kind == SYNC_KIND_LINK)
		return read_link(w, e, err);
	if (e->kind == SYNC_KIND_OTHER)
		return 0;
	bool attributes = sync_attributes_may_be(w->attributes, w->dir, w->name);
	if (!digest && !attributes)
		return 0;
	int fd = sync_open(w->dir, w->name);
	if (fd < 0)
		return digest ? err_sys(err, errno, "%s", w->path) : 0;
	if (attributes)
		e->attributes = sync_attributes_read(w->attributes, fd, &left_out);
	if (digest)
		r = sync_digest_of(fd, w->path, e->digest, err);
	e->has_digest = digest && r == 0;
	close(fd);
	return r;
}

/* The next name of the level: 1, or 0 if it is to be left out. */
static int take_name(struct sync_walk *w, struct level *l, struct sync_entry *e)
{
	assert(l->store != NULL); /* there is a name */
	const char *name = l->store + l->names[l->next++];
	size_t at = l->path_len + (l->path_len > 0), len = strlen(name);
	struct err err = { 0 };
	struct stat st;

	w->path[l->path_len] = '\0';
	if (len >= BENEATH_NAME_MAX || at + len >= TREE_PATH_MAX) {
		err_set(&err, GRPC_INVALID_ARGUMENT, "a path of more than %d bytes is in it",
		    TREE_PATH_MAX - 1);
		tell_failed(w, &err);
		return 0;
	}
	if (l->path_len > 0)
		w->path[at - 1] = '/';
	memcpy(w->path + at, name, len + 1);
	memcpy(w->name, name, len + 1);
	w->dir = l->fd;
	if (fstatat(l->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		if (errno == ENOENT)
			return 0; /* it has just gone */
		err_sys(&err, errno, "%s", w->path);
	} else {
		sync_entry_of(&st, e);
		e->path = w->path;
		if (w->opt.excluded != NULL &&
		    w->opt.excluded(w->opt.cookie, w->path, e->kind == SYNC_KIND_DIRECTORY))
			return 0;
		e->file = number_of(w, &st);
		if (complete(w, e, &err) == 0)
			return 1;
	}
	tell_failed(w, &err);
	return 0;
}

/* The directory that was given last. */
static int enter(struct sync_walk *w, struct err *err)
{
	struct err why = { 0 };
	int fd = -1;

	w->enter = false;
	if (w->depth > TREE_DEPTH_MAX - 1)
		err_set(&why, GRPC_RESOURCE_EXHAUSTED,
		    "it has more than %d directories in each other", TREE_DEPTH_MAX);
	else
		fd = beneath_open(
		    w->dir, w->name, O_RDONLY | O_DIRECTORY, 0, BENEATH_NO_LINKS, &why);
	if (fd >= 0 && open_level(w, fd, &why) == 0)
		return 0;
	if (why.code == GRPC_RESOURCE_EXHAUSTED && why.sys == 0 &&
	    strcmp(why.text, "out of memory") == 0)
		return *err = why, -1;
	if (why.code != GRPC_NOT_FOUND)
		tell_failed(w, &why);
	return 0;
}

int sync_walk_next(struct sync_walk *w, struct sync_entry *e, struct err *err)
{
	if (w->enter && enter(w, err) != 0)
		return -1;
	while (w->depth > 0) {
		struct level *l = &w->levels[w->depth - 1];
		if (l->next == l->count) {
			close_level(w);
		} else if (take_name(w, l, e) > 0) {
			w->enter = e->kind == SYNC_KIND_DIRECTORY;
			return 1;
		}
	}
	return 0;
}
