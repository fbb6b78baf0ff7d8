/* The end of a sync that gets the content: lists what it has, and applies what comes. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "transfer/sync/sync_list.h"
#include "transfer/sync/sync_peer.h"
#include "transfer/sync/sync_receive.h"
#include "transfer/sync/sync_send.h"
#include "transfer/sync/sync_team.h"

struct target {
	int root;
	const struct sync_options *opt;
	const struct sync_link *link;
	struct sync_counts *counts;
	struct sync_in in;
	struct sync_out out; /* the list's until ${list} is NULL */
	struct sync_list *list;
	struct sync_dirs *dirs;
	struct sync_joint *joint;
	struct sync_receive receive;
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
	if (t->failed++ < SYNC_TOLD_MAX)
		sync_names_add_two(&t->told, path, why->text);
	pthread_mutex_unlock(&t->lock);
}

/* Deletions wait for all the rest. */

static int take_delete(struct target *t, struct sync_body *b, struct err *err)
{
	struct err why = { 0 };
	char kind[TREE_PATH_MAX + 1];

	sync_get_path(b, t->receive.path);
	bool directory = sync_get_number(b) != 0;
	if (sync_get_done(b, err) != 0)
		return -1;
	if (!t->opt->prune || t->pruned)
		return err_set(err, GRPC_INVALID_ARGUMENT, "a deletion nobody asked for");
	kind[0] = directory ? 'd' : 'f';
	memcpy(kind + 1, t->receive.path, strlen(t->receive.path) + 1);
	if (sync_receive_admit(&t->receive, directory, &why) == 0 &&
	    sync_names_add(&t->deletes, kind) != 0)
		err_set(&why, GRPC_RESOURCE_EXHAUSTED,
		    "%s: too much is to be deleted at once; sync again for the rest",
		    t->receive.path);
	if (why.code != GRPC_OK)
		fail(t, t->receive.path, &why);
	return 0;
}

static void delete_one(struct target *t, const char *kind)
{
	struct sync_entry e = { .kind = kind[0] == 'd' ? SYNC_KIND_DIRECTORY : SYNC_KIND_FILE,
		.path = t->receive.path };
	struct err why = { 0 };
	int r = 1;

	memcpy(t->receive.path, kind + 1, strlen(kind));
	if (t->receive.apply != NULL)
		r = sync_apply_delete(t->receive.apply, t->receive.path, kind[0] == 'd', &why);
	if (r == 0)
		sync_note(t->opt, t->receive.path, "kept, as something is in it that was left out");
	else
		sync_receive_done(
		    &t->receive, r < 0 ? -1 : 0, &t->counts->deleted, SYNC_ACT_DELETE, &e, &why);
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
	sync_get_text(b, t->receive.path);
	sync_get_text(b, t->receive.text);
	if (sync_get_done(b, err) != 0)
		return -1;
	sync_note(t->opt, t->receive.path, t->receive.text);
	return 0;
}

static int take_sign(struct target *t, struct sync_body *b, struct err *err)
{
	sync_get_path(b, t->receive.path);
	if (sync_get_done(b, err) != 0)
		return -1;
	if (t->opt->excluded != NULL && t->opt->excluded(t->opt->cookie, t->receive.path, false))
		return err_set(
		    err, GRPC_PERMISSION_DENIED, "%s was to be left out", t->receive.path);
	return sync_list_sign(t->list, t->receive.path, err);
}

