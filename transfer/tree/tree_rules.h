/*
 * transfer/tree/tree_rules.h: what is left out of a tree, asked on the walk through it.
 * Private to the room.
 *
 * The chain of .gitignore files that hold in a directory: its own, those of the directories
 * above it, and above the tree those up to the repository's first directory. The innermost
 * that has something to say is heard. Blocks: on the walk's thread.
 */
#ifndef TRANSFER_TREE_TREE_RULES_H
#define TRANSFER_TREE_TREE_RULES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "transfer/tree/ignore.h"

#define TREE_RULES_ABOVE_MAX 64 /* files above the tree that are heeded, the nearest of them */

struct tree_rules {
	const struct tree_rules *up; /* NULL: nobody else */
	struct ignore *patterns;
	const char *prefix; /* goes before a path of the tree; NULL: nothing does */
	size_t skip;        /* bytes of a path that are not its patterns' concern */
};

/* Whether a path of the walk is out. ${rules} may be NULL: nothing is. */
bool tree_rules_out(const struct tree_rules *, const char *path, bool directory);

/* A file of patterns in a directory; symbolic links are not followed. NULL with ${err} clear:
 * there is none. NULL with ${err}: why it is not heeded. */
struct ignore *tree_rules_load(int dir, const char *name, struct err *);

/* Those above the tree at ${root}, when it is in a repository and not itself out. NULL: there
 * are none. ${skip} is the length of the walk's name for the root, with a slash. */
struct tree_above;
struct tree_above *tree_above_find(int root, size_t skip);
const struct tree_rules *tree_above_rules(const struct tree_above *); /* NULL of NULL */
void tree_above_free(struct tree_above *);

#endif
