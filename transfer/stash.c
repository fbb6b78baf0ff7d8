#include "transfer/stash.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "transfer/part.h"
#include "transfer/reserve.h"

#define ENDING      ".towline-get"
#define OPEN_TRIES  5 /* to lock what others remove meanwhile */
#define CHUNK_BYTES ((size_t)256 << 10)
#define WRITE_OUT   ((uint64_t)8 << 20) /* behind so much of a range, the disk need not wait */

/* Behind the content. It is read on the machine that wrote it. */
struct footer {
	char magic[16];
	struct stash_source source;
	uint64_t count;
	uint8_t check[DIGEST_SIZE]; /* of what is above, and where the ranges are */
	struct stash_range ranges[STASH_RANGES_MAX];
};

static const char magic[16] = "towline-stash-1";

struct stash {
	int parent; /* the target's directory */
	int fd;
	char name[BENEATH_NAME_MAX]; /* of the target */
	char part[BENEATH_NAME_MAX];
	struct footer footer;
};

static void stash_free(struct stash *s)
{
	if (s->fd >= 0)
		close(s->fd);
	if (s->parent >= 0)
		close(s->parent);
	free(s);
}

void stash_remove(struct stash *s)
{
	if (s == NULL)
		return;
	if (s->fd >= 0)
		unlinkat(s->parent, s->part, 0);
	stash_free(s);
}

/* Which file. */

static void name_part(struct stash *s)
{
	snprintf(s->part, sizeof(s->part), ".%.*s" ENDING,
	    (int)(sizeof(s->part) - sizeof(".") - sizeof(ENDING)), s->name);
}

static struct stash *create_at(int slash, const char *path, struct err *err)
{
	struct stash *s = calloc(1, sizeof(*s));
	struct stat st;
	const char *rest;

