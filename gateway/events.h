/* gateway/events.h: what happened to a sandbox lately, for those who watch it. */
#ifndef GATEWAY_EVENTS_H
#define GATEWAY_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define EVENTS_KEPT 32 /* of one sandbox; the oldest are forgotten first */

struct event {
	uint64_t serial; /* grows by one */
	int64_t time_ms;
	bool warning;
	char reason[48];
	char message[ERR_TEXT_MAX];
};

/* A ring; nothing is allocated before the first event. */
struct events {
	struct event *ring;
	uint64_t next; /* the serial of the next event */
	size_t count;
};

/* Serials begin at ${first}, which the caller makes larger with each run of the
 * program, so that a cursor of an earlier run is older than all events. */
void events_init(struct events *, uint64_t first);
void events_free(struct events *);

/* Forgets the event when there is no memory for it. */
void events_add(struct events *, bool warning, const char *reason, const char *message);

/* The serial of the oldest event that is kept; that of the next when there is none. */
uint64_t events_oldest(const struct events *);

/* By serial; NULL when it is not kept. Good until the next events_add(). */
const struct event *events_get(const struct events *, uint64_t serial);

#endif
