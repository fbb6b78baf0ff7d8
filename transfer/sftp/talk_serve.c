/* The loop's side of transfer/sftp/talk.h: the call, and the thread's lane. */
#include <assert.h>
#include <stdlib.h>

#include "rpc/call.h"
#include "transfer/lane.h"
#include "transfer/sftp/talk.h"

#define IN_WINDOW (RPC_WINDOW_MAX + RPC_WINDOW + TALK_AHEAD_BYTES) /* bytes; more than can come */

struct serving {
	struct transfers *transfers;
	struct framed *call;           /* NULL: the client is gone */
	struct lane *lane;             /* NULL: the thread has ended */
	uint64_t came, used, credited; /* bytes */
	const struct talk_work *work;
	void *arg;
};

static void serving_free(struct serving *s)
{
	s->transfers->talks--;
	s->work->free(s->arg);
	free(s);
}

/* On the thread. */

static int link_take(void *lane, struct slice *s, bool wait, struct err *err)
{
	return lane_take(lane, s, wait, err);
}

static void link_used(void *lane, size_t bytes)
{
	lane_release(lane, bytes);
}

static int link_give(void *lane, struct slice s, struct err *err)
{
	return lane_give(lane, s, err);
}

static bool link_is_gone(void *lane)
{
	return lane_is_aborted(lane);
}

static const struct talk_link lane_link = {
	.take = link_take,
	.used = link_used,
	.give = link_give,
	.is_gone = link_is_gone,
};

static int work(struct lane *lane, void *arg, struct err *err)
{
	struct serving *s = arg;
	struct talk talk;

	talk_init(&talk, &lane_link, lane);
	int r = s->work->run(s->arg, &talk, err);
	if (r == 0)
		r = talk_flush(&talk, err);
	talk_free(&talk);
	return r;
}

/* On the loop, of the lane. */

/* Some of it before it is used, so that the thread has work while more is on its way. */
static void give_credit(struct serving *s)
{
	uint64_t due = s->used + TALK_AHEAD_BYTES;

	due = due < s->came ? due : s->came;
	if (s->call != NULL && due > s->credited)
		framed_credit(s->call, (size_t)(due - s->credited));
	s->credited = due;
}

static void lane_is_used(void *cookie, size_t bytes)
{
	struct serving *s = cookie;

	s->used += bytes;
	give_credit(s);
}

static void lane_data(void *cookie, struct slice data)
{
	struct serving *s = cookie;
	struct err err;

	if (s->call != NULL && framed_write(s->call, FRAMED_BYTES, data) == 0)
		return;
	slice_release(&data);
	if (s->call == NULL)
		return;
	err_set(&err, GRPC_UNAVAILABLE, "the other end takes no more");
	lane_abort(s->lane, &err);
}

static void lane_ended(void *cookie, int result, const struct err *err)
{
	struct serving *s = cookie;
	struct err status = result == 0 ? err_none : *err;

	lane_free(s->lane);
	s->lane = NULL;
	if (s->call == NULL) {
		serving_free(s);
		return;
	}
	if (result == 0 && s->work->last != NULL)
		s->work->last(s->arg, s->call);
	framed_finish(s->call, result == 0 ? NULL : &status);
}

static const struct lane_ops lane_ops = {
	.used = lane_is_used,
	.data = lane_data,
	.ended = lane_ended,
	.out_window = TALK_OUT_WINDOW,
};

/* And of the call. */

static void call_payload(void *cookie, struct slice data)
{
	struct serving *s = cookie;
	size_t len = data.len;

	if (s->lane != NULL && lane_push(s->lane, data) == 0) {
		s->came += len;
		give_credit(s);
		return;
	}
	slice_release(&data);
	framed_credit(s->call, len);
}

static void call_end(void *cookie, const struct err *status)
{
	struct serving *s = cookie;

	(void)status;
	if (s->lane != NULL)
		lane_eof(s->lane);
}

static void call_sent(void *cookie, size_t bytes)
{
	struct serving *s = cookie;

	if (s->lane != NULL)
		lane_credit(s->lane, bytes);
}

static void call_closed(void *cookie, const struct err *why)
{
	struct serving *s = cookie;
	struct err gone;

	(void)why;
	s->call = NULL;
	if (s->lane == NULL) {
		serving_free(s);
		return;
	}
	err_set(&gone, GRPC_CANCELLED, "the client is gone");
	lane_abort(s->lane, &gone);
}

static const struct framed_ops call_ops = {
	.payload = call_payload,
	.end = call_end,
	.sent = call_sent,
	.closed = call_closed,
};

int talk_serve(struct transfers *t, struct framed *call, bool half_closed,
    const struct talk_work *w, void *arg, struct err *err)
{
	struct serving *s;

	if (t->talks >= TRANSFER_TALKS_MAX)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "%zu SFTP and scp transfers run in this sandbox; wait for one to end",
		    t->talks);
	if ((s = calloc(1, sizeof(*s))) == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	*s = (struct serving){ .transfers = t, .call = call, .work = w, .arg = arg };
	if ((s->lane = lane_start(t->loop, IN_WINDOW, work, s, &lane_ops, s, err)) == NULL) {
		free(s);
		return -1;
	}
	t->talks++;
	framed_bind(call, &call_ops, s);
	if (half_closed)
		lane_eof(s->lane);
	return 0;
}
