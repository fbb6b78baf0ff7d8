#include "transfer/sync/sync_part.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/random.h"
#include "base/text.h"
#include "transfer/reserve.h"

#define TRIES 16 /* to make one that nobody else takes */

void sync_part_name(char name[static SYNC_PART_SIZE])
{
	uint8_t random[SYNC_PART_RANDOM];

	random_bytes(random, sizeof(random));
	memcpy(name, SYNC_PART, sizeof(SYNC_PART));
	text_hex(random, sizeof(random), name + sizeof(SYNC_PART) - 1);
}

int sync_part_rename(
    int dir, const char *name, const char *target, const char *path, struct err *err)
{
	if (renameat(dir, name, dir, target) == 0)
		return 0;
	if (errno != EISDIR)
		return err_sys(err, errno, "%s", path);
	if (unlinkat(dir, target, AT_REMOVEDIR) != 0)
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s: a directory that is not empty is in its place", path);
	if (renameat(dir, name, dir, target) != 0)
		return err_sys(err, errno, "%s", path);
	return 0;
}

static void close_both(struct sync_part *p)
{
	if (p->fd >= 0)
		close(p->fd);
	if (p->dir >= 0)
		close(p->dir);
	*p = SYNC_PART_NONE;
}

void sync_part_undo(struct sync_part *p)
{
	if (p->fd >= 0)
		unlinkat(p->dir, p->name, 0);
	close_both(p);
}

/* Until we have the lock, another sync may take the file for one of the dead and remove it:
 * then it is made anew. */
static bool lock(int fd)
{
	struct stat st;

	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
		return errno != EWOULDBLOCK;
	return fstat(fd, &st) != 0 || st.st_nlink > 0;
}

static int open_it(struct sync_part *p, const char *path, struct err *err)
{
	for (int i = 0; i < TRIES; i++) {
		sync_part_name(p->name);
		p->fd = openat(
		    p->dir, p->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (p->fd < 0)
			return err_sys(err, errno, "%s", path);
		if (lock(p->fd))
			return 0;
		unlinkat(p->dir, p->name, 0);
		close(p->fd);
		p->fd = -1;
	}
	return err_set(err, GRPC_ABORTED, "%s: another sync of the directory is in the way", path);
}

int sync_part_make(struct sync_part *p, int dir, const char *path, uint64_t room, struct err *err)
{
	int r = 0;

	*p = SYNC_PART_NONE;
	if ((p->dir = fcntl(dir, F_DUPFD_CLOEXEC, 3)) < 0)
		return err_sys(err, errno, "%s", path);
	if ((r = open_it(p, path, err)) == 0 && room > 0 && reserve_room(p->fd, 0, room) != 0)
		r = err_sys(err, errno, "%s: %" PRIu64 " bytes", path, room);
	if (r != 0)
		sync_part_undo(p);
	return r;
}

int sync_part_place(struct sync_part *p, const char *name, const char *path, struct err *err)
{
	if (sync_part_rename(p->dir, p->name, name, path, err) != 0)
		return -1;
	close_both(p);
	return 0;
}
