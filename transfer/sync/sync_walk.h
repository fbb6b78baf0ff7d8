/*
 * transfer/sync/sync_walk.h: a tree entry by entry, in the order of sync_compare().
 *
 * A directory's names are read and sorted when it is entered, so the memory is that of
 * the names of the directories that are open at once, and bounded. Symbolic links are
 * never followed. Names of one file are numbered, up to SYNC_FILES_MAX files that have
 * several; others look like files of their own. Part files of syncs are not seen; those that
 * nobody writes any more can be removed on the way. Blocking.
 */
#ifndef TRANSFER_SYNC_SYNC_WALK_H
#define TRANSFER_SYNC_SYNC_WALK_H

#include <sys/stat.h>

#include "transfer/sync/sync_wire.h"

#define SYNC_NAMES_MAX ((size_t)24 << 20) /* bytes of names of the directories open at once */
#define SYNC_FILES_MAX 65536              /* that have several names */

/* "the file is being written": a part file's name, and the lock of who writes it. */
#define SYNC_PART ".towline-sync-"

struct sync_walk;

struct sync_walk_options {
	int root;          /* borrowed */
	bool remove_parts; /* those of syncs that were killed */
	bool digests;      /* of every file */
	size_t max_files;  /* that have several names; 0: SYNC_FILES_MAX */
	void *cookie;      /* of both: */
	bool (*excluded)(void *cookie, const char *path, bool directory); /* may be NULL */
	/* What cannot be looked at is left out. */
	void (*failed)(void *cookie, const char *path, const struct err *);
};

/* NULL: no memory. */
struct sync_walk *sync_walk_create(const struct sync_walk_options *, struct err *);
void sync_walk_free(struct sync_walk *); /* NULL is legal */

/* 1: an entry, good until the next call. 0: that was all. -1: no memory. */
int sync_walk_next(struct sync_walk *, struct sync_entry *, struct err *);

/* The entry that was given last: the directory it is in, and its name there. */
int sync_walk_directory(const struct sync_walk *);
const char *sync_walk_name(const struct sync_walk *);

/* What the file system says, as an entry without its texts. */
void sync_entry_of(const struct stat *, struct sync_entry *);
struct timespec sync_time_of(int64_t ns);

/* A file or directory for what is in it, and no pipe or device that would keep us. */
int sync_open(int dir, const char *name);

/* The digest of all that ${fd} has. */
int sync_digest_of(int fd, const char *path, uint8_t out[static DIGEST_SIZE], struct err *);

#endif
