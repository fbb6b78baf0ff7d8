#include "transfer/sync/sync_file.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "transfer/sync/sync_walk.h"

#define ZERO_BLOCK ((size_t)4096) /* so much of nothing is a hole, in a file that has some */
#define TICK_MS    1
#define TICKS      10 /* the longest that a file's time can be the present, in TICK_MS */

/* A file on its way, or a range of one. */
struct sending {
	struct sync_send *s;
	int fd;
	const char *path;
	struct stat st;           /* at the beginning */
	struct err *fatal;        /* of the way out */
	struct sync_split *split; /* NULL: the whole file */
	size_t number;            /* of the range */
	uint64_t from, end;       /* what is to be sent, as offsets */
	uint64_t offset;          /* to be read from next */
	bool again;               /* it was begun before, and changed */
	bool begun;               /* FILE has gone */
	bool sparse;
	uint64_t at, len; /* to be copied, not said yet */
	uint64_t hole;    /* likewise */
};

static int begin_file(struct sending *f, uint64_t how)
{
	struct sync_out *o = &f->s->out;
	bool first = f->split != NULL ? sync_split_begin(f->split, f->number) : !f->again;
	struct sync_entry e;

	if (sync_send_attributes(f->s, f->fd, f->path, first, f->fatal) != 0)
		return -1;
	sync_entry_of(&f->st, &e);
	e.path = f->path;
	if (first)
		sync_send_item(f->s, SYNC_ACT_SEND, &e);
	else
		f->s->counts->items++;
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

/* No further than to its end as it was. */
static int read_some(struct sending *f, uint8_t *bytes, size_t len, ssize_t *got, struct err *err)
{
	size_t want = f->end - f->offset < len ? (size_t)(f->end - f->offset) : len;

	do
		*got = pread(f->fd, bytes, want, (off_t)f->offset);
	while (*got < 0 && errno == EINTR);
	if (*got < 0)
		return err_sys(err, errno, "%s", f->path);
	f->offset += (uint64_t)*got;
	return 0;
}

static int changed(const struct sending *f, struct err *err)
{
	return err_set(err, GRPC_ABORTED, "%s was changed while it was read; sync again", f->path);
}

static bool is_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool is_unchanged(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && is_time(&a->st_mtim, &b->st_mtim) &&
	    is_time(&a->st_ctim, &b->st_ctim);
}

/* What was read, up to the offset ${end}, is what was there at one time. */
static int check_unchanged(struct sending *f, uint64_t end, struct err *err)
{
	struct stat now;

	if (fstat(f->fd, &now) != 0)
		return err_sys(err, errno, "%s", f->path);
	return end == f->end && is_unchanged(&now, &f->st) ? 0 : changed(f, err);
}

/* Within one record, which is dropped if the file does not hold still. */
static int send_small(struct sending *f, struct err *why)
{
	struct sync_out *o = &f->s->out;
	size_t size = (size_t)f->end, have = 0;
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

static void put_range(struct sync_out *o, struct sync_range r)
{
	sync_put_number(o, r.file);
	sync_put_number(o, r.size);
	sync_put_number(o, r.number);
}

static int begin_parts(struct sending *f)
{
	if (f->begun)
		return 0;
	if (begin_file(f, f->split != NULL ? SYNC_FILE_RANGE : 0) != 0)
		return -1;
	if (f->split != NULL)
		put_range(&f->s->out, sync_split_range(f->split, f->number));
	return sync_end(&f->s->out, f->fatal);
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
	ssize_t got = 1;

	digest_reset(f->s->digest);
	if (begin_parts(f) != 0)
		return -1;
	while (f->offset < f->end && got > 0) {
		if (read_some(f, f->s->buffer, SYNC_BODY_MAX, &got, why) != 0)
			return -1;
		digest_update(f->s->digest, f->s->buffer, (size_t)got);
		if (put_content(f, f->s->buffer, (size_t)got) != 0)
			return -1;
	}
	return check_unchanged(f, f->offset, why);
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

/* The whole of it, and it is no longer there. */
static int send_touch(struct sending *f, struct err *why)
{
	struct sync_entry e;

	sync_entry_of(&f->st, &e);
	e.path = f->path;
	if (check_unchanged(f, f->offset, why) != 0)
		return -1;
	return sync_send_touch(f->s, f->fd, &e, f->fatal);
}

/* Of a range that is there as it is; true: nothing need be said of it now. */
static bool keep_back(struct sending *f, struct err *why)
{
	uint8_t digest[DIGEST_SIZE];

	if (f->begun || f->at != f->from || f->len != f->end - f->from ||
	    check_unchanged(f, f->offset, why) != 0)
		return false;
	digest_value(f->s->digest, digest);
	return sync_split_keep(f->split, f->number, digest);
}

static int send_delta(
    struct sending *f, const struct sync_sums *sums, uint64_t basis, struct err *why)
{
	uint64_t size = (uint64_t)f->st.st_size;

	digest_reset(f->s->digest);
	if (sync_delta(sums, f->from, &delta_ops, f, why) != 0)
		return -1;
	if (f->split != NULL && keep_back(f, why))
		return 0;
	if (f->split == NULL && !f->begun && f->len == size && f->at == 0 && size == basis)
		return send_touch(f, why);
	return put_copy(f) != 0 ? -1 : check_unchanged(f, f->offset, why);
}

/* From ${f->from}. -1 with ${why}, or with what is fatal. */
static void send_parts(
    struct sending *f, const struct sync_sums *sums, uint64_t basis, struct err *why)
{
	f->begun = false;
	f->offset = f->from;
	f->at = f->len = f->hole = 0;
	f->sparse = (uint64_t)f->st.st_blocks * 512 < (uint64_t)f->st.st_size;
	await_tick(&f->st);
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

/* All of it, as it is now. */
static void attempt(
    struct sending *f, const struct sync_sums *sums, uint64_t basis, struct err *why)
{
	f->begun = false;
	if (fstat(f->fd, &f->st) != 0) {
		err_sys(why, errno, "%s", f->path);
		return;
	}
	if (!S_ISREG(f->st.st_mode)) {
		err_set(why, GRPC_FAILED_PRECONDITION, "%s is no file any more", f->path);
		return;
	}
	f->from = 0;
	f->end = (uint64_t)f->st.st_size;
	send_parts(f, sums, basis, why);
}

/* What changes while it is read is read again, but not for ever. Takes ${fd}. */
static int send_times(
    struct sending *f, int times, const struct sync_sums *sums, uint64_t basis, struct err *err)
{
	struct err why = { 0 };

	err_clear(err);
	attempt(f, sums, basis, &why);
	for (int i = 1; i < times && why.code == GRPC_ABORTED && err->code == GRPC_OK; i++) {
		f->again = f->again || f->begun;
		err_clear(&why);
		attempt(f, sums, basis, &why);
	}
	close(f->fd);
	if (err->code != GRPC_OK)
		return -1;
	if (why.code != GRPC_OK)
		sync_send_failed(f->s, f->path, &why);
	return 0;
}

int sync_file_send(struct sync_send *s, int fd, const char *path, const struct sync_sums *sums,
    uint64_t basis, struct err *err)
{
	struct sending f = { .s = s, .fd = fd, .path = path, .fatal = err };

	return send_times(&f, SYNC_TRIES, sums, basis, err);
}

/* Ranges. */

/* The file as it was when it was divided. */
static int open_split(struct sending *f, struct err *why)
{
	struct stat now;

	if ((f->fd = sync_send_open(f->s, f->path, why)) < 0)
		return -1;
	if (fstat(f->fd, &now) != 0)
		return err_sys(why, errno, "%s", f->path);
	return now.st_dev == f->st.st_dev && now.st_ino == f->st.st_ino &&
		is_unchanged(&now, &f->st)
	    ? 0
	    : changed(f, why);
}

static void close_split(struct sending *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

/* A range that was held back, or of a file that has failed. */
static int send_held(struct sending *f, size_t n, bool failed)
{
	struct sync_out *o = &f->s->out;

	f->number = n;
	f->begun = false;
	f->at = f->from = n * f->split->range;
	f->len = failed ? 0 : sync_split_end(f->split, n) - f->from;
	if (put_copy(f) != 0)
		return -1;
	sync_begin(o, failed ? SYNC_LEAVE : SYNC_END);
	if (!failed)
		sync_put_raw(o, f->split->digests[n], DIGEST_SIZE);
	return sync_end(o, f->fatal);
}

static int send_again(struct sending *f)
{
	struct sync_split *p = f->split;
	struct err why = { 0 };

	f->split = NULL;
	f->again = p->begun != 0;
	if (p->err.code == GRPC_ABORTED && (f->fd = sync_send_open(f->s, f->path, &why)) >= 0)
		return send_times(f, SYNC_TRIES - 1, p->sums, p->basis, f->fatal);
	sync_send_failed(f->s, f->path, &p->err);
	return 0;
}

/* All ranges are done: those that were held back go, or only the file's mode and time. If
 * any failed, the target is told that of all, and the file is sent again in one. */
static int end_split(struct sending *f)
{
	struct sync_split *p = f->split;
	uint64_t size = (uint64_t)p->st.st_size;
	bool failed;

	if (p->err.code == GRPC_OK && f->fd < 0)
		open_split(f, &p->err);
	failed = p->err.code != GRPC_OK;
	if (!failed && p->begun == 0 && size == p->basis) {
		f->offset = f->end = size;
		if (send_touch(f, &p->err) == 0 || f->fatal->code != GRPC_OK)
			return f->fatal->code == GRPC_OK ? 0 : -1;
		failed = true;
	}
	uint64_t begun = failed && p->begun == 0 ? UINT64_MAX : p->begun;
	for (size_t n = 0; n < p->count; n++)
		if ((begun >> n & 1) == 0 && send_held(f, n, failed) != 0)
			return -1;
	close_split(f);
	return failed ? send_again(f) : 0;
}

/* What others have held back goes now, if there is a reason. */
static void send_kept(struct sending *f)
{
	size_t n;

	while (f->fatal->code == GRPC_OK && sync_split_take_kept(f->split, &n))
		send_held(f, n, false);
}

int sync_file_send_range(struct sync_send *s, struct sync_split *p, size_t n, struct err *err)
{
	struct sending f = { .s = s,
		.fd = -1,
		.path = p->path,
		.st = p->st,
		.split = p,
		.number = n,
		.from = n * p->range,
		.end = sync_split_end(p, n),
		.fatal = err };
	struct err why = { 0 };
	int r = 0;

	err_clear(err);
	if (!sync_split_has_failed(p) && open_split(&f, &why) == 0)
		send_parts(&f, p->sums, p->basis, &why);
	if (why.code != GRPC_OK)
		sync_split_fail(p, &why);
	else if (f.fd >= 0)
		send_kept(&f);
	if (err->code != GRPC_OK || (sync_split_done(p) && end_split(&f) != 0))
		r = -1;
	close_split(&f);
	return r;
}
