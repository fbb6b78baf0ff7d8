/*
 * gateway/phase.h: the phases of a sandbox, and what moves it from one to the next.
 *
 *	                     session up
 *	PROVISIONING ──────────────────────▶ READY ─── supervisor ended ──▶ ERROR
 *	     │  └── driver failed, too late ──────────────────────────────▶ │ │
 *	     │                                 │                  Stop ◀────┘ │ Start
 *	     └────────── Stop ──▶ STOPPING ◀───┘                              │
 *	                             │ processes ended                        │
 *	                             ▼                                        ▼
 *	                          STOPPED ─────────── Start ─────────────▶ STARTING ──▶ as PROVISIONING
 *
 *	any ── Delete ──▶ DELETING ──▶ (gone)
 *
 * What is stored says what is wanted and how far it got. READY says that the
 * supervisor has been there since the last start; while it is away, clients see
 * PROVISIONING with a condition, and calls get UNAVAILABLE.
 */
#ifndef GATEWAY_PHASE_H
#define GATEWAY_PHASE_H

#include <stdbool.h>

#include "drivers/driver.h"

/* The API's numbers. */
enum phase {
	PHASE_PROVISIONING = 1,
	PHASE_READY = 2,
	PHASE_ERROR = 3,
	PHASE_DELETING = 4,
	PHASE_STOPPING = 6,
	PHASE_STOPPED = 7,
	PHASE_STARTING = 8
};

/* "READY"; "UNKNOWN" for a number that is none of them. */
const char *phase_name(enum phase);
bool phase_is_known(int number);

/* Whether a sandbox may go from one to the other; to the same is no step. */
bool phase_may_follow(enum phase from, enum phase to);

/* What is known of a sandbox besides its phase. */
struct phase_facts {
	bool inspected;           /* the driver has said what is there */
	enum driver_state driver; /* then, and since */
	bool stale;               /* what runs there is of an earlier start */
	bool busy;                /* an operation of the driver is under way */
	bool connected;           /* the supervisor's session is up */
};

struct phase_step {
	enum phase to;
	const char *reason; /* one word */
};

/* The phase that these facts lead to; the same as ${now} when they lead nowhere. */
struct phase_step phase_settle(enum phase now, const struct phase_facts *);

/* What clients see of it. */
enum phase phase_shown(enum phase, const struct phase_facts *);

/* What the driver has to do to get on from here. */
enum phase_work {
	PHASE_WORK_NONE,
	PHASE_WORK_INSPECT,
	PHASE_WORK_LAUNCH,
	PHASE_WORK_STOP,
	PHASE_WORK_DESTROY
};

enum phase_work phase_work(enum phase, const struct phase_facts *);

#endif
