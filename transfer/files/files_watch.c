/*
 * WatchFiles: what inotify(7) tells of a directory, and of those below it.
 *
 * There is no moment in which something could happen unseen: a directory is watched first
 * and read then, and what is found in one that is new is told as made. Nothing gathers
 * here for a slow client: while it does not read we do not either, the kernel's queue runs
 * full, and that becomes an OVERFLOW.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/loop.h"
#include "proto/guard.h"
#include "transfer/files/files.h"
#include "transfer/tree/ignore.h"
#include "transfer/walk.h"
#include "transfer/files/watch_tree.h"

#define MOVE_MS     50 /* between the two halves of a move */
#define MOVES_MAX   64 /* of which one half has come; the kernel tells both at once */
#define EVENT_BYTES ((size_t)16 << 10)
#define SHOWN_MAX   ((size_t)4 * BENEATH_PATH_MAX)

#define MASK                                                                              \
	(IN_CREATE | IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_DELETE | IN_MOVED_FROM | \
	    IN_MOVED_TO | IN_ONLYDIR | IN_EXCL_UNLINK)
#define MASK_TOP (MASK | IN_DELETE_SELF | IN_MOVE_SELF)

typedef Towline__V1__FileEventKind kind;
#define KIND(name) TOWLINE__V1__FILE_EVENT_KIND__FILE_EVENT_KIND_##name

/* Something that has left its place: it is gone, if it does not turn up elsewhere. */
struct leaving {
	uint32_t cookie;
	uint64_t us;
	char *path;
	struct watch_node *node; /* of a directory that is watched; else NULL */
};

struct watching {
	bool begun;
	bool placed; /* and said so */
	int inotify;
	int root;   /* of all paths; O_PATH */
	char *only; /* of a file that is watched: its name in ${root} */
	struct ignore *exclude;
	int above; /* wd of the directory that ${root} is in; -1: none */
	struct watch_tree tree;

	bool walking, telling; /* through a directory that is new, the latter to others too */
	struct walk walk;

	struct leaving leaving[MOVES_MAX];
	size_t leaving_count;

	struct text path; /* of what is being told of */
	size_t below;     /* where in it the part below the root begins */
	struct text old_path;
	struct text batch;
	struct text last; /* told last, since the last read: it has changed once, not twice */

	size_t pos, len;
	_Alignas(struct inotify_event) char events[EVENT_BYTES];
};

static void end(void *state)
{
	struct watching *w = state;

	if (!w->begun)
		return;
	if (w->walking)
		walk_free(&w->walk);
	for (size_t i = 0; i < w->leaving_count; i++)
		free(w->leaving[i].path);
	watch_tree_free(&w->tree);
	ignore_free(w->exclude);
	text_free(&w->path);
	text_free(&w->old_path);
	text_free(&w->batch);
	text_free(&w->last);
	free(w->only);
	if (w->inotify >= 0)
		close(w->inotify);
	if (w->root >= 0)
		close(w->root);
}

