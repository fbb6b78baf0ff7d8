/* Streams that join a sync: a member of its team, at either end. */
#include <string.h>

#include "transfer/confine.h"
#include "transfer/sync/sync_peer.h"
#include "transfer/sync/sync_receive.h"
#include "transfer/sync/sync_send.h"
#include "transfer/sync/sync_team.h"

/* A member, while it is one. */
struct member {
	struct sync_team *team;
	struct sync_lead lead;
	struct sync_counts *counts;
	struct sync_in in;
	bool engaged, done;
};

static void done(struct member *m)
{
	sync_team_done(m->team, m->counts);
	m->done = true;
}

/* Of a source. */

static int check_receipt(
    struct member *m, struct sync_send *s, struct sync_body *b, struct err *err)
{
	struct sync_counts theirs;

	if (b->type != SYNC_RECEIPT)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "a record of type %d in place of a receipt", (int)b->type);
	sync_get_counts(b, &theirs);
	if (sync_get_done(b, err) != 0)
		return -1;
	if (theirs.items != m->counts->items || theirs.literal != m->counts->literal ||
	    theirs.received != s->out.total)
		return err_set(err, GRPC_DATA_LOSS,
		    "the receipt of a stream does not agree: something was lost on the way; "
		    "sync again");
	return 0;
}

static int send_job(struct sync_send *s, struct sync_job *job, uint64_t *after, struct err *err)
{
	if (job->after != *after) {
		*after = job->after;
		sync_begin(&s->out, SYNC_AFTER);
		sync_put_number(&s->out, job->after);
		if (sync_end(&s->out, err) != 0)
			return -1;
	}
	return sync_send_job(s, job, err);
}

/* What has gathered goes out before we wait. */
static int next_job(struct member *m, struct sync_send *s, struct sync_job *job, struct err *err)
{
	int r = sync_team_take(m->team, job, false, &m->engaged, err);

	if (r != 0)
		return r;
	return sync_flush(&s->out, err) != 0 ? -1
					     : sync_team_take(m->team, job, true, &m->engaged, err);
}

static int send_jobs(struct member *m, struct sync_send *s, struct err *err)
{
	struct sync_job job = { 0 };
	uint64_t after = 0;
	int r;

	while ((r = next_job(m, s, &job, err)) > 0) {
		r = send_job(s, &job, &after, err);
		sync_job_free(&job);
		if (r != 0)
			return -1;
	}
	return r;
}

static int next(struct member *m, struct sync_body *b, struct err *err)
{
	int r = sync_next(&m->in, b, err);

	return r != 0 ? r : err_set(err, GRPC_DATA_LOSS, "a stream ended without a receipt");
}

static int run_source(struct member *m, struct sync_send *s, struct err *err)
{
	struct sync_body b;

	if (next(m, &b, err) < 0)
		return -1;
	if (b.type != SYNC_READY || sync_get_done(&b, err) != 0)
		return err_set(err, GRPC_INVALID_ARGUMENT, "a stream that is not ready");
	if (send_jobs(m, s, err) != 0)
		return -1;
	sync_team_engage(m->team, &m->engaged);
	sync_begin(&s->out, SYNC_DONE);
	sync_put_counts(&s->out, m->counts);
	if (sync_end(&s->out, err) != 0 || sync_flush(&s->out, err) != 0 || next(m, &b, err) < 0 ||
	    check_receipt(m, s, &b, err) != 0)
		return -1;
	done(m);
	return 0;
}

int sync_source_stream(struct sync_team *team, const struct sync_link *link,
    struct sync_counts *counts, struct err *err)
{
	struct member m = { .team = team, .counts = counts };
	struct sync_send s = { .counts = counts, .dir = -1 };
	int r = -1;

	*counts = (struct sync_counts){ 0 };
	if (sync_team_join(team, link, &m.lead, err) != 0)
		return -1;
	s.opt = m.lead.opt;
	s.root = m.lead.root;
	confine_to(s.root);
	if (sync_out_init(&s.out, link->push, link->cookie, err) == 0 &&
	    sync_in_init(&m.in, link->pull, link->cookie, err) == 0 && sync_send_init(&s, err) == 0)
		r = run_source(&m, &s, err);
	counts->sent = s.out.total;
	counts->received = m.in.total;
	sync_send_free(&s);
	sync_in_free(&m.in);
	sync_out_free(&s.out);
	sync_team_leave(team, link, m.engaged && !m.done, err);
	return r;
}

