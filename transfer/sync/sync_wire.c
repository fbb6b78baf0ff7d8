#include "transfer/sync/sync_wire.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/beneath.h"

#define HEAD 4 /* bytes before a body */

int sync_compare(const char *path, const char *other)
{
	while (*path != '\0' && *path == *other) {
		path++;
		other++;
	}
	/* The end of a name comes before all that a name can have. */
	int a = *path == '/' ? 1 : (uint8_t)*path + (*path != '\0');
	int b = *other == '/' ? 1 : (uint8_t)*other + (*other != '\0');
	return a - b;
}

bool sync_path_is_clean(const char *path)
{
	size_t depth = 0;

	if (strlen(path) >= TREE_PATH_MAX)
		return false;
	for (const char *at = path;; at++) {
		size_t n = strcspn(at, "/");
		if (n == 0 || n >= BENEATH_NAME_MAX || (n == 1 && at[0] == '.') ||
		    (n == 2 && at[0] == '.' && at[1] == '.') || ++depth > TREE_DEPTH_MAX)
			return false;
		at += n;
		if (*at == '\0')
			return true;
	}
}

/* A multiple of every block that sums can have, so that ranges begin where blocks do. */
uint64_t sync_range_size(uint64_t size)
{
	const uint64_t step = SYNC_RANGE_MIN / 2;
	uint64_t least = size / SYNC_RANGES_MAX + (size % SYNC_RANGES_MAX != 0);

	if (size < 2 * SYNC_RANGE_MIN || least > UINT64_MAX - step)
		return 0;
	return least < SYNC_RANGE_MIN ? SYNC_RANGE_MIN : (least + step - 1) / step * step;
}

size_t sync_ranges_of(uint64_t size, uint64_t range)
{
	if (size == 0 || range == 0 || (size - 1) / range >= SYNC_RANGES_MAX)
		return 0;
	return (size_t)((size - 1) / range) + 1;
}

/* The way out. */

