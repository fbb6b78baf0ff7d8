#include "transfer/sync_send.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "transfer/sync_walk.h"

/* A file on its way. */
struct sending {
	struct sync_send *s;
	int fd;
	const char *path;
	struct stat st;    /* at the beginning */
	struct err *fatal; /* of the way out */
	bool begun;        /* FILE has gone */
	uint64_t at, len;  /* to be copied, not said yet */
};

int sync_send_init(struct sync_send *s, struct err *err)
{
	s->digest = digest_create();
	s->buffer = malloc(SYNC_BODY_MAX);
	if (s->digest == NULL || s->buffer == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	return 0;
}

void sync_send_free(struct sync_send *s)
{
	digest_free(s->digest);
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

static void tell_item(struct sync_send *s, enum sync_act act, const struct sync_entry *e)
{
	s->counts->items++;
	if (s->opt->item != NULL)
		s->opt->item(s->opt->cookie, act, e);
}

int sync_send_touch(struct sync_send *s, const struct sync_entry *e, struct err *err)
{
	tell_item(s, SYNC_ACT_TOUCH, e);
	sync_begin(&s->out, SYNC_TOUCH);
	sync_put_text(&s->out, e->path);
	sync_put_number(&s->out, e->mode);
	sync_put_signed(&s->out, e->mtime);
	return sync_end(&s->out, err);
}

int sync_send_delete(struct sync_send *s, const struct sync_entry *e, struct err *err)
{
	tell_item(s, SYNC_ACT_DELETE, e);
	sync_begin(&s->out, SYNC_DELETE);
	sync_put_text(&s->out, e->path);
	sync_put_number(&s->out, e->kind == SYNC_KIND_DIRECTORY);
	return sync_end(&s->out, err);
}

static int send_directory(struct sync_send *s, const struct sync_entry *e, struct err *err)
{
	tell_item(s, SYNC_ACT_MAKE, e);
	sync_begin(&s->out, SYNC_DIRECTORY);
	sync_put_text(&s->out, e->path);
	sync_put_number(&s->out, e->mode);
	return sync_end(&s->out, err);
}

static int send_link(struct sync_send *s, const struct sync_entry *e, struct err *err)
{
	tell_item(s, SYNC_ACT_MAKE, e);
	sync_begin(&s->out, SYNC_LINK);
	sync_put_text(&s->out, e->path);
	sync_put_text(&s->out, e->link);
	sync_put_signed(&s->out, e->mtime);
	return sync_end(&s->out, err);
}

/* Files. */

enum { FILE_IN_PARTS, FILE_WHOLE };

static void begin_file(struct sending *f, int how)
{
	struct sync_out *o = &f->s->out;
	struct sync_entry e;

	sync_entry_of(&f->st, &e);
	e.path = f->path;
	tell_item(f->s, SYNC_ACT_SEND, &e);
	f->begun = true;
	sync_begin(o, SYNC_FILE);
	sync_put_text(o, f->path);
	sync_put_number(o, e.size);
	sync_put_number(o, e.mode);
	sync_put_signed(o, e.mtime);
	sync_put_number(o, (uint64_t)how);
}

static int read_some(struct sending *f, uint8_t *bytes, size_t len, ssize_t *got, struct err *err)
{
	do
		*got = read(f->fd, bytes, len);
	while (*got < 0 && errno == EINTR);
	return *got < 0 ? err_sys(err, errno, "%s", f->path) : 0;
}

/* What was read is what was there at one time. */
static int check_unchanged(struct sending *f, uint64_t bytes, struct err *err)
{
	const struct timespec *m = &f->st.st_mtim, *c = &f->st.st_ctim;
	struct stat now;

	if (fstat(f->fd, &now) != 0)
		return err_sys(err, errno, "%s", f->path);
	if (bytes != (uint64_t)f->st.st_size || now.st_size != f->st.st_size ||
	    now.st_mtim.tv_sec != m->tv_sec || now.st_mtim.tv_nsec != m->tv_nsec ||
	    now.st_ctim.tv_sec != c->tv_sec || now.st_ctim.tv_nsec != c->tv_nsec)
		return err_set(
		    err, GRPC_ABORTED, "%s was changed while it was read; sync again", f->path);
	return 0;
}

/* Within one record, which is dropped if the file does not hold still. */
static int send_small(struct sending *f, struct err *why)
{
	struct sync_out *o = &f->s->out;
	size_t size = (size_t)f->st.st_size, have = 0;
	uint8_t digest[DIGEST_SIZE];
	ssize_t got = 1;

	while (have < size && got > 0) {
		if (read_some(f, f->s->buffer + have, size - have, &got, why) != 0)
			return -1;
		have += (size_t)got;
	}
	if (check_unchanged(f, have, why) != 0)
		return -1;
	digest_reset(f->s->digest);
	digest_update(f->s->digest, f->s->buffer, have);
	digest_value(f->s->digest, digest);
	begin_file(f, FILE_WHOLE);
	sync_put_raw(o, digest, sizeof(digest));
	sync_put_bytes(o, f->s->buffer, have);
	f->s->counts->literal += have;
	return sync_end(o, f->fatal);
}

static int put_literal(struct sending *f, const uint8_t *bytes, size_t len)
{
	struct sync_out *o = &f->s->out;

	while (len > 0) {
		size_t n = len < SYNC_BODY_MAX ? len : SYNC_BODY_MAX;
		sync_begin(o, SYNC_LITERAL);
		sync_put_raw(o, bytes, n);
		f->s->counts->literal += n;
		if (sync_end(o, f->fatal) != 0)
			return -1;
		bytes += n;
		len -= n;
	}
	return 0;
}

static int begin_parts(struct sending *f)
{
	if (f->begun)
		return 0;
	begin_file(f, FILE_IN_PARTS);
	return sync_end(&f->s->out, f->fatal);
}

/* Said or not, FILE is followed by END or LEAVE. */
static int end_parts(struct sending *f, const struct err *why)
{
	struct sync_out *o = &f->s->out;
	uint8_t digest[DIGEST_SIZE];

	if (!f->begun || f->fatal->code != GRPC_OK)
		return f->fatal->code == GRPC_OK ? 0 : -1;
	sync_begin(o, why->code == GRPC_OK ? SYNC_END : SYNC_LEAVE);
	if (why->code == GRPC_OK) {
		digest_value(f->s->digest, digest);
		sync_put_raw(o, digest, sizeof(digest));
	}
	return sync_end(o, f->fatal);
}

static int send_stream(struct sending *f, struct err *why)
{
	uint64_t bytes = 0, size = (uint64_t)f->st.st_size;
	ssize_t got = 1;

	digest_reset(f->s->digest);
	if (begin_parts(f) != 0)
		return -1;
	while (bytes < size && got > 0) {
		size_t want = size - bytes < SYNC_BODY_MAX ? (size_t)(size - bytes) : SYNC_BODY_MAX;
		if (read_some(f, f->s->buffer, want, &got, why) != 0)
			return -1;
		digest_update(f->s->digest, f->s->buffer, (size_t)got);
		if (put_literal(f, f->s->buffer, (size_t)got) != 0)
			return -1;
		bytes += (uint64_t)got;
	}
	return check_unchanged(f, bytes, why);
}

/* As it differs from what is there. */

static ssize_t delta_read(void *cookie, uint8_t *bytes, size_t len, struct err *err)
{
	struct sending *f = cookie;
	ssize_t got;

	if (read_some(f, bytes, len, &got, err) != 0)
		return -1;
	digest_update(f->s->digest, bytes, (size_t)got);
	return got;
}

static int put_copy(struct sending *f)
{
	struct sync_out *o = &f->s->out;
	uint64_t len = f->len;

	f->len = 0;
	if (begin_parts(f) != 0)
		return -1;
	if (len == 0)
		return 0;
	sync_begin(o, SYNC_COPY);
	sync_put_number(o, f->at);
	sync_put_number(o, len);
	return sync_end(o, f->fatal);
}

static int delta_literal(void *cookie, const uint8_t *bytes, size_t len, struct err *err)
{
	struct sending *f = cookie;

	(void)err;
	return put_copy(f) != 0 ? -1 : put_literal(f, bytes, len);
}

/* Blocks that lie behind each other are one. */
static int delta_copy(void *cookie, uint64_t offset, uint64_t len, struct err *err)
{
	struct sending *f = cookie;

	(void)err;
	if (f->len > 0 && f->at + f->len == offset) {
		f->len += len;
		return 0;
	}
	if (f->len > 0 && put_copy(f) != 0)
		return -1;
	f->at = offset;
	f->len = len;
	return 0;
}

static const struct sync_delta_ops delta_ops = {
	.read = delta_read,
	.literal = delta_literal,
	.copy = delta_copy,
};

static int send_delta(
    struct sending *f, const struct sync_sums *sums, uint64_t basis, struct err *why)
{
	uint64_t size = (uint64_t)f->st.st_size;
	struct sync_entry e;

	digest_reset(f->s->digest);
	if (sync_delta(sums, &delta_ops, f, why) != 0)
		return -1;
	if (!f->begun && f->len == size && f->at == 0 && size == basis) {
		sync_entry_of(&f->st, &e);
		e.path = f->path;
		if (check_unchanged(f, size, why) != 0)
			return -1;
		return sync_send_touch(f->s, &e, f->fatal);
	}
	if (put_copy(f) != 0)
		return -1;
	off_t end = lseek(f->fd, 0, SEEK_CUR);
	return check_unchanged(f, (uint64_t)end, why);
}

/* Takes ${fd}. */
static int send_opened(struct sync_send *s, int fd, const char *path, const struct sync_sums *sums,
    uint64_t basis, struct err *err)
{
	struct sending f = { .s = s, .fd = fd, .path = path, .fatal = err };
	struct err why = { 0 };

	err_clear(err);
	if (fstat(fd, &f.st) != 0)
		err_sys(&why, errno, "%s", path);
	else if (!S_ISREG(f.st.st_mode))
		err_set(&why, GRPC_FAILED_PRECONDITION, "%s is no file any more", path);
	else if ((uint64_t)f.st.st_size < SYNC_SMALL)
		send_small(&f, &why);
	else if (sums != NULL)
		send_delta(&f, sums, basis, &why);
	else
		send_stream(&f, &why);
	if ((uint64_t)f.st.st_size >= SYNC_SMALL)
		end_parts(&f, &why);
	close(fd);
	if (err->code != GRPC_OK)
		return -1;
	if (why.code != GRPC_OK)
		sync_send_failed(s, path, &why);
	return 0;
}

static int send_file(
    struct sync_send *s, int dir, const char *name, const struct sync_entry *e, struct err *err)
{
	struct err why = { 0 };

	if (s->opt->dry_run) {
		tell_item(s, SYNC_ACT_SEND, e);
		sync_begin(&s->out, SYNC_FILE);
		sync_put_text(&s->out, e->path);
		sync_put_number(&s->out, e->size);
		sync_put_number(&s->out, e->mode);
		sync_put_signed(&s->out, e->mtime);
		sync_put_number(&s->out, FILE_IN_PARTS);
		return sync_end(&s->out, err);
	}
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd >= 0)
		return send_opened(s, fd, e->path, NULL, 0, err);
	err_sys(&why, errno, "%s", e->path);
	sync_send_failed(s, e->path, &why);
	return 0;
}

int sync_send_entry(
    struct sync_send *s, int dir, const char *name, const struct sync_entry *e, struct err *err)
{
	switch (e->kind) {
	case SYNC_KIND_DIRECTORY:
		return send_directory(s, e, err);
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

int sync_send_path(struct sync_send *s, const char *path, const struct sync_sums *sums,
    uint64_t basis, struct err *err)
{
	char last[BENEATH_NAME_MAX];
	struct sync_entry e;
	struct err why = { 0 };
	struct stat st = { 0 };
	int dir = beneath_parent(s->root, path, false, BENEATH_NO_LINKS, last, &why), r = 0;

	if (dir >= 0 && fstatat(dir, last, &st, AT_SYMLINK_NOFOLLOW) != 0)
		err_sys(&why, errno, "%s", path);
	if (why.code != GRPC_OK) {
		sync_send_failed(s, path, &why);
	} else if (S_ISLNK(st.st_mode)) {
		r = send_link_at(s, dir, last, path, err);
	} else if (s->opt->dry_run) {
		sync_entry_of(&st, &e);
		e.path = path;
		r = sync_send_entry(s, dir, last, &e, err);
	} else {
		int fd =
		    openat(dir, last, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (fd >= 0) {
			r = send_opened(s, fd, path, sums, basis, err);
		} else {
			err_sys(&why, errno, "%s", path);
			sync_send_failed(s, path, &why);
		}
	}
	if (dir >= 0)
		close(dir);
	return r;
}
