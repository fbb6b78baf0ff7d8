/* MoveFile: one rename, durable when it is answered. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transfer/files/files.h"

#define MOVE_TRIES 64 /* while somebody moves the directories that it is about */

/* Either end of it. */
struct name {
	const char *path; /* as it was asked for */
	int dir;          /* O_PATH; -1: not open */
	char last[BENEATH_NAME_MAX];
};

static int open_name(
    const struct transfers *t, const char *path, const char *field, struct name *n, struct err *err)
{
	struct files_place p;

	n->path = path;
	n->dir = -1;
	if (files_place(t, path, field, &p, err) != 0)
		return -1;
	n->dir = beneath_parent(p.root, p.rest, false, p.links, n->last, err);
	return n->dir < 0 ? -1 : 0;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Whether ${dir} is ${what} or within it: up from it, until it goes no further. */
static bool is_within(int dir, const struct stat *what)
{
	struct stat st, last = { 0 };
	bool found = false;
	int at = openat(dir, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	for (int i = 0; i < BENEATH_DEPTH_MAX && at >= 0 && fstat(at, &st) == 0; i++) {
		if ((found = is_same(&st, what)) || (i > 0 && is_same(&st, &last)))
			break;
		last = st;
		int up = openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
		close(at);
		at = up;
	}
	if (at >= 0)
		close(at);
	return found;
}

/* With RENAME_NOREPLACE, EINVAL has two meanings. */
static bool is_into_itself(const struct name *from, const struct name *to, bool *directory)
{
	struct stat st;

	*directory =
	    fstatat(from->dir, from->last, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
	return *directory && is_within(to->dir, &st);
}

/* 0, or the errno; ELOOP: a directory into itself. It may have been there for that moment
 * only: then it is tried again, since the other meaning is that it never can be done. */
static int rename_without_replacing(const struct name *from, const struct name *to)
{
	for (int tries = MOVE_TRIES; tries > 0; tries--) {
		bool directory;

		if (renameat2(from->dir, from->last, to->dir, to->last, RENAME_NOREPLACE) == 0)
			return 0;
		if (errno != EINVAL)
			return errno;
		if (is_into_itself(from, to, &directory))
			return ELOOP;
		if (!directory)
			break;
	}
	return EINVAL;
}

/* Likewise; here EINVAL has one meaning. */
static int rename_replacing(const struct name *from, const struct name *to)
{
	if (renameat(from->dir, from->last, to->dir, to->last) == 0)
		return 0;
	return errno == EINVAL ? ELOOP : errno;
}

static int explain(int why, const struct name *from, const struct name *to, struct err *err)
{
	switch (why) {
	case EXDEV:
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s and %s are in different file systems: copy and remove it", from->path,
		    to->path);
	case ELOOP:
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "%s: a directory cannot be moved into itself", from->path);
	case EINVAL:
		return err_set(err, GRPC_UNIMPLEMENTED,
		    "%s: the file system cannot move without replacing; use if_exists REPLACE",
		    to->path);
	case EEXIST:
		return err_set(err, GRPC_ALREADY_EXISTS, "%s exists already", to->path);
	case ENOTEMPTY:
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s is a directory that is not empty, and is not replaced", to->path);
	case EISDIR:
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s is a directory, and a file cannot take its place", to->path);
	case ENOTDIR:
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s is no directory, and a directory cannot take its place", to->path);
	case EBUSY:
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s or %s: a file system is mounted there", from->path, to->path);
	default:
		return err_sys(err, why, "%s", from->path);
	}
}

/* Two names of one file: rename(2) would leave both and call it done. */
static bool are_links(const struct name *from, const struct name *to)
{
	struct stat a, b, x, y;

	if (fstatat(from->dir, from->last, &a, AT_SYMLINK_NOFOLLOW) != 0 ||
	    fstatat(to->dir, to->last, &b, AT_SYMLINK_NOFOLLOW) != 0 || !is_same(&a, &b) ||
	    S_ISDIR(a.st_mode))
		return false;
	return strcmp(from->last, to->last) != 0 ||
	    (fstat(from->dir, &x) == 0 && fstat(to->dir, &y) == 0 && !is_same(&x, &y));
}

static int move(const struct name *from, const struct name *to, bool replace, struct err *err)
{
	bool links = replace && are_links(from, to);
	int why = replace ? rename_replacing(from, to) : rename_without_replacing(from, to);

	if (why != 0)
		return explain(why, from, to, err);
	if (links && unlinkat(from->dir, from->last, 0) != 0 && errno != ENOENT)
		return err_sys(err, errno, "%s", from->path);
	return 0;
}

/* Who may not read a directory cannot sync it: then it is durable when the system has it so. */
static int sync_directory(const struct name *n, struct err *err)
{
	int fd = openat(n->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return 0;
	if (fsync(fd) != 0 && errno != EINVAL && errno != EROFS)
		r = err_sys(
		    err, errno, "%s: moved, but its directory could not be synced", n->path);
	close(fd);
	return r;
}

/* The new name first. */
static int make_durable(const struct name *from, const struct name *to, struct err *err)
{
	struct stat a, b;

	if (sync_directory(to, err) != 0)
		return -1;
	if (fstat(from->dir, &a) == 0 && fstat(to->dir, &b) == 0 && is_same(&a, &b))
		return 0;
	return sync_directory(from, err);
}

static int check(const Towline__V1__MoveFileRequest *q, struct err *err)
{
	switch (q->if_exists) {
	case TOWLINE__V1__IF_EXISTS__IF_EXISTS_UNSPECIFIED:
	case TOWLINE__V1__IF_EXISTS__IF_EXISTS_REPLACE:
	case TOWLINE__V1__IF_EXISTS__IF_EXISTS_FAIL:
		return 0;
	default:
		return err_set(err, GRPC_INVALID_ARGUMENT, "if_exists: REPLACE or FAIL, of a move");
	}
}

static enum files_result run(struct files_call *c, struct err *err)
{
	const Towline__V1__MoveFileRequest *q = c->request;
	Towline__V1__MoveFileResponse r = TOWLINE__V1__MOVE_FILE_RESPONSE__INIT;
	bool replace = q->if_exists != TOWLINE__V1__IF_EXISTS__IF_EXISTS_FAIL;
	struct name from = { .dir = -1 }, to = { .dir = -1 };
	int result = -1;

	if (check(q, err) == 0 && open_name(c->transfers, q->path, "path", &from, err) == 0 &&
	    open_name(c->transfers, q->new_path, "new_path", &to, err) == 0 &&
	    move(&from, &to, replace, err) == 0 && make_durable(&from, &to, err) == 0)
		result = file_info_read(&c->info, to.dir, to.last, q->new_path, err);
	if (from.dir >= 0)
		close(from.dir);
	if (to.dir >= 0)
		close(to.dir);
	if (result != 0)
		return FILES_FAILED;
	r.file = &c->info.message;
	return files_reply(c, &r.base, err);
}

const struct files_op files_move = {
	.request = &towline__v1__move_file_request__descriptor,
	.run = run,
};
