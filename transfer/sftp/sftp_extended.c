/* The extensions of OpenSSH (its file PROTOCOL), and copy-data. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "transfer/sftp/homes.h"
#include "transfer/sftp/sftp.h"

/* Of statvfs: flags of the answer. */
#define READ_ONLY 1
#define NO_SUID   2

static enum sftp_status posix_rename(struct sftp *s)
{
	int dir = s->env->workdir;

	if (!sftp_get_two_paths(s))
		return SFTP_BAD_MESSAGE;
	return sftp_result(s, renameat(dir, s->path[0], dir, s->path[1]));
}

static enum sftp_status hard_link(struct sftp *s)
{
	int dir = s->env->workdir;

	if (!sftp_get_two_paths(s))
		return SFTP_BAD_MESSAGE;
	return sftp_result(s, linkat(dir, s->path[0], dir, s->path[1], 0));
}

static enum sftp_status sync_file(struct sftp *s)
{
	struct sftp_handle *h = sftp_get_handle(s);

	return h != NULL ? sftp_result(s, fsync(h->fd)) : sftp_no_handle(s);
}

static enum sftp_status answer_statvfs(struct sftp *s, const struct statvfs *v)
{
	const uint64_t fields[] = { v->f_bsize, v->f_frsize, v->f_blocks, v->f_bfree, v->f_bavail,
		v->f_files, v->f_ffree, v->f_favail, v->f_fsid,
		(v->f_flag & ST_RDONLY ? READ_ONLY : 0) | (v->f_flag & ST_NOSUID ? NO_SUID : 0),
		v->f_namemax };

	sftp_begin(s, SFTP_EXTENDED_REPLY);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		sftp_put_u64(s->out, fields[i]);
	sftp_end(s);
	return SFTP_OK;
}

/* There is no statvfsat(). */
static enum sftp_status stat_fs(struct sftp *s)
{
	struct statvfs v;

	sftp_get_path(&s->in, s->path[0]);
	if (s->in.bad)
		return SFTP_BAD_MESSAGE;
	int fd = openat(s->env->workdir, s->path[0], O_PATH | O_CLOEXEC);
	if (fd < 0)
		return sftp_fail(s, errno);
	int r = fstatvfs(fd, &v), sys = errno;
	close(fd);
	return r == 0 ? answer_statvfs(s, &v) : sftp_fail(s, sys);
}

static enum sftp_status stat_handle_fs(struct sftp *s)
{
	struct sftp_handle *h = sftp_get_handle(s);
	struct statvfs v;

	if (h == NULL)
		return sftp_no_handle(s);
	return fstatvfs(h->fd, &v) == 0 ? answer_statvfs(s, &v) : sftp_fail(s, errno);
}

static enum sftp_status set_link(struct sftp *s)
{
	struct sftp_attrs a;

	sftp_get_path(&s->in, s->path[0]);
	sftp_get_attrs(&s->in, &a);
	return s->in.bad ? SFTP_BAD_MESSAGE : sftp_apply_link(s, s->path[0], &a);
}

static enum sftp_status limits(struct sftp *s)
{
	sftp_begin(s, SFTP_EXTENDED_REPLY);
	sftp_put_u64(s->out, SFTP_PACKET_MAX);
	sftp_put_u64(s->out, SFTP_IO_MAX);
	sftp_put_u64(s->out, SFTP_IO_MAX);
	sftp_put_u64(s->out, SFTP_HANDLES_MAX);
	sftp_end(s);
	return SFTP_OK;
}

static enum sftp_status expand_path(struct sftp *s)
{
	sftp_get_path(&s->in, s->path[0]);
	if (s->in.bad)
		return SFTP_BAD_MESSAGE;
	if (!homes_expand(s->env->slash, s->path[0], s->env->workdir_path, s->path[1]))
		return sftp_fail(s, ENOENT);
	int sys = sftp_resolve(s->env, s->path[1], s->path[0]);
	return sys == 0 ? sftp_answer_name(s, s->path[0]) : sftp_fail(s, sys);
}

/* Users and groups. */

/* A list of ids becomes one of names, "" for those that have none. */
static void put_names(
    struct sftp *s, struct sftp_bytes ids, const char *(*name)(struct owners *, uint32_t))
{
	struct sftp_in in = { .at = ids.data, .left = ids.len };
	size_t at = s->out->len;

	sftp_put_u32(s->out, 0);
	while (in.left > 0)
		sftp_put_string(s->out, name(&s->owners, sftp_get_u32(&in)));
	if (!s->out->failed)
		sftp_store_u32((uint8_t *)s->out->data + at, (uint32_t)(s->out->len - at - 4));
}

static enum sftp_status names_of_ids(struct sftp *s)
{
	struct sftp_bytes users = sftp_get_bytes(&s->in), groups = sftp_get_bytes(&s->in);

