#include "gateway/events.h"

#include <stdio.h>
#include <stdlib.h>

#include "gateway/wall.h"

void events_init(struct events *e, uint64_t first)
{
	*e = (struct events){ .next = first };
}

void events_free(struct events *e)
{
	free(e->ring);
	e->ring = NULL;
	e->count = 0;
}

void events_add(struct events *e, bool warning, const char *reason, const char *message)
{
	struct event *event;

	if (e->ring == NULL && (e->ring = calloc(EVENTS_KEPT, sizeof(*e->ring))) == NULL)
		return;
	event = &e->ring[e->next % EVENTS_KEPT];
	*event = (struct event){ .serial = e->next, .time_ms = wall_now_ms(), .warning = warning };
	snprintf(event->reason, sizeof(event->reason), "%s", reason);
	snprintf(event->message, sizeof(event->message), "%s", message);
	e->next++;
	if (e->count < EVENTS_KEPT)
		e->count++;
}

uint64_t events_oldest(const struct events *e)
{
	return e->next - e->count;
}

const struct event *events_get(const struct events *e, uint64_t serial)
{
	if (serial < events_oldest(e) || serial >= e->next)
		return NULL;
	return &e->ring[serial % EVENTS_KEPT];
}
