/*
 * RemoveFile: a file, or a directory with everything in it.
 *
 * One directory is open at a time, however deep the tree: into a directory by its name,
 * without links and within the mount; out of it by "..", which has to be the directory we
 * came from. So neither a link nor a directory that somebody moves leads us elsewhere. It
 * ends at the first thing that cannot be removed; hence a directory can be read anew
 * after each one in it, and all there is in it will go.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/loop.h"
#include "transfer/dents.h"
#include "transfer/files.h"

#define DEPTH_MAX  16384 /* directories within directories; 300 bytes each */
#define REFILL_MAX 64    /* times that a directory was filled again while it was emptied */
#define PATH_SHOWN 4096

/* A directory that is being emptied, or one on the way to it. */
struct level {
	dev_t dev;
	ino_t ino;
	char *name; /* in the one above */
	unsigned refilled;
};

struct removal {
	int top;    /* what the first level is in; O_PATH */
	int dir;    /* the last level */
	bool begun; /* ${top} and ${dir} are valid */
	size_t depth, cap;
	struct level *levels;
	uint64_t removed;
	struct dents dents;
};

static void end(void *state)
{
	struct removal *r = state;

	for (size_t i = 0; i < r->depth; i++)
		free(r->levels[i].name);
	free(r->levels);
	if (!r->begun)
		return;
	close(r->top);
	if (r->dir >= 0)
		close(r->dir);
}

/* Puts the way to ${name} in front of the error, and what has been done behind it. */
static enum files_result fail(struct files_call *c, const char *name, int why, struct err *err)
{
	const Towline__V1__RemoveFileRequest *q = c->request;
	struct removal *r = c->state;
	struct text path;

	text_init(&path, PATH_SHOWN);
	text_addf(&path, "%s", q->path);
	for (size_t i = 1; i < r->depth; i++)
		text_addf(&path, "/%s", r->levels[i].name);
	if (name != NULL)
		text_addf(&path, "/%s", name);
	const char *shown = path.failed ? q->path : path.data;
	if (why == EXDEV || why == EBUSY)
		err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s: a file system is mounted there; %" PRIu64 " removed before", shown,
		    r->removed);
	else if (why == EAGAIN)
		err_set(err, GRPC_ABORTED,
		    "%s is moved or filled while it is removed; %" PRIu64 " removed before", shown,
		    r->removed);
	else
		err_sys(err, why, r->removed > 0 ? "%s (%" PRIu64 " removed before)" : "%s", shown,
		    r->removed);
	text_free(&path);
	return FILES_FAILED;
}

