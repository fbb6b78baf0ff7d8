/* supervisor/forward.h: a connection in the sandbox and the call that carries it. */
#ifndef SUPERVISOR_FORWARD_H
#define SUPERVISOR_FORWARD_H

#include "relay/dialer.h"
#include "relay/framed.h"
#include "supervisor/supervisor.h"

#define FORWARD_CONNECT_MS 10000 /* for a service to answer */
#define FORWARD_DRAIN_MS   30000 /* for it to read what came before the call's end */

/* A row of the channel table: dials; ${app} is the supervisor. */
void forward_open(struct framed *, const struct channel_request *, void *app);

/* Joins ${call} and a connected socket, which it takes. ${target} is who is at its other
 * end, for errors. */
void forward_adopt(struct supervisor *, struct framed *call, const struct channel_request *, int fd,
    const char *target);

/* Closing ${fd} resets its connection, or (${on} false) ends it in order. */
void forward_reset_on_close(int fd, bool on);

#endif
