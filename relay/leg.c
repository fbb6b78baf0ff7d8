#include "relay/leg.h"

#include <assert.h>
#include <stdlib.h>

#include "relay/wire.h"

enum leg_state { LEG_HELD, LEG_JOINED, LEG_REFUSED, LEG_OVER };

struct leg {
	enum leg_side side;
	enum leg_state state;
	struct loop *loop;
	struct rpc_call *call;     /* NULL: over */
	bool ended;                /* the peer has ended its direction */
	bool finished;             /* no more of the peer's bytes are wanted */
	bool settled;              /* verdict is final */
	const struct err *verdict; /* NULL: it went well */

	struct bufq early;
	void (*gone)(void *cookie, const struct err *why);
	void *gone_cookie;

	struct leg_joint joint;
	struct pump_stats stats;
	struct post over;
};

static void leg_settle(struct leg *leg, const struct err *verdict)
{
	if (leg->settled)
		return;
	leg->settled = true;
	leg->verdict = err_keep(verdict);
}

/* Answers the call with the verdict. What the peer still sends is dropped. */
static void leg_finish(struct leg *leg)
{
	if (leg->call == NULL || leg->finished)
		return;
	leg->finished = true;
	rpc_call_finish(leg->call, leg->verdict);
}

static void leg_run_over(struct post *post)
{
	struct leg *leg = (struct leg *)((char *)post - offsetof(struct leg, over));

	if (leg->joint.in != NULL)
		pump_stats(leg->joint.in, &leg->stats);
	pump_free(leg->joint.in);
	leg->joint.in = NULL;
	leg->joint.over(leg->joint.over_cookie, leg);
}

/* The call is gone. Its pump may be on the stack, so it goes at the end of the turn. */
static void leg_end_joined(struct leg *leg)
{
	leg->call = NULL;
	leg->state = LEG_OVER;
	leg->over.run = leg_run_over;
	loop_post(leg->loop, &leg->over);
}

/* What a client is told when the stream of its supervisor went away without an end. */
static void leg_describe_loss(struct err *e, const struct err *why)
{
	switch (why->code) {
	case GRPC_DEADLINE_EXCEEDED:
	case GRPC_RESOURCE_EXHAUSTED:
		*e = *why;
		return;
	case GRPC_OK:
	case GRPC_CANCELLED:
		err_set(e, GRPC_UNAVAILABLE, "the sandbox's supervisor gave the call up");
		return;
	default:
		err_set(e, GRPC_UNAVAILABLE, "the tunnel to the sandbox was lost: %s", why->text);
		return;
	}
}

static void leg_part(struct leg *leg, const struct err *why)
{
	struct err loss;

	if (leg->side == LEG_CLIENT) {
		leg_settle(leg, why);
	} else if (leg->ended) {
		why = leg_verdict(leg);
	} else {
		leg_describe_loss(&loss, why);
		why = &loss;
	}
	leg->joint.far.stop(leg->joint.far.self, why);
	leg_end_joined(leg);
}

/* More came than is kept: the call ends, and its closing will tell the owner. */
static void leg_overflow(struct leg *leg)
{
	struct err full;

	bufq_free(&leg->early);
	err_set(
	    &full, GRPC_RESOURCE_EXHAUSTED, "more was sent than is kept until the sandbox answers");
	leg_settle(leg, &full);
	leg_finish(leg);
}

/* As a copy: a call that waits holds none of the loop's receive blocks. */
static void leg_keep(struct leg *leg, struct slice bytes)
{
	struct slice copy = { 0 };

	if (!leg->finished)
		copy = slice_copy(bytes.data, bytes.len);
	slice_release(&bytes);
	if (leg->finished)
		return;
	if (bufq_full(&leg->early, copy.len))
		(void)bufq_settle(&leg->early);
	if (copy.data != NULL && bufq_push(&leg->early, copy) == 0)
		return;
	slice_release(&copy);
	leg_overflow(leg);
}

