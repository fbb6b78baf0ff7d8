/* The end of a sync that has the content: merges the two trees and sends what differs. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "transfer/sync/sync_links.h"
#include "transfer/sync/sync_peer.h"
#include "transfer/sync/sync_send.h"
#include "transfer/sync/sync_team.h"
#include "transfer/sync/sync_walk.h"

/* Files to be sent are worth more streams when they have more bytes than this. What a file
 * costs besides its bytes counts as some. */
#define SPREAD_BYTES ((uint64_t)4 << 20)
#define SPREAD_FILE  ((uint64_t)4 << 10)

struct source {
	struct sync_send send; /* first: what goes out */
	struct sync_in in;
	struct sync_walk *walk;
	struct sync_entry mine;
	bool has_mine;
	char last[TREE_PATH_MAX]; /* of theirs */
	uint64_t listed;
	bool listed_all;
	struct sync_names waiting; /* for their signature */
	struct sync_links *links;
	struct sync_names late; /* until a directory in their place is deleted */
	struct sync_sums *sums; /* of the first that waits */
	uint64_t basis;         /* its size there */
	uint64_t work;          /* of SPREAD_BYTES */
	bool spread;            /* there may be more streams */
	uint64_t splits;        /* files that went in ranges */
};

static void walk_failed(void *cookie, const char *path, const struct err *why)
{
	sync_send_failed(cookie, path, why);
}

static int advance(struct source *s, struct err *err)
{
	int r = sync_walk_next(s->walk, &s->mine, err);

	s->has_mine = r > 0;
	return r < 0 ? -1 : 0;
}

/* Merging. */

/* Streams. */

/* Once there is enough to do for more than one. */
static int count_work(struct source *s, uint64_t bytes, struct err *err)
{
	const struct sync_options *o = s->send.opt;

	s->work += bytes < SPREAD_BYTES ? bytes + SPREAD_FILE : SPREAD_BYTES;
	if (s->spread || o->team == NULL || o->dry_run || s->work < SPREAD_BYTES)
		return 0;
	s->spread = true;
	if (o->spread != NULL) {
		o->spread(o->cookie);
		return 0;
	}
	sync_begin(&s->send.out, SYNC_SPREAD);
	return sync_end(&s->send.out, err) != 0 ? -1 : sync_flush(&s->send.out, err);
}

/* A large file goes in ranges; NULL: this one does not. */
static struct sync_split *divide(struct source *s, const char *path)
{
	struct err ignored; /* who sends it comes upon that too */
	struct stat st;

	if (!sync_team_may_split(s->send.opt->team) ||
	    beneath_stat(s->send.root, path, &st, BENEATH_NO_LINKS, &ignored) != 0 ||
	    !S_ISREG(st.st_mode) || sync_range_size((uint64_t)st.st_size) == 0)
		return NULL;
	return sync_split_create(path, &st, s->splits++);
}

/* To whoever of the streams comes first; takes the sums then. False: they have enough. */
static bool give(struct source *s, const char *path, struct sync_sums *sums, uint64_t basis)
{
	struct sync_job job = { .after = s->send.counts->items };
	bool given;

	if (!s->spread)
		return false;
	if ((job.split = divide(s, path)) != NULL) {
		job.split->sums = sums;
		job.split->basis = basis;
	} else {
		job.path = strdup(path);
		job.sums = sums;
		job.basis = basis;
	}
	given =
	    (job.split != NULL || job.path != NULL) && sync_team_give(s->send.opt->team, &job) == 0;
	if (!given) {
		job.sums = NULL;
		if (job.split != NULL)
			job.split->sums = NULL;
		sync_job_free(&job);
	}
	return given;
}

/* What is still to be done the first stream takes part in, and then waits for the others. */
static int gather(struct source *s, struct err *err)
{
	struct sync_team *team = s->send.opt->team;
	struct sync_job job = { 0 };
	int r = 0;

	while (s->spread && (r = sync_team_take(team, &job, false, NULL, err)) > 0) {
		r = sync_send_job(&s->send, &job, err);
		sync_job_free(&job);
		if (r != 0)
			return -1;
	}
	if (r != 0 || sync_flush(&s->send.out, err) != 0)
		return -1;
	return team != NULL ? sync_team_finish(team, s->send.counts, err) : 0;
}

/* ${theirs} is what the target has of that name, or NULL. */
static int send_mine(struct source *s, const struct sync_entry *theirs, struct err *err)
{
	bool there = theirs != NULL && theirs->kind == SYNC_KIND_DIRECTORY;

	if (s->mine.kind == SYNC_KIND_FILE) {
		if (count_work(s, s->mine.size, err) != 0)
			return -1;
		if (give(s, s->mine.path, NULL, 0))
			return 0;
	}
	return sync_send_entry(
	    &s->send, sync_walk_directory(s->walk), sync_walk_name(s->walk), &s->mine, there, err);
}

