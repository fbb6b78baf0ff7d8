/*
 * transfer/walk.h: what is in a directory, and on demand in those below it.
 *
 * Depth first, one entry at a time, and in pieces as small as one likes: memory and
 * descriptors are those of the directories on the way down. Links are told of, and never
 * followed. On workers, one at a time.
 */
#ifndef TRANSFER_WALK_H
#define TRANSFER_WALK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/text.h"

#define WALK_DEPTH_MAX 128 /* directories within directories; each has a descriptor */

struct walk_level;

struct walk {
	size_t depth;
	struct walk_level *levels[WALK_DEPTH_MAX];
	size_t below; /* where in ${path} the part below the root begins */

	/* The entry that walk_next() told of; good until the next call. */
	int dir; /* borrowed */
	const char *name;
	bool is_directory;
	struct text path; /* the root's, and the way from it; NUL-terminated */
	void *cookie;     /* of its directory: walk_mark() */
};

enum walk_result {
	WALK_FAILED = -1, /* the directory could not be read on; what is beside it can */
	WALK_END,
	WALK_ENTRY
};

/* Takes the descriptor of a directory on success. ${path} is what it is called. The
 * struct may be anything before, and is walk_free()d whatever the result. */
int walk_begin(struct walk *, int fd, const char *path, struct err *);
void walk_free(struct walk *);

enum walk_result walk_next(struct walk *, struct err *);

/* The entry's path below the root: "a/b". */
const char *walk_below(const struct walk *);

/* The entry is a directory: what is in it comes next. Returns its descriptor, which is
 * the walk's. -1: it cannot be entered, or WALK_DEPTH_MAX is reached, or the path too long. */
int walk_enter(struct walk *, struct err *);

/* The cookie of what is in the directory that was begun or entered last. */
void walk_mark(struct walk *, void *cookie);

#endif
