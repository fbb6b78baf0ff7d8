#include "transfer/sync/sync_send.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/beneath.h"
#include "transfer/sync/sync_walk.h"

#define ZERO_BLOCK ((size_t)4096) /* so much of nothing is a hole, in a file that has some */
#define TICK_MS    1
#define TICKS      10 /* the longest that a file's time can be the present, in TICK_MS */

/* A file on its way. */
struct sending {
	struct sync_send *s;
	int fd;
	const char *path;
	struct stat st;    /* at the beginning */
	struct err *fatal; /* of the way out */
	bool again;        /* it was begun before, and changed */
	bool begun;        /* FILE has gone */
	bool sparse;
	uint64_t at, len; /* to be copied, not said yet */
	uint64_t hole;    /* likewise */
};

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

static void tell_item(struct sync_send *s, enum sync_act act, const struct sync_entry *e)
{
	s->counts->items++;
	if (s->opt->item != NULL)
		s->opt->item(s->opt->cookie, act, e);
}

/* Those of what comes next. */
static int put_attributes(struct sync_send *s, int fd, const char *path, struct err *err)
{
	bool left_out = false;

	if (fd < 0)
		return 0;
	sync_attributes_read(s->attributes, fd, &left_out);
	if (left_out) {
		s->counts->skipped++;
		sync_note(s->opt, path, "skipped, extended attributes that are too long");
	}
	return sync_attributes_put(s->attributes, &s->out, err);
}

