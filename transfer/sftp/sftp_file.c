/* What SFTP does to an open file. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "transfer/sftp/sftp.h"

/* Of DATA: length, type, id, length of the data. */
#define DATA_HEAD (4 + 1 + 4 + 4)

/* Opening. */

static int open_flags(uint32_t portable)
{
	bool reads = portable & SFTP_OPEN_READ, writes = portable & SFTP_OPEN_WRITE;
	/* Not to wait for the other end of a FIFO. */
	int flags = O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

	flags |= reads && writes ? O_RDWR : writes ? O_WRONLY : O_RDONLY;
	if (portable & SFTP_OPEN_APPEND)
		flags |= O_APPEND;
	if (portable & SFTP_OPEN_CREATE)
		flags |= O_CREAT;
	if (portable & SFTP_OPEN_TRUNCATE)
		flags |= O_TRUNC;
	if (portable & SFTP_OPEN_EXCLUSIVE)
		flags |= O_EXCL;
	return flags;
}

/* Not what some process has open, by its link in /proc: some of them are our own. */
static int open_path(int dir, const char *path, int flags, mode_t mode)
{
	struct open_how how = { .flags = (unsigned)flags,
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_NO_MAGICLINKS };

	return (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));
}

/* Files, and devices like /dev/null. Of /proc nothing: there we are "self", and our memory is
 * none of the client's business. */
static enum sftp_status check_kind(struct sftp *s, int fd)
{
	struct statfs fs;
	struct stat st;

	if (fstat(fd, &st) != 0 || fstatfs(fd, &fs) != 0)
		return sftp_fail(s, errno);
	if (fs.f_type == PROC_SUPER_MAGIC)
		return sftp_refuse(s, "No files of /proc are served; run a command that reads it");
	if (S_ISDIR(st.st_mode))
		return sftp_refuse(s, "Is a directory");
	if (S_ISREG(st.st_mode) || S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
		return SFTP_OK;
	return sftp_refuse(s, "Neither a file nor a device");
}

static void answer_handle(struct sftp *s, const struct sftp_handle *h)
{
	uint8_t name[SFTP_HANDLE_SIZE];

	sftp_handles_name(&s->handles, h, name);
	sftp_begin(s, SFTP_HANDLE);
	sftp_put_bytes(s->out, name, sizeof(name));
	sftp_end(s);
}

enum sftp_status sftp_open(struct sftp *s)
{
	struct sftp_attrs a;

