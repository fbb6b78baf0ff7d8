#include "gateway/phase.h"

#include <stddef.h>

#define BIT(phase) (1u << (phase))

static const struct {
	const char *name;
	unsigned next; /* bits of the phases that may follow */
} phases[] = {
	[PHASE_PROVISIONING] = { "PROVISIONING",
	    BIT(PHASE_READY) | BIT(PHASE_ERROR) | BIT(PHASE_STOPPING) | BIT(PHASE_DELETING) },
	[PHASE_READY] = { "READY", BIT(PHASE_ERROR) | BIT(PHASE_STOPPING) | BIT(PHASE_DELETING) },
	[PHASE_ERROR] = { "ERROR",
	    BIT(PHASE_READY) | BIT(PHASE_STARTING) | BIT(PHASE_STOPPING) | BIT(PHASE_DELETING) },
	[PHASE_DELETING] = { "DELETING", 0 },
	[PHASE_STOPPING] = { "STOPPING", BIT(PHASE_STOPPED) | BIT(PHASE_DELETING) },
	[PHASE_STOPPED] = { "STOPPED", BIT(PHASE_STARTING) | BIT(PHASE_DELETING) },
	[PHASE_STARTING] = { "STARTING",
	    BIT(PHASE_READY) | BIT(PHASE_ERROR) | BIT(PHASE_STOPPING) | BIT(PHASE_DELETING) },
};

bool phase_is_known(int number)
{
	return number >= 0 && (size_t)number < sizeof(phases) / sizeof(phases[0]) &&
	    phases[number].name != NULL;
}

const char *phase_name(enum phase phase)
{
	return phase_is_known((int)phase) ? phases[phase].name : "UNKNOWN";
}

bool phase_may_follow(enum phase from, enum phase to)
{
	return phase_is_known((int)from) && (phases[from].next & BIT(to)) != 0;
}

/* Being brought up: once the driver has launched it, the session decides. */
static struct phase_step settle_rising(enum phase now, const struct phase_facts *f)
{
	if (f->driver == DRIVER_STATE_FAILED)
		return (struct phase_step){ PHASE_ERROR, "SupervisorFailed" };
	if (f->driver == DRIVER_STATE_RUNNING && !f->stale && f->connected)
		return (struct phase_step){ PHASE_READY, "SupervisorConnected" };
	return (struct phase_step){ now, NULL };
}

struct phase_step phase_settle(enum phase now, const struct phase_facts *f)
{
	if (!f->inspected)
		return (struct phase_step){ now, NULL };
	switch (now) {
	case PHASE_PROVISIONING:
	case PHASE_STARTING:
		return settle_rising(now, f);
	case PHASE_READY:
		if (!f->busy && f->driver != DRIVER_STATE_RUNNING)
			return (struct phase_step){ PHASE_ERROR, "SupervisorExited" };
		break;
	case PHASE_ERROR:
		/* It came after all. */
		if (f->driver == DRIVER_STATE_RUNNING && f->connected)
			return (struct phase_step){ PHASE_READY, "SupervisorConnected" };
		break;
	case PHASE_STOPPING:
		if (!f->busy && f->driver != DRIVER_STATE_RUNNING)
			return (struct phase_step){ PHASE_STOPPED, "Stopped" };
		break;
	case PHASE_STOPPED:
	case PHASE_DELETING:
		break;
	}
	return (struct phase_step){ now, NULL };
}

enum phase phase_shown(enum phase phase, const struct phase_facts *f)
{
	return phase == PHASE_READY && !f->connected ? PHASE_PROVISIONING : phase;
}

enum phase_work phase_work(enum phase phase, const struct phase_facts *f)
{
	/* Also before it is destroyed: the driver has to know what runs to end it. */
	if (!f->inspected)
		return PHASE_WORK_INSPECT;
	switch (phase) {
	case PHASE_PROVISIONING:
	case PHASE_STARTING:
		if (f->driver != DRIVER_STATE_RUNNING)
			return PHASE_WORK_LAUNCH;
		return f->stale ? PHASE_WORK_STOP : PHASE_WORK_NONE;
	case PHASE_STOPPING:
		return f->driver == DRIVER_STATE_RUNNING ? PHASE_WORK_STOP : PHASE_WORK_NONE;
	case PHASE_DELETING:
		return PHASE_WORK_DESTROY;
	case PHASE_READY:
	case PHASE_ERROR:
	case PHASE_STOPPED:
		break;
	}
	return PHASE_WORK_NONE;
}