/* What the target has nothing of. */
static int send_new(struct source *s, struct err *err)
{
	if (sync_links_add(s->links, &s->mine, NULL) == SYNC_LINK_WAITS)
		return 0;
	return send_mine(s, NULL, err);
}

/* The file's signature is asked for; a queue that is full costs bytes, nothing else. What
 * is one of several names there and not here is not touched, as its other names would be. */
static int send_changed(struct source *s, const struct sync_entry *theirs, struct err *err)
{
	const char *path = s->mine.path;
	bool large = s->mine.size >= SYNC_SMALL && theirs->size >= SYNC_BLOCK_MIN &&
	    sync_block_of(theirs->size) != 0 && (s->mine.file != 0 || theirs->file == 0);

	if (s->send.opt->dry_run || !large || s->waiting.count >= SYNC_SIGNS_MAX ||
	    sync_names_add(&s->waiting, path) != 0)
		return send_mine(s, theirs, err);
	sync_begin(&s->send.out, SYNC_SIGN);
	sync_put_text(&s->send.out, path);
	return sync_end(&s->send.out, err);
}

/* 1: the same, 0: not. -1: it cannot be read, which was told. */
static int compare_content(struct source *s, const struct sync_entry *theirs)
{
	uint8_t digest[DIGEST_SIZE];
	struct err err = { 0 };

	if (s->mine.size != theirs->size)
		return 0;
	if (!s->send.opt->checksum || !theirs->has_digest)
		return !s->send.opt->checksum && s->mine.mtime == theirs->mtime;
	int fd = sync_open(sync_walk_directory(s->walk), sync_walk_name(s->walk));
	if (fd < 0)
		err_sys(&err, errno, "%s", s->mine.path);
	else
		sync_digest_of(fd, s->mine.path, digest, &err);
	if (fd >= 0)
		close(fd);
	if (err.code == GRPC_OK)
		return memcmp(digest, theirs->digest, DIGEST_SIZE) == 0;
	sync_send_failed(&s->send, s->mine.path, &err);
	return -1;
}

static int touch_mine(struct source *s, struct err *err)
{
	int fd = sync_open(sync_walk_directory(s->walk), sync_walk_name(s->walk));
	int r = sync_send_touch(&s->send, fd, &s->mine, err);

	if (fd >= 0)
		close(fd);
	return r;
}

/* Mode, time and extended attributes. */
static bool is_dressed_alike(const struct sync_entry *mine, const struct sync_entry *theirs)
{
	return mine->mode == theirs->mode && mine->mtime == theirs->mtime &&
	    mine->attributes == theirs->attributes;
}

static int merge_file(struct source *s, const struct sync_entry *theirs, struct err *err)
{
	enum sync_link_answer link = sync_links_add(s->links, &s->mine, theirs);

	if (link != SYNC_LINK_NONE) {
		s->send.counts->same += link == SYNC_LINK_SAME;
		return 0;
	}
	int same = compare_content(s, theirs);
	if (same < 0)
		return 0;
	if (same == 0)
		return send_changed(s, theirs, err);
	if (!is_dressed_alike(&s->mine, theirs)) {
		if (s->mine.file == 0 && theirs->file != 0)
			return send_mine(s, theirs, err);
		sync_links_kept(s->links, &s->mine);
		return touch_mine(s, err);
	}
	sync_links_kept(s->links, &s->mine);
	s->send.counts->same++;
	return 0;
}

static int send_delete(struct source *s, const struct sync_entry *theirs, struct err *err)
{
	if (s->send.opt->prune)
		return sync_send_delete(&s->send, theirs, err);
	return 0;
}

/* Two of one name. */
static int merge_two(struct source *s, const struct sync_entry *theirs, struct err *err)
{
	struct sync_entry *mine = &s->mine;
	bool same = true;

	if (mine->kind != theirs->kind) {
		if (theirs->kind != SYNC_KIND_DIRECTORY || mine->kind == SYNC_KIND_OTHER ||
		    !s->send.opt->prune)
			return send_new(s, err);
		/* It goes last of what is in it, and mine comes after. */
		if (sync_names_add(&s->late, mine->path) != 0)
			return err_set(
			    err, GRPC_RESOURCE_EXHAUSTED, "too many directories have become files");
		return send_delete(s, theirs, err);
	}
	switch (mine->kind) {
	case SYNC_KIND_FILE:
		return merge_file(s, theirs, err);
	case SYNC_KIND_DIRECTORY:
		same = is_dressed_alike(mine, theirs);
		break;
	case SYNC_KIND_LINK:
		same = strcmp(mine->link, theirs->link) == 0;
		break;
	case SYNC_KIND_OTHER:
		break;
	}
	if (!same)
		return send_mine(s, theirs, err);
	s->send.counts->same++;
	return 0;
}

