/*
 * transfer/sync/sync_links.h: the names of files that have several, as a source has them. The
 * first name of a file is sent as any file is; its other names follow as links when all
 * files are in place. One thread. Private to the room.
 */
#ifndef TRANSFER_SYNC_SYNC_LINKS_H
#define TRANSFER_SYNC_SYNC_LINKS_H

#include "transfer/sync/sync_peer.h"

#define SYNC_LINKS_MAX ((size_t)16 << 20) /* bytes of names that wait, and of first names */

struct sync_links;

struct sync_links *sync_links_create(struct err *); /* NULL: no memory */
void sync_links_free(struct sync_links *);          /* NULL is legal */

enum sync_link_answer {
	SYNC_LINK_NONE,  /* a file of its own, or the first name: to be handled as any file */
	SYNC_LINK_SAME,  /* the target has it as a name of the same file */
	SYNC_LINK_WAITS, /* it will be made a link */
};

/* ${theirs} is what the target has of that name, or NULL. */
enum sync_link_answer sync_links_add(
    struct sync_links *, const struct sync_entry *mine, const struct sync_entry *theirs);

/* ${entry}, the first name of its file if it is that, was left in its place. */
void sync_links_kept(struct sync_links *, const struct sync_entry *);

/* The next that waits; false: there is none. The texts are good until the next call. */
bool sync_links_next(struct sync_links *, const char **path, const char **first);

#endif
