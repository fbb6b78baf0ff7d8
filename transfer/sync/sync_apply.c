#include "transfer/sync/sync_apply.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "transfer/sync/sync_attributes.h"
#include "transfer/sync/sync_part.h"

#define COPY_SIZE  ((size_t)128 << 10)
#define ZERO_BLOCK ((size_t)4096)        /* so much of nothing, at its place, is a hole */
#define LINK_SLACK ((int64_t)2000000000) /* ns: file systems round times */

struct sync_apply {
	int root;
	struct sync_dirs *dirs;
	struct sync_joint *joint;
	const struct sync_link *link;
	struct sync_attributes *attributes; /* room */
	const uint8_t *body;                /* what is to be set next; NULL: none */
	size_t body_len;
	int dir;         /* of the last entry, kept for its neighbours; -1: none */
	struct err *why; /* for make_shared() */
	char dir_path[TREE_PATH_MAX];

	/* The file that is begun, or a range of one: */
	struct sync_part *part; /* NULL: none */
	struct sync_part own;
	struct sync_joint_file *shared; /* it is a range of this one; NULL: the whole file */
	char path[TREE_PATH_MAX];
	char name[BENEATH_NAME_MAX];
	uint64_t size;              /* of the file */
	uint64_t from;              /* where the range begins */
	uint64_t promised, written; /* bytes of it */
	int64_t mtime;
	mode_t mode;
	bool sparse;
	int basis; /* -1: not opened */
	struct digest *digest;
	uint8_t *buffer; /* COPY_SIZE */
	uint8_t *zeros;  /* likewise */
};

