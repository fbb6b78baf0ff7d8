#include "transfer/etag.h"

#include <inttypes.h>
#include <stdio.h>

void etag_of(const struct stat *st, char out[static ETAG_SIZE])
{
	snprintf(out, ETAG_SIZE, "%" PRIx64 "-%" PRIx64 "-%" PRIx64 ".%lx-%" PRIx64 ".%lx",
	    (uint64_t)st->st_ino, (uint64_t)st->st_size, (uint64_t)st->st_mtim.tv_sec,
	    (unsigned long)st->st_mtim.tv_nsec, (uint64_t)st->st_ctim.tv_sec,
	    (unsigned long)st->st_ctim.tv_nsec);
}
