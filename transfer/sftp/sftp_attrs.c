/* SETSTAT in its three forms. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transfer/sftp/sftp.h"

/* Each part is tried, whatever became of the one before: the first failure is told. The
 * owner goes before the mode, since a change of owner takes set-user-id bits away. */

struct outcome {
	int sys;
};

static void note(struct outcome *o, int result)
{
	if (result != 0 && o->sys == 0)
		o->sys = errno;
}

static void times_of(const struct sftp_attrs *a, struct timespec times[static 2])
{
	times[0] = (struct timespec){ .tv_sec = a->atime };
	times[1] = (struct timespec){ .tv_sec = a->mtime };
}

/* No offset of a file is negative. */
static int check_size(const struct sftp_attrs *a)
{
	if (!(a->flags & SFTP_ATTR_SIZE) || a->size <= INT64_MAX)
		return 0;
	errno = EINVAL;
	return -1;
}

enum sftp_status sftp_apply_fd(struct sftp *s, int fd, const struct sftp_attrs *a)
{
	struct outcome o = { 0 };
	struct timespec times[2];

	if (check_size(a) != 0)
		return sftp_fail(s, errno);
	times_of(a, times);
	if (a->flags & SFTP_ATTR_SIZE)
		note(&o, ftruncate(fd, (off_t)a->size));
	if (a->flags & SFTP_ATTR_OWNER)
		note(&o, fchown(fd, a->uid, a->gid));
	if (a->flags & SFTP_ATTR_PERMISSIONS)
		note(&o, fchmod(fd, a->permissions & 07777));
	if (a->flags & SFTP_ATTR_TIMES)
		note(&o, futimens(fd, times));
	return o.sys == 0 ? SFTP_OK : sftp_fail(s, o.sys);
}

/* There is no truncateat(). */
static int truncate_path(int dir, const char *path, uint64_t size)
{
	int fd = openat(dir, path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return -1;
	int r = ftruncate(fd, (off_t)size), sys = errno;
	close(fd);
	errno = sys;
	return r;
}

static enum sftp_status apply(struct sftp *s, const char *path, const struct sftp_attrs *a, int how)
{
	int dir = s->env->workdir;
	struct outcome o = { 0 };
	struct timespec times[2];

	if (check_size(a) != 0)
		return sftp_fail(s, errno);
	times_of(a, times);
	if (a->flags & SFTP_ATTR_SIZE)
		note(&o, truncate_path(dir, path, a->size));
	if (a->flags & SFTP_ATTR_OWNER)
		note(&o, fchownat(dir, path, a->uid, a->gid, how));
	if (a->flags & SFTP_ATTR_PERMISSIONS)
		note(&o, fchmodat(dir, path, a->permissions & 07777, how));
	if (a->flags & SFTP_ATTR_TIMES)
		note(&o, utimensat(dir, path, times, how));
	return o.sys == 0 ? SFTP_OK : sftp_fail(s, o.sys);
}

enum sftp_status sftp_apply_path(struct sftp *s, const char *path, const struct sftp_attrs *a)
{
	return apply(s, path, a, 0);
}

/* A link has no size that could be set. */
enum sftp_status sftp_apply_link(struct sftp *s, const char *path, const struct sftp_attrs *a)
{
	return a->flags & SFTP_ATTR_SIZE ? SFTP_BAD_MESSAGE
					 : apply(s, path, a, AT_SYMLINK_NOFOLLOW);
}