static void leg_data(void *cookie, struct slice bytes)
{
	struct leg *leg = cookie;

	if (leg->state == LEG_JOINED)
		pump_push(leg->joint.in, bytes);
	else
		leg_keep(leg, bytes);
}

/* Makes a verdict of the end of a supervisor's stream, once it is known what kind of
 * channel it is. */
static void leg_judge(struct leg *leg)
{
	struct err missing;

	if (leg->side == LEG_CLIENT || leg->settled)
		return;
	err_set(&missing, GRPC_UNAVAILABLE, "the supervisor's answer ended without a status");
	leg_settle(leg, leg->joint.needs_status ? &missing : NULL);
}

static void leg_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	struct leg *leg = cookie;

	(void)trailers;
	leg->ended = true;
	if (leg->side == LEG_TUNNEL && status != NULL)
		leg_settle(leg, status);
	if (leg->state != LEG_JOINED)
		return;
	leg_judge(leg);
	pump_eof(leg->joint.in);
}

static void leg_sent(void *cookie, size_t bytes)
{
	struct leg *leg = cookie;

	if (leg->state == LEG_JOINED)
		leg->joint.sent(leg->joint.sent_cookie, bytes);
}

static void leg_closed(void *cookie, const struct err *why)
{
	struct leg *leg = cookie;

	leg->call = NULL;
	if (leg->state == LEG_JOINED) {
		leg_part(leg, why);
	} else if (leg->state == LEG_REFUSED) {
		leg_free(leg);
	} else {
		if (!(leg->side == LEG_TUNNEL && leg->ended))
			leg_settle(leg, why);
		leg->gone(leg->gone_cookie, why);
	}
}

static const struct rpc_call_ops leg_ops = {
	.data = leg_data,
	.end = leg_end,
	.sent = leg_sent,
	.closed = leg_closed,
};