	if (s == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	s->fd = -1;
	beneath_root(slash, slash, path, &rest);
	s->parent = beneath_parent(slash, rest, false, BENEATH_IN_ROOT, s->name, err);
	if (s->parent >= 0) {
		name_part(s);
		if (fstatat(s->parent, s->name, &st, 0) != 0 || !S_ISDIR(st.st_mode))
			return s;
		err_set(err, GRPC_FAILED_PRECONDITION, "%s is a directory; name a file", path);
	}
	stash_free(s);
	return NULL;
}

/* Whoever locks it has it; one that was renamed or removed before that is nobody's. */
static bool is_still_there(const struct stash *s, const struct stat *st)
{
	struct stat now;

	return fstatat(s->parent, s->part, &now, AT_SYMLINK_NOFOLLOW) == 0 &&
	    now.st_ino == st->st_ino && now.st_dev == st->st_dev;
}

static int check_owner(const char *path, const struct stat *st, struct err *err)
{
	if (S_ISREG(st->st_mode) && st->st_uid == geteuid() && st->st_nlink == 1)
		return 0;
	return err_set(err, GRPC_PERMISSION_DENIED,
	    "%s: the part file beside it is not ours; remove it", path);
}

/* 1: open and locked; 0: there is none. */
static int open_part(struct stash *s, const char *path, int flags, struct err *err)
{
	struct stat st;

	for (int tries = OPEN_TRIES; tries > 0; tries--) {
		s->fd = openat(
		    s->parent, s->part, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags, 0600);
		if (s->fd < 0 && errno == ENOENT)
			return 0;
		if (s->fd < 0)
			return err_sys(err, errno, "%s: the part file beside it", path);
		if (flock(s->fd, LOCK_EX | LOCK_NB) != 0) {
			close(s->fd);
			s->fd = -1; /* theirs */
			return err_set(
			    err, GRPC_ABORTED, "%s: another download to it is under way", path);
		}
		if (fstat(s->fd, &st) == 0 && is_still_there(s, &st)) {
			if (check_owner(path, &st, err) == 0)
				return 1;
			tries = 1;
		}
		close(s->fd);
		s->fd = -1;
	}
	return err->code != GRPC_OK
	    ? -1
	    : err_set(err, GRPC_ABORTED, "%s: other downloads to it come and go", path);
}

/* What is known of it. */

static int footer_check(const struct footer *f, uint8_t check[static DIGEST_SIZE])
{
	struct digest *d = digest_create();

	if (d == NULL)
		return -1;
	digest_update(d, f, offsetof(struct footer, check));
	for (size_t i = 0; i < STASH_RANGES_MAX; i++)
		digest_update(d, &f->ranges[i], offsetof(struct stash_range, done));
	digest_value(d, check);
	digest_free(d);
	return 0;
}

static bool footer_is_sound(const struct footer *f)
{
	uint64_t at = 0;

	if (f->count == 0 || f->count > STASH_RANGES_MAX)
		return false;
	for (size_t i = 0; i < f->count; i++) {
		const struct stash_range *r = &f->ranges[i];

		if (r->begin != at || r->end <= r->begin || r->done > r->end - r->begin)
			return false;
		at = r->end;
	}
	return at == f->source.total;
}

static bool read_footer(struct stash *s, const uint8_t key[static DIGEST_SIZE])
{
	struct footer *f = &s->footer;
	uint8_t check[DIGEST_SIZE];
	struct stat st;

	if (fstat(s->fd, &st) != 0 || st.st_size < (off_t)sizeof(*f) ||
	    pread(s->fd, f, sizeof(*f), st.st_size - (off_t)sizeof(*f)) != sizeof(*f))
		return false;
	return memcmp(f->magic, magic, sizeof(magic)) == 0 && footer_check(f, check) == 0 &&
	    memcmp(check, f->check, sizeof(check)) == 0 &&
	    memcmp(f->source.key, key, DIGEST_SIZE) == 0 && footer_is_sound(f) &&
	    f->source.total == (uint64_t)st.st_size - sizeof(*f) &&
	    f->source.etag[STASH_ETAG_MAX - 1] == '\0' && f->source.etag[0] != '\0';
}

struct stash *stash_find(
    int slash, const char *path, const uint8_t key[static DIGEST_SIZE], bool fresh, struct err *err)
{
	struct stash *s = create_at(slash, path, err);

	if (s == NULL)
		return NULL;
	int r = open_part(s, path, 0, err);
	if (r == 1 && !fresh && read_footer(s, key))
		return s;
	stash_remove(s); /* only what is open, and so locked, is removed */
	return NULL;
}

static int reserve(struct stash *s, const char *path, bool sparse, struct err *err)
{
	const struct footer *f = &s->footer;

	if (f->source.total > INT64_MAX - sizeof(*f))
		return err_set(err, GRPC_INVALID_ARGUMENT, "%s: a size of %" PRIu64 " bytes", path,
		    f->source.total);
	if (!sparse && reserve_room(s->fd, 0, f->source.total) != 0)
		return err_sys(err, errno, "%s: %" PRIu64 " bytes", path, f->source.total);
	if (pwrite(s->fd, f, sizeof(*f), (off_t)f->source.total) != sizeof(*f))
		return err_sys(err, errno, "%s", path);
	return 0;
}

struct stash *stash_create(int slash, const char *path, const struct stash_source *source,
    size_t count, bool sparse, struct err *err)
{
	struct stash *s = create_at(slash, path, err);
	struct footer *f;

	if (s == NULL)
		return NULL;
	f = &s->footer;
	memcpy(f->magic, magic, sizeof(magic));
	f->source = *source;
	f->count = count;
	for (size_t i = 0; i < count; i++) {
		f->ranges[i].begin = source->total / count * i;
		f->ranges[i].end = i + 1 < count ? source->total / count * (i + 1) : source->total;
	}
	if (footer_check(f, f->check) != 0) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	} else if (open_part(s, path, O_CREAT, err) == 1) {
		if (ftruncate(s->fd, 0) != 0)
			err_sys(err, errno, "%s", path);
		else if (reserve(s, path, sparse, err) == 0)
			return s;
	}
	stash_remove(s);
	return NULL;
}

const struct stash_source *stash_source(const struct stash *s)
{
	return &s->footer.source;
}