static int no_memory(struct err *err)
{
	return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

/* What is told. */

static const char *below(const struct watching *w)
{
	return w->path.data + w->below;
}

/* The path of an entry of a directory. */
static int set_path(
    struct watching *w, const struct watch_node *node, const char *name, struct err *err)
{
	w->path.len = w->below;
	watch_tree_path(node, &w->path);
	text_add(&w->path, name, strlen(name));
	if (!w->path.failed)
		return 0;
	w->path.failed = false;
	w->path.len = w->below;
	return err_sys(err, ENAMETOOLONG, "%s: a path below it", w->path.data);
}

static bool is_out(const struct watching *w, bool directory)
{
	return w->exclude != NULL && ignore_match(w->exclude, below(w), directory) == IGNORE_OUT;
}

static int add_event(struct files_call *c, kind k, const char *old_path,
    Towline__V1__FileInfo *file, struct err *err)
{
	struct watching *w = c->state;
	Towline__V1__FileEvent event = TOWLINE__V1__FILE_EVENT__INIT, *list = &event;
	Towline__V1__WatchFilesResponse r = TOWLINE__V1__WATCH_FILES_RESPONSE__INIT;

	event.kind = k;
	event.file = file;
	if (old_path != NULL) {
		w->old_path.len = 0;
		if (guard_is_text(old_path, strlen(old_path)))
			text_add(&w->old_path, old_path, strlen(old_path));
		else {
			text_add_plain(&w->old_path, old_path, strlen(old_path));
			event.raw_old_path = (ProtobufCBinaryData){ .len = strlen(old_path),
				.data = (uint8_t *)old_path };
		}
		if (w->old_path.failed)
			return no_memory(err);
		event.old_path = w->old_path.data;
	}
	r.n_events = 1;
	r.events = &list;
	return files_batch(&w->batch, &r.base, err);
}

/* Of what ${path} says. It may be something else by now, or gone. */
static int tell(struct files_call *c, kind k, const char *old_path, struct err *err)
{
	struct watching *w = c->state;
	bool same = w->last.len == w->path.len && w->last.data != NULL &&
	    memcmp(w->last.data, w->path.data, w->path.len) == 0;
	int fd = -1, known = -1;

	if (k == KIND(CHANGED) && same)
		return 0;
	w->last.len = 0;
	if (k == KIND(CHANGED) || k == KIND(CREATED))
		text_add(&w->last, w->path.data, w->path.len);
	if (k != KIND(REMOVED))
		fd =
		    beneath_open(w->root, below(w), O_PATH | O_NOFOLLOW, 0, BENEATH_NO_LINKS, NULL);
	if (fd >= 0) {
		known = file_info_read(&c->info, fd, "", w->path.data, NULL);
		close(fd);
	}
	if (known != 0 && file_info_name(&c->info, w->path.data, err) != 0)
		return -1;
	return add_event(c, k, old_path, &c->info.message, err);
}

/* Directories that are watched. */

static int add_watch(struct watching *w, int fd, uint32_t mask, struct err *err)
{
	char itself[32];

	snprintf(itself, sizeof(itself), "/proc/self/fd/%d", fd);
	int wd = inotify_add_watch(w->inotify, itself, mask);
	if (wd >= 0)
		return wd;
	if (errno == ENOSPC)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "the kernel lets this user watch no more directories; "
		    "fs.inotify.max_user_watches says how many");
	return err_sys(err, errno, "watch a directory");
}

/* We hold the root open, and so the kernel does not say when it is removed: the directory
 * above does. Where that may not be looked into, nobody will. */