	if (s->in.bad || users.len % 4 != 0 || groups.len % 4 != 0)
		return SFTP_BAD_MESSAGE;
	if (users.len > 4 * SFTP_IDS_MAX || groups.len > 4 * SFTP_IDS_MAX)
		return sftp_refuse(s, "Too many ids in one request");
	sftp_begin(s, SFTP_EXTENDED_REPLY);
	put_names(s, users, owners_user);
	put_names(s, groups, owners_group);
	sftp_end(s);
	return SFTP_OK;
}

/* Copies. */

struct copy {
	int from, to;
	off_t read_at, write_at;
	uint64_t left;
	bool by_hand; /* the kernel cannot */
};

/* Through a block of ours. As copy_file_range(). */
static ssize_t copy_by_hand(struct talk *talk, struct copy *c, size_t n)
{
	struct block *b = talk_block(talk, TALK_BLOCK_BYTES);

	if (b == NULL) {
		errno = ENOMEM;
		return -1;
	}
	n = n < TALK_BLOCK_BYTES ? n : TALK_BLOCK_BYTES;
	ssize_t got = pread(c->from, block_data(b), n, c->read_at);
	if (got > 0)
		got = pwrite(c->to, block_data(b), (size_t)got, c->write_at);
	int sys = errno;
	block_unref(b);
	errno = sys;
	if (got > 0) {
		c->read_at += got;
		c->write_at += got;
	}
	return got;
}

static ssize_t copy_some(struct talk *talk, struct copy *c)
{
	size_t n = c->left < SFTP_COPY_CHUNK ? (size_t)c->left : SFTP_COPY_CHUNK;

	if (!c->by_hand) {
		ssize_t got = copy_file_range(c->from, &c->read_at, c->to, &c->write_at, n, 0);
		if (got > 0 || (got < 0 && errno == ENOSPC))
			return got;
		/* Files of other kinds, or that only seem empty, as in /proc. */
		c->by_hand = true;
	}
	return copy_by_hand(talk, c, n);
}

/* 0 or an errno. */
static int copy(struct talk *talk, struct copy *c)
{
	while (c->left > 0) {
		if (talk_is_gone(talk))
			return EINTR;
		ssize_t n = copy_some(talk, c);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0 ? 0 : errno;
		if (c->left != UINT64_MAX)
			c->left -= (uint64_t)n;
	}
	return 0;
}

/* A file that grows while it is copied onto its own end would have no end. */
static bool are_same(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) != 0 || fstat(b, &y) != 0 ||
	    (x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}

static enum sftp_status copy_data(struct sftp *s)
{
	struct sftp_handle *from = sftp_get_handle(s);
	uint64_t read_at = sftp_get_u64(&s->in), len = sftp_get_u64(&s->in);
	struct sftp_handle *to = sftp_get_handle(s);
	uint64_t write_at = sftp_get_u64(&s->in);

	if (s->in.bad)
		return SFTP_BAD_MESSAGE;
	if (from == NULL || to == NULL || !from->readable || !to->writable)
		return sftp_refuse(s, "No such handle, or not open for this");
	if (read_at > INT64_MAX || write_at > INT64_MAX || len > INT64_MAX - read_at ||
	    len > INT64_MAX - write_at)
		return sftp_refuse(s, "The offset is out of range");
	if (are_same(from->fd, to->fd))
		return sftp_refuse(s, "A file cannot be copied into itself");
	struct copy c = { .from = from->fd,
		.to = to->fd,
		.read_at = (off_t)read_at,
		.write_at = (off_t)write_at,
		.left = len != 0 ? len : UINT64_MAX };
	return sftp_fail(s, copy(s->talk, &c));
}

static const struct {
	const char *name, *version;
	sftp_request *run;
} extensions[] = {
	{ "posix-rename@openssh.com", "1", posix_rename },
	{ "statvfs@openssh.com", "2", stat_fs },
	{ "fstatvfs@openssh.com", "2", stat_handle_fs },
	{ "hardlink@openssh.com", "1", hard_link },
	{ "fsync@openssh.com", "1", sync_file },
	{ "lsetstat@openssh.com", "1", set_link },
	{ "limits@openssh.com", "1", limits },
	{ "expand-path@openssh.com", "1", expand_path },
	{ "copy-data", "1", copy_data },
	{ "users-groups-by-id@openssh.com", "1", names_of_ids },
};

#define EXTENSIONS (sizeof(extensions) / sizeof(extensions[0]))

void sftp_put_extensions(struct text *out)
{
	for (size_t i = 0; i < EXTENSIONS; i++) {
		sftp_put_string(out, extensions[i].name);
		sftp_put_string(out, extensions[i].version);
	}
}

enum sftp_status sftp_extended(struct sftp *s)
{
	struct sftp_bytes name = sftp_get_bytes(&s->in);

	if (s->in.bad)
		return SFTP_BAD_MESSAGE;
	for (size_t i = 0; i < EXTENSIONS; i++)
		if (strlen(extensions[i].name) == name.len &&
		    memcmp(extensions[i].name, name.data, name.len) == 0)
			return extensions[i].run(s);
	return SFTP_OP_UNSUPPORTED;
}
