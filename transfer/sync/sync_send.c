#include "transfer/sync/sync_send.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "transfer/sync/sync_file.h"
#include "transfer/sync/sync_team.h"
#include "transfer/sync/sync_walk.h"

int sync_send_init(struct sync_send *s, struct err *err)
{
	s->digest = digest_create();
	s->buffer = malloc(SYNC_BODY_MAX);
	if ((s->attributes = sync_attributes_create(err)) == NULL)
		return -1;
	if (s->digest == NULL || s->buffer == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	return 0;
}

static void leave_parent(struct sync_send *s)
{
	if (s->dir >= 0)
		close(s->dir);
	s->dir = -1;
}

void sync_send_free(struct sync_send *s)
{
	leave_parent(s);
	digest_free(s->digest);
	sync_attributes_free(s->attributes);
	free(s->buffer);
}

bool sync_send_excluded(void *send, const char *path, bool directory)
{
	const struct sync_options *o = ((struct sync_send *)send)->opt;

	return o->excluded != NULL && o->excluded(o->cookie, path, directory);
}

/* Its end() would only say that the way out is gone, which the next one does as well. */
void sync_send_failed(struct sync_send *s, const char *path, const struct err *why)
{
	struct err ignored;

	s->counts->failed++;
	sync_note(s->opt, path, why->text);
	if (s->told++ >= SYNC_TOLD_MAX)
		return;
	sync_begin(&s->out, SYNC_FAILED);
	sync_put_text(&s->out, path);
	sync_put_text(&s->out, why->text);
	sync_end(&s->out, &ignored);
}

/* The receipt. */

static uint64_t *const_fields(struct sync_counts *c, size_t i)
{
	uint64_t *const fields[] = { &c->items, &c->literal, &c->received, &c->files, &c->bytes,
		&c->directories, &c->links, &c->touched, &c->deleted, &c->same, &c->skipped,
		&c->failed };

	return i < sizeof(fields) / sizeof(fields[0]) ? fields[i] : NULL;
}

void sync_put_counts(struct sync_out *o, const struct sync_counts *c)
{
	struct sync_counts copy = *c;

	for (size_t i = 0; const_fields(&copy, i) != NULL; i++)
		sync_put_number(o, *const_fields(&copy, i));
}

void sync_get_counts(struct sync_body *b, struct sync_counts *c)
{
	*c = (struct sync_counts){ 0 };
	for (size_t i = 0; const_fields(c, i) != NULL; i++)
		*const_fields(c, i) = sync_get_number(b);
}

/* Entries. */

void sync_send_item(struct sync_send *s, enum sync_act act, const struct sync_entry *e)
{
	s->counts->items++;
	if (s->opt->item != NULL)
		s->opt->item(s->opt->cookie, act, e);
}

int sync_send_attributes(struct sync_send *s, int fd, const char *path, bool tell, struct err *err)
{
	bool left_out = false;

	if (fd < 0)
		return 0;
	sync_attributes_read(s->attributes, fd, &left_out);
	if (left_out && tell) {
		s->counts->skipped++;
		sync_note(s->opt, path, "skipped, extended attributes that are too long");
	}
	return sync_attributes_put(s->attributes, &s->out, err);
}

int sync_send_touch(struct sync_send *s, int fd, const struct sync_entry *e, struct err *err)
{
	if (!s->opt->dry_run && sync_send_attributes(s, fd, e->path, true, err) != 0)
		return -1;
	sync_send_item(s, SYNC_ACT_TOUCH, e);
	sync_begin(&s->out, SYNC_TOUCH);
	sync_put_text(&s->out, e->path);
	sync_put_number(&s->out, e->mode);
	sync_put_signed(&s->out, e->mtime);
	return sync_end(&s->out, err);
}

int sync_send_delete(struct sync_send *s, const struct sync_entry *e, struct err *err)
{
	sync_send_item(s, SYNC_ACT_DELETE, e);
	sync_begin(&s->out, SYNC_DELETE);
	sync_put_text(&s->out, e->path);
	sync_put_number(&s->out, e->kind == SYNC_KIND_DIRECTORY);
	return sync_end(&s->out, err);
}

static int send_directory(struct sync_send *s, int dir, const char *name,
    const struct sync_entry *e, bool there, struct err *err)
{
	int fd = s->opt->dry_run ? -1 : sync_open(dir, name);
	int r = sync_send_attributes(s, fd, e->path, true, err);

	if (fd >= 0)
		close(fd);
	if (r != 0)
		return -1;
	sync_send_item(s, there ? SYNC_ACT_TOUCH : SYNC_ACT_MAKE, e);
	sync_begin(&s->out, SYNC_DIRECTORY);
	sync_put_text(&s->out, e->path);
	sync_put_number(&s->out, e->mode);
	sync_put_signed(&s->out, e->mtime);
	sync_put_number(&s->out, there);
	return sync_end(&s->out, err);
}

static int send_link(struct sync_send *s, const struct sync_entry *e, struct err *err)
{
	sync_send_item(s, SYNC_ACT_MAKE, e);
	sync_begin(&s->out, SYNC_LINK);
	sync_put_text(&s->out, e->path);
	sync_put_text(&s->out, e->link);
	sync_put_signed(&s->out, e->mtime);
	return sync_end(&s->out, err);
}

/* Files. */

static int send_file(
    struct sync_send *s, int dir, const char *name, const struct sync_entry *e, struct err *err)
{
	struct err why = { 0 };

	if (s->opt->dry_run) {
		sync_send_item(s, SYNC_ACT_SEND, e);
		sync_begin(&s->out, SYNC_FILE);
		sync_put_text(&s->out, e->path);
		sync_put_number(&s->out, e->size);
		sync_put_number(&s->out, e->mode);
		sync_put_signed(&s->out, e->mtime);
		sync_put_number(&s->out, 0);
		return sync_end(&s->out, err);
	}
	int fd = sync_open(dir, name);
	if (fd >= 0)
		return sync_file_send(s, fd, e->path, NULL, 0, err);
	err_sys(&why, errno, "%s", e->path);
	sync_send_failed(s, e->path, &why);
	return 0;
}

int sync_send_entry(struct sync_send *s, int dir, const char *name, const struct sync_entry *e,
    bool there, struct err *err)
{
	switch (e->kind) {
	case SYNC_KIND_DIRECTORY:
		return send_directory(s, dir, name, e, there, err);
	case SYNC_KIND_LINK:
		return send_link(s, e, err);
	case SYNC_KIND_FILE:
		return send_file(s, dir, name, e, err);
	default:
		s->counts->skipped++;
		sync_note(s->opt, e->path, "skipped, a socket, pipe or device");
		return 0;
	}
}

/* A link is opened for itself alone. */
static int send_link_at(
    struct sync_send *s, int dir, const char *name, const char *path, struct err *err)
{
	char target[TREE_PATH_MAX];
	struct sync_entry e;
	struct err why;
	struct stat st = { 0 };
	ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);

	if (n <= 0 || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		err_sys(&why, errno, "%s", path);
		sync_send_failed(s, path, &why);
		return 0;
	}
	target[n] = '\0';
	sync_entry_of(&st, &e);
	e.path = path;
	e.link = target;
	return send_link(s, &e, err);
}

