/*
 * transfer/sync/sync_apply.h: what a source says, done beneath the target's root.
 *
 * Directories are opened with openat2 beneath the root and without following links; what
 * is made in one is made by one plain name. A file is complete and verified under another
 * name (sync_walk.h, SYNC_PART) before it is renamed: whatever fails, the old one is there.
 * Owners are ours; setuid, setgid and sticky bits are never set. Nothing is durable before
 * sync_apply_sync(), and directories have their modes and times only after
 * sync_dirs_settle(). Blocking, one thread. ${path} is clean (sync_path_is_clean()).
 */
#ifndef TRANSFER_SYNC_SYNC_APPLY_H
#define TRANSFER_SYNC_SYNC_APPLY_H

#include "transfer/sync/sync_dirs.h"
#include "transfer/sync/sync_joint.h"
#include "transfer/sync/sync_peer.h"
#include "transfer/sync/sync_wire.h"

struct sync_apply;

/* ${root}, ${dirs}, ${joint} and ${link}, over which all comes, are borrowed. NULL: no memory. */
struct sync_apply *sync_apply_create(int root, struct sync_dirs *dirs, struct sync_joint *joint,
    const struct sync_link *link, struct err *);
void sync_apply_free(struct sync_apply *); /* undoes a file that is begun. NULL is legal */

/* The next file, directory or touch has these extended attributes (a body that
 * sync_attributes_check() likes, borrowed until then); without, it has none. */
void sync_apply_attributes(struct sync_apply *, const uint8_t *body, size_t len);

/* A file or a link in its place makes way. */
int sync_apply_directory(
    struct sync_apply *, const char *path, mode_t, int64_t mtime, struct err *);
/* A file, link or empty directory in its place makes way. */
int sync_apply_link(
    struct sync_apply *, const char *path, const char *target, int64_t mtime, struct err *);
int sync_apply_touch(struct sync_apply *, const char *path, mode_t, int64_t mtime, struct err *);

/* Another name for the file that has ${first}, which must be as the source has it:
 * ABORTED if its size or time is another. */
int sync_apply_hardlink(struct sync_apply *, const char *path, const char *first, uint64_t size,
    int64_t mtime, struct err *);

/* A file, or a range of one, from its beginning to its end. begin: what is there may be copied
 * from, and is opened when first it is; of one that is ${sparse}, what is zero takes no room.
 * A failure undoes it; the other functions then do nothing. Of a file in ranges only the
 * first that fails is one. */
int sync_apply_begin(struct sync_apply *, const struct sync_entry *, bool sparse, struct err *);
/* 1: the file has failed, ${why}. -1: the range is none, ${err}. */
int sync_apply_begin_range(struct sync_apply *, const struct sync_entry *, bool sparse,
    const struct sync_range *, struct err *why, struct err *err);
int sync_apply_literal(struct sync_apply *, const uint8_t *, size_t, struct err *);
int sync_apply_hole(struct sync_apply *, uint64_t len, struct err *);
int sync_apply_copy(struct sync_apply *, uint64_t offset, uint64_t len, struct err *);
/* Verifies (DATA_LOSS). 1: the file is in its place. 0: ranges of it are missing, or failed. */
int sync_apply_commit(struct sync_apply *, const uint8_t digest[static DIGEST_SIZE], struct err *);
void sync_apply_undo(struct sync_apply *);

/* One entry, of a directory only what is empty: 1 if it is gone, 0 if it was kept since
 * something is in it. */
int sync_apply_delete(struct sync_apply *, const char *path, bool directory, struct err *);

int sync_apply_sync(struct sync_apply *, struct err *);

#endif
