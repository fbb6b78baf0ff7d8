/* transfer/reserve.h: room for a file before its bytes come. */
#ifndef TRANSFER_RESERVE_H
#define TRANSFER_RESERVE_H

#include <stdint.h>

/*
 * ${bytes} of room at ${from}, so that a full disk is found before anything is sent and not
 * after; the file's size stays. Where the file system cannot promise, what is free now must
 * do, and with none that tells, nothing. -1: errno, ENOSPC and EDQUOT among others. Blocks.
 */
int reserve_room(int fd, uint64_t from, uint64_t bytes);

#endif
