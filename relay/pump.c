#include "relay/pump.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>

struct pump {
	struct loop *loop;
	struct pump_source source;
	struct pump_sink sink;
	void (*done)(void *cookie, const struct err *why);
	void *cookie;
	enum pump_state state;
	struct pump_stats stats;
	bool stalled;
	bool freed;            /* nobody is told anything any more */
	const struct err *why; /* NULL: it went well */
	struct post post;      /* the way to done(), or out of memory */
};

static const char *const names[] = { "OPEN", "DRAINING", "DONE", "FAILED" };

/* What may follow what; everything else is a fault of ours. */
static bool may_follow(enum pump_state from, enum pump_state to)
{
	switch (from) {
	case PUMP_OPEN:
		return to == PUMP_DRAINING || to == PUMP_FAILED;
	case PUMP_DRAINING:
		return to == PUMP_DONE || to == PUMP_FAILED;
	case PUMP_DONE:
	case PUMP_FAILED:
		break;
	}
	return false;
}

static void run_done(struct post *post)
{
	struct pump *p = (struct pump *)((char *)post - offsetof(struct pump, post));

	p->done(p->cookie, p->why != NULL ? p->why : &err_none);
}

static void set_state(struct pump *p, enum pump_state state)
{
	assert(may_follow(p->state, state));
	p->state = state;
	if (state != PUMP_DONE && state != PUMP_FAILED)
		return;
	p->post.run = run_done;
	loop_post(p->loop, &p->post);
}

struct pump *pump_create(struct loop *loop, struct pump_source source, struct pump_sink sink,
    void (*done)(void *cookie, const struct err *why), void *cookie)
{
	struct pump *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	p->loop = loop;
	p->source = source;
	p->sink = sink;
	p->done = done;
	p->cookie = cookie;
	return p;
}

static void run_free(struct post *post)
{
	struct pump *p = (struct pump *)((char *)post - offsetof(struct pump, post));

	err_drop(p->why);
	free(p);
}

/* An end that is being called may be what lets go of us: the memory stays for the turn. */
void pump_free(struct pump *p)
{
	if (p == NULL)
		return;
	p->freed = true;
	p->post.run = run_free;
	if (!p->post.pending)
		loop_post(p->loop, &p->post);
}

/* A source that has a whole window under way waits for the sink. */
static void count(struct pump *p, size_t under_way)
{
	p->stats.under_way = under_way;
	if (under_way > p->stats.peak)
		p->stats.peak = under_way;
	if (under_way >= PUMP_STALL_BYTES && !p->stalled) {
		p->stalled = true;
		p->stats.stalls++;
	} else if (under_way < PUMP_STALL_BYTES / 2) {
		p->stalled = false;
	}
}

static void check_drained(struct pump *p)
{
	if (!p->freed && p->state == PUMP_DRAINING && p->stats.under_way == 0)
		set_state(p, PUMP_DONE);
}

void pump_push(struct pump *p, struct slice s)
{
	size_t len = s.len;
	struct err refused;

	if (p->state != PUMP_OPEN || len == 0) {
		slice_release(&s);
		return;
	}
	p->stats.bytes += len;
	count(p, p->stats.under_way + len);
	if (p->sink.write(p->sink.self, s) == 0)
		return;
	slice_release(&s);
	count(p, p->stats.under_way - len);
	err_set(&refused, GRPC_UNAVAILABLE, "nobody reads any more");
	if (!p->freed)
		pump_fail(p, &refused);
}

void pump_eof(struct pump *p)
{
	if (p->state != PUMP_OPEN)
		return;
	set_state(p, PUMP_DRAINING);
	p->sink.finish(p->sink.self);
	check_drained(p);
}

void pump_fail(struct pump *p, const struct err *why)
{
	if (p->state != PUMP_OPEN && p->state != PUMP_DRAINING)
		return;
	p->why = err_keep(why);
	set_state(p, PUMP_FAILED);
	p->source.stop(p->source.self, p->why);
	if (!p->freed)
		p->sink.stop(p->sink.self, p->why);
}

void pump_sent(struct pump *p, size_t bytes)
{
	assert(bytes <= p->stats.under_way);
	count(p, p->stats.under_way - bytes);
	check_drained(p);
	if (p->state != PUMP_FAILED && !p->freed)
		p->source.credit(p->source.self, bytes);
}

enum pump_state pump_state(const struct pump *p)
{
	return p->state;
}

const char *pump_state_name(enum pump_state state)
{
	return (size_t)state < sizeof(names) / sizeof(names[0]) ? names[state] : "?";
}

void pump_stats(const struct pump *p, struct pump_stats *s)
{
	*s = p->stats;
}