int sync_out_init(struct sync_out *o, sync_push *push, void *cookie, struct err *err)
{
	*o = (struct sync_out){ .push = push, .cookie = cookie };
	o->data = malloc(SYNC_BATCH + HEAD + SYNC_BODY_MAX);
	return o->data != NULL ? 0 : err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

void sync_out_free(struct sync_out *o)
{
	free(o->data);
	o->data = NULL;
}

void sync_begin(struct sync_out *o, enum sync_type type)
{
	o->begun = o->len;
	o->data[o->len] = (uint8_t)type;
	o->len += HEAD;
}

size_t sync_room(const struct sync_out *o)
{
	return SYNC_BODY_MAX - (o->len - o->begun - HEAD);
}

uint8_t *sync_put_space(struct sync_out *o, size_t n)
{
	uint8_t *at = o->data + o->len;

	assert(n <= sync_room(o));
	o->len += n;
	return at;
}

void sync_put_number(struct sync_out *o, uint64_t n)
{
	for (; n >= 0x80; n >>= 7)
		*sync_put_space(o, 1) = (uint8_t)(n | 0x80);
	*sync_put_space(o, 1) = (uint8_t)n;
}

/* 0, -1, 1, -2, ... as 0, 1, 2, 3, ... */
void sync_put_signed(struct sync_out *o, int64_t n)
{
	sync_put_number(o, ((uint64_t)n << 1) ^ (uint64_t)(n < 0 ? -1 : 0));
}

void sync_put_raw(struct sync_out *o, const void *bytes, size_t n)
{
	if (n > 0)
		memcpy(sync_put_space(o, n), bytes, n);
}

void sync_put_bytes(struct sync_out *o, const void *bytes, size_t n)
{
	sync_put_number(o, n);
	sync_put_raw(o, bytes, n);
}

void sync_put_text(struct sync_out *o, const char *text)
{
	sync_put_bytes(o, text, strlen(text));
}

int sync_end(struct sync_out *o, struct err *err)
{
	size_t body = o->len - o->begun - HEAD;

	for (size_t i = 1; i < HEAD; i++, body >>= 8)
		o->data[o->begun + i] = (uint8_t)body;
	o->total += o->len - o->begun;
	o->begun = o->len;
	return o->len >= SYNC_BATCH ? sync_flush(o, err) : 0;
}

void sync_drop(struct sync_out *o)
{
	o->len = o->begun;
}

int sync_flush(struct sync_out *o, struct err *err)
{
	size_t len = o->len;

	o->len = o->begun = 0;
	return len > 0 ? o->push(o->cookie, o->data, len, err) : 0;
}

/* The way in. */

int sync_in_init(struct sync_in *in, sync_pull *pull, void *cookie, struct err *err)
{
	*in = (struct sync_in){ .pull = pull, .cookie = cookie };
	in->data = malloc(HEAD + SYNC_BODY_MAX);
	return in->data != NULL ? 0 : err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

void sync_in_free(struct sync_in *in)
{
	free(in->data);
	in->data = NULL;
}

bool sync_in_is_empty(const struct sync_in *in)
{
	return in->at == in->end;
}

/* Moves what is here into the record, until that has ${want} bytes. */
static int gather(struct sync_in *in, size_t want, struct err *err)
{
	while (in->len < want) {
		const void *bytes;
		size_t n = (size_t)(in->end - in->at);

		if (n == 0) {
			ssize_t got = in->pull(in->cookie, &bytes, err);
			if (got <= 0)
				return (int)got;
			in->at = bytes;
			in->end = in->at + got;
			continue;
		}
		n = n < want - in->len ? n : want - in->len;
		memcpy(in->data + in->len, in->at, n);
		in->len += n;
		in->at += n;
	}
	return 1;
}

static size_t body_len(const uint8_t head[static HEAD])
{
	return head[1] | (size_t)head[2] << 8 | (size_t)head[3] << 16;
}

int sync_next(struct sync_in *in, struct sync_body *body, struct err *err)
{
	size_t here = (size_t)(in->end - in->at), len;
	const uint8_t *record = in->at;
	int r;

	if (here < HEAD || here < HEAD + body_len(in->at)) {
		in->len = 0;
		if ((r = gather(in, HEAD, err)) <= 0)
			return r < 0 || in->len == 0
			    ? r
			    : err_set(err, GRPC_INVALID_ARGUMENT, "the end within a record");
		if (body_len(in->data) <= SYNC_BODY_MAX &&
		    (r = gather(in, HEAD + body_len(in->data), err)) <= 0)
			return r < 0
			    ? r
			    : err_set(err, GRPC_INVALID_ARGUMENT, "the end within a record");
		record = in->data;
	}
	len = body_len(record);
	if (len > SYNC_BODY_MAX)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "a record of %zu bytes; %zu are the most", len, SYNC_BODY_MAX);
	if (record == in->at)
		in->at += HEAD + len;
	in->total += HEAD + len;
	*body = (struct sync_body){
		.type = (enum sync_type)record[0], .at = record + HEAD, .end = record + HEAD + len
	};
	return 1;
}

uint64_t sync_get_number(struct sync_body *b)
{
	uint64_t n = 0;

	for (unsigned shift = 0; shift < 64 && b->at < b->end; shift += 7) {
		uint8_t byte = *b->at++;
		if (shift == 63 && byte > 1)
			break;
		n |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80)
			return n;
	}
	b->bad = true;
	return 0;
}

int64_t sync_get_signed(struct sync_body *b)
{
	uint64_t n = sync_get_number(b);

	return (int64_t)(n >> 1 ^ (n & 1 ? UINT64_MAX : 0));
}

const uint8_t *sync_get_raw(struct sync_body *b, size_t n)
{
	const uint8_t *at = b->at;

	if (b->bad || n > (size_t)(b->end - b->at)) {
		b->bad = true;
		return NULL;
	}
	b->at += n;
	return at;
}

const uint8_t *sync_get_bytes(struct sync_body *b, size_t *len)
{
	uint64_t n = sync_get_number(b);
	const uint8_t *at = n <= SYNC_BODY_MAX ? sync_get_raw(b, (size_t)n) : NULL;

	b->bad = b->bad || at == NULL;
	*len = at != NULL ? (size_t)n : 0;
	return at;
}

/* Behind the ${have} bytes that ${out} has of it. */
static void get_rest(struct sync_body *b, char out[static TREE_PATH_MAX], size_t have)
{
	size_t n;
	const uint8_t *at = sync_get_bytes(b, &n);

	if (at == NULL || n >= TREE_PATH_MAX - have || (n > 0 && memchr(at, '\0', n) != NULL)) {
		b->bad = true;
		out[0] = '\0';
		return;
	}
	memcpy(out + have, at, n);
	out[have + n] = '\0';
}

void sync_get_text(struct sync_body *b, char out[static TREE_PATH_MAX])
{
	get_rest(b, out, 0);
}

