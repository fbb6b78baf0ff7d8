/* Telling the users what the library has reported, after it has returned. */
#include <stdlib.h>

#include "rpc/h2_session.h"

#define EVENTS_FIRST 16
#define EVENTS_KEPT  256 /* a longer array is given back when it is empty */

void h2_event_add(struct h2 *h, enum h2_event_kind kind, struct h2_stream *s, struct slice data)
{
	if (h->event_count == h->event_cap) {
		size_t cap = h->event_cap > 0 ? 2 * h->event_cap : EVENTS_FIRST;
		struct h2_event *events = realloc(h->events, cap * sizeof(*events));
		if (events == NULL) {
			h->no_memory = true;
			slice_release(&data);
			return;
		}
		h->events = events;
		h->event_cap = cap;
	}
	h2_stream_ref(s);
	h->events[h->event_count++] = (struct h2_event){ .kind = kind, .stream = s, .data = data };
}

static void rewind_events(struct h2 *h)
{
	h->event_head = h->event_count = 0;
	if (h->event_cap <= EVENTS_KEPT)
		return;
	free(h->events);
	h->events = NULL;
	h->event_cap = 0;
}

void h2_events_drop(struct h2 *h)
{
	for (; h->event_head < h->event_count; h->event_head++) {
		struct h2_event *e = &h->events[h->event_head];
		slice_release(&e->data);
		h2_stream_unref(e->stream);
	}
	rewind_events(h);
}

void h2_due_add(struct h2 *h, struct h2_stream *s)
{
	if (s->is_due)
		return;
	s->is_due = true;
	s->due_next = h->due;
	h->due = s;
	h2_stream_ref(s);
}

struct h2_stream *h2_due_pop(struct h2 *h)
{
	struct h2_stream *s = h->due;

	if (s != NULL) {
		h->due = s->due_next;
		s->is_due = false;
	}
	return s;
}

struct h2_stream *h2_told_pop(struct h2 *h)
{
	struct h2_stream *s = h->told;

	if (s != NULL) {
		h->told = s->told_next;
		s->is_told = false;
	}
	return s;
}

void h2_left(void *cookie, void *tag, size_t payload, bool gone)
{
	struct h2 *h = cookie;
	struct h2_stream *s = tag;

	s->framed -= payload;
	s->left += payload;
	if (!s->is_told && !h->stopped && payload > 0) {
		s->is_told = true;
		s->told_next = h->told;
		h->told = s;
		h2_stream_ref(s);
	}
	if (gone)
		h2_stream_unref(s);
}

static void tell_sent(struct h2 *h, struct h2_stream *s)
{
	size_t left = s->left;

	s->left = 0;
	if (left > 0 && !s->deaf)
		h->ops->sent(s, left);
}

/* The end is told behind the last sent(). */
static void tell_closed(struct h2 *h, struct h2_stream *s)
{
	if (s->framed > 0 || !s->listed)
		return; /* tell_left() comes back to it, or it is over already */
	tell_sent(h, s);
	if (h->stopped || !s->listed)
		return;
	h2_unlist(s);
	s->h2 = NULL;
	if (!s->deaf) {
		s->deaf = true;
		h->ops->closed(s, s->close_code);
	}
	h2_stream_unref(s);
}

/* Takes the event's data. */
static void tell(struct h2 *h, struct h2_event *e)
{
	struct h2_stream *s = e->stream;

	if (e->kind == H2_EVENT_CLOSED) {
		s->closed = true;
		tell_closed(h, s);
	} else if (s->deaf) {
		slice_release(&e->data);
	} else if (e->kind == H2_EVENT_HEAD) {
		h->ops->head(s);
	} else if (e->kind == H2_EVENT_DATA) {
		h->ops->data(s, e->data);
	} else {
		h->ops->end(s);
	}
}

static void tell_left(struct h2 *h)
{
	struct h2_stream *s;

	while (!h->stopped && (s = h2_told_pop(h)) != NULL) {
		tell_sent(h, s);
		if (s->closed && !h->stopped)
			tell_closed(h, s);
		h2_stream_unref(s);
	}
}

void h2_dispatch(struct h2 *h)
{
	assert(!h->inside);
	while (h->event_head < h->event_count && !h->stopped) {
		struct h2_event e = h->events[h->event_head++];
		tell(h, &e);
		h2_stream_unref(e.stream);
	}
	if (h->stopped)
		return;
	rewind_events(h);
	tell_left(h);
}

void h2_stop(struct h2 *h, void (*each)(struct h2_stream *, void *cookie), void *cookie)
{
	struct h2_stream *s;

	h->stopped = true;
	h2_events_drop(h);
	while ((s = h->streams) != NULL) {
		h2_unlist(s);
		s->h2 = NULL;
		if (!s->deaf) {
			s->deaf = true;
			each(s, cookie);
		}
		h2_stream_unref(s);
	}
}