static void watch_above(struct watching *w)
{
	struct stat here, there;
	int fd = openat(w->root, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	w->above = -1;
	if (fd < 0)
		return;
	if (fstat(w->root, &here) == 0 && fstat(fd, &there) == 0 && here.st_ino != there.st_ino)
		w->above = add_watch(w, fd, IN_DELETE | IN_ONLYDIR, NULL);
	close(fd);
}

static bool root_is_removed(const struct watching *w)
{
	struct stat st;

	return fstat(w->root, &st) != 0 || st.st_nlink == 0;
}

/* What may not be looked into, or is gone already, is not watched; nor could it be listed. */
static bool is_passed_over(const struct err *why)
{
	return why->code == GRPC_NOT_FOUND || why->code == GRPC_PERMISSION_DENIED ||
	    why->code == GRPC_FAILED_PRECONDITION;
}

/* One that is known is known by its number, wherever it is now. */
static struct watch_node *note_directory(
    struct watching *w, struct watch_node *parent, const char *name, int fd, struct err *err)
{
	int wd = add_watch(w, fd, MASK, err);
	struct watch_node *n;

	if (wd < 0)
		return NULL;
	if ((n = watch_tree_find(&w->tree, wd)) == NULL)
		return watch_tree_add(&w->tree, parent, name, wd, err);
	if (n != w->tree.top)
		watch_tree_move(n, parent, name);
	return n;
}

/* Begins to look through a directory, which is watched; takes ${fd}. */
static int begin_walk(
    struct watching *w, int fd, const char *path, struct watch_node *node, struct err *err)
{
	if (walk_begin(&w->walk, fd, path, err) != 0) {
		walk_free(&w->walk);
		close(fd);
		return -1;
	}
	walk_mark(&w->walk, node);
	w->walking = true;
	return 0;
}

/* A directory has appeared: the one ${path} is of. */
static int add_directory(struct files_call *c, struct watch_node *parent, const char *name,
    bool telling, struct err *err)
{
	const Towline__V1__WatchFilesRequest *q = c->request;
	struct watching *w = c->state;
	struct watch_node *n;
	struct err why = { 0 };

	if (!q->recursive)
		return 0;
	int fd = beneath_open(
	    w->root, below(w), O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, BENEATH_NO_LINKS, &why);
	if (fd >= 0 && (n = note_directory(w, parent, name, fd, &why)) != NULL) {
		w->telling = telling;
		return begin_walk(w, fd, w->path.data, n, err);
	}
	if (fd >= 0)
		close(fd);
	if (is_passed_over(&why))
		return 0;
	*err = why;
	return -1;
}

static int enter(struct watching *w, struct err *err)
{
	struct err why = { 0 };
	struct watch_node *parent = w->walk.cookie, *n = NULL;
	int fd = walk_enter(&w->walk, &why);

	if (fd >= 0 && (n = note_directory(w, parent, w->walk.name, fd, &why)) != NULL) {
		walk_mark(&w->walk, n);
		return 0;
	}
	if (fd < 0 && is_passed_over(&why) && w->walk.depth < WALK_DEPTH_MAX)
		return 0;
	*err = why;
	return -1;
}

static int take_entry(struct files_call *c, struct err *err)
{
	struct watching *w = c->state;

	w->path.len = 0;
	text_add(&w->path, w->walk.path.data, w->walk.path.len);
	if (w->path.failed)
		return no_memory(err);
	if (is_out(w, w->walk.is_directory))
		return 0;
	if (w->telling && tell(c, KIND(CREATED), NULL, err) != 0)
		return -1;
	return w->walk.is_directory ? enter(w, err) : 0;
}

static int step(struct files_call *c, struct err *err)
{
	struct watching *w = c->state;
	struct err why = { 0 };

	switch (walk_next(&w->walk, &why)) {
	case WALK_ENTRY:
		return take_entry(c, err);
	case WALK_FAILED:
		return 0; /* as one that may not be looked into */
	case WALK_END:
		w->walking = false;
		walk_free(&w->walk);
		return 0;
	}
	return 0;
}

/* Moves. */

static void gone(void *cookie, const struct watch_node *node)
{
	struct watching *w = cookie;

	inotify_rm_watch(w->inotify, node->wd);
	for (size_t i = 0; i < w->leaving_count; i++)
		if (w->leaving[i].node == node)
			w->leaving[i].node = NULL;
}

static void drop(struct watching *w, struct watch_node *node)
{
	watch_tree_drop(&w->tree, node, gone, w);
}

static struct leaving take_leaving(struct watching *w, size_t i)
{
	struct leaving l = w->leaving[i];

	w->leaving_count--;
	memmove(&w->leaving[i], &w->leaving[i + 1], (w->leaving_count - i) * sizeof(l));
	return l;
}

/* The oldest has not turned up again. */
static int give_up(struct files_call *c, struct err *err)
{
	struct watching *w = c->state;
	struct leaving l = take_leaving(w, 0);

	if (l.node != NULL)
		drop(w, l.node);
	w->path.len = 0;
	text_add(&w->path, l.path, strlen(l.path));
	free(l.path);
	return w->path.failed ? no_memory(err) : tell(c, KIND(REMOVED), NULL, err);
}

static int moved_from(
    struct files_call *c, struct watch_node *node, const struct inotify_event *e, struct err *err)
{
	struct watching *w = c->state;
	char *path = strdup(w->path.data);
	struct leaving l = { .cookie = e->cookie, .us = loop_now_us() };

	if (path == NULL)
		return no_memory(err);
	if (w->leaving_count == MOVES_MAX && give_up(c, err) != 0) {
		free(path);
		return -1;
	}
	l.path = path;
	if ((e->mask & IN_ISDIR) != 0)
		l.node = watch_tree_child(node, e->name);
	w->leaving[w->leaving_count++] = l;
	return 0;
}

/* ${path} is where it is now, unless ${out}: then that is where nobody looks. */
static int arrive(struct files_call *c, struct watch_node *node, const struct inotify_event *e,
    const struct leaving *l, bool out, struct err *err)
{
	struct watching *w = c->state;
	bool directory = (e->mask & IN_ISDIR) != 0;

	if (out) {
		if (l->node != NULL)
			drop(w, l->node);
		w->path.len = 0;
		text_add(&w->path, l->path, strlen(l->path));
		return w->path.failed ? no_memory(err) : tell(c, KIND(REMOVED), NULL, err);
	}
	if (tell(c, KIND(MOVED), l->path, err) != 0)
		return -1;
	if (l->node != NULL)
		return watch_tree_move(l->node, node, e->name) != 0 ? no_memory(err) : 0;
	return directory ? add_directory(c, node, e->name, false, err) : 0;
}

static int moved_to(struct files_call *c, struct watch_node *node, const struct inotify_event *e,
    bool out, struct err *err)
{
	struct watching *w = c->state;

	for (size_t i = 0; i < w->leaving_count; i++)
		if (w->leaving[i].cookie == e->cookie) {
			struct leaving l = take_leaving(w, i);
			int r = arrive(c, node, e, &l, out, err);

			free(l.path);
			return r;
		}
	if (out)
		return 0;
	if (tell(c, KIND(CREATED), NULL, err) != 0)
		return -1;
	return (e->mask & IN_ISDIR) != 0 ? add_directory(c, node, e->name, true, err) : 0;
}

/* Events. */

/* Some were lost: new directories among them, so all are looked through again. */
static int overflow(struct files_call *c, struct err *err)
{
	const Towline__V1__WatchFilesRequest *q = c->request;
	struct watching *w = c->state;

	w->last.len = 0;
	if (add_event(c, KIND(OVERFLOW), NULL, NULL, err) != 0)
		return -1;
	if (!q->recursive || w->only != NULL)
		return 0;
	int fd = beneath_open(w->root, ".", O_RDONLY | O_DIRECTORY, 0, BENEATH_NO_LINKS, err);
	if (fd < 0)
		return -1;
	w->telling = false;
	return begin_walk(w, fd, q->path, w->tree.top, err);
}

static int top_is_gone(struct files_call *c, struct err *err)
{
	const Towline__V1__WatchFilesRequest *q = c->request;

	if (file_info_name(&c->info, q->path, err) != 0 ||
	    add_event(c, KIND(REMOVED), NULL, &c->info.message, err) != 0)
		return -1;
	return err_set(err, GRPC_NOT_FOUND, "%s was removed or moved away", q->path);
}

static int take_named(
    struct files_call *c, struct watch_node *node, const struct inotify_event *e, struct err *err)
{
	struct watching *w = c->state;
	bool directory = (e->mask & IN_ISDIR) != 0;

	if (set_path(w, node, e->name, err) != 0)
		return -1;
	bool out = is_out(w, directory) || (w->only != NULL && strcmp(w->only, e->name) != 0);
	if ((e->mask & IN_MOVED_TO) != 0)
		return moved_to(c, node, e, out, err);
	if (out)
		return 0;
	if ((e->mask & IN_MOVED_FROM) != 0)
		return moved_from(c, node, e, err);
	if ((e->mask & IN_DELETE) != 0)
		return tell(c, KIND(REMOVED), NULL, err);
	if ((e->mask & IN_CREATE) == 0)
		return tell(c, KIND(CHANGED), NULL, err);
	if (tell(c, KIND(CREATED), NULL, err) != 0)
		return -1;
	return directory ? add_directory(c, node, e->name, true, err) : 0;
}

static int take_event(struct files_call *c, const struct inotify_event *e, struct err *err)
{
	struct watching *w = c->state;

	if ((e->mask & IN_Q_OVERFLOW) != 0)
		return overflow(c, err);
	if (e->wd == w->above)
		return root_is_removed(w) ? top_is_gone(c, err) : 0;
	struct watch_node *node = watch_tree_find(&w->tree, e->wd);
	if (node == NULL)
		return 0; /* it has moved out, and what it said came later */
	if (node == w->tree.top &&
	    (e->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED)) != 0)
		return top_is_gone(c, err);
	if ((e->mask & IN_IGNORED) != 0) {
		drop(w, node);
		return 0;
	}
	return e->len > 0 ? take_named(c, node, e, err) : 0;
}

