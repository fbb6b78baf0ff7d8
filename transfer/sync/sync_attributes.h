/*
 * transfer/sync/sync_attributes.h: extended attributes of files and directories, as a sync has
 * them: those of users ("user.*") and no others, which speak of rights. Blocking; private
 * to the room.
 */
#ifndef TRANSFER_SYNC_SYNC_ATTRIBUTES_H
#define TRANSFER_SYNC_SYNC_ATTRIBUTES_H

#include "transfer/sync/sync_wire.h"

/* Room to read them in. */
struct sync_attributes;

struct sync_attributes *sync_attributes_create(struct err *); /* NULL: no memory */
void sync_attributes_free(struct sync_attributes *);          /* NULL is legal */

/* Whether ${name} in ${dir} may have any: where the kernel can tell without opening it, what
 * most files are asked. */
bool sync_attributes_may_be(struct sync_attributes *, int dir, const char *name);

/* Reads those of ${fd} and returns a sum over them, the same whatever their order is; 0
 * when there are none, or ${left_out}: they take more than TREE_XATTRS_MAX bytes. */
uint64_t sync_attributes_read(struct sync_attributes *, int fd, bool *left_out);

/* A record of what was read last, if that is anything. */
int sync_attributes_put(const struct sync_attributes *, struct sync_out *, struct err *);

/* Whether ${body} is such a record's: a name, a value, a name, ... */
int sync_attributes_check(const uint8_t *body, size_t len, struct err *);

/* From now on ${fd} has these and no others. A file system without them is content. */
int sync_attributes_apply(struct sync_attributes *, int fd, const uint8_t *body, size_t len,
    const char *path, struct err *);

#endif
