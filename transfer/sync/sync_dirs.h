/*
 * transfer/sync/sync_dirs.h: the directories in which a target changes something. Their modes
 * and times come when nothing more goes into them: those the source gave, or else those
 * that were found. Any thread. Private to the room.
 */
#ifndef TRANSFER_SYNC_SYNC_DIRS_H
#define TRANSFER_SYNC_SYNC_DIRS_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define SYNC_DIRS_MAX ((size_t)16 << 20) /* bytes kept of directories until the end */

struct sync_dirs;

struct sync_dirs *sync_dirs_create(struct err *); /* NULL: no memory */
void sync_dirs_free(struct sync_dirs *);          /* NULL is legal */

/* The source says how ${path} shall be. */
void sync_dirs_set(struct sync_dirs *, const char *path, mode_t, int64_t mtime);

/* ${path}, open as ${fd} (maybe for its name alone), is about to be changed: how it is now
 * is remembered, unless something is. One that its owner may not write in is opened up. */
void sync_dirs_note(struct sync_dirs *, const char *path, int fd);

/* All of them beneath ${root} as they shall be, the deepest first. Returns how many could
 * not be remembered: they stay as they are, and the next sync finds that. */
uint64_t sync_dirs_settle(struct sync_dirs *, int root);

#endif
