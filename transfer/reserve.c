#include "transfer/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statfs.h>

/* Whether that much is free. A file system in memory may have no bound of its own. */
static int look_for_room(const struct statfs *fs, uint64_t bytes)
{
	if (fs->f_blocks == 0 || bytes / (uint64_t)fs->f_bsize <= fs->f_bavail)
		return 0;
	errno = ENOSPC;
	return -1;
}

int reserve_room(int fd, uint64_t from, uint64_t bytes)
{
	struct statfs fs;

	if (bytes == 0)
		return 0;
	/* Asked for more than there is, fallocate() takes all there is before it fails: for that
	 * moment nobody else could write. */
	if (fstatfs(fd, &fs) == 0) {
		if (look_for_room(&fs, bytes) != 0)
			return -1;
		/* Pages are made for what is reserved in memory: that takes a third of the time
		 * that writing them does, and nothing is written meanwhile. */
		if (fs.f_type == TMPFS_MAGIC)
			return 0;
	}
	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)bytes) == 0 ||
	    errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL)
		return 0;
	return -1;
}