int sync_send_hardlink(struct sync_send *s, const char *path, const char *first, struct err *err)
{
	struct sync_entry e = { .kind = SYNC_KIND_FILE };
	struct err why = { 0 };
	struct stat st;

	if (beneath_stat(s->root, path, &st, BENEATH_NO_LINKS, &why) != 0) {
		sync_send_failed(s, path, &why);
		return 0;
	}
	sync_entry_of(&st, &e);
	e.path = path;
	sync_send_item(s, SYNC_ACT_MAKE, &e);
	sync_begin(&s->out, SYNC_HARDLINK);
	sync_put_text(&s->out, path);
	sync_put_text(&s->out, first);
	sync_put_number(&s->out, e.size);
	sync_put_signed(&s->out, e.mtime);
	return sync_end(&s->out, err);
}

/* The directory that ${path} is in stays open for the next; ${last} is its name there. */
static int enter_parent(struct sync_send *s, const char *path, const char **last, struct err *err)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash != NULL ? (size_t)(slash - path) : 0;

	*last = slash != NULL ? slash + 1 : path;
	if (s->dir >= 0 && strlen(s->dir_path) == len && memcmp(s->dir_path, path, len) == 0)
		return 0;
	leave_parent(s);
	memcpy(s->dir_path, path, len);
	s->dir_path[len] = '\0';
	s->dir = beneath_open(
	    s->root, len > 0 ? s->dir_path : ".", O_PATH | O_DIRECTORY, 0, BENEATH_NO_LINKS, err);
	return s->dir >= 0 ? 0 : -1;
}

int sync_send_open(struct sync_send *s, const char *path, struct err *err)
{
	const char *last;
	int fd;

	if (enter_parent(s, path, &last, err) != 0)
		return -1;
	fd = sync_open(s->dir, last);
	return fd >= 0 ? fd : err_sys(err, errno, "%s", path);
}

int sync_send_path(struct sync_send *s, const char *path, const struct sync_sums *sums,
    uint64_t basis, struct err *err)
{
	const char *last;
	struct sync_entry e;
	struct err why = { 0 };
	struct stat st = { 0 };

	if (enter_parent(s, path, &last, &why) == 0 &&
	    fstatat(s->dir, last, &st, AT_SYMLINK_NOFOLLOW) != 0)
		err_sys(&why, errno, "%s", path);
	if (why.code != GRPC_OK) {
		sync_send_failed(s, path, &why);
		return 0;
	}
	if (S_ISLNK(st.st_mode))
		return send_link_at(s, s->dir, last, path, err);
	if (s->opt->dry_run) {
		sync_entry_of(&st, &e);
		e.path = path;
		return sync_send_entry(s, s->dir, last, &e, false, err);
	}
	int fd = sync_open(s->dir, last);
	if (fd >= 0)
		return sync_file_send(s, fd, path, sums, basis, err);
	err_sys(&why, errno, "%s", path);
	sync_send_failed(s, path, &why);
	return 0;
}

int sync_send_job(struct sync_send *s, const struct sync_job *job, struct err *err)
{
	return job->split != NULL ? sync_file_send_range(s, job->split, job->range, err)
				  : sync_send_path(s, job->path, job->sums, job->basis, err);
}
