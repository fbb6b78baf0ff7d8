/* transfer/etag.h: a text that is another when a file is. */
#ifndef TRANSFER_ETAG_H
#define TRANSFER_ETAG_H

#include <sys/stat.h>

#define ETAG_SIZE 128 /* bytes with the NUL */

/* Of inode, size, and both times: what rename, write, truncate and touch each change. */
void etag_of(const struct stat *, char out[static ETAG_SIZE]);

#endif
