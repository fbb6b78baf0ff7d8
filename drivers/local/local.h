/*
 * drivers/local/local.h: the embedded default. A sandbox is a directory and a
 * supervisor process on this machine, in a session, process group and, where the
 * kernel allows, user, mount and PID namespaces of its own. It outlives the gateway:
 * what runs is written down in the sandbox's directory and found again by inspect.
 *
 *	STATE_DIR/ID/		mode 0700
 *	    work/		the sandbox's working directory
 *	    supervisor.pid	"PID STARTTIME INSTANCE ISOLATION"
 *	    supervisor.log
 */
#ifndef DRIVERS_LOCAL_LOCAL_H
#define DRIVERS_LOCAL_LOCAL_H

#include "drivers/driver.h"

#define LOCAL_STOP_MS 5000      /* from SIGTERM to SIGKILL */
#define LOCAL_KILL_MS 10000     /* from SIGKILL to giving up */
#define LOCAL_LOG_MAX (1 << 20) /* bytes; a longer log is begun anew at start */

extern const struct driver_ops driver_local;

#endif
