/*
 * drivers/local/launch.h: what one start of a supervisor needs, copied from the
 * spec on the loop and carried out on a worker.
 */
#ifndef DRIVERS_LOCAL_LAUNCH_H
#define DRIVERS_LOCAL_LAUNCH_H

#include "drivers/driver.h"
#include "drivers/local/process.h"

#define LAUNCH_ENVIRONMENT_MAX 512 /* variables of one sandbox */

struct launch;

/* ${root} is the descriptor of the driver's directory, borrowed until freed. */
struct launch *launch_create(
    const struct driver_env *, int root, const struct sandbox_spec *, struct err *);

/* Makes the directory if it is missing, hands the token over in a file of mode 0600
 * that exists only as descriptor 3 of the supervisor, starts it and writes down who
 * runs. Blocks. The pidfd, or -1 (and then no process runs). */
int launch_supervisor(struct launch *, struct process *, struct err *);

void launch_free(struct launch *); /* wipes the token; NULL is legal */

#endif
