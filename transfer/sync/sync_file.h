/*
 * transfer/sync/sync_file.h: the content of a source's files onto its way out: small ones in
 * one record, others as a stream, or as what differs from what is there; whole, or a range.
 * Private to the room.
 */
#ifndef TRANSFER_SYNC_SYNC_FILE_H
#define TRANSFER_SYNC_SYNC_FILE_H

#include "transfer/sync/sync_send.h"
#include "transfer/sync/sync_split.h"

/* All give -1 only when the sync is over. */

/* Takes ${fd}; ${sums} is what is there, of ${basis} bytes, or NULL. */
int sync_file_send(struct sync_send *, int fd, const char *path, const struct sync_sums *sums,
    uint64_t basis, struct err *);

/* One range of a file; who is done with the last does what is left. */
int sync_file_send_range(struct sync_send *, struct sync_split *, size_t n, struct err *);

#endif
