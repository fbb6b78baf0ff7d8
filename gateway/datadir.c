#include "gateway/datadir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct datadir {
	int lock;
	char path[PATH_MAX];
};

static int make_directories(const char *path, struct err *err)
{
	char part[PATH_MAX];
	size_t len = strlen(path);

	if (len == 0 || len >= sizeof(part))
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "the data directory's path is empty or too long");
	memcpy(part, path, len + 1);
	for (char *at = part + 1;; at++) {
		char saved = *at;

		if (saved != '/' && saved != '\0')
			continue;
		*at = '\0';
		if (mkdir(part, 0700) != 0 && errno != EEXIST)
			return err_sys(err, errno, "make the data directory %s", part);
		if (saved == '\0')
			return 0;
		*at = saved;
	}
}

/*
 * A lock of the process, not of the descriptor: a child that is on its way to become a
 * supervisor has a copy of the descriptor for a moment, and must not keep a killed
 * gateway's successor out.
 */
static int take_lock(struct datadir *d, struct err *err)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[PATH_MAX + 8];

	snprintf(path, sizeof(path), "%s/lock", d->path);
	d->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (d->lock < 0)
		return err_sys(err, errno, "open %s", path);
	if (fcntl(d->lock, F_SETLK, &lock) == 0)
		return 0;
	if (errno != EAGAIN && errno != EACCES)
		return err_sys(err, errno, "lock %s", path);
	lock.l_pid = 0;
	(void)fcntl(d->lock, F_GETLK, &lock);
	return err_set(err, GRPC_FAILED_PRECONDITION,
	    "another gateway, process %ld, uses %s; stop it or choose another --data-dir",
	    (long)lock.l_pid, d->path);
}

struct datadir *datadir_open(const char *path, struct err *err)
{
	struct datadir *d;

	if (make_directories(path, err) != 0)
		return NULL;
	if ((d = calloc(1, sizeof(*d))) == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	d->lock = -1;
	if (realpath(path, d->path) == NULL)
		err_sys(err, errno, "the data directory %s", path);
	else if (take_lock(d, err) == 0)
		return d;
	datadir_close(d);
	return NULL;
}

void datadir_close(struct datadir *d)
{
	if (d == NULL)
		return;
	if (d->lock >= 0)
		close(d->lock);
	free(d);
}

const char *datadir_path(const struct datadir *d)
{
	return d->path;
}

static int write_all(const char *path, const char *text, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	ssize_t len = (ssize_t)strlen(text), written;
	int result = 0;

	if (fd < 0)
		return err_sys(err, errno, "write %s", path);
	written = write(fd, text, (size_t)len);
	if (written < 0)
		result = err_sys(err, errno, "write %s", path);
	else if (written < len)
		result = err_sys(err, ENOSPC, "write %s", path);
	close(fd);
	return result;
}

int datadir_write_file(const char *path, const char *text, struct err *err)
{
	char temporary[PATH_MAX];

	if (snprintf(temporary, sizeof(temporary), "%s.%ld", path, (long)getpid()) >=
	    (int)sizeof(temporary))
		return err_set(err, GRPC_INVALID_ARGUMENT, "%s: the path is too long", path);
	if (write_all(temporary, text, err) != 0)
		return -1;
	if (rename(temporary, path) == 0)
		return 0;
	err_sys(err, errno, "rename %s to %s", temporary, path);
	unlink(temporary);
	return -1;
}