static int grow(struct removal *r)
{
	if (r->depth < r->cap)
		return 0;
	if (r->depth == DEPTH_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	size_t cap = r->cap == 0 ? 16 : 2 * r->cap;
	struct level *levels = realloc(r->levels, cap * sizeof(*levels));
	if (levels == NULL)
		return -1;
	r->levels = levels;
	r->cap = cap;
	return 0;
}

/* Into a directory; 0, or the errno. */
static int descend(struct removal *r, int parent, const char *name)
{
	struct level *l;
	struct stat st;
	struct err why = { 0 };
	int fd = beneath_open(
	    parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, BENEATH_ONE_MOUNT, &why);

	if (fd < 0)
		return why.sys != 0 ? why.sys : why.code == GRPC_ABORTED ? EAGAIN : EXDEV;
	if (fstat(fd, &st) != 0 || grow(r) != 0 ||
	    (r->levels[r->depth].name = strdup(name)) == NULL) {
		int saved = errno;

		close(fd);
		return saved;
	}
	l = &r->levels[r->depth++];
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	l->refilled = 0;
	if (r->dir >= 0)
		close(r->dir);
	r->dir = fd;
	dents_begin(&r->dents, fd);
	return 0;
}

/* Out of the last level, into the one above; -1: it is another now. */
static int ascend(struct removal *r)
{
	struct stat st;
	int fd = -1;

	if (r->depth > 1) {
		const struct level *above = &r->levels[r->depth - 2];

		fd = openat(r->dir, "..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			return -1;
		if (fstat(fd, &st) != 0 || st.st_dev != above->dev || st.st_ino != above->ino) {
			close(fd);
			errno = EAGAIN;
			return -1;
		}
	}
	close(r->dir);
	r->dir = fd;
	return 0;
}

/* The last level has no entries any more: it goes as well, or is read again. */
static enum files_result close_level(struct files_call *c, struct err *err)
{
	struct removal *r = c->state;
	struct level *l = &r->levels[r->depth - 1];

	if (ascend(r) != 0)
		return fail(c, NULL, errno, err);
	if (unlinkat(r->depth > 1 ? r->dir : r->top, l->name, AT_REMOVEDIR) == 0) {
		r->removed++;
	} else if (errno == ENOTEMPTY || errno == EEXIST) {
		unsigned refilled = l->refilled + 1;
		char *name = l->name;

		if (refilled > REFILL_MAX)
			return fail(c, NULL, EAGAIN, err);
		r->depth--;
		int why = descend(r, r->depth > 0 ? r->dir : r->top, name);
		free(name);
		if (why != 0)
			return fail(c, NULL, why, err);
		r->levels[r->depth - 1].refilled = refilled;
		return FILES_MORE;
	} else if (errno == ENOTDIR && r->depth == 1) {
		return fail(c, NULL, EAGAIN, err);
	} else if (errno != ENOENT && errno != ENOTDIR) {
		/* What took its place in the directory above is found when that is read again. */
		return fail(c, NULL, errno, err);
	}
	free(l->name);
	if (--r->depth == 0)
		return FILES_DONE;
	dents_begin(&r->dents, r->dir);
	return FILES_MORE;
}

/* A name in the last level. It may be something else than it was when it was read. */
static enum files_result remove_entry(
    struct files_call *c, const char *name, unsigned char type, struct err *err)
{
	struct removal *r = c->state;
	int why = EISDIR;

	for (int i = 0; i < REFILL_MAX; i++) {
		if (type != DT_DIR) {
			if (unlinkat(r->dir, name, 0) == 0) {
				r->removed++;
				return FILES_MORE;
			}
			why = errno;
			if (why == ENOENT)
				return FILES_MORE;
			if (why != EISDIR)
				return fail(c, name, why, err);
		}
		why = descend(r, r->dir, name);
		if (why == 0 || why == ENOENT)
			return FILES_MORE;
		if (why != ENOTDIR && why != ELOOP)
			return fail(c, name, why, err);
		type = DT_UNKNOWN;
	}
	return fail(c, name, EAGAIN, err);
}

static enum files_result empty(struct files_call *c, struct err *err)
{
	struct removal *r = c->state;
	uint64_t until = loop_now_us() + (uint64_t)FILES_SLICE_MS * 1000;
	enum files_result result = FILES_MORE;

	while (result == FILES_MORE && loop_now_us() < until) {
		const char *name;
		unsigned char type;
		int n = dents_next(&r->dents, &name, &type);

		if (n > 0)
			result = remove_entry(c, name, type, err);
		else
			result = n == 0 ? close_level(c, err) : fail(c, NULL, errno, err);
	}
	return result;
}

/* What is asked for is a directory, named ${last} in ${top}. */
static enum files_result begin_directory(struct files_call *c, const char *last, struct err *err)
{
	const Towline__V1__RemoveFileRequest *q = c->request;
	struct removal *r = c->state;

	if (q->recursive) {
		int why = descend(r, r->top, last);
		return why == 0 ? FILES_MORE : fail(c, NULL, why, err);
	}
	if (unlinkat(r->top, last, AT_REMOVEDIR) != 0) {
		if (errno != ENOTEMPTY && errno != EEXIST)
			return fail(c, NULL, errno, err);
		err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s is a directory that is not empty; recursive removes all that is in it",
		    q->path);
		return FILES_FAILED;
	}
	r->removed = 1;
	return FILES_DONE;
}

static enum files_result begin_name(struct files_call *c, const char *last, struct err *err)
{
	const Towline__V1__RemoveFileRequest *q = c->request;
	struct removal *r = c->state;
	struct stat st;

	if (fstatat(r->top, last, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return fail(c, NULL, errno, err);
	if (S_ISDIR(st.st_mode))
		return begin_directory(c, last, err);
	if (q->path[strlen(q->path) - 1] == '/') {
		err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s is no directory; without the slash it is removed", q->path);
		return FILES_FAILED;
	}
	if (unlinkat(r->top, last, 0) != 0)
		return fail(c, NULL, errno, err);
	r->removed = 1;
	return FILES_DONE;
}

static enum files_result begin(struct files_call *c, struct err *err)
{
	const Towline__V1__RemoveFileRequest *q = c->request;
	struct removal *r = c->state;
	char last[BENEATH_NAME_MAX];
	struct files_place p;
	enum files_result result = FILES_FAILED;

	if (files_place(c->transfers, q->path, "path", &p, err) != 0)
		return FILES_FAILED;
	r->top = beneath_parent(p.root, p.rest, false, p.links, last, err);
	if (r->top >= 0) {
		r->begun = true;
		r->dir = -1;
		result = begin_name(c, last, err);
	}
	if (result != FILES_FAILED || err->code != GRPC_NOT_FOUND || !q->allow_missing)
		return result;
	err_clear(err);
	return FILES_DONE;
}

static enum files_result run(struct files_call *c, struct err *err)
{
	struct removal *r = c->state;
	Towline__V1__RemoveFileResponse answer = TOWLINE__V1__REMOVE_FILE_RESPONSE__INIT;
	enum files_result result = r->begun ? empty(c, err) : begin(c, err);

	if (result != FILES_DONE)
		return result;
	answer.removed = r->removed;
	return files_reply(c, &answer.base, err);
}

const struct files_op files_remove = {
	.request = &towline__v1__remove_file_request__descriptor,
	.state = sizeof(struct removal),
	.run = run,
	.end = end,
};
