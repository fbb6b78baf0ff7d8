#include "transfer/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "transfer/dents.h"

/* A directory on the way down. */
struct walk_level {
	int fd;
	size_t path_len;
	void *cookie;
	struct dents dents;
};

/* Takes ${fd} on success. */
static int push(struct walk *w, int fd, struct err *err)
{
	struct walk_level *l = malloc(sizeof(*l));

	if (l == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	l->fd = fd;
	l->path_len = w->path.len;
	l->cookie = NULL;
	dents_begin(&l->dents, fd);
	w->levels[w->depth++] = l;
	return 0;
}

static void pop(struct walk *w)
{
	struct walk_level *l = w->levels[--w->depth];

	close(l->fd);
	free(l);
}

int walk_begin(struct walk *w, int fd, const char *path, struct err *err)
{
	size_t len = strlen(path);

	memset(w, 0, sizeof(*w));
	text_init(&w->path, BENEATH_PATH_MAX + BENEATH_NAME_MAX);
	while (len > 0 && path[len - 1] == '/')
		len--;
	if (len == 1 && path[0] == '.')
		len = 0; /* what is in "." is called by its name alone */
	else
		text_add(&w->path, path, len);
	if (path[0] == '/' || len > 0)
		text_add(&w->path, "/", 1);
	w->below = w->path.len;
	if (w->path.failed)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	return push(w, fd, err);
}

void walk_free(struct walk *w)
{
	while (w->depth > 0)
		pop(w);
	text_free(&w->path);
}

const char *walk_below(const struct walk *w)
{
	return w->path.data + w->below;
}

static bool is_directory(const struct walk_level *l, const char *name, unsigned char type)
{
	struct stat st;

	if (type != DT_UNKNOWN)
		return type == DT_DIR;
	return fstatat(l->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* The last level's directory. */
static void set_path(struct walk *w, const struct walk_level *l)
{
	w->path.len = l->path_len;
	if (w->path.data != NULL)
		w->path.data[w->path.len] = '\0';
}

enum walk_result walk_next(struct walk *w, struct err *err)
{
	while (w->depth > 0) {
		struct walk_level *l = w->levels[w->depth - 1];
		unsigned char type;
		int n = dents_next(&l->dents, &w->name, &type);

		set_path(w, l);
		if (n > 0) {
			if (w->depth > 1)
				text_add(&w->path, "/", 1);
			text_add(&w->path, w->name, strlen(w->name));
			w->dir = l->fd;
			w->cookie = l->cookie;
			w->is_directory = is_directory(l, w->name, type);
			if (!w->path.failed)
				return WALK_ENTRY;
			err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
			return WALK_FAILED;
		}
		int saved = errno;
		pop(w);
		if (n < 0) {
			err_sys(err, saved, "%s", w->path.len > 0 ? w->path.data : ".");
			return WALK_FAILED;
		}
	}
	return WALK_END;
}

void walk_mark(struct walk *w, void *cookie)
{
	w->levels[w->depth - 1]->cookie = cookie;
}

int walk_enter(struct walk *w, struct err *err)
{
	if (w->depth == WALK_DEPTH_MAX)
		return err_set(err, GRPC_FAILED_PRECONDITION, "more than %d directories deep: %s",
		    WALK_DEPTH_MAX, w->path.data);
	if (w->path.len >= BENEATH_PATH_MAX)
		return err_sys(err, ENAMETOOLONG, "%.40s...", w->path.data);
	int fd = beneath_open(
	    w->dir, w->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, BENEATH_NO_LINKS, err);
	if (fd < 0) {
		struct err why = *err;

		return why.sys != 0 ? err_sys(err, why.sys, "%s", w->path.data) : -1;
	}
	if (push(w, fd, err) == 0)
		return fd;
	close(fd);
	return -1;
}
