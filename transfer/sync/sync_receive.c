#include "transfer/sync/sync_receive.h"

#include <stdlib.h>
#include <string.h>

#include "transfer/link.h"
#include "transfer/sync/sync_attributes.h"

int sync_receive_init(struct sync_receive *t, struct err *err)
{
	t->attributes = malloc(TREE_XATTRS_MAX);
	return t->attributes != NULL ? 0 : err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

void sync_receive_free(struct sync_receive *t)
{
	free(t->attributes);
	t->attributes = NULL;
}

void sync_receive_done(struct sync_receive *t, int result, uint64_t *count, enum sync_act act,
    const struct sync_entry *e, const struct err *why)
{
	if (result != 0) {
		t->failed(t->cookie, t->path, why);
		return;
	}
	++*count;
	if (t->opt->item != NULL)
		t->opt->item(t->opt->cookie, act, e);
}

static bool is_excluded(const struct sync_receive *t, const char *path, bool directory)
{
	return t->opt->excluded != NULL && t->opt->excluded(t->opt->cookie, path, directory);
}

/* What was to be left out is not touched, whatever the source says. */
int sync_receive_admit(struct sync_receive *t, bool directory, struct err *why)
{
	t->counts->items++;
	if (!is_excluded(t, t->path, directory))
		return 0;
	return err_set(why, GRPC_PERMISSION_DENIED, "%s was to be left out", t->path);
}

/* What waits for an item is for this one. */
static void dress(struct sync_receive *t)
{
	if (t->apply != NULL)
		sync_apply_attributes(
		    t->apply, t->has_attributes ? t->attributes : NULL, t->attributes_len);
	t->has_attributes = false;
}

static int take_attributes(struct sync_receive *t, struct sync_body *b, struct err *err)
{
	size_t len = (size_t)(b->end - b->at);

	if (sync_attributes_check(b->at, len, err) != 0)
		return -1;
	memcpy(t->attributes, b->at, len);
	t->attributes_len = len;
	t->has_attributes = true;
	return 0;
}

static int take_directory(struct sync_receive *t, struct sync_body *b, struct err *err)
{
	struct sync_entry e = { .kind = SYNC_KIND_DIRECTORY, .path = t->path };
	struct err why = { 0 };

	sync_get_path(b, t->path);
	e.mode = (mode_t)sync_get_number(b);
	e.mtime = sync_get_signed(b);
	bool there = sync_get_number(b) != 0;
	if (sync_get_done(b, err) != 0)
		return -1;
	dress(t);
	int r = sync_receive_admit(t, true, &why);
	if (r == 0 && t->apply != NULL)
		r = sync_apply_directory(t->apply, t->path, e.mode, e.mtime, &why);
	sync_receive_done(t, r, there ? &t->counts->touched : &t->counts->directories,
	    there ? SYNC_ACT_TOUCH : SYNC_ACT_MAKE, &e, &why);
	return 0;
}

static int take_link(struct sync_receive *t, struct sync_body *b, struct err *err)
{
	struct sync_entry e = { .kind = SYNC_KIND_LINK, .path = t->path, .link = t->text };
	struct err why = { 0 };

	sync_get_path(b, t->path);
	sync_get_text(b, t->text);
	e.mtime = sync_get_signed(b);
	if (t->text[0] == '\0')
		b->bad = true;
	if (sync_get_done(b, err) != 0)
		return -1;
	int r = sync_receive_admit(t, false, &why);
	if (r == 0 && t->opt->safe_links && !link_stays_inside(t->path, t->text)) {
		t->counts->skipped++;
		sync_note(
		    t->opt, t->path, "skipped, a symbolic link that leads out of the directory");
		return 0;
	}
	if (r == 0 && t->apply != NULL)
		r = sync_apply_link(t->apply, t->path, t->text, e.mtime, &why);
	sync_receive_done(t, r, &t->counts->links, SYNC_ACT_MAKE, &e, &why);
	return 0;
}

static int take_touch(struct sync_receive *t, struct sync_body *b, struct err *err)
{
	struct sync_entry e = { .kind = SYNC_KIND_FILE, .path = t->path };
	struct err why = { 0 };

	sync_get_path(b, t->path);
	e.mode = (mode_t)sync_get_number(b);
	e.mtime = sync_get_signed(b);
	if (sync_get_done(b, err) != 0)
		return -1;
	dress(t);
	int r = sync_receive_admit(t, false, &why);
	if (r == 0 && t->apply != NULL)
		r = sync_apply_touch(t->apply, t->path, e.mode, e.mtime, &why);
	sync_receive_done(t, r, &t->counts->touched, SYNC_ACT_TOUCH, &e, &why);
	return 0;
}

static int take_hardlink(struct sync_receive *t, struct sync_body *b, struct err *err)
{
	struct sync_entry e = { .kind = SYNC_KIND_FILE, .path = t->path };
	struct err why = { 0 };

	sync_get_path(b, t->path);
	sync_get_path(b, t->text);
	e.size = sync_get_number(b);
	e.mtime = sync_get_signed(b);
	if (sync_get_done(b, err) != 0)
		return -1;
	int r = sync_receive_admit(t, false, &why);
	if (r == 0 && is_excluded(t, t->text, false))
		r = err_set(&why, GRPC_PERMISSION_DENIED, "%s was to be left out", t->text);
	if (r == 0 && t->apply != NULL)
		r = sync_apply_hardlink(t->apply, t->path, t->text, e.size, e.mtime, &why);
	sync_receive_done(t, r, &t->counts->links, SYNC_ACT_MAKE, &e, &why);
	return 0;
}

/* Files. */

/* ${result} as of sync_apply_commit(). */
static void file_done(struct sync_receive *t, int result, const struct err *why)
{
	t->file = SYNC_FILE_NONE;
	if (result == 0)
		return;
	sync_receive_done(t, result > 0 ? 0 : -1, &t->counts->files, SYNC_ACT_SEND, &t->entry, why);
	if (result > 0)
		t->counts->bytes += t->entry.size;
}

/* Of a part, whose END or LEAVE comes all the same. */
static void lose(struct sync_receive *t, const struct err *why)
{
	t->file = SYNC_FILE_FAILED;
	t->failed(t->cookie, t->path, why);
}

static int take_whole(struct sync_receive *t, int begun, const uint8_t *digest,
    const uint8_t *bytes, size_t len, struct err *why)
{
	t->counts->literal += len;
	if (begun != 0 || sync_apply_literal(t->apply, bytes, len, why) != 0)
		return -1;
	return sync_apply_commit(t->apply, digest, why);
}

/* Of a FILE: what is in it, and what is behind it. */
struct file_record {
	uint64_t how;
	const uint8_t *digest, *bytes;
	size_t len;
	struct sync_range range;
};

static int read_file(
    struct sync_receive *t, struct sync_body *b, struct file_record *f, struct err *err)
{
	struct sync_entry *e = &t->entry;

	*e = (struct sync_entry){ .kind = SYNC_KIND_FILE, .path = t->path };
	*f = (struct file_record){ 0 };
	sync_get_path(b, t->path);
	e->size = sync_get_number(b);
	e->mode = (mode_t)sync_get_number(b);
	e->mtime = sync_get_signed(b);
	f->how = sync_get_number(b);
	switch (f->how & ~(uint64_t)SYNC_FILE_SPARSE) {
	case 0:
		break;
	case SYNC_FILE_WHOLE:
		f->digest = sync_get_raw(b, DIGEST_SIZE);
		f->bytes = sync_get_bytes(b, &f->len);
		break;
	case SYNC_FILE_RANGE:
		f->range.file = sync_get_number(b);
		f->range.size = sync_get_number(b);
		f->range.number = sync_get_number(b);
		b->bad = b->bad || f->range.number >= sync_ranges_of(e->size, f->range.size);
		break;
	default:
		b->bad = true;
	}
	return sync_get_done(b, err);
}

static int begin_range(struct sync_receive *t, const struct file_record *f, struct err *err)
{
	bool sparse = (f->how & SYNC_FILE_SPARSE) != 0;
	struct err why = { 0 };
	int r = sync_apply_begin_range(t->apply, &t->entry, sparse, &f->range, &why, err);

	t->file = SYNC_FILE_OPEN;
	if (r > 0)
		lose(t, &why);
	return r < 0 ? -1 : 0;
}

static int take_file(struct sync_receive *t, struct sync_body *b, struct err *err)
{
	struct file_record f;
	struct err why = { 0 };

	if (read_file(t, b, &f, err) != 0)
		return -1;
	dress(t);
	int r = sync_receive_admit(t, false, &why);
	if (t->apply == NULL) {
		file_done(t, r == 0 ? 1 : -1, &why);
		return 0;
	}
	if (r == 0 && (f.how & SYNC_FILE_RANGE) != 0)
		return begin_range(t, &f, err);
	if (r == 0)
		r = sync_apply_begin(t->apply, &t->entry, (f.how & SYNC_FILE_SPARSE) != 0, &why);
	if ((f.how & SYNC_FILE_WHOLE) != 0)
		file_done(t, take_whole(t, r, f.digest, f.bytes, f.len, &why), &why);
	else if (r != 0)
		lose(t, &why);
	else
		t->file = SYNC_FILE_OPEN;
	return 0;
}

static int take_literal(struct sync_receive *t, struct sync_body *b)
{
	struct err why;
	size_t len = (size_t)(b->end - b->at);

	t->counts->literal += len;
	if (t->file == SYNC_FILE_OPEN && sync_apply_literal(t->apply, b->at, len, &why) != 0)
		lose(t, &why);
	return 0;
}

static int take_copy(struct sync_receive *t, struct sync_body *b, struct err *err)
{
	uint64_t offset = sync_get_number(b), len = sync_get_number(b);
	struct err why;

	if (sync_get_done(b, err) != 0)
		return -1;
	if (t->file == SYNC_FILE_OPEN && sync_apply_copy(t->apply, offset, len, &why) != 0)
		lose(t, &why);
	return 0;
}

static int take_hole(struct sync_receive *t, struct sync_body *b, struct err *err)
{
	uint64_t len = sync_get_number(b);
	struct err why;

	b->bad = b->bad || len > SYNC_HOLE_MAX;
	if (sync_get_done(b, err) != 0)
		return -1;
	if (t->file == SYNC_FILE_OPEN && sync_apply_hole(t->apply, len, &why) != 0)
		lose(t, &why);
	return 0;
}

static int take_end(struct sync_receive *t, struct sync_body *b, struct err *err)
{
	const uint8_t *digest = sync_get_raw(b, DIGEST_SIZE);
	struct err why = { 0 };

	if (sync_get_done(b, err) != 0)
		return -1;
	if (t->file == SYNC_FILE_OPEN)
		file_done(t, sync_apply_commit(t->apply, digest, &why), &why);
	t->file = SYNC_FILE_NONE;
	return 0;
}

/* The source says itself why. */
static int take_leave(struct sync_receive *t)
{
	sync_apply_undo(t->apply);
	t->file = SYNC_FILE_NONE;
	return 0;
}

static int take_part(struct sync_receive *t, struct sync_body *b, struct err *err)
{
	if (t->file == SYNC_FILE_NONE)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "a record of type %d of no file", (int)b->type);
	switch (b->type) {
	case SYNC_LITERAL:
		return take_literal(t, b);
	case SYNC_COPY:
		return take_copy(t, b, err);
	case SYNC_HOLE:
		return take_hole(t, b, err);
	case SYNC_END:
		return take_end(t, b, err);
	default:
		return take_leave(t);
	}
}

