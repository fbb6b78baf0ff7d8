#include "relay/lines.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/text.h"
#include "openshell/v1/openshell.pb-c.h"
#include "relay/wire.h"

static const struct log_area area = { "relay" };

enum line_state {
	LINE_NONE,    /* the slot is free */
	LINE_PROBING, /* connecting, or asking where it is */
	LINE_READY,
	LINE_CLOSING
};

struct line {
	struct lines *lines;
	enum line_state state;
	struct rpc_client *client;
	struct rpc_call *probe; /* NULL: over */
	bool answered;
	uint32_t loop; /* of the gateway, plus 1; 0: unknown */
};

struct lines {
	struct loop *loop;
	struct lines_options options;
	struct line slots[LINES_MAX];
	uint32_t spare_attempts;
	uint32_t turn; /* for picking any */
	struct timer *redial;
	bool closing;
	void (*done)(void *cookie);
	void *done_cookie;
	struct post over;
};

static uint32_t lines_count(const struct lines *l, enum line_state state)
{
	uint32_t n = 0;

	for (size_t i = 0; i < LINES_MAX; i++)
		n += l->slots[i].state == state;
	return n;
}

uint32_t lines_ready(const struct lines *l)
{
	return lines_count(l, LINE_READY);
}

static struct line *lines_find(struct lines *l, uint32_t loop)
{
	for (size_t i = 0; i < LINES_MAX; i++)
		if (l->slots[i].state == LINE_READY && l->slots[i].loop == loop)
			return &l->slots[i];
	return NULL;
}

static void lines_finish_close(struct post *post)
{
	struct lines *l = (struct lines *)((char *)post - offsetof(struct lines, over));
	void (*done)(void *cookie) = l->done;
	void *cookie = l->done_cookie;

	timer_free(l->redial);
	free(l);
	done(cookie);
}

static void lines_check_closed(struct lines *l)
{
	if (l->closing && lines_count(l, LINE_NONE) == LINES_MAX)
		loop_post(l->loop, &l->over);
}

static void line_close(struct line *line)
{
	if (line->state == LINE_NONE || line->state == LINE_CLOSING)
		return;
	line->state = LINE_CLOSING;
	rpc_client_close(line->client);
}

static void line_closed(void *cookie, const struct err *why)
{
	struct line *line = cookie;
	struct lines *l = line->lines;

	if (line->state != LINE_CLOSING) {
		log_info(&area, "line_lost", LOG_U64("loop", line->loop), LOG_ERR(why));
		timer_start(l->redial, LINES_REDIAL_MS);
	}
	*line = (struct line){ .lines = l };
	lines_check_closed(l);
}

/* The probe. */

static void line_answered(void *cookie, const struct rpc_meta *headers)
{
	struct line *line = cookie;
	const char *value = rpc_meta_get(headers, WIRE_META_LOOP);
	uint64_t loop = 0;

	if (value != NULL && text_to_u64(value, 1, UINT32_MAX, &loop, NULL) == 0)
		line->loop = (uint32_t)loop;
}

static void line_probe_data(void *cookie, struct slice bytes)
{
	(void)cookie;
	slice_release(&bytes);
}

static void lines_fill(struct lines *l);

/* Keeps the line, or gives it up for another try at a loop that has none. */
static void line_settle(struct line *line)
{
	struct lines *l = line->lines;
	bool doubles = line->loop != 0 && lines_find(l, line->loop) != NULL;

	if (!doubles || l->spare_attempts == 0) {
		line->state = LINE_READY;
		log_debug(&area, "line_ready", LOG_U64("loop", line->loop));
		return;
	}
	l->spare_attempts--;
	line_close(line);
	lines_fill(l);
}

static void line_probe_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	struct line *line = cookie;

	(void)trailers;
	line->answered = status->code == GRPC_OK;
	if (!line->answered)
		log_warn(&area, "line_refused", LOG_ERR(status));
}

static void line_probe_closed(void *cookie, const struct err *why)
{
	struct line *line = cookie;

	line->probe = NULL;
	if (line->state != LINE_PROBING)
		return;
	if (line->answered) {
		line_settle(line);
		return;
	}
	if (why->code != GRPC_OK) /* else there was a status */
		log_warn(&area, "line_refused", LOG_ERR(why));
	timer_start(line->lines->redial, LINES_REDIAL_MS);
	line_close(line);
}

