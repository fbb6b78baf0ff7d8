/*
 * transfer/sweep.h: removing what transfers have left and nobody will go on with
 * (part_expire()). All functions block: on a worker.
 */
#ifndef TRANSFER_SWEEP_H
#define TRANSFER_SWEEP_H

#include <stddef.h>
#include <stdint.h>

#define SWEEP_TREE_MAX      1000000 /* entries of a tree that are looked at */
#define SWEEP_DIRECTORY_MAX 10000   /* of a directory */
#define SWEEP_DEPTH_MAX     64      /* directories in each other */

/* In the directory ${dir}, which may be open for its name alone. How many were removed. */
size_t sweep_directory(int dir, uint64_t expiry_ms, uint64_t boot);

/* Below ${dir} too, as long as it is the same file system; never through a link. Looks at so
 * many ${entries} at most. */
size_t sweep_tree(int dir, uint64_t expiry_ms, uint64_t boot, size_t entries);

#endif
