/*
 * transfer/sync/sync_list.h: the thread of a target that tells what is there: the listing, and
 * signatures of the files that are asked for. Private to sync_target.c.
 */
#ifndef TRANSFER_SYNC_SYNC_LIST_H
#define TRANSFER_SYNC_SYNC_LIST_H

#include "transfer/sync/sync_peer.h"

struct sync_list;

/* Starts the thread; it writes to ${out}, which is its own until sync_list_join(). What
 * it cannot look at is given to ${failed}, on its thread. ${root} -1: nothing is there.
 * When it fails, ${link}->stop() is called. */
struct sync_list *sync_list_start(int root, const struct sync_options *, const struct sync_link *,
    struct sync_out *out, void (*failed)(void *cookie, const char *path, const struct err *),
    void *cookie, struct err *);

/* Asks for a signature; -1: RESOURCE_EXHAUSTED, more than a source may. */
int sync_list_sign(struct sync_list *, const char *path, struct err *);

/* There will be no more of those. */
void sync_list_walked(struct sync_list *);

/* Nobody wants to hear of it any more. */
void sync_list_stop(struct sync_list *);

/* Waits until all is told, or it was stopped; frees. */
int sync_list_join(struct sync_list *, struct err *);

#endif
