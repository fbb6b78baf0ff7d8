#include "gateway/watch.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/control.h"
#include "gateway/gateway.h"
#include "gateway/message.h"
#include "proto/codec.h"

/* What a batch holds at most: the snapshot, a warning or two, every event kept. */
#define BATCH_MAX (EVENTS_KEPT + 4)

/* A cursor is the serial of an event in hex. */
#define CURSOR_DIGITS 16

struct watches {
	struct watcher *list;
	size_t count;
	struct err ending;
};

struct packed {
	uint8_t *data;
	size_t len;
};

/*
 * A watch lives on two loops. What changes hands is the batch: ${turn} is posted to
 * the home loop with a batch, and back when the client has taken it. Whoever has the
 * turn may touch the batch; the rest of the fields belong to one side each.
 */
struct watcher {
	struct post turn;
	struct post left; /* the client has gone while the first loop had the turn */
	struct gateway *gateway;
	struct loop *home;

	/* Of whoever has the turn. */
	struct packed batch[BATCH_MAX];
	size_t batch_count;
	bool last; /* the call ends behind this batch, with ${end} */
	struct err end;
	bool gone; /* the client */

	/* The home loop's. */
	struct rpc_call *call; /* NULL: gone */
	bool home_has_turn;

	/* The first loop's. */
	struct sandbox_listener listener;
	struct watcher *next, **at;
	Openshell__V1__WatchSandboxRequest *request;
	struct sandbox *sandbox; /* NULL: not looked up yet, or deleted */
	bool has_turn;
	bool started;
	const struct err *ending; /* the gateway is; NULL: not yet */
	uint64_t version;         /* of the last snapshot that was sent */
	uint64_t next_event;
};

static void on_home(struct post *);

static struct watcher *of_turn(struct post *post)
{
	return (struct watcher *)((char *)post - offsetof(struct watcher, turn));
}

static struct watcher *of_left(struct post *post)
{
	return (struct watcher *)((char *)post - offsetof(struct watcher, left));
}

static struct watcher *of_listener(struct sandbox_listener *l)
{
	return (struct watcher *)((char *)l - offsetof(struct watcher, listener));
}

/* The first loop's side. */

static void drop_batch(struct watcher *w)
{
	for (size_t i = 0; i < w->batch_count; i++)
		free(w->batch[i].data);
	w->batch_count = 0;
}

static void watcher_free(struct watcher *w)
{
	struct watches *all = w->gateway->watches;

	sandbox_unlisten(&w->listener);
	if (w->at != NULL) {
		*w->at = w->next;
		if (w->next != NULL)
			w->next->at = w->at;
		all->count--;
	}
	drop_batch(w);
	codec_free(w->request);
	free(w);
}

static void add(struct watcher *w, Openshell__V1__SandboxStreamEvent *event, uint64_t serial)
{
	char cursor[CURSOR_DIGITS + 1];
	struct packed *p = &w->batch[w->batch_count];

	assert(w->batch_count < BATCH_MAX);
	snprintf(cursor, sizeof(cursor), "%016" PRIx64, serial);
	event->cursor = cursor;
	if ((p->data = codec_pack_new(&event->base, &p->len)) != NULL)
		w->batch_count++;
	event->cursor = NULL;
}

static void add_snapshot(struct watcher *w)
{
	Openshell__V1__SandboxStreamEvent event = OPENSHELL__V1__SANDBOX_STREAM_EVENT__INIT;
	struct sandbox_view view;

	sandbox_view(w->sandbox, &view);
	event.payload_case = OPENSHELL__V1__SANDBOX_STREAM_EVENT__PAYLOAD_SANDBOX;
	event.sandbox = &view.sandbox;
	add(w, &event, sandbox_events(w->sandbox)->next - 1);
	w->version = sandbox_version(w->sandbox);
}

static void add_warning(struct watcher *w, const char *text)
{
	Openshell__V1__SandboxStreamEvent event = OPENSHELL__V1__SANDBOX_STREAM_EVENT__INIT;
	Openshell__V1__SandboxStreamWarning warning = OPENSHELL__V1__SANDBOX_STREAM_WARNING__INIT;

	warning.message = (char *)text;
	event.payload_case = OPENSHELL__V1__SANDBOX_STREAM_EVENT__PAYLOAD_WARNING;
	event.warning = &warning;
	add(w, &event, w->next_event - 1);
}

