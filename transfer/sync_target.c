/* The end of a sync that gets the content: lists what it has, and applies what comes. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "transfer/link.h"
#include "transfer/sync_apply.h"
#include "transfer/sync_list.h"
#include "transfer/sync_peer.h"
#include "transfer/sync_send.h"

#define TOLD_MAX ((size_t)512 << 10) /* bytes of failures told to the source */

/* What LITERAL, COPY, END and LEAVE are for. */
enum file_state { FILE_NONE, FILE_OPEN, FILE_FAILED };

struct target {
	const struct sync_options *opt;
	const struct sync_link *link;
	struct sync_counts *counts;
	struct sync_in in;
	struct sync_out out; /* the list's until ${list} is NULL */
	struct sync_list *list;
	struct sync_apply *apply; /* NULL: a dry run */
	enum file_state file;
	struct sync_entry entry; /* of that file */
	char path[TREE_PATH_MAX], text[TREE_PATH_MAX];
	struct sync_names deletes;
	bool pruned;

	pthread_mutex_t lock; /* over what follows: both threads fail */
	uint64_t failed;
	struct sync_names told; /* a name, why, a name, why... */
};

static void fail(void *cookie, const char *path, const struct err *why)
{
	struct target *t = cookie;

	sync_note(t->opt, path, why->text);
	pthread_mutex_lock(&t->lock);
	if (t->failed++ < SYNC_TOLD_MAX &&
	    t->told.len + strlen(path) + strlen(why->text) + 2 <= TOLD_MAX &&
	    sync_names_add(&t->told, path) == 0 && sync_names_add(&t->told, why->text) != 0)
		t->told.len -= strlen(path) + 1, t->told.count--;
	pthread_mutex_unlock(&t->lock);
}

/* An entry is done, or it has failed and the sync goes on. */
static void entry_done(struct target *t, int result, uint64_t *count, enum sync_act act,
    const struct sync_entry *e, const struct err *why)
{
	if (result != 0) {
		fail(t, t->path, why);
		return;
	}
	++*count;
	if (t->opt->item != NULL)
		t->opt->item(t->opt->cookie, act, e);
}

/* What was to be left out is not touched, whatever the source says. */
static int admit(struct target *t, bool directory, struct err *why)
{
	t->counts->items++;
	if (t->opt->excluded == NULL || !t->opt->excluded(t->opt->cookie, t->path, directory))
		return 0;
	return err_set(why, GRPC_PERMISSION_DENIED, "%s was to be left out", t->path);
}

static int take_directory(struct target *t, struct sync_body *b, struct err *err)
{
	struct sync_entry e = { .kind = SYNC_KIND_DIRECTORY, .path = t->path };
	struct err why = { 0 };

	sync_get_path(b, t->path);
	e.mode = (mode_t)sync_get_number(b);
	if (sync_get_done(b, err) != 0)
		return -1;
	int r = admit(t, true, &why);
	if (r == 0 && t->apply != NULL)
		r = sync_apply_directory(t->apply, t->path, e.mode, &why);
	entry_done(t, r, &t->counts->directories, SYNC_ACT_MAKE, &e, &why);
	return 0;
}

static int take_link(struct target *t, struct sync_body *b, struct err *err)
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
	int r = admit(t, false, &why);
	if (r == 0 && t->opt->safe_links && !link_stays_inside(t->path, t->text)) {
		t->counts->skipped++;
		sync_note(
		    t->opt, t->path, "skipped, a symbolic link that leads out of the directory");
		return 0;
	}
	if (r == 0 && t->apply != NULL)
		r = sync_apply_link(t->apply, t->path, t->text, e.mtime, &why);
	entry_done(t, r, &t->counts->links, SYNC_ACT_MAKE, &e, &why);
	return 0;
}

static int take_touch(struct target *t, struct sync_body *b, struct err *err)
{
	struct sync_entry e = { .kind = SYNC_KIND_FILE, .path = t->path };
	struct err why = { 0 };

	sync_get_path(b, t->path);
	e.mode = (mode_t)sync_get_number(b);
	e.mtime = sync_get_signed(b);
	if (sync_get_done(b, err) != 0)
		return -1;
	int r = admit(t, false, &why);
	if (r == 0 && t->apply != NULL)
		r = sync_apply_touch(t->apply, t->path, e.mode, e.mtime, &why);
	entry_done(t, r, &t->counts->touched, SYNC_ACT_TOUCH, &e, &why);
	return 0;
}

