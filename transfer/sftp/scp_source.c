/* scp -f: files go. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transfer/sftp/scp.h"

#define READ_BYTES ((size_t)256 << 10)

static enum scp_step send_path(struct scp *s, int depth);

/* The other end makes a line of it, and shows it to people. */
static bool can_be_named(const char *name)
{
	for (; *name != '\0'; name++)
		if ((unsigned char)*name < 0x20 || *name == 0x7f)
			return false;
	return true;
}

static const char *last_name(const struct scp *s)
{
	const char *slash = strrchr(s->path.data, '/');

	return slash != NULL ? slash + 1 : s->path.data;
}

static enum scp_step send_times(struct scp *s, const struct stat *st)
{
	if (!s->options->preserve)
		return SCP_FINE;
	scp_say(s, "T%" PRIu64 " 0 %" PRIu64 " 0\n",
	    (uint64_t)(st->st_mtime > 0 ? st->st_mtime : 0),
	    (uint64_t)(st->st_atime > 0 ? st->st_atime : 0));
	return scp_hear(s);
}

/* Files. */

/* ${n} bytes, with zeros for what cannot be read: so many were promised. 0, or an errno;
 * EPIPE also when they cannot be sent. */
static int send_block(struct scp *s, int fd, size_t n, int sys)
{
	struct block *b = talk_block(s->talk, n);
	size_t got = 0;

	if (b == NULL) {
		s->over = true;
		err_set(s->fatal, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return ENOMEM;
	}
	while (sys == 0 && got < n) {
		ssize_t r = read(fd, block_data(b) + got, n - got);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			sys = r < 0 ? errno : EIO; /* it shrank */
		else
			got += (size_t)r;
	}
	memset(block_data(b) + got, 0, n - got);
	if (talk_give(s->talk, slice_of(b, 0, n), s->fatal) != 0)
		s->over = true;
	block_unref(b);
	return sys;
}

static enum scp_step send_file(struct scp *s, int fd, const struct stat *st)
{
	uint64_t left = (uint64_t)st->st_size;
	enum scp_step step = send_times(s, st);
	int sys = 0;

	if (step != SCP_FINE)
		return step;
	scp_say(s, "C%04o %" PRIu64 " %s\n", st->st_mode & 07777, left, last_name(s));
	if ((step = scp_hear(s)) != SCP_FINE)
		return step;
	while (left > 0 && !s->over) {
		size_t n = left < READ_BYTES ? (size_t)left : READ_BYTES;
		sys = send_block(s, fd, n, sys);
		left -= n;
	}
	if (s->over)
		return SCP_OVER;
	if (sys == 0)
		scp_agree(s);
	else
		scp_complain_sys(s, sys);
	return scp_hear(s);
}

/* Directories. */

static enum scp_step send_entries(struct scp *s, DIR *dir, int depth)
{
	size_t len = s->path.len;
	struct dirent *e;

	while ((e = readdir(dir)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		scp_enter(s, e->d_name);
		enum scp_step step = SCP_FINE;
		if (s->path.failed)
			scp_complain(s, "%s: File name too long", e->d_name);
		else
			step = send_path(s, depth + 1);
		scp_leave(s, len);
		if (step == SCP_OVER)
			return SCP_OVER;
	}
	return SCP_FINE;
}

/* Takes ${fd}. */
static enum scp_step send_directory(struct scp *s, int fd, const struct stat *st, int depth)
{
	enum scp_step step = SCP_REFUSED;
	DIR *dir = fdopendir(fd);

	if (dir == NULL) {
		scp_complain_sys(s, errno);
		close(fd);
		return SCP_REFUSED;
	}
	if (depth + 1 >= SCP_DEPTH_MAX)
		scp_complain(s, "%s: directories in %d others", s->path.data, depth);
	else if ((step = send_times(s, st)) == SCP_FINE) {
		scp_say(s, "D%04o 0 %s\n", st->st_mode & 07777, last_name(s));
		step = scp_hear(s);
	}
	if (step == SCP_FINE && (step = send_entries(s, dir, depth)) == SCP_FINE) {
		scp_say(s, "E\n");
		step = scp_hear(s);
	}
	closedir(dir);
	return step;
}

/* One that is no file does not keep us waiting. */
static enum scp_step send_path(struct scp *s, int depth)
{
	struct stat st;

	if (s->over)
		return SCP_OVER;
	if (!can_be_named(last_name(s))) {
		scp_complain(s, "%s: control characters in a name; use sftp, or scp without -O",
		    s->path.data);
		return SCP_REFUSED;
	}
	int fd = open(s->path.data, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0) {
		scp_complain_sys(s, errno);
		if (fd >= 0)
			close(fd);
		return SCP_REFUSED;
	}
	if (S_ISDIR(st.st_mode) && s->options->recursive)
		return send_directory(s, fd, &st, depth);
	enum scp_step step = SCP_REFUSED;
	if (S_ISREG(st.st_mode))
		step = send_file(s, fd, &st);
	else
		scp_complain(s, "%s: not a regular file", s->path.data);
	close(fd);
	return step;
}

/* One of those that a pattern stands for. */
static int send_match(struct scp *s, const char *path)
{
	size_t len = strlen(path);

	while (len > 1 && path[len - 1] == '/')
		len--;
	scp_leave(s, 0);
	text_add(&s->path, path, len);
	if (s->path.failed) {
		scp_complain(s, "%s: File name too long", path);
		return 0;
	}
	return send_path(s, 0) == SCP_OVER ? -1 : 0;
}

static int send_source(struct scp *s, const char *source)
{
	char prefix[PATH_MAX];
	const char *rest;

	if (!scp_start_at(s, source, prefix, &rest))
		return 0;
	if (!scp_match(s, prefix, rest, send_match) && !s->over)
		scp_complain(s, "%s: No such file or directory", source);
	return s->over ? -1 : 0;
}

int scp_source(struct scp *s)
{
	if (scp_hear(s) != SCP_FINE)
		return -1;
	for (size_t i = 0; i < s->options->count; i++)
		if (send_source(s, s->options->paths[i]) != 0)
			return -1;
	return 0;
}