static void add_event(struct watcher *w, const struct event *e)
{
	Openshell__V1__SandboxStreamEvent message = OPENSHELL__V1__SANDBOX_STREAM_EVENT__INIT;
	Openshell__V1__PlatformEvent event = OPENSHELL__V1__PLATFORM_EVENT__INIT;
	Google__Protobuf__Timestamp time;

	message_set_time(&time, e->time_ms);
	event.timestamp_ms = e->time_ms;
	event.event_time = &time;
	event.source = (char *)"gateway";
	event.type = (char *)(e->warning ? "Warning" : "Normal");
	event.reason = (char *)e->reason;
	event.message = (char *)e->message;
	message.payload_case = OPENSHELL__V1__SANDBOX_STREAM_EVENT__PAYLOAD_EVENT;
	message.event = &event;
	add(w, &message, e->serial);
}

static void add_events(struct watcher *w)
{
	const struct events *events = sandbox_events(w->sandbox);
	uint64_t oldest = events_oldest(events);

	if (w->next_event < oldest) {
		add_warning(w, "some events were missed: they are not kept any more");
		w->next_event = oldest;
	}
	for (; w->next_event < events->next; w->next_event++)
		add_event(w, events_get(events, w->next_event));
}

static bool is_terminal(const struct watcher *w)
{
	enum phase phase = sandbox_phase(w->sandbox);

	return w->request->stop_on_terminal && (phase == PHASE_READY || phase == PHASE_ERROR);
}

static bool follows_status(const Openshell__V1__WatchSandboxRequest *r)
{
	return r->follow_status || r->stop_on_terminal || (!r->follow_events && !r->follow_logs);
}

/* Hands the turn to the home loop if there is something to say. */
static void speak(struct watcher *w)
{
	if (!w->has_turn || (w->batch_count == 0 && !w->last))
		return;
	w->has_turn = false;
	loop_post(w->home, &w->turn);
}

static void fill(struct watcher *w)
{
	if (!w->has_turn || w->last || w->sandbox == NULL)
		return;
	if (follows_status(w->request) && sandbox_version(w->sandbox) != w->version)
		add_snapshot(w);
	if (w->request->follow_events)
		add_events(w);
	if (is_terminal(w)) {
		if (w->version != sandbox_version(w->sandbox))
			add_snapshot(w);
		w->last = true;
	}
	speak(w);
}

static void on_changed(struct sandbox_listener *l)
{
	fill(of_listener(l));
}

/* Deleted: what was sent last said DELETING; the stream ends well. */
static void on_gone(struct sandbox_listener *l)
{
	struct watcher *w = of_listener(l);

	w->sandbox = NULL;
	if (!w->has_turn)
		return; /* when the turn comes back */
	w->last = true;
	speak(w);
}

static void finish(struct watcher *w, const struct err *why)
{
	w->last = true;
	if (why != NULL)
		w->end = *why;
	speak(w);
}

/* Where the events begin that the client wants to see. */
static int choose_first_event(struct watcher *w, struct err *err)
{
	const struct events *events = sandbox_events(w->sandbox);
	const char *cursor = w->request->resume_after_cursor;
	uint64_t kept = events->next - events_oldest(events), last;
	char *end;

	w->next_event =
	    events->next - (w->request->event_tail < kept ? w->request->event_tail : kept);
	if (cursor[0] == '\0')
		return 0;
	last = strtoull(cursor, &end, 16);
	if (*end != '\0' || strlen(cursor) != CURSOR_DIGITS || last >= events->next)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "resume_after_cursor is none that this sandbox's events had");
	w->next_event = last + 1;
	return 0;
}

static int look_up(struct watcher *w, struct err *err)
{
	const char *workspace;

	if (w->gateway->watches->count > WATCHES_MAX)
		return err_set(
		    err, GRPC_RESOURCE_EXHAUSTED, "there are %d watches already", WATCHES_MAX);
	if (control_workspace_of(w->request->workspace_scope, &workspace, err) != 0)
		return -1;
	w->sandbox = sandboxes_find(w->gateway->sandboxes, w->request->sandbox, workspace, err);
	if (w->sandbox == NULL)
		return -1;
	return choose_first_event(w, err);
}

static void enlist(struct watcher *w)
{
	struct watches *all = w->gateway->watches;

	w->next = all->list;
	w->at = &all->list;
	if (w->next != NULL)
		w->next->at = &w->next;
	all->list = w;
	all->count++;
}