int sync_send_touch(struct sync_send *s, int fd, const struct sync_entry *e, struct err *err)
{
	if (!s->opt->dry_run && put_attributes(s, fd, e->path, err) != 0)
		return -1;
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

static int send_directory(struct sync_send *s, int dir, const char *name,
    const struct sync_entry *e, bool there, struct err *err)
{
	int fd = s->opt->dry_run ? -1 : sync_open(dir, name);
	int r = put_attributes(s, fd, e->path, err);

	if (fd >= 0)
		close(fd);
	if (r != 0)
		return -1;
	tell_item(s, there ? SYNC_ACT_TOUCH : SYNC_ACT_MAKE, e);
	sync_begin(&s->out, SYNC_DIRECTORY);
	sync_put_text(&s->out, e->path);
	sync_put_number(&s->out, e->mode);
	sync_put_signed(&s->out, e->mtime);
	sync_put_number(&s->out, there);
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

static int begin_file(struct sending *f, uint64_t how)
{
	struct sync_out *o = &f->s->out;
	struct sync_entry e;

	if (put_attributes(f->s, f->fd, f->path, f->fatal) != 0)
		return -1;
	sync_entry_of(&f->st, &e);
	e.path = f->path;
	if (f->again)
		f->s->counts->items++;
	else
		tell_item(f->s, SYNC_ACT_SEND, &e);
	f->begun = true;
	sync_begin(o, SYNC_FILE);
	sync_put_text(o, f->path);
	sync_put_number(o, e.size);
	sync_put_number(o, e.mode);
	sync_put_signed(o, e.mtime);
	sync_put_number(o, how | (f->sparse ? SYNC_FILE_SPARSE : 0));
	return 0;
}

/* The kernel's time goes on in ticks, and what is written within the one in which the file
 * was written last leaves its time as it is. So the file is read in a later one: what is
 * written then can be seen, now or by the next sync. */
static void await_tick(const struct stat *st)
{
	const struct timespec pause = { .tv_nsec = TICK_MS * 1000000L };
	struct timespec now;

	for (int i = 0; i < TICKS; i++) {
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
		if (now.tv_sec > st->st_mtim.tv_sec ||
		    (now.tv_sec == st->st_mtim.tv_sec && now.tv_nsec > st->st_mtim.tv_nsec) ||
		    st->st_mtim.tv_sec > now.tv_sec + 1)
			return;
		nanosleep(&pause, NULL);
	}
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
	if (begin_file(f, SYNC_FILE_WHOLE) != 0)
		return -1;
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

static int put_hole(struct sending *f)
{
	struct sync_out *o = &f->s->out;

	while (f->hole > 0) {
		uint64_t n = f->hole < SYNC_HOLE_MAX ? f->hole : SYNC_HOLE_MAX;
		f->hole -= n;
		sync_begin(o, SYNC_HOLE);
		sync_put_number(o, n);
		if (sync_end(o, f->fatal) != 0)
			return -1;
	}
	return 0;
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
	static const uint8_t zeros[ZERO_BLOCK];

	return memcmp(bytes, zeros, len) == 0;
}

static size_t block_of(size_t len)
{
	return len < ZERO_BLOCK ? len : ZERO_BLOCK;
}

/* Of a file with holes, what is zero is one. */
static int put_content(struct sending *f, const uint8_t *bytes, size_t len)
{
	if (!f->sparse)
		return put_literal(f, bytes, len);
	while (len > 0) {
		size_t run = block_of(len);
		if (is_zero(bytes, run)) {
			f->hole += run;
		} else {
			while (run < len && !is_zero(bytes + run, block_of(len - run)))
				run += block_of(len - run);
			if (put_hole(f) != 0 || put_literal(f, bytes, run) != 0)
				return -1;
		}
		bytes += run;
		len -= run;
	}
	return 0;
}

static int begin_parts(struct sending *f)
{
	if (f->begun)
		return 0;
	return begin_file(f, 0) != 0 ? -1 : sync_end(&f->s->out, f->fatal);
}

/* Said or not, FILE is followed by END or LEAVE. */
static int end_parts(struct sending *f, const struct err *why)
{
	struct sync_out *o = &f->s->out;
	uint8_t digest[DIGEST_SIZE];

	if (!f->begun || f->fatal->code != GRPC_OK)
		return f->fatal->code == GRPC_OK ? 0 : -1;
	if (why->code == GRPC_OK && put_hole(f) != 0)
		return -1;
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
		if (put_content(f, f->s->buffer, (size_t)got) != 0)
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
	if (put_hole(f) != 0)
		return -1;
	sync_begin(o, SYNC_COPY);
	sync_put_number(o, f->at);
	sync_put_number(o, len);
	return sync_end(o, f->fatal);
}

static int delta_literal(void *cookie, const uint8_t *bytes, size_t len, struct err *err)
{
	struct sending *f = cookie;

	(void)err;
	return put_copy(f) != 0 ? -1 : put_content(f, bytes, len);
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
		return sync_send_touch(f->s, f->fd, &e, f->fatal);
	}
	if (put_copy(f) != 0)
		return -1;
	off_t end = lseek(f->fd, 0, SEEK_CUR);
	return check_unchanged(f, (uint64_t)end, why);
}

/* Once, from the beginning. -1 with ${why}, or with what is fatal. */
static void attempt(
    struct sending *f, const struct sync_sums *sums, uint64_t basis, struct err *why)
{
	f->begun = false;
	f->at = f->len = f->hole = 0;
	if (lseek(f->fd, 0, SEEK_SET) != 0 || fstat(f->fd, &f->st) != 0) {
		err_sys(why, errno, "%s", f->path);
		return;
	}
	if (!S_ISREG(f->st.st_mode)) {
		err_set(why, GRPC_FAILED_PRECONDITION, "%s is no file any more", f->path);
		return;
	}
	await_tick(&f->st);
	f->sparse = (uint64_t)f->st.st_blocks * 512 < (uint64_t)f->st.st_size;
	if ((uint64_t)f->st.st_size < SYNC_SMALL) {
		send_small(f, why);
		return;
	}
	if (sums != NULL)
		send_delta(f, sums, basis, why);
	else
		send_stream(f, why);
	end_parts(f, why);
}

/* Takes ${fd}. What changes while it is read is read again, but not for ever. */
static int send_opened(struct sync_send *s, int fd, const char *path, const struct sync_sums *sums,
    uint64_t basis, struct err *err)
{
	struct sending f = { .s = s, .fd = fd, .path = path, .fatal = err };
	struct err why = { 0 };

	err_clear(err);
	attempt(&f, sums, basis, &why);
	for (int i = 1; i < SYNC_TRIES && why.code == GRPC_ABORTED && err->code == GRPC_OK; i++) {
		f.again = f.again || f.begun;
		err_clear(&why);
		attempt(&f, sums, basis, &why);
	}
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
		sync_put_number(&s->out, 0);
		return sync_end(&s->out, err);
	}
	int fd = sync_open(dir, name);
	if (fd >= 0)
		return send_opened(s, fd, e->path, NULL, 0, err);
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
	tell_item(s, SYNC_ACT_MAKE, &e);
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
		return send_opened(s, fd, path, sums, basis, err);
	err_sys(&why, errno, "%s", path);
	sync_send_failed(s, path, &why);
	return 0;
}