/* 1: there are some; 0: none now. */
static int read_events(struct watching *w, struct err *err)
{
	ssize_t n = read(w->inotify, w->events, sizeof(w->events));

	w->pos = w->len = 0;
	w->last.len = 0;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : err_sys(err, errno, "inotify");
	w->len = (size_t)n;
	return 1;
}

/* The beginning. */

/* A file is watched by way of its directory: it is often replaced by another. */
static int open_root(struct files_call *c, const struct files_place *p, struct err *err)
{
	const Towline__V1__WatchFilesRequest *q = c->request;
	struct watching *w = c->state;
	char last[BENEATH_NAME_MAX];
	struct stat st;

	w->root = beneath_open(p->root, p->rest, O_PATH, 0, p->links, err);
	if (w->root < 0)
		return -1;
	if (fstat(w->root, &st) == 0 && S_ISDIR(st.st_mode))
		return 0;
	close(w->root);
	w->root = beneath_parent(p->root, p->rest, false, p->links, last, err);
	if (w->root < 0)
		return -1;
	w->path.len = strlen(q->path) - strlen(last);
	w->below = w->path.len;
	return (w->only = strdup(last)) != NULL ? 0 : no_memory(err);
}

/* "dir/" of what was asked for as "dir"; nothing of "." */
static int begin_path(struct watching *w, const char *path, struct err *err)
{
	size_t len = strlen(path);

	while (len > 0 && path[len - 1] == '/')
		len--;
	if (!(len == 1 && path[0] == '.')) {
		text_add(&w->path, path, len);
		text_add(&w->path, "/", 1);
	} else {
		text_add(&w->path, "", 0);
	}
	w->below = w->path.len;
	return w->path.failed ? no_memory(err) : 0;
}

