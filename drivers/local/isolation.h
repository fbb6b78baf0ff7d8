/*
 * drivers/local/isolation.h: which of the namespaces a sandbox got, and why not the
 * others, so that GetSandbox can tell the truth.
 */
#ifndef DRIVERS_LOCAL_ISOLATION_H
#define DRIVERS_LOCAL_ISOLATION_H

#include "drivers/driver.h"

enum isolation {
	ISOLATION_USER = 1,
	ISOLATION_MOUNT = 2,
	ISOLATION_PID = 4,
	ISOLATION_HIDDEN = 8 /* the gateway's private directory is not visible inside */
};

/* Adds one condition a kind to ${status}. ${refused} is the errno with which the
 * kernel refused the strongest form, 0 if it did not. */
void isolation_conditions(unsigned isolation, int refused, struct driver_status *status);

#endif
