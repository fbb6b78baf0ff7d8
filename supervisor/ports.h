/*
 * supervisor/ports.h: ListenTcp and AcceptTcp, ports of the sandbox's loopback whose
 * connections are taken by a client of the gateway (`ssh -R`).
 *
 *	a program in the sandbox --connects--> listener --pending--> AcceptTcp: a forward
 */
#ifndef SUPERVISOR_PORTS_H
#define SUPERVISOR_PORTS_H

#include "base/err.h"
#include "relay/dialer.h"
#include "relay/framed.h"

#define PORTS_LISTENERS_MAX 64    /* ListenTcp calls of a sandbox; more: RESOURCE_EXHAUSTED */
#define PORTS_PENDING_MAX   32    /* connections of one not yet taken; more wait in its backlog */
#define PORTS_TAKE_MS       10000 /* for a connection to be taken; then it is reset */

struct ports;

/* NULL: no memory. One a supervisor, which lives as long as the process. */
struct ports *ports_create(void);

/* Rows of the channel table; ${app} is the supervisor. */
void ports_listen(struct framed *, const struct channel_request *, void *app);
void ports_accept(struct framed *, const struct channel_request *, void *app);

#endif