static int take(struct target *t, struct sync_body *b, struct err *err)
{
	if (sync_receive_knows(&t->receive, b->type))
		return sync_receive_take(&t->receive, b, err);
	switch (b->type) {
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
	case SYNC_SPREAD:
		if (t->opt->spread != NULL)
			t->opt->spread(t->opt->cookie);
		return sync_get_done(b, err);
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

/* Nothing more goes into the directories. */
static void settle(struct target *t)
{
	if (t->receive.apply == NULL)
		return;
	uint64_t lost = sync_dirs_settle(t->dirs, t->root);
	if (lost > 0 && t->opt->note != NULL)
		t->opt->note(t->opt->cookie,
		    "too many directories were changed to set the times of all; sync again");
}

static int finish(struct target *t, struct sync_body *done, struct err *err)
{
	if (t->opt->team != NULL)
		sync_team_sum(t->opt->team, t->counts);
	uint64_t skipped = t->counts->skipped;

	if (t->receive.file != SYNC_FILE_NONE)
		return err_set(err, GRPC_INVALID_ARGUMENT, "DONE within a file");
	if (check_sent(t, done, err) != 0)
		return -1;
	sync_list_walked(t->list);
	int r = sync_list_join(t->list, err);
	t->list = NULL;
	if (r != 0)
		return -1;
	settle(t);
	if (t->receive.apply != NULL && t->counts->items > 0 &&
	    sync_apply_sync(t->receive.apply, err) != 0)
		return -1;
	return send_receipt(t, skipped, err);
}

static int run(struct target *t, struct err *err)
{
	struct sync_body b;
	int r;

	while ((r = sync_next(&t->in, &b, err)) > 0 && b.type != SYNC_DONE) {
		if (take(t, &b, err) != 0)
			return -1;
		if (t->opt->team != NULL)
			sync_team_advance(t->opt->team, t->counts->items);
	}
	if (r == 0)
		return err_set(err, GRPC_DATA_LOSS, "the source ended before it was done");
	return r > 0 ? finish(t, &b, err) : -1;
}

/* What it takes to change something. */
static int prepare(struct target *t, struct err *err)
{
	if (t->opt->dry_run)
		return 0;
	if ((t->dirs = sync_dirs_create(err)) == NULL)
		return -1;
	if ((t->joint = sync_joint_create(SYNC_JOINT_WAIT_MS, err)) == NULL)
		return -1;
	if ((t->receive.apply = sync_apply_create(t->root, t->dirs, t->joint, t->link, err)) ==
	    NULL)
		return -1;
	const struct sync_lead lead = { .root = t->root,
		.opt = t->opt,
		.link = t->link,
		.dirs = t->dirs,
		.joint = t->joint,
		.failed = fail,
		.cookie = t };
	if (t->opt->team != NULL)
		sync_team_lead(t->opt->team, &lead);
	return 0;
}

int sync_target(int root, const struct sync_options *opt, const struct sync_link *link,
    struct sync_counts *counts, struct err *err)
{
	struct target t = { .root = root,
		.opt = opt,
		.link = link,
		.counts = counts,
		.receive = { .opt = opt, .counts = counts, .failed = fail, .cookie = &t },
		.deletes.max = SYNC_DELETES_MAX,
		.told.max = SYNC_TOLD_BYTES };
	struct err ignored;
	int r = -1;

	*counts = (struct sync_counts){ 0 };
	pthread_mutex_init(&t.lock, NULL);
	if (sync_out_init(&t.out, link->push, link->cookie, err) == 0 &&
	    sync_in_init(&t.in, link->pull, link->cookie, err) == 0 &&
	    sync_receive_init(&t.receive, err) == 0 && prepare(&t, err) == 0 &&
	    (t.list = sync_list_start(root, opt, link, &t.out, fail, &t, err)) != NULL)
		r = run(&t, err);
	if (opt->team != NULL)
		sync_team_end(opt->team);
	if (t.list != NULL) { /* it may wait for a source that is gone */
		link->stop(link->cookie, err);
		sync_list_stop(t.list);
		sync_list_join(t.list, &ignored);
	}
	counts->sent = t.out.total;
	counts->received = t.in.total;
	if (r != 0)
		settle(&t);
	sync_apply_free(t.receive.apply);
	sync_joint_free(t.joint);
	sync_dirs_free(t.dirs);
	sync_receive_free(&t.receive);
	sync_names_free(&t.deletes);
	sync_names_free(&t.told);
	sync_in_free(&t.in);
	sync_out_free(&t.out);
	pthread_mutex_destroy(&t.lock);
	return r;
}