/* Files. */

static void file_done(struct target *t, int result, const struct err *why)
{
	t->file = FILE_NONE;
	entry_done(t, result, &t->counts->files, SYNC_ACT_SEND, &t->entry, why);
	if (result == 0)
		t->counts->bytes += t->entry.size;
}

static int take_whole(struct target *t, int begun, const uint8_t *digest, const uint8_t *bytes,
    size_t len, struct err *why)
{
	t->counts->literal += len;
	if (begun != 0 || sync_apply_literal(t->apply, bytes, len, why) != 0)
		return -1;
	return sync_apply_commit(t->apply, digest, why);
}

static int take_file(struct target *t, struct sync_body *b, struct err *err)
{
	struct sync_entry *e = &t->entry;
	const uint8_t *digest = NULL, *bytes = NULL;
	struct err why = { 0 };
	size_t len = 0;

	*e = (struct sync_entry){ .kind = SYNC_KIND_FILE, .path = t->path };
	sync_get_path(b, t->path);
	e->size = sync_get_number(b);
	e->mode = (mode_t)sync_get_number(b);
	e->mtime = sync_get_signed(b);
	bool whole = sync_get_number(b) != 0;
	if (whole) {
		digest = sync_get_raw(b, DIGEST_SIZE);
		bytes = sync_get_bytes(b, &len);
	}
	if (sync_get_done(b, err) != 0)
		return -1;
	int r = admit(t, false, &why);
	if (t->apply == NULL) {
		file_done(t, r, &why);
		return 0;
	}
	if (r == 0)
		r = sync_apply_begin(t->apply, e, &why);
	if (whole) {
		file_done(t, take_whole(t, r, digest, bytes, len, &why), &why);
	} else {
		t->file = r == 0 ? FILE_OPEN : FILE_FAILED;
		if (r != 0)
			fail(t, t->path, &why);
	}
	return 0;
}

static int take_literal(struct target *t, struct sync_body *b)
{
	struct err why;
	size_t len = (size_t)(b->end - b->at);

	t->counts->literal += len;
	if (t->file == FILE_OPEN && sync_apply_literal(t->apply, b->at, len, &why) != 0) {
		t->file = FILE_FAILED;
		fail(t, t->path, &why);
	}
	return 0;
}

static int take_copy(struct target *t, struct sync_body *b, struct err *err)
{
	uint64_t offset = sync_get_number(b), len = sync_get_number(b);
	struct err why;

	if (sync_get_done(b, err) != 0)
		return -1;
	if (t->file == FILE_OPEN && sync_apply_copy(t->apply, offset, len, &why) != 0) {
		t->file = FILE_FAILED;
		fail(t, t->path, &why);
	}
	return 0;
}

static int take_end(struct target *t, struct sync_body *b, struct err *err)
{
	const uint8_t *digest = sync_get_raw(b, DIGEST_SIZE);
	struct err why = { 0 };

	if (sync_get_done(b, err) != 0)
		return -1;
	if (t->file == FILE_OPEN)
		file_done(t, sync_apply_commit(t->apply, digest, &why), &why);
	t->file = FILE_NONE;
	return 0;
}

/* The source says itself why. */
static int take_leave(struct target *t)
{
	sync_apply_undo(t->apply);
	t->file = FILE_NONE;
	return 0;
}

static int take_part(struct target *t, struct sync_body *b, struct err *err)
{
	if (t->file == FILE_NONE)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "a record of type %d of no file", (int)b->type);
	switch (b->type) {
	case SYNC_LITERAL:
		return take_literal(t, b);
	case SYNC_COPY:
		return take_copy(t, b, err);
	case SYNC_END:
		return take_end(t, b, err);
	default:
		return take_leave(t);
	}
}

/* Deletions wait for all the rest. */

