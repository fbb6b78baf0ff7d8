/*
 * transfer/tree/tree_plain.h: a stream without its compression. Private to the room.
 *
 * Apart from the reading of tar, so that it can be seen how much a header makes of the
 * bytes that came.
 */
#ifndef TRANSFER_TREE_TREE_PLAIN_H
#define TRANSFER_TREE_TREE_PLAIN_H

#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "transfer/tree/tree.h"

struct tree_plain;

/* Plain, gzip or zstd, found out by the first bytes; ${pull} may be called at once. NULL:
 * want of memory, or the pull has failed. */
struct tree_plain *tree_plain_open(tree_pull *pull, void *cookie, struct err *);

/* As tree_pull. INVALID_ARGUMENT: damaged. */
ssize_t tree_plain_read(struct tree_plain *, const void **bytes, struct err *);
uint64_t tree_plain_packed(const struct tree_plain *); /* bytes that were pulled */
void tree_plain_free(struct tree_plain *);             /* NULL is legal */

#endif