	sftp_get_path(&s->in, s->path[0]);
	uint32_t flags = sftp_get_u32(&s->in);
	sftp_get_attrs(&s->in, &a);
	if (s->in.bad)
		return SFTP_BAD_MESSAGE;
	/* Before the file is made, or cut. */
	if (s->handles.count == SFTP_HANDLES_MAX)
		return sftp_refuse(s, "Too many open files");
	mode_t mode = a.flags & SFTP_ATTR_PERMISSIONS ? a.permissions & 07777 : 0666;
	int fd = open_path(s->env->workdir, s->path[0], open_flags(flags), mode);
	if (fd < 0)
		return sftp_fail(s, errno);
	enum sftp_status status = check_kind(s, fd);
	if (status != SFTP_OK) {
		close(fd);
		return status;
	}
	struct sftp_handle *h = sftp_handles_add(&s->handles, fd, NULL);
	h->writable = flags & SFTP_OPEN_WRITE;
	h->readable = (flags & SFTP_OPEN_READ) || !h->writable;
	answer_handle(s, h);
	return SFTP_OK;
}

enum sftp_status sftp_opendir(struct sftp *s)
{
	sftp_get_path(&s->in, s->path[0]);
	if (s->in.bad)
		return SFTP_BAD_MESSAGE;
	if (s->handles.count == SFTP_HANDLES_MAX)
		return sftp_refuse(s, "Too many open files");
	int fd = openat(s->env->workdir, s->path[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return sftp_fail(s, errno);
	DIR *dir = fdopendir(fd);
	if (dir == NULL) {
		int sys = errno;
		close(fd);
		return sftp_fail(s, sys);
	}
	answer_handle(s, sftp_handles_add(&s->handles, fd, dir));
	return SFTP_OK;
}

enum sftp_status sftp_close(struct sftp *s)
{
	struct sftp_handle *h = sftp_get_handle(s);

	return h == NULL ? sftp_no_handle(s) : sftp_fail(s, sftp_handles_close(&s->handles, h));
}

/* Reading: into the block that is sent. */

static ssize_t read_at(int fd, void *to, size_t len, uint64_t offset)
{
	ssize_t n;

	do
		n = pread(fd, to, len, (off_t)offset);
	while (n < 0 && errno == EINTR);
	return n;
}

static void give_data(struct sftp *s, struct block *b, size_t len)
{
	uint8_t *head = block_data(b);
	struct err err;

	sftp_store_u32(head, (uint32_t)(DATA_HEAD - 4 + len));
	head[4] = SFTP_DATA;
	sftp_store_u32(head + 5, s->id);
	sftp_store_u32(head + 9, (uint32_t)len);
	s->answered = true;
	/* A client that is gone is found when the next request is read. */
	(void)talk_give(s->talk, slice_of(b, 0, DATA_HEAD + len), &err);
}

enum sftp_status sftp_read(struct sftp *s)
{
	struct sftp_handle *h = sftp_get_handle(s);
	uint64_t offset = sftp_get_u64(&s->in);
	size_t len = sftp_get_u32(&s->in);

	if (h == NULL || s->in.bad)
		return sftp_no_handle(s);
	if (h->dir != NULL || !h->readable)
		return sftp_refuse(s, "Not open for reading");
	len = len < SFTP_IO_MAX ? len : SFTP_IO_MAX;
	if (offset > INT64_MAX - len)
		return sftp_refuse(s, "The offset is out of range");
	struct block *b = talk_block(s->talk, DATA_HEAD + len);
	if (b == NULL)
		return sftp_refuse(s, "Out of memory");
	ssize_t n = read_at(h->fd, block_data(b) + DATA_HEAD, len, offset);
	enum sftp_status status = n < 0 ? sftp_fail(s, errno) : n == 0 ? SFTP_EOF : SFTP_OK;
	if (n > 0)
		give_data(s, b, (size_t)n);
	block_unref(b);
	return status;
}

/* Writing: from the slices that came. */

static void advance(struct iovec **iov, size_t *count, size_t n)
{
	while (*count > 0 && n >= (*iov)->iov_len) {
		n -= (*iov)->iov_len;
		(*iov)++;
		(*count)--;
	}
	if (*count > 0) {
		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + n;
		(*iov)->iov_len -= n;
	}
}

/* All of it; 0 or an errno. */
static int write_at(int fd, struct iovec *iov, size_t count, uint64_t offset)
{
	while (count > 0) {
		ssize_t n = pwritev(fd, iov, (int)count, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		if (n == 0)
			return EIO;
		offset += (uint64_t)n;
		advance(&iov, &count, (size_t)n);
	}
	return 0;
}

enum sftp_status sftp_write(struct sftp *s, size_t len)
{
	struct iovec iov[TALK_SLICES];
	struct sftp_handle *h = sftp_get_handle(s);
	uint64_t offset = sftp_get_u64(&s->in);
	uint32_t promised = sftp_get_u32(&s->in);

	if (s->in.bad || promised != len)
		return SFTP_BAD_MESSAGE;
	if (h == NULL)
		return sftp_no_handle(s);
	if (h->dir != NULL || !h->writable)
		return sftp_refuse(s, "Not open for writing");
	if (offset > INT64_MAX - len)
		return sftp_refuse(s, "The offset is out of range");
	return sftp_fail(s, write_at(h->fd, iov, talk_peek(s->talk, iov, len), offset));
}

/* Attributes. */

enum sftp_status sftp_fstat(struct sftp *s)
{
	struct sftp_handle *h = sftp_get_handle(s);
	struct stat st;

	if (h == NULL)
		return sftp_no_handle(s);
	if (fstat(h->fd, &st) != 0)
		return sftp_fail(s, errno);
	sftp_begin(s, SFTP_ATTRS);
	sftp_put_attrs(s->out, &st);
	sftp_end(s);
	return SFTP_OK;
}

enum sftp_status sftp_fsetstat(struct sftp *s)
{
	struct sftp_handle *h = sftp_get_handle(s);
	struct sftp_attrs a;

	sftp_get_attrs(&s->in, &a);
	if (s->in.bad)
		return SFTP_BAD_MESSAGE;
	return h == NULL ? sftp_no_handle(s) : sftp_apply_fd(s, h->fd, &a);
}