static int take_delete(struct target *t, struct sync_body *b, struct err *err)
{
	struct err why = { 0 };
	char kind[TREE_PATH_MAX + 1];

	sync_get_path(b, t->path);
	bool directory = sync_get_number(b) != 0;
	if (sync_get_done(b, err) != 0)
		return -1;
	if (!t->opt->prune || t->pruned)
		return err_set(err, GRPC_INVALID_ARGUMENT, "a deletion nobody asked for");
	kind[0] = directory ? 'd' : 'f';
	memcpy(kind + 1, t->path, strlen(t->path) + 1);
	if (admit(t, directory, &why) == 0 && sync_names_add(&t->deletes, kind) != 0)
		err_set(&why, GRPC_RESOURCE_EXHAUSTED,
		    "%s: too much is to be deleted at once; sync again for the rest", t->path);
	if (why.code != GRPC_OK)
		fail(t, t->path, &why);
	return 0;
}

static void delete_one(struct target *t, const char *kind)
{
	struct sync_entry e = { .kind = kind[0] == 'd' ? SYNC_KIND_DIRECTORY : SYNC_KIND_FILE,
		.path = t->path };
	struct err why = { 0 };
	int r = 1;

	memcpy(t->path, kind + 1, strlen(kind));
	if (t->apply != NULL)
		r = sync_apply_delete(t->apply, t->path, kind[0] == 'd', &why);
	if (r == 0)
		sync_note(t->opt, t->path, "kept, as something is in it that was left out");
	else
		entry_done(t, r < 0 ? -1 : 0, &t->counts->deleted, SYNC_ACT_DELETE, &e, &why);
}

/* From the last to the first: what is in a directory goes before it. */
static int take_prune(struct target *t, struct sync_body *b, struct err *err)
{
	uint64_t theirs = sync_get_number(b);
	const struct sync_names *d = &t->deletes;

	if (sync_get_done(b, err) != 0)
		return -1;
	if (!t->opt->prune || t->pruned)
		return err_set(err, GRPC_INVALID_ARGUMENT, "a deletion nobody asked for");
	t->pruned = true;
	pthread_mutex_lock(&t->lock);
	uint64_t failed = t->failed + theirs;
	pthread_mutex_unlock(&t->lock);
	if (failed > 0) {
		if (d->count > 0 && t->opt->note != NULL)
			t->opt->note(
			    t->opt->cookie, "nothing was deleted, since not all went well");
		return 0;
	}
	for (size_t end = d->len; end > 0;) {
		size_t at = end - 1;
		while (at > 0 && d->data[at - 1] != '\0')
			at--;
		delete_one(t, d->data + at);
		end = at;
	}
	return 0;
}

/* The rest. */

static int take_failed(struct target *t, struct sync_body *b, struct err *err)
{
	sync_get_text(b, t->path);
	sync_get_text(b, t->text);
	if (sync_get_done(b, err) != 0)
		return -1;
	sync_note(t->opt, t->path, t->text);
	return 0;
}

static int take_sign(struct target *t, struct sync_body *b, struct err *err)
{
	sync_get_path(b, t->path);
	if (sync_get_done(b, err) != 0)
		return -1;
	if (t->opt->excluded != NULL && t->opt->excluded(t->opt->cookie, t->path, false))
		return err_set(err, GRPC_PERMISSION_DENIED, "%s was to be left out", t->path);
	return sync_list_sign(t->list, t->path, err);
}

static int take(struct target *t, struct sync_body *b, struct err *err)
{
	bool part = b->type >= SYNC_LITERAL && b->type <= SYNC_LEAVE;

	if (part || t->file != FILE_NONE)
		return part ? take_part(t, b, err)
			    : err_set(err, GRPC_INVALID_ARGUMENT,
				  "a record of type %d within a file", (int)b->type);
	switch (b->type) {
	case SYNC_DIRECTORY:
		return take_directory(t, b, err);
	case SYNC_LINK:
		return take_link(t, b, err);
	case SYNC_FILE:
		return take_file(t, b, err);
	case SYNC_TOUCH:
		return take_touch(t, b, err);
	case SYNC_DELETE:
		return take_delete(t, b, err);
	case SYNC_SIGN:
		return take_sign(t, b, err);
	case SYNC_WALKED:
		sync_list_walked(t->list);
		return sync_get_done(b, err);
	case SYNC_PRUNE:
		return take_prune(t, b, err);
	case SYNC_FAILED:
		return take_failed(t, b, err);
	default:
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "a record of type %d from a source", (int)b->type);
	}
}