struct sync_apply *sync_apply_create(int root, struct sync_dirs *dirs, struct sync_joint *joint,
    const struct sync_link *link, struct err *err)
{
	struct sync_apply *a = calloc(1, sizeof(*a));

	if (a != NULL) {
		a->root = root;
		a->dirs = dirs;
		a->joint = joint;
		a->link = link;
		a->dir = a->basis = -1;
		a->own = SYNC_PART_NONE;
		a->digest = digest_create();
		a->buffer = malloc(COPY_SIZE);
		a->zeros = calloc(1, COPY_SIZE);
		a->attributes = sync_attributes_create(err);
	}
	if (a == NULL || a->digest == NULL || a->buffer == NULL || a->zeros == NULL ||
	    a->attributes == NULL) {
		sync_apply_free(a);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	return a;
}

void sync_apply_attributes(struct sync_apply *a, const uint8_t *body, size_t len)
{
	a->body = body;
	a->body_len = len;
}

/* Those that wait are for this one. */
static int set_attributes(struct sync_apply *a, int fd, const char *path, struct err *err)
{
	const uint8_t *body = a->body != NULL ? a->body : (const uint8_t *)"";
	size_t len = a->body != NULL ? a->body_len : 0;

	a->body = NULL;
	return sync_attributes_apply(a->attributes, fd, body, len, path, err);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* The range is over; true: with it the file is ours to end. */
static bool leave_shared(struct sync_apply *a, struct sync_joint_file **file)
{
	*file = a->shared;
	a->shared = NULL;
	return *file != NULL && sync_joint_leave(*file);
}

void sync_apply_undo(struct sync_apply *a)
{
	struct sync_joint_file *file;

	if (a->shared != NULL)
		sync_joint_spoil(a->shared);
	if (leave_shared(a, &file))
		sync_joint_drop(file);
	sync_part_undo(&a->own);
	close_fd(&a->basis);
	a->part = NULL;
}

/* What failed is told of once: -1, or 0 if another range of the file has failed before. */
static int give_up(struct sync_apply *a)
{
	int r = a->shared == NULL || sync_joint_spoil(a->shared) ? -1 : 0;

	sync_apply_undo(a);
	return r;
}

void sync_apply_free(struct sync_apply *a)
{
	if (a == NULL)
		return;
	sync_apply_undo(a);
	close_fd(&a->dir);
	digest_free(a->digest);
	sync_attributes_free(a->attributes);
	free(a->zeros);
	free(a->buffer);
	free(a);
}

/* Opens the directory ${path} is in, and points ${last} at its last name. */
static int enter_parent(struct sync_apply *a, const char *path, const char **last, struct err *err)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash != NULL ? (size_t)(slash - path) : 0;

	*last = slash != NULL ? slash + 1 : path;
	if (a->dir >= 0 && strlen(a->dir_path) == len && memcmp(a->dir_path, path, len) == 0)
		return 0;
	close_fd(&a->dir);
	memcpy(a->dir_path, path, len);
	a->dir_path[len] = '\0';
	a->dir = beneath_open(
	    a->root, len > 0 ? a->dir_path : ".", O_PATH | O_DIRECTORY, 0, BENEATH_NO_LINKS, err);
	if (a->dir >= 0 && len > 0)
		sync_dirs_note(a->dirs, a->dir_path, a->dir);
	return a->dir < 0 ? -1 : 0;
}

/* What is kept open may be the directory that goes. */
static void forget_parent(struct sync_apply *a)
{
	close_fd(&a->dir);
}

/* What comes next goes into it: what its owner may do in it is taken away at the end. */
static int set_directory(
    struct sync_apply *a, const char *name, const char *path, mode_t mode, struct err *err)
{
	int fd = openat(a->dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, errno, "%s", path);
	int r = set_attributes(a, fd, path, err);
	if (r == 0 && fchmod(fd, (mode & 0777) | 0700) != 0)
		r = err_sys(err, errno, "%s: mode", path);
	close(fd);
	return r;
}

int sync_apply_directory(
    struct sync_apply *a, const char *path, mode_t mode, int64_t mtime, struct err *err)
{
	const char *last;
	struct stat st;

	if (enter_parent(a, path, &last, err) != 0)
		return -1;
	if (mkdirat(a->dir, last, 0700) != 0) {
		if (errno != EEXIST)
			return err_sys(err, errno, "%s", path);
		if (fstatat(a->dir, last, &st, AT_SYMLINK_NOFOLLOW) != 0)
			return err_sys(err, errno, "%s", path);
		if (!S_ISDIR(st.st_mode) &&
		    (unlinkat(a->dir, last, 0) != 0 || mkdirat(a->dir, last, 0700) != 0))
			return err_sys(err, errno, "%s", path);
	}
	sync_dirs_set(a->dirs, path, mode & 0777, mtime);
	return set_directory(a, last, path, mode, err);
}

int sync_apply_link(
    struct sync_apply *a, const char *path, const char *target, int64_t mtime, struct err *err)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, sync_time_of(mtime) };
	char part[SYNC_PART_SIZE];
	const char *last;

	if (enter_parent(a, path, &last, err) != 0)
		return -1;
	sync_part_name(part);
	if (symlinkat(target, a->dir, part) != 0)
		return err_sys(err, errno, "%s", path);
	if (utimensat(a->dir, part, times, AT_SYMLINK_NOFOLLOW) != 0 ||
	    sync_part_rename(a->dir, part, last, path, err) != 0) {
		if (err->code == GRPC_OK)
			err_sys(err, errno, "%s: modification time", path);
		unlinkat(a->dir, part, 0);
		return -1;
	}
	return 0;
}

static int set_mode(int fd, const char *path, mode_t mode, int64_t mtime, struct err *err)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, sync_time_of(mtime) };

	if (fchmod(fd, mode & 0777) != 0)
		return err_sys(err, errno, "%s: mode", path);
	if (futimens(fd, times) != 0)
		return err_sys(err, errno, "%s: modification time", path);
	return 0;
}

/* A file, and no pipe or device that would keep us. */
static int open_file(int dir, const char *name, const char *path, struct err *err)
{
	int fd = sync_open(dir, name);
	struct stat st;

	if (fd < 0)
		return err_sys(err, errno, "%s", path);
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return fd;
	close(fd);
	return err_set(err, GRPC_FAILED_PRECONDITION, "%s is no file any more", path);
}

