/*
 * gateway/leftovers.h: places that the driver has and the store does not know of.
 *
 * A row is removed only when its place is gone, so there are such places only when the
 * store lost its last moments, was restored from a backup, or was taken away. Their
 * processes are ended, since nobody can reach them; their files are for a person to judge.
 * First loop.
 */
#ifndef GATEWAY_LEFTOVERS_H
#define GATEWAY_LEFTOVERS_H

#include <stdbool.h>

#include "drivers/driver.h"

struct leftovers;

/* Lists the places and begins to stop those that ${known} denies; says so in the log.
 * NULL: there are none, or they cannot be listed. */
struct leftovers *leftovers_sweep(const struct driver_ops *, void *driver,
    bool (*known)(void *cookie, const char *sandbox_id), void *cookie);

/* Lets go of what is still under way; before the driver is closed. NULL is legal. */
void leftovers_free(struct leftovers *);

#endif