void sync_get_path(struct sync_body *b, char out[static TREE_PATH_MAX])
{
	get_rest(b, out, 0);
	if (!sync_path_is_clean(out))
		b->bad = true;
}

int sync_get_done(const struct sync_body *b, struct err *err)
{
	if (b->bad || b->at != b->end)
		return err_set(err, GRPC_INVALID_ARGUMENT, "a record of type %d that is damaged",
		    (int)b->type);
	return 0;
}

/* Entries: the kind and flags in a byte; of the path what is between the beginning and the
 * end that it shares with the one before, and how long these are if that is not as before
 * too; the mode if it is another; then what the kind has. A directory of files of one size
 * whose names are counted up takes some five bytes each. */

#define ENTRY_KIND     0x07
#define ENTRY_MODE     0x08 /* another than that of the one before */
#define ENTRY_DIGESTED 0x10
#define ENTRY_SIZE     0x20 /* another */
#define ENTRY_SHAPE    0x40 /* another: what is shared, and how much is between */
#define ENTRY_MORE     0x80 /* these come last: */

#define MORE_FILE       0x01 /* it has several names */
#define MORE_ATTRIBUTES 0x02
#define SUM_SIZE        8 /* bytes of the attributes' sum */

void sync_entries_init(struct sync_entries *s)
{
	s->path[0] = s->link[0] = '\0';
	s->len = 0;
	s->shape = (struct sync_shape){ 0 };
	s->mode = 0644;
	s->size = s->file = 0;
	s->mtime = s->directory_mtime = 0;
}

static struct sync_shape shape_of(const char *path, size_t len, const struct sync_entries *s)
{
	struct sync_shape shape = { 0 };
	size_t most = len < s->len ? len : s->len;

	while (shape.head < most && path[shape.head] == s->path[shape.head])
		shape.head++;
	while (shape.tail < most - shape.head &&
	    path[len - 1 - shape.tail] == s->path[s->len - 1 - shape.tail])
		shape.tail++;
	shape.between = len - shape.head - shape.tail;
	return shape;
}

static bool is_same_shape(const struct sync_shape *a, const struct sync_shape *b)
{
	return a->head == b->head && a->tail == b->tail && a->between == b->between;
}

/* The time that one of this kind is told against; NULL: it has none. */
static int64_t *mtime_of(struct sync_entries *s, enum sync_kind kind)
{
	if (kind == SYNC_KIND_OTHER)
		return NULL;
	return kind == SYNC_KIND_DIRECTORY ? &s->directory_mtime : &s->mtime;
}

static void put_more(struct sync_out *o, struct sync_entries *s, const struct sync_entry *e)
{
	uint8_t more = 0;

	more |= e->file != 0 ? MORE_FILE : 0;
	more |= e->attributes != 0 ? MORE_ATTRIBUTES : 0;
	sync_put_raw(o, &more, 1);
	if (e->file != 0) {
		sync_put_signed(o, (int64_t)(e->file - s->file));
		s->file = e->file;
	}
	for (size_t i = 0; e->attributes != 0 && i < SUM_SIZE; i++)
		*sync_put_space(o, 1) = (uint8_t)(e->attributes >> 8 * i);
}

void sync_put_entry(struct sync_out *o, struct sync_entries *s, const struct sync_entry *e)
{
	size_t len = strlen(e->path);
	int64_t *mtime;
	struct sync_shape shape = shape_of(e->path, len, s);
	uint8_t flags = (uint8_t)e->kind;

	flags |= e->mode != s->mode ? ENTRY_MODE : 0;
	flags |= e->has_digest ? ENTRY_DIGESTED : 0;
	flags |= e->kind == SYNC_KIND_FILE && e->size != s->size ? ENTRY_SIZE : 0;
	flags |= is_same_shape(&shape, &s->shape) ? 0 : ENTRY_SHAPE;
	flags |= e->file != 0 || e->attributes != 0 ? ENTRY_MORE : 0;
	sync_put_raw(o, &flags, 1);
	if (flags & ENTRY_SHAPE) {
		sync_put_number(o, shape.head);
		sync_put_number(o, shape.tail);
		sync_put_number(o, shape.between);
	}
	sync_put_raw(o, e->path + shape.head, shape.between);
	if (flags & ENTRY_MODE)
		sync_put_number(o, e->mode);
	if (flags & ENTRY_SIZE)
		sync_put_number(o, e->size);
	if (e->kind == SYNC_KIND_LINK)
		sync_put_text(o, e->link);
	if ((mtime = mtime_of(s, e->kind)) != NULL) {
		sync_put_signed(o, (int64_t)((uint64_t)e->mtime - (uint64_t)*mtime));
		*mtime = e->mtime;
	}
	if (e->has_digest)
		sync_put_raw(o, e->digest, DIGEST_SIZE);
	if (flags & ENTRY_MORE)
		put_more(o, s, e);
	memcpy(s->path, e->path, len + 1);
	s->len = len;
	s->shape = shape;
	s->mode = e->mode;
	s->size = e->kind == SYNC_KIND_FILE ? e->size : s->size;
}

