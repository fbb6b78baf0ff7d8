/* A file that comes. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transfer/place.h"
#include "transfer/sftp/scp.h"

#define WRITE_BYTES ((size_t)256 << 10) /* gathered for one write */
#define NEW_MODE    0755                /* what is left of a new file's mode without -p */

/* It goes to its place in the end; or into what is no file, such as /dev/null; or, once it has
 * failed, nowhere. */
struct target {
	struct place *place;
	int fd; /* -1: none */
	struct err err;
};

static int open_device(struct target *t, const char *path)
{
	t->fd = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return t->fd >= 0 ? 0 : err_sys(&t->err, errno, "%s", path);
}

/* A link is written through, as scp does; one that leads nowhere is replaced. */
static int open_place(struct target *t, struct scp *s, const struct scp_record *r,
    const struct scp_times *times, bool is_new)
{
	char real[PATH_MAX];
	bool known = !is_new && realpath(s->path.data, real) != NULL;
	struct place_options o = {
		.workdir = s->options->workdir,
		.slash = s->options->slash,
		.path = known ? real : s->path.data,
		.size_known = true,
		.size = r->size,
		.mode = s->options->preserve ? r->mode
		    : is_new                 ? r->mode & NEW_MODE
					     : 0,
		.has_mtime = times->known,
		.mtime = times->mtime,
		.claims = s->options->claims,
	};

	t->place = place_open(&o, &t->err);
	return t->place != NULL ? 0 : -1;
}

static int open_target(
    struct target *t, struct scp *s, const struct scp_record *r, const struct scp_times *times)
{
	const char *path = s->path.data;
	struct stat st;
	bool is_new = stat(path, &st) != 0;

	if (is_new || S_ISREG(st.st_mode))
		return open_place(t, s, r, times, is_new);
	if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
		return open_device(t, path);
	return S_ISDIR(st.st_mode)
	    ? err_sys(&t->err, EISDIR, "%s", path)
	    : err_set(&t->err, GRPC_FAILED_PRECONDITION, "%s: not a regular file", path);
}

static int write_all(int fd, const uint8_t *bytes, size_t len, struct err *err)
{
	while (len > 0) {
		ssize_t n = write(fd, bytes, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, errno, "write");
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

static void write_target(struct target *t, const struct iovec *iov)
{
	if (t->err.code != GRPC_OK)
		return;
	if (t->place != NULL)
		place_write(t->place, iov->iov_base, iov->iov_len, &t->err);
	else
		write_all(t->fd, iov->iov_base, iov->iov_len, &t->err);
}

/* All the bytes, even if they cannot be written: they are on their way. */
static enum scp_step take_bytes(struct scp *s, struct target *t, uint64_t left)
{
	struct iovec iov[TALK_SLICES];

	while (left > 0) {
		size_t n = left < WRITE_BYTES ? (size_t)left : WRITE_BYTES;
		if (talk_need(s->talk, n, s->fatal) <= 0) {
			s->over = true;
			return SCP_OVER;
		}
		size_t count = talk_peek(s->talk, iov, n);
		for (size_t i = 0; i < count; i++)
			write_target(t, &iov[i]);
		talk_drop(s->talk, n);
		left -= n;
	}
	return SCP_FINE;
}

static void drop_target(struct target *t)
{
	place_abort(t->place);
	t->place = NULL;
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
}

/* The file is whole. */
static void finish_target(struct scp *s, struct target *t, const struct scp_times *times)
{
	const struct timespec both[2] = { times->atime, times->mtime };
	uint8_t digest[DIGEST_SIZE];
	uint64_t bytes;

	if (t->place != NULL && t->err.code == GRPC_OK) {
		struct place *place = t->place;
		t->place = NULL;
		place_commit(place, &bytes, digest, &t->err);
	}
	if (t->err.code == GRPC_OK && times->known && t->fd < 0 &&
	    utimensat(AT_FDCWD, s->path.data, both, 0) != 0)
		err_sys(&t->err, errno, "%s: its times", s->path.data);
	if (t->err.code == GRPC_OK)
		scp_agree(s);
	else
		scp_complain(s, "%s", t->err.text);
	drop_target(t);
}

enum scp_step scp_take_file(
    struct scp *s, const struct scp_record *r, const struct scp_times *times)
{
	struct target t = { .fd = -1 };

	if (open_target(&t, s, r, times) != 0) {
		scp_complain(s, "%s", t.err.text);
		return SCP_FINE; /* its bytes will not come */
	}
	scp_agree(s);
	enum scp_step step = take_bytes(s, &t, r->size);
	if (step == SCP_FINE)
		step = scp_hear(s);
	if (step == SCP_FINE) {
		finish_target(s, &t, times);
		return SCP_FINE;
	}
	/* The other end could not read all of it, and has sent something else instead. */
	if (step == SCP_REFUSED)
		scp_agree(s);
	drop_target(&t);
	return step == SCP_REFUSED ? SCP_FINE : step;
}
