/*
 * relay/handover.h: a pump's sink whose far end is on another loop.
 *
 *	pump --write, finish, stop--> queue --one post a batch--> target
 *	  <--sent-- one post a batch <--handover_sent-- target
 *
 * What is under way stays within the source's window, because bytes are reported as
 * sent only when the target has sent them; the queue's own limit asserts as much.
 * Slices move, their blocks are counted atomically. Order is kept: finish() and
 * stop() reach the target behind what was written before them.
 */
#ifndef RELAY_HANDOVER_H
#define RELAY_HANDOVER_H

#include <stddef.h>

#include "base/loop.h"
#include "relay/pump.h"
#include "rpc/call.h"

#define HANDOVER_BYTES_MAX  RPC_CALL_QUEUE_MAX /* what the target would take, too */
#define HANDOVER_SLICES_MAX 65536              /* more are gathered into one */

struct handover;

/* From ${near} to ${target}, which lives on ${far}. ${sent} runs on ${near}. NULL: no
 * memory. Any thread. */
struct handover *handover_create(struct loop *near, struct loop *far, struct pump_sink target,
    void (*sent)(void *cookie, size_t bytes), void *cookie);

/* For the pump on the near loop. write() never says that nobody reads: the far side
 * has its own way to tell. -1 is a full queue. */
struct pump_sink handover_sink(struct handover *);

/* Far loop: ${bytes} of what the target was given have left for good. */
void handover_sent(struct handover *, size_t bytes);

/* Each side leaves once, on its loop: no callback to it after that, and what is still
 * queued for the far side is released. The memory goes when both have. */
void handover_leave_near(struct handover *);
void handover_leave_far(struct handover *);

#endif