int sync_apply_touch(
    struct sync_apply *a, const char *path, mode_t mode, int64_t mtime, struct err *err)
{
	const char *last;

	if (enter_parent(a, path, &last, err) != 0)
		return -1;
	int fd = open_file(a->dir, last, path, err);
	if (fd < 0)
		return -1;
	int r = set_attributes(a, fd, path, err);
	if (r == 0)
		r = set_mode(fd, path, mode, mtime, err);
	close(fd);
	return r;
}

/* Hard links. */

/* The file with the name ${name} in ${dir} gets the name ${last} in the parent that is
 * entered. */
static int link_in_place(struct sync_apply *a, int dir, const char *name, const char *last,
    const char *path, struct err *err)
{
	char part[SYNC_PART_SIZE];

	sync_part_name(part);
	if (linkat(dir, name, a->dir, part, 0) != 0)
		return err_sys(err, errno, "%s: a link", path);
	int r = sync_part_rename(a->dir, part, last, path, err);
	/* Renamed onto another name of the same file it is there still. */
	unlinkat(a->dir, part, 0);
	return r;
}

static bool is_near(int64_t a, int64_t b)
{
	uint64_t apart = a > b ? (uint64_t)a - (uint64_t)b : (uint64_t)b - (uint64_t)a;

	return apart <= (uint64_t)LINK_SLACK;
}

int sync_apply_hardlink(struct sync_apply *a, const char *path, const char *first, uint64_t size,
    int64_t mtime, struct err *err)
{
	char name[BENEATH_NAME_MAX];
	struct stat st, old;
	const char *last;
	int dir, r = 0;

	if (enter_parent(a, path, &last, err) != 0 ||
	    (dir = beneath_parent(a->root, first, false, BENEATH_NO_LINKS, name, err)) < 0)
		return -1;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		r = err_sys(err, errno, "%s: a link to %s", path, first);
	else if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != size ||
	    !is_near((int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec, mtime))
		r = err_set(err, GRPC_ABORTED,
		    "%s: a link to %s, which is not as it should be; sync again", path, first);
	else if (fstatat(a->dir, last, &old, AT_SYMLINK_NOFOLLOW) != 0 || old.st_dev != st.st_dev ||
	    old.st_ino != st.st_ino)
		r = link_in_place(a, dir, name, last, path, err);
	close(dir);
	return r;
}

/* Files. */

static int make_part(struct sync_apply *a, struct sync_part *part, struct err *err)
{
	if (a->size > INT64_MAX)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "%s: %" PRIu64 " bytes", a->path, a->size);
	return sync_part_make(
	    part, a->dir, a->path, a->size >= SYNC_SMALL && !a->sparse ? a->size : 0, err);
}

static int begin(struct sync_apply *a, const struct sync_entry *e, bool sparse, struct err *err)
{
	const char *last;

	sync_apply_undo(a);
	a->size = a->promised = e->size;
	a->from = a->written = 0;
	a->mode = e->mode;
	a->mtime = e->mtime;
	a->sparse = sparse;
	digest_reset(a->digest);
	snprintf(a->path, sizeof(a->path), "%s", e->path);
	if (enter_parent(a, e->path, &last, err) != 0)
		return -1;
	snprintf(a->name, sizeof(a->name), "%s", last);
	return 0;
}

int sync_apply_begin(struct sync_apply *a, const struct sync_entry *e, bool sparse, struct err *err)
{
	if (begin(a, e, sparse, err) != 0 || make_part(a, &a->own, err) != 0)
		return -1;
	a->part = &a->own;
	return 0;
}

/* Of the first range, if its directory is there. */
static void make_shared(void *cookie, struct sync_part *part)
{
	struct sync_apply *a = cookie;

	if (a->why->code == GRPC_OK)
		make_part(a, part, a->why);
}