/* The path, from the one before. */
static void get_entry_path(struct sync_body *b, struct sync_entries *s, bool other)
{
	const struct sync_shape *shape = &s->shape;

	if (other) {
		uint64_t head = sync_get_number(b), tail = sync_get_number(b);
		uint64_t between = sync_get_number(b);
		bool fits = head < TREE_PATH_MAX && tail < TREE_PATH_MAX && between < TREE_PATH_MAX;
		s->shape = fits ? (struct sync_shape){ (size_t)head, (size_t)tail, (size_t)between }
				: (struct sync_shape){ .head = SIZE_MAX / 4 };
	}
	size_t len = shape->head + shape->between + shape->tail;
	const uint8_t *bytes = sync_get_raw(b, shape->between);
	if (bytes == NULL || shape->head + shape->tail > s->len || len >= TREE_PATH_MAX ||
	    (shape->between > 0 && memchr(bytes, '\0', shape->between) != NULL)) {
		b->bad = true;
		return;
	}
	memmove(
	    s->path + shape->head + shape->between, s->path + s->len - shape->tail, shape->tail);
	memcpy(s->path + shape->head, bytes, shape->between);
	s->path[len] = '\0';
	s->len = len;
}

/* What the kind has. */
static void get_kind(struct sync_body *b, struct sync_entries *s, struct sync_entry *e, bool size)
{
	if (e->kind == SYNC_KIND_FILE) {
		s->size = size ? sync_get_number(b) : s->size;
		e->size = s->size;
	}
	if (e->kind == SYNC_KIND_LINK)
		sync_get_text(b, s->link);
	int64_t *mtime = mtime_of(s, e->kind);
	if (mtime != NULL)
		e->mtime = *mtime = (int64_t)((uint64_t)*mtime + (uint64_t)sync_get_signed(b));
}

static void get_more(struct sync_body *b, struct sync_entries *s, struct sync_entry *e)
{
	const uint8_t *raw = sync_get_raw(b, 1);
	uint8_t more = raw != NULL ? *raw : 0;

	if (more == 0 || (more & ~(MORE_FILE | MORE_ATTRIBUTES)) != 0)
		b->bad = true;
	if (more & MORE_FILE)
		e->file = s->file += (uint64_t)sync_get_signed(b);
	if ((more & MORE_ATTRIBUTES) && (raw = sync_get_raw(b, SUM_SIZE)) != NULL)
		for (size_t i = 0; i < SUM_SIZE; i++)
			e->attributes |= (uint64_t)raw[i] << 8 * i;
}

bool sync_get_entry(struct sync_body *b, struct sync_entries *s, struct sync_entry *e)
{
	const uint8_t *digest;

	if (b->bad || b->at == b->end)
		return false;
	uint8_t flags = *b->at++;
	*e = (struct sync_entry){ .kind = (enum sync_kind)(flags & ENTRY_KIND),
		.path = s->path,
		.link = s->link,
		.has_digest = (flags & ENTRY_DIGESTED) != 0 };
	if (e->kind < SYNC_KIND_FILE || e->kind > SYNC_KIND_OTHER) {
		b->bad = true;
		return false;
	}
	get_entry_path(b, s, (flags & ENTRY_SHAPE) != 0);
	if (flags & ENTRY_MODE)
		s->mode = (mode_t)(sync_get_number(b) & 0777);
	e->mode = s->mode;
	get_kind(b, s, e, (flags & ENTRY_SIZE) != 0);
	if (e->has_digest && (digest = sync_get_raw(b, DIGEST_SIZE)) != NULL)
		memcpy(e->digest, digest, DIGEST_SIZE);
	if (flags & ENTRY_MORE)
		get_more(b, s, e);
	if (!b->bad && !sync_path_is_clean(s->path))
		b->bad = true;
	return !b->bad;
}
