#include "base/beneath.h"

#include <dirent.h>
#include <errno.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* openat2 gives EAGAIN for a path with ".." when anything on the machine is renamed or mounted
 * while it looks. So often we try again: at once, then with a rest between two tries, as a
 * burst of mounts outlasts all that can be done at once. */
#define TRIES_MAX     64
#define TRIES_AT_ONCE 16
#define REST_NS       200000

#define REMOVE_DEPTH_MAX 32 /* directories that a removal holds open at once */

static uint64_t resolve_of(enum beneath_links links)
{
	switch (links) {
	case BENEATH_FOLLOW:
		return RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
	case BENEATH_IN_ROOT:
		return RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
	case BENEATH_ONE_MOUNT:
		return RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS |
		    RESOLVE_NO_XDEV;
	default:
		return RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS;
	}
}

int beneath_check(const char *path, size_t len, struct err *err)
{
	if (len == 0)
		return err_set(err, GRPC_INVALID_ARGUMENT, "an empty path");
	if (memchr(path, '\0', len) != NULL)
		return err_set(err, GRPC_INVALID_ARGUMENT, "a path with a NUL in it");
	if (len >= BENEATH_PATH_MAX)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "%.40s...: a path of %zu bytes; %d are the most", path, len,
		    BENEATH_PATH_MAX - 1);
	return 0;
}

int beneath_root(int workdir, int slash, const char *path, const char **rest)
{
	if (path[0] != '/') {
		*rest = path[0] != '\0' ? path : ".";
		return workdir;
	}
	path += strspn(path, "/");
	*rest = path[0] != '\0' ? path : ".";
	return slash;
}

static int fail(const char *path, struct err *err)
{
	if (errno == EXDEV)
		return err_set(err, GRPC_PERMISSION_DENIED, "%s leads out of the directory", path);
	if (errno == EAGAIN)
		return err_set(
		    err, GRPC_ABORTED, "%s changes while it is looked up; try again", path);
	return err_sys(err, errno, "%s", path);
}

static int open_raw(int root, const char *path, int flags, mode_t mode, enum beneath_links links)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC | (flags & O_PATH ? 0 : O_NOCTTY)),
		.mode = flags & (O_CREAT | O_TMPFILE) ? mode : 0,
		.resolve = resolve_of(links),
	};
	const struct timespec rest = { .tv_nsec = REST_NS };
	int fd = -1;

	errno = EAGAIN;
	for (int i = 0; i < TRIES_MAX && fd < 0 && (errno == EAGAIN || errno == EINTR); i++) {
		if (i >= TRIES_AT_ONCE)
			nanosleep(&rest, NULL);
		fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	}
	return fd;
}

int beneath_open(
    int root, const char *path, int flags, mode_t mode, enum beneath_links links, struct err *err)
{
	if (beneath_check(path, strlen(path), err) != 0)
		return -1;
	int fd = open_raw(root, path, flags, mode, links);
	if (fd < 0 && errno == EXDEV && links == BENEATH_ONE_MOUNT)
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s: another file system is mounted there", path);
	return fd >= 0 ? fd : fail(path, err);
}

/* Splits "a/b/x/" into "a/b" and "x". */
static int split(const char *path, char dir[static BENEATH_PATH_MAX],
    char last[static BENEATH_NAME_MAX], struct err *err)
{
	size_t end = strlen(path);

	if (beneath_check(path, end, err) != 0)
		return -1;
	while (end > 0 && path[end - 1] == '/')
		end--;
	size_t start = end;
	while (start > 0 && path[start - 1] != '/')
		start--;
	size_t len = end - start;
	if (len >= BENEATH_NAME_MAX)
		return err_sys(err, ENAMETOOLONG, "%.40s...", path + start);
	memcpy(last, path + start, len);
	last[len] = '\0';
	if (len == 0 || strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
		return err_set(err, GRPC_INVALID_ARGUMENT, "%s does not end in a name", path);
	memcpy(dir, path, start);
	dir[start] = '\0';
	if (start == 0)
		memcpy(dir, ".", 2);
	return 0;
}

int beneath_parent(int root, const char *path, bool make_parents, enum beneath_links links,
    char last[BENEATH_NAME_MAX], struct err *err)
{
	char dir[BENEATH_PATH_MAX];

	if (split(path, dir, last, err) != 0)
		return -1;
	int fd = open_raw(root, dir, O_PATH | O_DIRECTORY, 0, links);
	if (fd >= 0)
		return fd;
	if (errno != ENOENT || !make_parents) {
		if (errno == ENOENT)
			return err_set(
			    err, GRPC_NOT_FOUND, "%s: its directory does not exist", path);
		return fail(path, err);
	}
	if (beneath_mkdir(root, dir, 0777, links, err) != 0)
		return -1;
	return beneath_open(root, dir, O_PATH | O_DIRECTORY, 0, links, err);
}

/* Opens the directory ${name} of ${fd}, making it if it is missing. ".." and links are
 * left to the kernel: only what openat2 finds beneath is entered. */
static int enter(int root, const char *so_far, const char *full, mode_t mode,
    enum beneath_links links, struct err *err)
{
	char dir[BENEATH_PATH_MAX], last[BENEATH_NAME_MAX];
	struct err none;

	int fd = open_raw(root, so_far, O_PATH | O_DIRECTORY, 0, links);
	if (fd >= 0 || errno != ENOENT)
		return fd >= 0 ? fd : fail(full, err);
	if (split(so_far, dir, last, &none) != 0)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "%s: \"..\" of what does not exist", full);
	int parent = open_raw(root, dir, O_PATH | O_DIRECTORY, 0, links);
	if (parent < 0)
		return fail(full, err);
	int r = mkdirat(parent, last, mode);
	int saved = errno;
	close(parent);
	if (r != 0 && saved != EEXIST)
		return err_sys(err, saved, "%s", full);
	return beneath_open(root, so_far, O_PATH | O_DIRECTORY, 0, links, err);
}