static bool is_stopped(void *cookie)
{
	const struct sync_link *link = ((struct sync_apply *)cookie)->link;

	return link->stopped != NULL && link->stopped(link->cookie);
}

int sync_apply_begin_range(struct sync_apply *a, const struct sync_entry *e, bool sparse,
    const struct sync_range *r, struct err *why, struct err *err)
{
	const struct sync_joint_user user = {
		.make = make_shared, .stopped = is_stopped, .cookie = a
	};

	begin(a, e, sparse, why);
	a->why = why;
	if ((a->shared = sync_joint_enter(a->joint, e, r, &user, err)) == NULL)
		return -1;
	a->from = r->number * r->size;
	a->promised = e->size - a->from < r->size ? e->size - a->from : r->size;
	if (why->code != GRPC_OK)
		return give_up(a) != 0;
	if (a->shared->part.fd >= 0)
		a->part = &a->shared->part;
	return 0;
}

static int write_bytes(
    struct sync_apply *a, uint64_t offset, const uint8_t *bytes, size_t len, struct err *err)
{
	while (len > 0) {
		ssize_t n = pwrite(a->part->fd, bytes, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, errno, "%s", a->path);
		bytes += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* To the next multiple of ZERO_BLOCK in the file, or as far as there is. */
static size_t block_at(uint64_t offset, size_t len)
{
	size_t block = ZERO_BLOCK - (size_t)(offset % ZERO_BLOCK);

	return len < block ? len : block;
}

/* ${offset} is where ${bytes} belong. Runs of blocks that are all zeros, or not. */
static int write_sparse(
    struct sync_apply *a, uint64_t offset, const uint8_t *bytes, size_t len, struct err *err)
{
	while (len > 0) {
		size_t run = block_at(offset, len), n;
		bool zero = memcmp(bytes, a->zeros, run) == 0;
		while (run < len && (n = block_at(offset + run, len - run)) > 0 &&
		    (memcmp(bytes + run, a->zeros, n) == 0) == zero)
			run += n;
		if (!zero && write_bytes(a, offset, bytes, run, err) != 0)
			return -1;
		offset += run;
		bytes += run;
		len -= run;
	}
	return 0;
}

static int take_bytes(struct sync_apply *a, uint64_t len, struct err *err)
{
	if (len > a->promised - a->written)
		return err_set(err, GRPC_DATA_LOSS,
		    "%s: more than the %" PRIu64 " bytes that were promised", a->path, a->promised);
	a->written += len;
	return 0;
}

static int write_part(struct sync_apply *a, const uint8_t *bytes, size_t len, struct err *err)
{
	uint64_t offset = a->from + a->written;

	if (take_bytes(a, len, err) != 0)
		return -1;
	digest_update(a->digest, bytes, len);
	return a->sparse ? write_sparse(a, offset, bytes, len, err)
			 : write_bytes(a, offset, bytes, len, err);
}

static int write_hole(struct sync_apply *a, uint64_t len, struct err *err)
{
	if (take_bytes(a, len, err) != 0)
		return -1;
	a->sparse = true;
	while (len > 0) {
		size_t n = len < COPY_SIZE ? (size_t)len : COPY_SIZE;
		digest_update(a->digest, a->zeros, n);
		len -= n;
	}
	return 0;
}

int sync_apply_hole(struct sync_apply *a, uint64_t len, struct err *err)
{
	return a->part == NULL || write_hole(a, len, err) == 0 ? 0 : give_up(a);
}

int sync_apply_literal(struct sync_apply *a, const uint8_t *bytes, size_t len, struct err *err)
{
	return a->part == NULL || write_part(a, bytes, len, err) == 0 ? 0 : give_up(a);
}

static int copy(struct sync_apply *a, uint64_t offset, uint64_t len, struct err *err)
{
	if (a->basis < 0 && (a->basis = open_file(a->part->dir, a->name, a->path, err)) < 0)
		return -1;
	if (len > INT64_MAX || offset > INT64_MAX - len)
		return err_set(err, GRPC_INVALID_ARGUMENT, "%s: a copy from far out", a->path);
	while (len > 0) {
		size_t want = len < COPY_SIZE ? (size_t)len : COPY_SIZE;
		ssize_t n = pread(a->basis, a->buffer, want, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, errno, "%s", a->path);
		if (n == 0)
			return err_set(err, GRPC_ABORTED,
			    "%s was changed while it was synced; sync again", a->path);
		if (write_part(a, a->buffer, (size_t)n, err) != 0)
			return -1;
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

int sync_apply_copy(struct sync_apply *a, uint64_t offset, uint64_t len, struct err *err)
{
	return a->part == NULL || copy(a, offset, len, err) == 0 ? 0 : give_up(a);
}

/* What has come is what was promised. */
static int verify(struct sync_apply *a, const uint8_t digest[static DIGEST_SIZE], struct err *err)
{
	uint8_t have[DIGEST_SIZE];

	digest_value(a->digest, have);
	if (a->written != a->promised)
		return err_set(err, GRPC_DATA_LOSS,
		    "%s: %" PRIu64 " of the %" PRIu64 " promised bytes came", a->path, a->written,
		    a->promised);
	if (memcmp(have, digest, DIGEST_SIZE) != 0)
		return err_set(err, a->basis >= 0 ? GRPC_ABORTED : GRPC_DATA_LOSS,
		    a->basis >= 0 ? "%s was changed while it was synced; sync again"
				  : "%s: the digest of what came is not the promised one",
		    a->path);
	return 0;
}

/* All of it is there. A hole at the end has not been written. */
static int put_in_place(struct sync_apply *a, struct sync_part *part, struct err *err)
{
	if (a->sparse && ftruncate(part->fd, (off_t)a->size) != 0)
		return err_sys(err, errno, "%s", a->path);
	if (a->body != NULL && set_attributes(a, part->fd, a->path, err) != 0)
		return -1;
	if (set_mode(part->fd, a->path, a->mode, a->mtime, err) != 0)
		return -1;
	return sync_part_place(part, a->name, a->path, err);
}

static int commit_range(struct sync_apply *a, struct err *err)
{
	struct sync_joint_file *file;
	int r = 0;

	if (leave_shared(a, &file)) {
		a->sparse = true; /* one of the others may have been */
		if (!file->failed)
			r = put_in_place(a, &file->part, err) == 0 ? 1 : -1;
		sync_joint_drop(file);
	}
	sync_apply_undo(a);
	return r;
}

int sync_apply_commit(
    struct sync_apply *a, const uint8_t digest[static DIGEST_SIZE], struct err *err)
{
	int r = 0;

	if (a->part != NULL && verify(a, digest, err) != 0)
		return give_up(a);
	if (a->part != NULL && a->shared != NULL)
		return commit_range(a, err);
	if (a->part != NULL)
		r = put_in_place(a, a->part, err) == 0 ? 1 : -1;
	sync_apply_undo(a);
	return r;
}

/* The rest. */

int sync_apply_delete(struct sync_apply *a, const char *path, bool directory, struct err *err)
{
	const char *last;

	if (enter_parent(a, path, &last, err) != 0) {
		if (err->code != GRPC_NOT_FOUND)
			return -1;
		err_clear(err);
		return 1;
	}
	if (unlinkat(a->dir, last, directory ? AT_REMOVEDIR : 0) == 0 || errno == ENOENT) {
		if (directory)
			forget_parent(a);
		return 1;
	}
	if (directory && (errno == ENOTEMPTY || errno == EEXIST))
		return 0;
	return err_sys(err, errno, "%s", path);
}

int sync_apply_sync(struct sync_apply *a, struct err *err)
{
	/* The root may be open for its name alone. */
	int fd = openat(a->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "sync");
	int r = syncfs(fd) != 0 ? err_sys(err, errno, "sync") : 0;
	close(fd);
	return r;
}
