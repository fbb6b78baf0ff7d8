#include "base/beneath.h"

#include <dirent.h>
#include <errno.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* openat2 gives EAGAIN when something is renamed while it looks; so often we try again. */
#define TRIES_MAX 64

static uint64_t resolve_of(enum beneath_links links)
{
	switch (links) {
	case BENEATH_FOLLOW:
		return RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
	case BENEATH_IN_ROOT:
		return RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
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
	int fd = -1;

	errno = EAGAIN;
	for (int i = 0; i < TRIES_MAX && fd < 0 && (errno == EAGAIN || errno == EINTR); i++)
		fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	return fd;
}

int beneath_open(
    int root, const char *path, int flags, mode_t mode, enum beneath_links links, struct err *err)
{
	if (beneath_check(path, strlen(path), err) != 0)
		return -1;
	int fd = open_raw(root, path, flags, mode, links);
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

static int remove_entry(int dir, const char *name, unsigned depth, struct err *err);

/* All in ${fd}, which is closed. */
static int remove_children(int fd, unsigned depth, struct err *err)
{
	DIR *list = fdopendir(fd);
	int r = 0;

	if (list == NULL) {
		r = err_sys(err, errno, "read a directory");
		close(fd);
		return r;
	}
	for (struct dirent *e; r == 0 && (e = readdir(list)) != NULL;)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = remove_entry(dirfd(list), e->d_name, depth + 1, err);
	closedir(list);
	return r;
}

static int remove_entry(int dir, const char *name, unsigned depth, struct err *err)
{
	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return err_sys(err, errno, "remove %s", name);
	if (depth > BENEATH_DEPTH_MAX)
		return err_set(err, GRPC_FAILED_PRECONDITION, "%s: more than %d directories deep",
		    name, BENEATH_DEPTH_MAX);
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == EACCES && fchmodat(dir, name, 0700, 0) == 0)
		fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "remove %s", name);
	fchmod(fd, 0700); /* a directory of mode 0500 keeps its entries otherwise */
	if (remove_children(fd, depth, err) != 0)
		return -1;
	if (unlinkat(dir, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
		return err_sys(err, errno, "remove %s", name);
	return 0;
}

int beneath_remove_tree(int root, const char *path, struct err *err)
{
	char last[BENEATH_NAME_MAX];
	struct err why = { 0 };
	int dir = beneath_parent(root, path, false, BENEATH_NO_LINKS, last, &why);

	if (dir < 0) {
		if (why.code == GRPC_NOT_FOUND)
			return 0;
		*err = why;
		return -1;
	}
	int r = remove_entry(dir, last, 0, err);
	close(dir);
	return r;
}
