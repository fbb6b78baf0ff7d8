/* What SFTP does to a name. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transfer/sftp/sftp.h"

/* One path and nothing else; false: the packet is bad. */
static bool get_path(struct sftp *s)
{
	sftp_get_path(&s->in, s->path[0]);
	return !s->in.bad;
}

static enum sftp_status answer_stat(struct sftp *s, int how)
{
	struct stat st;

	if (!get_path(s))
		return SFTP_BAD_MESSAGE;
	if (fstatat(s->env->workdir, s->path[0], &st, how) != 0)
		return sftp_fail(s, errno);
	sftp_begin(s, SFTP_ATTRS);
	sftp_put_attrs(s->out, &st);
	sftp_end(s);
	return SFTP_OK;
}

enum sftp_status sftp_stat(struct sftp *s)
{
	return answer_stat(s, 0);
}

enum sftp_status sftp_lstat(struct sftp *s)
{
	return answer_stat(s, AT_SYMLINK_NOFOLLOW);
}

enum sftp_status sftp_setstat(struct sftp *s)
{
	struct sftp_attrs a;

	sftp_get_path(&s->in, s->path[0]);
	sftp_get_attrs(&s->in, &a);
	return s->in.bad ? SFTP_BAD_MESSAGE : sftp_apply_path(s, s->path[0], &a);
}

enum sftp_status sftp_remove(struct sftp *s)
{
	if (!get_path(s))
		return SFTP_BAD_MESSAGE;
	return sftp_result(s, unlinkat(s->env->workdir, s->path[0], 0));
}

enum sftp_status sftp_rmdir(struct sftp *s)
{
	if (!get_path(s))
		return SFTP_BAD_MESSAGE;
	return sftp_result(s, unlinkat(s->env->workdir, s->path[0], AT_REMOVEDIR));
}

enum sftp_status sftp_mkdir(struct sftp *s)
{
	struct sftp_attrs a;

	sftp_get_path(&s->in, s->path[0]);
	sftp_get_attrs(&s->in, &a);
	if (s->in.bad)
		return SFTP_BAD_MESSAGE;
	mode_t mode = a.flags & SFTP_ATTR_PERMISSIONS ? a.permissions & 07777 : 0777;
	return sftp_result(s, mkdirat(s->env->workdir, s->path[0], mode));
}

/* Where the file system cannot say "unless it is there": a second name for a file fails if
 * that is taken; for the rest a look has to do. */
static int rename_by_link(int dir, const char *from, const char *to)
{
	struct stat st;

	if (linkat(dir, from, dir, to, 0) == 0)
		return unlinkat(dir, from, 0);
	if (errno == EEXIST)
		return -1;
	if (fstatat(dir, to, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		errno = EEXIST;
		return -1;
	}
	return renameat(dir, from, dir, to);
}

/* Version 3 has it fail when the target is there; posix-rename@openssh.com is the other. */
enum sftp_status sftp_rename(struct sftp *s)
{
	int dir = s->env->workdir;

	if (!sftp_get_two_paths(s))
		return SFTP_BAD_MESSAGE;
	int r = renameat2(dir, s->path[0], dir, s->path[1], RENAME_NOREPLACE);
	if (r != 0 && (errno == EINVAL || errno == ENOSYS))
		r = rename_by_link(dir, s->path[0], s->path[1]);
	return sftp_result(s, r);
}

enum sftp_status sftp_answer_name(struct sftp *s, const char *path)
{
	sftp_begin(s, SFTP_NAME);
	sftp_put_u32(s->out, 1);
	sftp_put_string(s->out, path);
	sftp_put_string(s->out, path);
	sftp_put_u32(s->out, 0); /* no attributes */
	sftp_end(s);
	return SFTP_OK;
}

enum sftp_status sftp_readlink(struct sftp *s)
{
	char *target = s->path[1];

	if (!get_path(s))
		return SFTP_BAD_MESSAGE;
	ssize_t n = readlinkat(s->env->workdir, s->path[0], target, PATH_MAX - 1);
	if (n < 0)
		return sftp_fail(s, errno);
	target[n] = '\0';
	return sftp_answer_name(s, target);
}

/* The draft has the link first; OpenSSH has always had the target first, and so has every
 * client that works with it. */
enum sftp_status sftp_symlink(struct sftp *s)
{
	if (!sftp_get_two_paths(s))
		return SFTP_BAD_MESSAGE;
	return sftp_result(s, symlinkat(s->path[0], s->env->workdir, s->path[1]));
}

/* Real paths. */

/* From "/"; false: too long. */
static bool make_absolute(const struct sftp_env *env, const char *path, char out[static PATH_MAX])
{
	int n = path[0] == '/' ? snprintf(out, PATH_MAX, "%s", path)
			       : snprintf(out, PATH_MAX, "%s/%s", env->workdir_path, path);

	return n >= 0 && n < PATH_MAX;
}

/* A name that is not there, in a directory that is. */
static int resolve_missing(char *path, char out[static PATH_MAX])
{
	size_t len = strlen(path);
	char real[PATH_MAX];

	while (len > 1 && path[len - 1] == '/')
		path[--len] = '\0';
	char *slash = strrchr(path, '/');
	if (strcmp(slash + 1, "..") == 0 || strcmp(slash + 1, ".") == 0)
		return ENOENT;
	*slash = '\0';
	if (realpath(slash == path ? "/" : path, real) == NULL)
		return errno;
	int n = snprintf(out, PATH_MAX, "%s/%s", real[1] == '\0' ? "" : real, slash + 1);
	return n >= 0 && n < PATH_MAX ? 0 : ENAMETOOLONG;
}

int sftp_resolve(const struct sftp_env *env, const char *path, char out[static PATH_MAX])
{
	char absolute[PATH_MAX];

	if (!make_absolute(env, path, absolute))
		return ENAMETOOLONG;
	if (realpath(absolute, out) != NULL)
		return 0;
	return errno == ENOENT ? resolve_missing(absolute, out) : errno;
}

enum sftp_status sftp_realpath(struct sftp *s)
{
	if (!get_path(s))
		return SFTP_BAD_MESSAGE;
	int sys = sftp_resolve(s->env, s->path[0], s->path[1]);
	return sys == 0 ? sftp_answer_name(s, s->path[1]) : sftp_fail(s, sys);
}
