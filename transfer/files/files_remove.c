/*
 * RemoveFile: a file, or a directory with everything in it.
 *
 * One directory is open at a time, however deep the tree: into a directory by its name,
 * without links and within the mount; out of it by "..", which has to be the directory we
 * came from. So neither a link nor a directory that somebody moves leads us elsewhere.
 *
 * What cannot be removed stays, and with it the directories it is in; all else goes. While
 * nothing has stayed in a directory it is read anew after each one in it; then, from where
 * we were. It is over with a directory when there is no more in it than has stayed.
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
#include "transfer/files/files.h"

#define DEPTH_MAX  16384 /* directories within directories; 300 bytes each */
#define REFILL_MAX 64    /* times that a directory was filled again while it was emptied */
#define PATH_SHOWN 4096
#define NAMES_MAX  8 /* of what could not be removed that are told */

/* A directory that is being emptied, or one on the way to it. */
struct level {
	dev_t dev;
	ino_t ino;
	char *name; /* in the one above */
	unsigned refilled;
	uint64_t stayed; /* entries that cannot be removed, in this reading of it */
	uint64_t before; /* removal.failed when the reading began */
	int64_t next;    /* where reading goes on behind the one that is entered */
};

struct removal {
	int top;    /* what the first level is in; O_PATH */
	int dir;    /* the last level */
	bool begun; /* ${top} and ${dir} are valid */
	size_t depth, cap;
	struct level *levels;
	uint64_t removed;
	uint64_t failed; /* what could not be removed for itself, not for what is in it */
	struct err first;
	char *names[NAMES_MAX]; /* of the first of them */
	struct dents dents;
};

static void end(void *state)
{
	struct removal *r = state;

	for (size_t i = 0; i < r->depth; i++)
		free(r->levels[i].name);
	free(r->levels);
	for (size_t i = 0; i < NAMES_MAX; i++)
		free(r->names[i]);
	if (!r->begun)
		return;
	close(r->top);
	if (r->dir >= 0)
		close(r->dir);
}

/* What is called ${name} in the last level; NULL: that itself. Allocated; NULL without memory. */
static char *path_of(const struct files_call *c, const char *name)
{
	const Towline__V1__RemoveFileRequest *q = c->request;
	const struct removal *r = c->state;
	struct text path;

	text_init(&path, PATH_SHOWN);
	text_addf(&path, "%s", q->path);
	for (size_t i = 1; i < r->depth; i++)
		text_addf(&path, "/%s", r->levels[i].name);
	if (name != NULL)
		text_addf(&path, "/%s", name);
	char *copy = path.failed ? strdup(q->path) : strdup(path.data);
	text_free(&path);
	return copy;
}

static void explain(const char *path, int why, struct err *err)
{
	if (why == EXDEV || why == EBUSY)
		err_set(err, GRPC_FAILED_PRECONDITION, "%s: a file system is mounted there", path);
	else if (why == EAGAIN)
		err_set(err, GRPC_ABORTED, "%s: moved or filled while it is removed", path);
	else
		err_sys(err, why, "%s", path);
}

/* Ends it. */
static enum files_result fail(struct files_call *c, const char *name, int why, struct err *err)
{
	const struct removal *r = c->state;
	char *path = path_of(c, name);

	explain(path != NULL ? path : "", why, err);
	free(path);
	if (r->removed > 0)
		err_wrap(err, "ended with %" PRIu64 " removed", r->removed);
	return FILES_FAILED;
}

/* Costs this entry, and the directories it is in. */
static enum files_result leave(struct files_call *c, const char *name, int why)
{
	struct removal *r = c->state;
	char *path = path_of(c, name);

	if (r->failed == 0)
		explain(path != NULL ? path : "", why, &r->first);
	if (r->failed < NAMES_MAX)
		r->names[r->failed] = path;
	else
		free(path);
	r->failed++;
	if (r->depth > 0)
		r->levels[r->depth - 1].stayed++;
	return FILES_MORE;
}

/* What stayed in a directory may go when it is read again. */
static void forget_failures(struct removal *r, uint64_t before)
{
	for (uint64_t i = before; i < r->failed && i < NAMES_MAX; i++) {
		free(r->names[i]);
		r->names[i] = NULL;
	}
	r->failed = before;
}

/* As many names as there is room for. */
static enum files_result tell_failures(const struct removal *r, struct err *err)
{
	struct text names;

