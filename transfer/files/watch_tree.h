/*
 * transfer/files/watch_tree.h: which directories are watched, by the kernel's number for each
 * and by where they are. A directory that is moved takes those below it along.
 */
#ifndef TRANSFER_FILES_WATCH_TREE_H
#define TRANSFER_FILES_WATCH_TREE_H

#include <stddef.h>

#include "base/err.h"
#include "base/text.h"

#define WATCH_TREE_MAX  65536 /* directories of one watch; about 150 bytes each */
#define WATCH_DEPTH_MAX 512   /* and in each other */

struct watch_node {
	int wd;
	struct watch_node *parent;      /* NULL: the top */
	struct watch_node *child;       /* the first of them */
	struct watch_node *next, *prev; /* beside it */
	struct watch_node *bucket;      /* next with the same hash of wd */
	char *name;                     /* in the parent; "" of the top */
};

struct watch_tree {
	struct watch_node *top; /* NULL: there is none yet */
	struct watch_node **buckets;
	size_t count, bucket_count;
};

void watch_tree_free(struct watch_tree *); /* a zeroed one is legal */

/* ${parent} is NULL for the top. NULL: no memory, or WATCH_TREE_MAX. */
struct watch_node *watch_tree_add(
    struct watch_tree *, struct watch_node *parent, const char *name, int wd, struct err *);

struct watch_node *watch_tree_find(const struct watch_tree *, int wd);
struct watch_node *watch_tree_child(const struct watch_node *, const char *name);

/* -1: no memory, or ${parent} is below ${node}. */
int watch_tree_move(struct watch_node *, struct watch_node *parent, const char *name);

/* Forgets a directory and those below it, each of which ${gone} is told of first. */
void watch_tree_drop(struct watch_tree *, struct watch_node *,
    void (*gone)(void *cookie, const struct watch_node *), void *cookie);

/* Adds "a/b/" to ${path}, the way from the top to ${node}; nothing for the top. One that is
 * deeper than WATCH_DEPTH_MAX leaves it failed. */
void watch_tree_path(const struct watch_node *, struct text *path);

#endif