static int begin_inotify(struct files_call *c, struct err *err)
{
	const Towline__V1__WatchFilesRequest *q = c->request;
	struct watching *w = c->state;

	w->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (w->inotify < 0 && errno == EMFILE)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "the kernel lets this user have no more watches; "
		    "fs.inotify.max_user_instances says how many");
	if (w->inotify < 0)
		return err_sys(err, errno, "inotify");
	c->wait_fd = w->inotify;
	int fd = openat(w->root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "%s", q->path);
	int wd = add_watch(w, fd, MASK_TOP, err);
	watch_above(w);
	struct watch_node *top = wd >= 0 ? watch_tree_add(&w->tree, NULL, "", wd, err) : NULL;
	if (top != NULL && q->recursive && w->only == NULL)
		return begin_walk(w, fd, q->path, top, err);
	close(fd);
	return top != NULL ? 0 : -1;
}

static int begin(struct files_call *c, struct err *err)
{
	const Towline__V1__WatchFilesRequest *q = c->request;
	struct watching *w = c->state;
	struct files_place p;

	w->begun = true;
	w->inotify = w->root = -1;
	text_init(&w->path, (size_t)2 * BENEATH_PATH_MAX);
	text_init(&w->last, (size_t)2 * BENEATH_PATH_MAX);
	text_init(&w->old_path, 2 * SHOWN_MAX);
	text_init(&w->batch, 4 * FILES_BATCH_BYTES);
	if (files_place(c->transfers, q->path, "path", &p, err) != 0 ||
	    files_exclude(q->exclude, q->n_exclude, &w->exclude, err) != 0 ||
	    begin_path(w, q->path, err) != 0 || open_root(c, &p, err) != 0)
		return -1;
	return begin_inotify(c, err);
}

/* Its turns. */

/* Nothing is left to read: what has left and not arrived is waited for, for a while. */
static enum files_result rest(struct files_call *c, struct err *err)
{
	struct watching *w = c->state;
	uint64_t now = loop_now_us();

	while (w->leaving_count > 0 && now - w->leaving[0].us > (uint64_t)MOVE_MS * 1000)
		if (give_up(c, err) != 0)
			return FILES_FAILED;
	c->wait_ms = w->leaving_count > 0 ? MOVE_MS : 0;
	return FILES_WAIT;
}

/* The next thing to do. */
static enum files_result one(struct files_call *c, struct err *err)
{
	struct watching *w = c->state;
	int r;

	if (w->walking) {
		r = step(c, err);
	} else if (w->pos < w->len) {
		const struct inotify_event *e = (const void *)(w->events + w->pos);

		w->pos += sizeof(*e) + e->len;
		r = take_event(c, e, err);
	} else {
		if ((r = read_events(w, err)) == 0)
			return rest(c, err);
	}
	return r < 0 ? FILES_FAILED : FILES_MORE;
}

/* The message without events. */
static enum files_result say_placed(struct files_call *c, struct err *err)
{
	struct watching *w = c->state;
	Towline__V1__WatchFilesResponse r = TOWLINE__V1__WATCH_FILES_RESPONSE__INIT;

	w->placed = true;
	return files_reply(c, &r.base, err) == FILES_DONE ? FILES_MORE : FILES_FAILED;
}

static enum files_result run(struct files_call *c, struct err *err)
{
	struct watching *w = c->state;
	uint64_t until = loop_now_us() + (uint64_t)FILES_SLICE_MS * 1000;
	enum files_result result = FILES_MORE;

	if (!w->begun && begin(c, err) != 0)
		return FILES_FAILED;
	while (result == FILES_MORE && w->batch.len < FILES_BATCH_BYTES && loop_now_us() < until) {
		if (!w->placed && !w->walking)
			return say_placed(c, err);
		result = one(c, err);
	}
	return files_send(c, &w->batch, result, err);
}

const struct files_op files_watch = {
	.request = &towline__v1__watch_files_request__descriptor,
	.state = sizeof(struct watching),
	.lasts = true,
	.run = run,
	.end = end,
};