static bool is_part(enum sync_type type)
{
	return type == SYNC_HOLE || (type >= SYNC_LITERAL && type <= SYNC_LEAVE);
}

static bool can_be_dressed(enum sync_type type)
{
	return type == SYNC_FILE || type == SYNC_DIRECTORY || type == SYNC_TOUCH;
}

bool sync_receive_knows(const struct sync_receive *t, enum sync_type type)
{
	return t->file != SYNC_FILE_NONE || t->has_attributes || is_part(type) ||
	    can_be_dressed(type) || type == SYNC_LINK || type == SYNC_HARDLINK ||
	    type == SYNC_ATTRIBUTES;
}

int sync_receive_take(struct sync_receive *t, struct sync_body *b, struct err *err)
{
	if (is_part(b->type))
		return take_part(t, b, err);
	if (t->file != SYNC_FILE_NONE)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "a record of type %d within a file", (int)b->type);
	if (t->has_attributes && !can_be_dressed(b->type))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "a record of type %d that has no extended attributes", (int)b->type);
	switch (b->type) {
	case SYNC_DIRECTORY:
		return take_directory(t, b, err);
	case SYNC_LINK:
		return take_link(t, b, err);
	case SYNC_FILE:
		return take_file(t, b, err);
	case SYNC_TOUCH:
		return take_touch(t, b, err);
	case SYNC_HARDLINK:
		return take_hardlink(t, b, err);
	default:
		return take_attributes(t, b, err);
	}
}