static int merge(struct source *s, const struct sync_entry *theirs, struct err *err)
{
	int order = 1;

	while (s->has_mine && (order = sync_compare(s->mine.path, theirs->path)) < 0)
		if (send_new(s, err) != 0 || advance(s, err) != 0)
			return -1;
	if (!s->has_mine || order > 0)
		return send_delete(s, theirs, err);
	return merge_two(s, theirs, err) != 0 ? -1 : advance(s, err);
}

static int take_entries(struct source *s, struct sync_body *b, struct err *err)
{
	struct sync_entries batch;
	struct sync_entry theirs;

	sync_entries_init(&batch);
	while (sync_get_entry(b, &batch, &theirs)) {
		if (s->listed_all || ++s->listed > SYNC_LISTED_MAX ||
		    (s->last[0] != '\0' && sync_compare(s->last, theirs.path) >= 0))
			return err_set(err, GRPC_INVALID_ARGUMENT,
			    "the target's entries are out of order, or too many");
		memcpy(s->last, theirs.path, strlen(theirs.path) + 1);
		if (merge(s, &theirs, err) != 0)
			return -1;
	}
	return sync_get_done(b, err);
}

static int take_listed(struct source *s, struct err *err)
{
	while (s->has_mine)
		if (send_new(s, err) != 0 || advance(s, err) != 0)
			return -1;
	s->listed_all = true;
	sync_begin(&s->send.out, SYNC_WALKED);
	return sync_end(&s->send.out, err);
}

/* Signatures, in the order in which they were asked for. */

static int send_waiting(struct source *s, struct err *err)
{
	char path[TREE_PATH_MAX];

	const char *first = sync_names_first(&s->waiting);
	memcpy(path, first, strlen(first) + 1);
	sync_names_drop(&s->waiting);
	if (count_work(s, s->basis, err) != 0)
		return -1;
	if (give(s, path, s->sums, s->basis)) {
		s->sums = NULL; /* they have them */
		return 0;
	}
	int r = sync_send_path(&s->send, path, s->sums, s->basis, err);
	sync_sums_free(s->sums);
	s->sums = NULL;
	return r;
}

static int take_signature(struct source *s, struct sync_body *b, struct err *err)
{
	uint64_t block, seed;

	s->basis = sync_get_number(b);
	block = sync_get_number(b);
	seed = sync_get_number(b);
	if (sync_get_done(b, err) != 0)
		return -1;
	if (s->sums != NULL || s->waiting.count == 0)
		return err_set(err, GRPC_INVALID_ARGUMENT, "a signature nobody asked for");
	if (s->basis == 0)
		return send_waiting(s, err);
	s->sums =
	    sync_sums_create(s->basis, block <= SYNC_BLOCK_MAX ? (size_t)block : 0, seed, err);
	return s->sums != NULL ? 0 : -1;
}

static int take_blocks(struct source *s, struct sync_body *b, struct err *err)
{
	if (s->sums == NULL)
		return err_set(err, GRPC_INVALID_ARGUMENT, "sums of no file");
	if (sync_sums_add(s->sums, b->at, (size_t)(b->end - b->at), err) != 0)
		return -1;
	return sync_sums_are_all(s->sums) ? send_waiting(s, err) : 0;
}

static int take(struct source *s, struct sync_body *b, struct err *err)
{
	switch (b->type) {
	case SYNC_ENTRIES:
		return take_entries(s, b, err);
	case SYNC_LISTED:
		return s->listed_all ? err_set(err, GRPC_INVALID_ARGUMENT, "a second LISTED")
				     : take_listed(s, err);
	case SYNC_SIGNATURE:
		return take_signature(s, b, err);
	case SYNC_BLOCKS:
		return take_blocks(s, b, err);
	default:
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "a record of type %d from a target", (int)b->type);
	}
}

/* What has gathered goes out before we wait. */
static int next(struct source *s, struct sync_body *b, struct err *err)
{
	if (sync_in_is_empty(&s->in) && sync_flush(&s->send.out, err) != 0)
		return -1;
	int r = sync_next(&s->in, b, err);
	return r != 0 ? r : err_set(err, GRPC_DATA_LOSS, "the target ended without a receipt");
}