struct leg *leg_create(enum leg_side side, struct rpc_call *call, struct bufq *early,
    void (*gone)(void *cookie, const struct err *why), void *cookie)
{
	struct leg *leg = calloc(1, sizeof(*leg));
	struct err e;

	if (leg != NULL)
		bufq_init(&leg->early, LEG_EARLY_SLICES, LEG_EARLY_BYTES);
	if (leg == NULL || (early != NULL && bufq_move(&leg->early, early) != 0)) {
		free(leg);
		err_set(&e, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
		wire_refuse(call, &e);
		return NULL;
	}
	if (side == LEG_CLIENT)
		(void)bufq_settle(&leg->early); /* as in leg_keep() */
	leg->side = side;
	leg->loop = rpc_call_loop(call);
	leg->call = call;
	leg->gone = gone;
	leg->gone_cookie = cookie;
	rpc_call_bind(call, &leg_ops, leg);
	rpc_call_forget_request(call);
	return leg;
}

void leg_refuse(struct leg *leg, const struct err *status)
{
	assert(leg->state == LEG_HELD);
	leg->state = LEG_REFUSED;
	bufq_free(&leg->early);
	leg_settle(leg, status);
	if (leg->call == NULL)
		leg_free(leg);
	else
		leg_finish(leg);
}

void leg_free(struct leg *leg)
{
	if (leg == NULL)
		return;
	assert(leg->call == NULL && leg->joint.in == NULL);
	bufq_free(&leg->early);
	err_drop(leg->verdict);
	free(leg);
}

struct loop *leg_loop(const struct leg *leg)
{
	return leg->loop;
}

void leg_set_ended(struct leg *leg)
{
	leg->ended = true;
}

/* The call as a source. */

static void leg_source_credit(void *self, size_t bytes)
{
	struct leg *leg = self;

	if (leg->call != NULL)
		rpc_call_credit(leg->call, bytes);
}

/* The call as a sink. */

static int leg_write(void *self, struct slice bytes)
{
	struct leg *leg = self;

	if (leg->call != NULL && !leg->finished)
		return rpc_call_write(leg->call, bytes);
	slice_release(&bytes);
	return 0;
}

/* Half-close. A client whose call went well may send on: a forwarded service can shut
 * down its sending side and read. */
static void leg_finish_sending(void *self)
{
	struct leg *leg = self;

	if (leg->call == NULL)
		return;
	if (leg->side == LEG_TUNNEL) {
		rpc_call_end(leg->call, NULL);
		return;
	}
	leg_settle(leg, leg_verdict(leg->joint.other));
	if (leg->verdict == NULL)
		rpc_call_end(leg->call, NULL);
	else
		leg_finish(leg);
}

/* The other call is over. A supervisor that has said its status needs no reset; to any
 * other the call is cancelled, for whatever reason its client has gone. */
static void leg_stop(void *self, const struct err *why)
{
	const struct err cancelled = { .code = GRPC_CANCELLED };
	struct leg *leg = self;

	if (leg->call == NULL)
		return;
	if (leg->side == LEG_CLIENT) {
		leg_settle(leg, why);
		leg_finish(leg);
	} else if (leg->ended) {
		if (!leg->finished)
			rpc_call_finish(leg->call, NULL);
		leg->finished = true;
	} else {
		rpc_call_cancel(leg->call, &cancelled);
		leg_end_joined(leg);
	}
}

/* The sink could not take what came from here: neither call can go on. */
static void leg_source_stop(void *self, const struct err *why)
{
	struct leg *leg = self;

	leg_stop(leg, why);
	leg->joint.far.stop(leg->joint.far.self, why);
}

struct pump_source leg_source(struct leg *leg)
{
	return (struct pump_source){
		.credit = leg_source_credit,
		.stop = leg_source_stop,
		.self = leg,
	};
}

struct pump_sink leg_sink(struct leg *leg)
{
	return (struct pump_sink){
		.write = leg_write,
		.finish = leg_finish_sending,
		.stop = leg_stop,
		.self = leg,
	};
}

void leg_attach(struct leg *leg, const struct leg_joint *joint)
{
	assert(leg->state == LEG_HELD);
	leg->joint = *joint;
	leg->state = LEG_JOINED;
}

/* Some clients send nothing before they have seen the response headers. Who has ended
 * waits for the answer itself, and our own supervisor waits for nothing. */
static void leg_greet(struct leg *leg)
{
	bool waits = leg->side == LEG_CLIENT ? !leg->ended : !leg->joint.needs_status;
	struct rpc_meta none;

	if (leg->call == NULL || leg->finished || !waits)
		return;
	rpc_meta_init(&none);
	(void)rpc_call_headers(leg->call, &none, NULL);
}

void leg_start(struct leg *leg)
{
	struct slice bytes;

	leg_greet(leg);
	while (leg->state == LEG_JOINED && !leg->finished && leg->early.bytes > 0) {
		bytes = bufq_pop(&leg->early, SIZE_MAX);
		pump_push(leg->joint.in, bytes);
	}
	bufq_free(&leg->early);
	if (leg->state != LEG_JOINED)
		return;
	if (leg->ended && !leg->finished) {
		leg_judge(leg);
		pump_eof(leg->joint.in);
	}
	if (leg->call == NULL)
		leg_part(leg, leg_verdict(leg)); /* it ended while it was held */
}

void leg_credit(struct leg *leg, size_t bytes)
{
	if (leg->joint.in != NULL)
		pump_sent(leg->joint.in, bytes);
}

void leg_abort(struct leg *leg, const struct err *why)
{
	bool joined = leg->state == LEG_JOINED;

	assert(leg->side == LEG_CLIENT);
	leg_stop(leg, why);
	if (joined)
		leg->joint.far.stop(leg->joint.far.self, why);
}

const struct pump_stats *leg_stats(const struct leg *leg)
{
	return &leg->stats;
}

const struct err *leg_verdict(const struct leg *leg)
{
	return leg->verdict != NULL ? leg->verdict : &err_none;
}