/* The end. */

static int check_sent(struct target *t, struct sync_body *b, struct err *err)
{
	struct sync_counts *c = t->counts, theirs;

	c->received = t->in.total;
	sync_get_counts(b, &theirs);
	if (sync_get_done(b, err) != 0)
		return -1;
	if (theirs.items != c->items || theirs.literal != c->literal)
		return err_set(err, GRPC_DATA_LOSS,
		    "not all that was sent has come: something was lost on the way; sync again");
	c->failed = theirs.failed;
	c->same = theirs.same;
	c->skipped += theirs.skipped;
	return 0;
}

static int send_receipt(struct target *t, uint64_t skipped, struct err *err)
{
	struct sync_counts receipt = *t->counts;
	const char *path;

	while ((path = sync_names_first(&t->told)) != NULL) {
		sync_begin(&t->out, SYNC_FAILED);
		sync_put_text(&t->out, path);
		sync_names_drop(&t->told);
		sync_put_text(&t->out, sync_names_first(&t->told));
		sync_names_drop(&t->told);
		if (sync_end(&t->out, err) != 0)
			return -1;
	}
	receipt.failed = t->failed;
	receipt.skipped = skipped;
	sync_begin(&t->out, SYNC_RECEIPT);
	sync_put_counts(&t->out, &receipt);
	if (sync_end(&t->out, err) != 0)
		return -1;
	t->counts->failed += t->failed;
	return sync_flush(&t->out, err);
}

static int finish(struct target *t, struct sync_body *done, struct err *err)
{
	uint64_t skipped = t->counts->skipped;

	if (t->file != FILE_NONE)
		return err_set(err, GRPC_INVALID_ARGUMENT, "DONE within a file");
	if (check_sent(t, done, err) != 0)
		return -1;
	sync_list_walked(t->list);
	int r = sync_list_join(t->list, err);
	t->list = NULL;
	if (r != 0 || (t->apply != NULL && sync_apply_sync(t->apply, err) != 0))
		return -1;
	return send_receipt(t, skipped, err);
}

static int run(struct target *t, struct err *err)
{
	struct sync_body b;
	int r;

	while ((r = sync_next(&t->in, &b, err)) > 0 && b.type != SYNC_DONE)
		if (take(t, &b, err) != 0)
			return -1;
	if (r == 0)
		return err_set(err, GRPC_DATA_LOSS, "the source ended before it was done");
	return r > 0 ? finish(t, &b, err) : -1;
}

int sync_target(int root, const struct sync_options *opt, const struct sync_link *link,
    struct sync_counts *counts, struct err *err)
{
	struct target t = { .opt = opt,
		.link = link,
		.counts = counts,
		.deletes.max = SYNC_DELETES_MAX,
		.told.max = TOLD_MAX };
	struct err ignored;
	int r = -1;

	*counts = (struct sync_counts){ 0 };
	pthread_mutex_init(&t.lock, NULL);
	if (sync_out_init(&t.out, link->push, link->cookie, err) == 0 &&
	    sync_in_init(&t.in, link->pull, link->cookie, err) == 0 &&
	    (opt->dry_run || (t.apply = sync_apply_create(root, err)) != NULL) &&
	    (t.list = sync_list_start(root, opt, link, &t.out, fail, &t, err)) != NULL)
		r = run(&t, err);
	if (t.list != NULL) { /* it may wait for a source that is gone */
		link->stop(link->cookie, err);
		sync_list_stop(t.list);
		sync_list_join(t.list, &ignored);
	}
	counts->sent = t.out.total;
	counts->received = t.in.total;
	sync_apply_free(t.apply);
	sync_names_free(&t.deletes);
	sync_names_free(&t.told);
	sync_in_free(&t.in);
	sync_out_free(&t.out);
	pthread_mutex_destroy(&t.lock);
	return r;
}