size_t stash_count(const struct stash *s)
{
	return s->footer.count;
}

struct stash_range stash_range(const struct stash *s, size_t range)
{
	return s->footer.ranges[range];
}

/* Content. */

int stash_digest(struct stash *s, size_t range, uint64_t offset, uint64_t len,
    struct digest *digest, struct err *err)
{
	uint64_t at = s->footer.ranges[range].begin + offset;
	uint8_t *chunk = malloc(CHUNK_BYTES);

	if (chunk == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	while (len > 0) {
		size_t want = len < CHUNK_BYTES ? (size_t)len : CHUNK_BYTES;
		ssize_t n = pread(s->fd, chunk, want, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			free(chunk);
			return err_sys(err, n < 0 ? errno : EIO, "%s", s->part);
		}
		digest_update(digest, chunk, (size_t)n);
		at += (uint64_t)n;
		len -= (uint64_t)n;
	}
	free(chunk);
	return 0;
}

int stash_write(struct stash *s, size_t range, const void *bytes, size_t len, struct err *err)
{
	struct stash_range *r = &s->footer.ranges[range];
	const uint8_t *from = bytes;
	uint64_t begin = r->begin + r->done;

	while (len > 0) {
		ssize_t n = pwrite(s->fd, from, len, (off_t)(r->begin + r->done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, errno, "%s", s->name);
		from += n;
		len -= (size_t)n;
		r->done += (uint64_t)n;
	}
	/* The disk begins with it, so that the sync at the end has little left to do. */
	if (r->done > WRITE_OUT)
		sync_file_range(
		    s->fd, (off_t)begin, from - (const uint8_t *)bytes, SYNC_FILE_RANGE_WRITE);
	return 0;
}

void stash_skip(struct stash *s, size_t range, uint64_t len)
{
	s->footer.ranges[range].done += len;
}

void stash_rewind(struct stash *s, size_t range)
{
	s->footer.ranges[range].done--;
}

int stash_mark(struct stash *s, size_t range, struct err *err)
{
	const struct stash_range *r = &s->footer.ranges[range];
	off_t at = (off_t)(s->footer.source.total + offsetof(struct footer, ranges) +
	    range * sizeof(*r) + offsetof(struct stash_range, done));

	if (pwrite(s->fd, &r->done, sizeof(r->done), at) != sizeof(r->done))
		return err_sys(err, errno, "%s", s->name);
	return 0;
}

/* The end. */

static int publish(
    struct stash *s, mode_t mode, const struct timespec *mtime, bool replace, struct err *err)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_NOW } };

	if (mtime != NULL)
		times[1] = *mtime;
	if (ftruncate(s->fd, (off_t)s->footer.source.total) != 0)
		return err_sys(err, errno, "%s", s->name);
	if (fchmod(s->fd, mode & 0777) != 0)
		return err_sys(err, errno, "%s: mode", s->name);
	if (mtime != NULL && futimens(s->fd, times) != 0)
		return err_sys(err, errno, "%s: modification time", s->name);
	if (fsync(s->fd) != 0)
		return err_sys(err, errno, "%s: sync", s->name);
	if (part_rename(s->parent, s->part, s->name, replace) != 0)
		return err_sys(err, errno, "%s", s->name);
	/* The directory was opened for its name alone; syncing needs it open for reading. */
	int dir = openat(s->parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir >= 0) {
		fsync(dir);
		close(dir);
	}
	return 0;
}

int stash_commit(
    struct stash *s, mode_t mode, const struct timespec *mtime, bool replace, struct err *err)
{
	if (publish(s, mode, mtime, replace, err) != 0) {
		stash_remove(s);
		return -1;
	}
	stash_free(s);
	return 0;
}

uint64_t stash_keep(struct stash *s)
{
	uint64_t kept = 0;

	for (size_t i = 0; i < s->footer.count; i++)
		kept += s->footer.ranges[i].done;
	if (kept < STASH_KEEP_MIN || s->footer.source.etag[0] == '\0') {
		stash_remove(s);
		return 0;
	}
	stash_free(s);
	return kept;
}