/* Of a target. */

static int take_after(struct member *m, struct sync_body *b, struct err *err)
{
	uint64_t items = sync_get_number(b);

	if (sync_get_done(b, err) != 0)
		return -1;
	return sync_team_await(m->team, items, err);
}

static int take_failed(
    struct member *m, struct sync_receive *t, struct sync_body *b, struct err *err)
{
	sync_get_text(b, t->path);
	sync_get_text(b, t->text);
	if (sync_get_done(b, err) != 0)
		return -1;
	sync_note(m->lead.opt, t->path, t->text);
	return 0;
}

static int take(struct member *m, struct sync_receive *t, struct sync_body *b, struct err *err)
{
	if (sync_receive_knows(t, b->type))
		return sync_receive_take(t, b, err);
	switch (b->type) {
	case SYNC_AFTER:
		return take_after(m, b, err);
	case SYNC_FAILED:
		return take_failed(m, t, b, err);
	default:
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "a record of type %d on a stream that has joined", (int)b->type);
	}
}

/* Its counts are the team's before the source can know of it. */
static int send_receipt(
    struct member *m, struct sync_out *out, struct sync_body *b, struct err *err)
{
	struct sync_counts theirs, receipt;

	m->counts->received = m->in.total;
	receipt = *m->counts;
	sync_get_counts(b, &theirs);
	if (sync_get_done(b, err) != 0)
		return -1;
	if (theirs.items != receipt.items || theirs.literal != receipt.literal)
		return err_set(
		    err, GRPC_DATA_LOSS, "not all that was sent on a stream has come; sync again");
	done(m);
	sync_begin(out, SYNC_RECEIPT);
	sync_put_counts(out, &receipt);
	return sync_end(out, err) != 0 ? -1 : sync_flush(out, err);
}

static int run_target(
    struct member *m, struct sync_receive *t, struct sync_out *out, struct err *err)
{
	struct sync_body b;
	int r;

	sync_begin(out, SYNC_READY);
	if (sync_end(out, err) != 0 || sync_flush(out, err) != 0)
		return -1;
	while ((r = sync_next(&m->in, &b, err)) > 0) {
		sync_team_engage(m->team, &m->engaged);
		if (b.type == SYNC_DONE && t->file == SYNC_FILE_NONE)
			return send_receipt(m, out, &b, err);
		if (take(m, t, &b, err) != 0)
			return -1;
	}
	return r == 0 ? err_set(err, GRPC_DATA_LOSS, "a stream ended before it was done") : -1;
}

int sync_target_stream(struct sync_team *team, const struct sync_link *link,
    struct sync_counts *counts, struct err *err)
{
	struct member m = { .team = team, .counts = counts };
	struct sync_receive t = { .counts = counts };
	struct sync_out out = { 0 };
	int r = -1;

	*counts = (struct sync_counts){ 0 };
	if (sync_team_join(team, link, &m.lead, err) != 0)
		return -1;
	t.opt = m.lead.opt;
	t.failed = m.lead.failed;
	t.cookie = m.lead.cookie;
	confine_to(m.lead.root);
	if (sync_out_init(&out, link->push, link->cookie, err) == 0 &&
	    sync_in_init(&m.in, link->pull, link->cookie, err) == 0 &&
	    sync_receive_init(&t, err) == 0 &&
	    (t.apply = sync_apply_create(m.lead.root, m.lead.dirs, m.lead.joint, link, err)) !=
		NULL)
		r = run_target(&m, &t, &out, err);
	counts->sent = out.total;
	counts->received = m.in.total;
	sync_apply_free(t.apply);
	sync_receive_free(&t);
	sync_in_free(&m.in);
	sync_out_free(&out);
	sync_team_leave(team, link, m.engaged && !m.done, err);
	return r;
}