/* The end. */

/* All files are in place. */
static int send_links(struct source *s, struct err *err)
{
	const char *path, *first;

	while (sync_links_next(s->links, &path, &first))
		if (sync_send_hardlink(&s->send, path, first, err) != 0)
			return -1;
	return 0;
}

static int prune(struct source *s, struct err *err)
{
	sync_begin(&s->send.out, SYNC_PRUNE);
	sync_put_number(&s->send.out, s->send.counts->failed);
	if (sync_end(&s->send.out, err) != 0)
		return -1;
	for (const char *path; (path = sync_names_first(&s->late)) != NULL;) {
		if (sync_send_path(&s->send, path, NULL, 0, err) != 0)
			return -1;
		sync_names_drop(&s->late);
	}
	return 0;
}

static int check_receipt(struct source *s, struct sync_body *b, struct err *err)
{
	struct sync_counts *c = s->send.counts, theirs;
	uint64_t failed = c->failed;

	sync_get_counts(b, &theirs);
	if (sync_get_done(b, err) != 0)
		return -1;
	if (theirs.items != c->items || theirs.literal != c->literal ||
	    theirs.received != s->send.out.total)
		return err_set(err, GRPC_DATA_LOSS,
		    "the receipt does not agree: something was lost on the way; sync again");
	c->files = theirs.files;
	c->bytes = theirs.bytes;
	c->directories = theirs.directories;
	c->links = theirs.links;
	c->touched = theirs.touched;
	c->deleted = theirs.deleted;
	c->skipped += theirs.skipped;
	c->failed = failed + theirs.failed;
	return 0;
}

static int finish(struct source *s, struct err *err)
{
	char path[TREE_PATH_MAX], why[TREE_PATH_MAX];
	struct sync_body b;

	if (gather(s, err) != 0 || send_links(s, err) != 0 ||
	    (s->send.opt->prune && prune(s, err) != 0))
		return -1;
	sync_begin(&s->send.out, SYNC_DONE);
	sync_put_counts(&s->send.out, s->send.counts);
	if (sync_end(&s->send.out, err) != 0)
		return -1;
	while (next(s, &b, err) > 0) {
		if (b.type == SYNC_RECEIPT)
			return check_receipt(s, &b, err);
		if (b.type != SYNC_FAILED)
			return take(s, &b, err) == 0
			    ? err_set(err, GRPC_INVALID_ARGUMENT, "a receipt was expected")
			    : -1;
		sync_get_path(&b, path);
		sync_get_text(&b, why);
		if (sync_get_done(&b, err) != 0)
			return -1;
		sync_note(s->send.opt, path, why);
	}
	return -1;
}

static int run(struct source *s, struct err *err)
{
	struct sync_body b;

	if (advance(s, err) != 0)
		return -1;
	while (!s->listed_all || s->waiting.count > 0)
		if (next(s, &b, err) < 0 || take(s, &b, err) != 0)
			return -1;
	return finish(s, err);
}

int sync_source(int root, const struct sync_options *opt, const struct sync_link *link,
    struct sync_counts *counts, struct err *err)
{
	struct source s = { .send = { .opt = opt, .root = root, .counts = counts, .dir = -1 },
		.waiting.max = SYNC_NAMES_QUEUED,
		.late.max = SYNC_NAMES_QUEUED };
	struct sync_walk_options w = { .root = root,
		.cookie = &s.send,
		.excluded = sync_send_excluded,
		.failed = walk_failed };
	const struct sync_lead lead = { .root = root, .opt = opt, .link = link };
	int r = -1;

	if (opt->team != NULL)
		sync_team_lead(opt->team, &lead);
	*counts = (struct sync_counts){ 0 };
	if (sync_out_init(&s.send.out, link->push, link->cookie, err) == 0 &&
	    sync_in_init(&s.in, link->pull, link->cookie, err) == 0 &&
	    sync_send_init(&s.send, err) == 0 && (s.links = sync_links_create(err)) != NULL &&
	    (s.walk = sync_walk_create(&w, err)) != NULL)
		r = run(&s, err);
	if (opt->team != NULL)
		sync_team_end(opt->team);
	counts->sent = s.send.out.total;
	counts->received = s.in.total;
	sync_walk_free(s.walk);
	sync_links_free(s.links);
	sync_sums_free(s.sums);
	sync_names_free(&s.waiting);
	sync_names_free(&s.late);
	sync_send_free(&s.send);
	sync_in_free(&s.in);
	sync_out_free(&s.send.out);
	return r;
}