static const struct rpc_call_ops line_probe_ops = {
	.headers = line_answered,
	.data = line_probe_data,
	.end = line_probe_end,
	.closed = line_probe_closed,
};

static int line_ask(struct line *line, struct err *e)
{
	Openshell__V1__RelayInit init = OPENSHELL__V1__RELAY_INIT__INIT;
	Openshell__V1__RelayFrame frame = OPENSHELL__V1__RELAY_FRAME__INIT;

	line->probe = rpc_client_call(line->client,
	    &(struct rpc_client_call){
		.path = WIRE_RELAY,
		.meta = line->lines->options.meta,
		.timeout_ms = line->lines->options.probe_ms,
		.ops = &line_probe_ops,
		.cookie = line,
	    },
	    e);
	if (line->probe == NULL)
		return -1;
	frame.payload_case = OPENSHELL__V1__RELAY_FRAME__PAYLOAD_INIT;
	frame.init = &init;
	if (wire_send(line->probe, &frame.base) != 0)
		return err_set(e, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	rpc_call_end(line->probe, NULL);
	return 0;
}

static int line_dial(struct line *line, struct err *e)
{
	line->client = rpc_client_connect_to(line->lines->loop, line->lines->options.address,
	    &(struct rpc_client_options){
		.tls = line->lines->options.tls,
		.closed = line_closed,
		.cookie = line,
	    },
	    e);
	if (line->client == NULL)
		return -1;
	line->state = LINE_PROBING;
	if (line_ask(line, e) != 0)
		line_close(line);
	return 0;
}

static struct line *lines_free_slot(struct lines *l)
{
	for (size_t i = 0; i < LINES_MAX; i++)
		if (l->slots[i].state == LINE_NONE)
			return &l->slots[i];
	return NULL;
}

/* Dials until as many as are wanted are there or under way. */
static void lines_fill(struct lines *l)
{
	struct line *slot;
	struct err e;

	while (!l->closing &&
	    lines_count(l, LINE_PROBING) + lines_count(l, LINE_READY) < l->options.count) {
		slot = lines_free_slot(l);
		if (slot == NULL || line_dial(slot, &e) != 0) {
			timer_start(l->redial, LINES_REDIAL_MS);
			return;
		}
	}
}

static void lines_redial(void *cookie)
{
	lines_fill(cookie);
}

struct lines *lines_create(struct loop *loop, const struct lines_options *options, struct err *e)
{
	struct lines *l = calloc(1, sizeof(*l));

	if (l == NULL) {
		err_set(e, GRPC_RESOURCE_EXHAUSTED, "out of memory for data connections");
		return NULL;
	}
	l->loop = loop;
	l->options = *options;
	if (l->options.count > LINES_MAX)
		l->options.count = LINES_MAX;
	if (l->options.probe_ms == 0)
		l->options.probe_ms = LINES_PROBE_MS;
	l->spare_attempts = l->options.count * LINES_SPARE_ATTEMPTS;
	l->over.run = lines_finish_close;
	for (size_t i = 0; i < LINES_MAX; i++)
		l->slots[i].lines = l;
	l->redial = timer_create_on(loop, lines_redial, l);
	if (l->redial == NULL) {
		free(l);
		err_set(e, GRPC_RESOURCE_EXHAUSTED, "out of memory for data connections");
		return NULL;
	}
	lines_fill(l);
	return l;
}

struct rpc_client *lines_pick(struct lines *l, uint32_t loop)
{
	struct line *line = loop != 0 ? lines_find(l, loop) : NULL;

	for (uint32_t i = 0; line == NULL && i < LINES_MAX; i++) {
		l->turn = (l->turn + 1) % LINES_MAX;
		if (l->slots[l->turn].state == LINE_READY)
			line = &l->slots[l->turn];
	}
	return line != NULL ? line->client : NULL;
}

void lines_close(struct lines *l, void (*done)(void *cookie), void *cookie)
{
	l->closing = true;
	l->done = done;
	l->done_cookie = cookie;
	timer_stop(l->redial);
	for (size_t i = 0; i < LINES_MAX; i++)
		line_close(&l->slots[i]);
	lines_check_closed(l);
}