static void start(struct watcher *w)
{
	struct err err;

	w->started = true;
	enlist(w);
	if (look_up(w, &err) != 0) {
		w->sandbox = NULL;
		finish(w, &err);
		return;
	}
	w->listener.changed = on_changed;
	w->listener.gone = on_gone;
	sandbox_listen(w->sandbox, &w->listener);
	add_snapshot(w);
	if (w->request->follow_logs)
		add_warning(w,
		    "logs of sandboxes are not kept by this gateway; follow_logs and "
		    "log_tail_lines bring none");
	fill(w);
	speak(w);
}

/* The turn has come to the first loop. */
static void on_first(struct post *post)
{
	struct watcher *w = of_turn(post);

	w->has_turn = true;
	w->turn.run = on_home;
	if (w->gone)
		watcher_free(w);
	else if (w->ending != NULL)
		finish(w, w->ending);
	else if (!w->started)
		start(w);
	else if (w->sandbox == NULL)
		finish(w, NULL);
	else
		fill(w);
}

/* The client has left while the turn was not at home. If it is on its way there, it
 * comes back at once and says so too. */
static void on_left(struct post *post)
{
	struct watcher *w = of_left(post);

	if (w->has_turn)
		watcher_free(w);
}

void watches_end(struct watches *all, const struct err *why)
{
	all->ending = *why;
	for (struct watcher *w = all->list; w != NULL; w = w->next) {
		w->ending = &all->ending;
		if (w->has_turn && !w->last)
			finish(w, &all->ending);
	}
}

struct watches *watches_create(struct err *err)
{
	struct watches *all = calloc(1, sizeof(*all));

	if (all == NULL)
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	return all;
}

void watches_free(struct watches *all)
{
	assert(all == NULL || all->list == NULL);
	free(all);
}

/* The home loop's side. */

static void give_back(struct watcher *w)
{
	w->home_has_turn = false;
	w->turn.run = on_first;
	loop_post(w->gateway->loops[0], &w->turn);
}

/* The turn has come home. */
static void on_home(struct post *post)
{
	struct watcher *w = of_turn(post);

	w->home_has_turn = true;
	if (w->call == NULL) {
		w->gone = true;
		give_back(w);
		return;
	}
	for (size_t i = 0; i < w->batch_count; i++)
		rpc_call_send(w->call, w->batch[i].data, w->batch[i].len);
	drop_batch(w);
	if (w->last)
		rpc_call_finish(w->call, w->end.code != GRPC_OK ? &w->end : NULL);
	else if (rpc_call_queued(w->call) <= WATCH_LOW_BYTES)
		give_back(w);
}

static void on_sent(void *cookie, size_t bytes)
{
	struct watcher *w = cookie;

	(void)bytes;
	if (w->home_has_turn && !w->last && rpc_call_queued(w->call) <= WATCH_LOW_BYTES)
		give_back(w);
}

static void on_closed(void *cookie, const struct err *why)
{
	struct watcher *w = cookie;

	(void)why;
	w->call = NULL;
	if (w->home_has_turn) {
		w->gone = true;
		give_back(w);
		return;
	}
	w->left.run = on_left;
	loop_post(w->gateway->loops[0], &w->left);
}

/* The server has seen to it that there is one message. */
static void on_data(void *cookie, struct slice slice)
{
	struct watcher *w = cookie;

	rpc_call_credit(w->call, slice.len);
	slice_release(&slice);
}

static void on_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	(void)cookie;
	(void)status;
	(void)trailers;
}

static const struct rpc_call_ops call_ops = {
	.data = on_data,
	.end = on_end,
	.sent = on_sent,
	.closed = on_closed,
};

void watch_call(struct rpc_call *call, struct gateway *gateway, const uint8_t *message, size_t len)
{
	struct watcher *w = calloc(1, sizeof(*w));
	struct err err;

	if (w == NULL) {
		err_set(&err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		rpc_call_finish(call, &err);
		return;
	}
	w->request =
	    message_unpack(&openshell__v1__watch_sandbox_request__descriptor, message, len, &err);
	if (w->request == NULL) {
		free(w);
		rpc_call_finish(call, &err);
		return;
	}
	w->gateway = gateway;
	w->home = rpc_call_loop(call);
	w->call = call;
	rpc_call_bind(call, &call_ops, w);
	give_back(w);
}