int beneath_mkdir(
    int root, const char *path, mode_t mode, enum beneath_links links, struct err *err)
{
	char so_far[BENEATH_PATH_MAX];
	size_t depth = 0, len = strlen(path);

	if (beneath_check(path, len, err) != 0)
		return -1;
	for (size_t end = 0; end < len;) {
		end += strspn(path + end, "/");
		end += strcspn(path + end, "/");
		if (++depth > BENEATH_DEPTH_MAX)
			return err_set(err, GRPC_INVALID_ARGUMENT,
			    "%.40s...: more than %d directories deep", path, BENEATH_DEPTH_MAX);
		memcpy(so_far, path, end);
		so_far[end] = '\0';
		int fd = enter(root, so_far, path, mode, links, err);
		if (fd < 0)
			return -1;
		close(fd);
	}
	return 0;
}

int beneath_stat(
    int root, const char *path, struct stat *st, enum beneath_links links, struct err *err)
{
	int fd = beneath_open(
	    root, path, O_PATH | (links == BENEATH_NO_LINKS ? O_NOFOLLOW : 0), 0, links, err);

	if (fd < 0)
		return -1;
	int r = fstat(fd, st) != 0 ? err_sys(err, errno, "%s", path) : 0;
	close(fd);
	return r;
}

/* Removal. */

/* A removal. A tree can be deeper than there are descriptors, so what is too deep is moved
 * up to ${top}, and ${top} is gone through again. */
struct removal {
	int top;
	unsigned long moved;
	struct err *err;
};

static int remove_entry(struct removal *, int dir, const char *name, unsigned depth);

/* All in ${fd}, which is closed. */
static int remove_children(struct removal *r, int fd, unsigned depth)
{
	DIR *list = fdopendir(fd);
	int result = 0;

	if (list == NULL) {
		result = err_sys(r->err, errno, "read a directory");
		close(fd);
		return result;
	}
	for (struct dirent *e; result == 0 && (errno = 0, e = readdir(list)) != NULL;)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			result = remove_entry(r, dirfd(list), e->d_name, depth + 1);
	if (result == 0 && errno != 0)
		result = err_sys(r->err, errno, "read a directory");
	closedir(list);
	return result;
}

/* A directory of ours whose mode keeps us out. The mode is changed of what was found to be
 * a directory, not of its name, which may have become a link meanwhile. */
static int open_closed(int dir, const char *name)
{
	char itself[32];
	int path = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), fd = -1;

	if (path < 0)
		return -1;
	snprintf(itself, sizeof(itself), "/proc/self/fd/%d", path);
	if (chmod(itself, 0700) == 0)
		fd = openat(path, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int saved = errno;
	close(path);
	errno = saved;
	return fd;
}

/* A directory whose entries can be removed, whatever its mode was; -1: see errno. */
static int open_to_empty(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 && errno == EACCES)
		fd = open_closed(dir, name);
	if (fd >= 0)
		fchmod(fd, 0700); /* one of mode 0500 keeps its entries otherwise */
	return fd;
}

static int move_up(struct removal *r, int dir, const char *name)
{
	char to[40];

	for (;;) {
		snprintf(to, sizeof(to), ".removed-%lu", r->moved++);
		if (renameat(dir, name, r->top, to) == 0)
			return 0;
		if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR)
			return err_sys(r->err, errno, "move %s", name);
	}
}

/* 0 when it is no directory and gone, 1 when it is one. */
static int remove_file(int dir, const char *name, struct err *err)
{
	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	return errno == EISDIR || errno == EPERM ? 1 : err_sys(err, errno, "remove %s", name);
}

static int remove_empty(int dir, const char *name, struct err *err)
{
	if (unlinkat(dir, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
		return err_sys(err, errno, "remove %s", name);
	return 0;
}

static int remove_entry(struct removal *r, int dir, const char *name, unsigned depth)
{
	int result = remove_file(dir, name, r->err);

	if (result <= 0)
		return result;
	int fd = open_to_empty(dir, name);
	if (fd < 0)
		return err_sys(r->err, errno, "remove %s", name);
	if (depth > REMOVE_DEPTH_MAX) {
		close(fd);
		return move_up(r, dir, name);
	}
	if (remove_children(r, fd, depth) != 0)
		return -1;
	return remove_empty(dir, name, r->err);
}

/* The directory ${name} in ${dir}, with all in it. */
static int remove_directory(int dir, const char *name, struct err *err)
{
	struct removal r = { .top = open_to_empty(dir, name), .moved = 0, .err = err };
	unsigned long before;
	int result;

	if (r.top < 0)
		return err_sys(err, errno, "remove %s", name);
	do {
		int fd = openat(r.top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		before = r.moved;
		result =
		    fd >= 0 ? remove_children(&r, fd, 0) : err_sys(err, errno, "remove %s", name);
	} while (result == 0 && r.moved > before);
	close(r.top);
	return result == 0 ? remove_empty(dir, name, err) : -1;
}

int beneath_remove_tree(int root, const char *path, struct err *err)
{
	char last[BENEATH_NAME_MAX];
	struct err why = { 0 };
	int dir = beneath_parent(root, path, false, BENEATH_NO_LINKS, last, &why);

	if (dir < 0) {
		if (why.code == GRPC_NOT_FOUND)
			return 0;
		if (err != NULL)
			*err = why;
		return -1;
	}
	int r = remove_file(dir, last, err);
	if (r > 0)
		r = remove_directory(dir, last, err);
	close(dir);
	return r;
}
