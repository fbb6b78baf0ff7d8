/*
 * base/beneath.h: paths that cannot leave the directory they are asked for.
 *
 * Every function resolves ${path} with openat2(2) from a held directory
 * descriptor: RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS, and with
 * RESOLVE_NO_SYMLINKS where noted, so no rename or symlink made by somebody else
 * meanwhile can lead out. What cannot be done on a descriptor is done by *at()
 * calls on the parent's descriptor and one last name without '/'. All may block:
 * call on a worker. Descriptors are CLOEXEC. Errors name the path.
 */
#ifndef BASE_BENEATH_H
#define BASE_BENEATH_H

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/err.h"

#define BENEATH_PATH_MAX  4096 /* bytes with the NUL */
#define BENEATH_DEPTH_MAX 512  /* components */
#define BENEATH_NAME_MAX  256  /* bytes of one name with the NUL */

enum beneath_links {
	BENEATH_FOLLOW,  /* symlinks are followed as long as they stay beneath */
	BENEATH_IN_ROOT, /* followed, and absolute ones start at the root: for paths from "/" */
	BENEATH_NO_LINKS,
	BENEATH_ONE_MOUNT /* nor what another file system is mounted on; FAILED_PRECONDITION */
};

/* A path that is text for a file: not empty, no NUL within ${len}, lengths in
 * range; "a/../b" is legal here and resolved by the kernel. INVALID_ARGUMENT. */
int beneath_check(const char *path, size_t len, struct err *);

/* The root to resolve from: an absolute path is taken from "/", a relative one
 * from ${workdir}; ${rest} becomes the part to resolve. Returns the descriptor
 * to use (borrowed). */
int beneath_root(int workdir, int slash, const char *path, const char **rest);

/* -1 on error. O_CREAT needs ${mode}; O_CLOEXEC and O_NOCTTY are added. */
int beneath_open(
    int root, const char *path, int flags, mode_t mode, enum beneath_links, struct err *);

/* Opens the parent directory (O_PATH) and gives the last component: "x" of
 * "a/b/x". With ${make_parents} creates missing ones (0777 less umask). "..", "."
 * and "" as last component are INVALID_ARGUMENT. */
int beneath_parent(int root, const char *path, bool make_parents, enum beneath_links,
    char last[BENEATH_NAME_MAX], struct err *);

/* With parents; what exists is fine. */
int beneath_mkdir(int root, const char *path, mode_t, enum beneath_links, struct err *);
int beneath_stat(int root, const char *path, struct stat *, enum beneath_links, struct err *);

/* Removes a whole tree, never through a symlink; a missing one is fine. */
int beneath_remove_tree(int root, const char *path, struct err *);

#endif
