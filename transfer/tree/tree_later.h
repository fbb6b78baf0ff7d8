/*
 * transfer/tree/tree_later.h: modes and times of directories, set when nothing more goes into
 * them. Private to the room.
 */
#ifndef TRANSFER_TREE_TREE_LATER_H
#define TRANSFER_TREE_TREE_LATER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

struct tree_later {
	struct tree_later_entry **entries;
	size_t count, bytes;
};

/* Remembers a directory; UTIME_OMIT in ${mtime} leaves its time. False: no memory, or more
 * than TREE_LATER_MAX bytes of them; the directory stays as it is. */
bool tree_later_add(struct tree_later *, const char *path, mode_t, struct timespec mtime);

/* Sets all of them beneath ${root}, the deepest first, and forgets them. */
void tree_later_apply(struct tree_later *, int root);
void tree_later_free(struct tree_later *);

#endif