	text_init(&names, ERR_TEXT_MAX);
	for (uint64_t i = 1; i < r->failed && i < NAMES_MAX && r->names[i] != NULL; i++)
		text_addf(&names, "; %s", r->names[i]);
	err_set(err, r->first.code, "%" PRIu64 " could not be removed, %" PRIu64 " were: %s%s",
	    r->failed, r->removed, r->first.text, names.len > 0 ? names.data : "");
	err->sys = r->first.sys;
	text_free(&names);
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
	l->stayed = 0;
	l->before = r->failed;
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

/* Behind the level that was the last. */
static enum files_result go_on(struct removal *r)
{
	const struct level *l;

	if (r->depth == 0)
		return FILES_DONE;
	l = &r->levels[r->depth - 1];
	dents_resume(&r->dents, r->dir, l->stayed > 0 ? l->next : 0);
	return FILES_MORE;
}

static void read_again(struct removal *r, unsigned refilled)
{
	struct level *l = &r->levels[r->depth - 1];

	l->refilled = refilled;
	l->stayed = 0;
	forget_failures(r, l->before);
	dents_begin(&r->dents, r->dir);
}

/* Whether there is more in the last level than has stayed. */
static bool has_more(struct removal *r)
{
	const char *name;
	unsigned char type;
	uint64_t left = r->levels[r->depth - 1].stayed;

	dents_begin(&r->dents, r->dir);
	while (dents_next(&r->dents, &name, &type) > 0)
		if (left-- == 0)
			return true;
	return false;
}

/* Something in the last level stays: then it does too. */
static enum files_result keep_level(struct files_call *c, struct err *err)
{
	struct removal *r = c->state;

	if (ascend(r) != 0)
		return fail(c, NULL, errno, err);
	free(r->levels[--r->depth].name);
	if (r->depth > 0)
		r->levels[r->depth - 1].stayed++;
	return go_on(r);
}

/* The last level is empty, unless somebody fills it. We are in the one above. */
static enum files_result remove_level(struct files_call *c, struct err *err)
{
	struct removal *r = c->state;
	struct level l = r->levels[r->depth - 1];
	int above = r->depth > 1 ? r->dir : r->top, why = 0;

	if (unlinkat(above, l.name, AT_REMOVEDIR) == 0)
		r->removed++;
	else
		why = errno;
	if (why == ENOTDIR && r->depth == 1)
		return fail(c, NULL, EAGAIN, err);
	r->depth--;
	if ((why == ENOTEMPTY || why == EEXIST) && l.refilled < REFILL_MAX) {
		why = descend(r, above, l.name);
		if (why == 0) {
			r->levels[r->depth - 1].refilled = l.refilled + 1;
			free(l.name);
			return FILES_MORE;
		}
	} else if (why == ENOTEMPTY || why == EEXIST) {
		why = EAGAIN;
	}
	/* What took its place in the directory above is found when that is read again. */
	if (why != 0 && why != ENOENT && why != ENOTDIR)
		leave(c, r->depth > 0 ? l.name : NULL, why);
	free(l.name);
	return go_on(r);
}

static enum files_result close_level(struct files_call *c, struct err *err)
{
	struct removal *r = c->state;
	unsigned refilled = r->levels[r->depth - 1].refilled;

	if (r->levels[r->depth - 1].stayed > 0) {
		if (refilled == REFILL_MAX || !has_more(r))
			return keep_level(c, err);
		read_again(r, refilled + 1);
		return FILES_MORE;
	}
	if (ascend(r) != 0)
		return fail(c, NULL, errno, err);
	return remove_level(c, err);
}

/* A name in the last level. It may be something else than it was when it was read. */
static enum files_result remove_entry(struct files_call *c, const char *name, unsigned char type)
{
	struct removal *r = c->state;
	int why = EISDIR;

	r->levels[r->depth - 1].next = r->dents.next;
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
				return leave(c, name, why);
		}
		why = descend(r, r->dir, name);
		if (why == 0 || why == ENOENT)
			return FILES_MORE;
		if (why != ENOTDIR && why != ELOOP)
			return leave(c, name, why);
		type = DT_UNKNOWN;
	}
	return leave(c, name, EAGAIN);
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

		if (n > 0) {
			result = remove_entry(c, name, type);
		} else if (n == 0) {
			result = close_level(c, err);
		} else {
			leave(c, NULL, errno);
			result = keep_level(c, err);
		}
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
	if (r->failed > 0)
		return tell_failures(r, err);
	answer.removed = r->removed;
	return files_reply(c, &answer.base, err);
}

const struct files_op files_remove = {
	.request = &towline__v1__remove_file_request__descriptor,
	.state = sizeof(struct removal),
	.run = run,
	.end = end,
};
