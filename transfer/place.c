#include "transfer/place.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/digest.h"
#include "base/random.h"
#include "base/text.h"
#include "rpc/crypto.h"

struct place {
	struct place_options opt;
	int parent;                  /* the target's directory */
	int fd;                      /* the part file */
	char name[BENEATH_NAME_MAX]; /* in the directory */
	char part[BENEATH_NAME_MAX];
	mode_t mode;
	uint64_t written;
	struct digest *digest;
	struct crypto_sha256 *sha256; /* only when that is what was promised */
	char *path;                   /* as it was asked for, for errors */
};

static void place_free(struct place *p)
{
	if (p->fd >= 0)
		close(p->fd);
	if (p->parent >= 0)
		close(p->parent);
	digest_free(p->digest);
	crypto_sha256_free(p->sha256);
	free(p->path);
	free(p);
}

void place_abort(struct place *p)
{
	if (p == NULL)
		return;
	if (p->fd >= 0)
		unlinkat(p->parent, p->part, 0);
	place_free(p);
}

/* A directory under that name, or a link to one, is in the way; the mode of a file
 * that is there is kept. */
static int look_at_target(struct place *p, struct err *err)
{
	struct stat st;

	p->mode = (p->opt.mode != 0 ? p->opt.mode : 0644) & 0777;
	if (fstatat(p->parent, p->name, &st, 0) != 0) {
		if (errno == ENOENT || errno == ELOOP)
			return 0;
		return err_sys(err, errno, "%s", p->path);
	}
	if (S_ISDIR(st.st_mode))
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s is a directory; name a file, or send an archive", p->path);
	if (p->opt.mode == 0)
		p->mode = st.st_mode & 0777;
	return 0;
}

/* ".NAME.towline-1234abcd", shortened to what a directory entry holds. */
static void name_part(struct place *p)
{
	uint8_t random[4];
	char hex[2 * sizeof(random) + 1];

	random_bytes(random, sizeof(random));
	text_hex(random, sizeof(random), hex);
	snprintf(p->part, sizeof(p->part), ".%.*s.towline-%s",
	    (int)(sizeof(p->part) - sizeof(".") - sizeof(".towline-") - sizeof(hex)), p->name, hex);
}

static int make_part(struct place *p, struct err *err)
{
	name_part(p);
	p->fd =
	    openat(p->parent, p->part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (p->fd < 0)
		return err_sys(err, errno, "%s", p->path);
	if (!p->opt.size_known || p->opt.size == 0)
		return 0;
	if (p->opt.size > INT64_MAX)
		return err_set(err, GRPC_INVALID_ARGUMENT, "%s: a size of %" PRIu64 " bytes",
		    p->path, p->opt.size);
	/* A full disk is found before the bytes are sent, not after. */
	if (fallocate(p->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)p->opt.size) != 0 &&
	    errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)
		return err_sys(err, errno, "%s: %" PRIu64 " bytes", p->path, p->opt.size);
	return 0;
}

static int open_parent(struct place *p, struct err *err)
{
	const char *rest;
	int root = beneath_root(p->opt.workdir, p->opt.slash, p->path, &rest);

	p->parent = beneath_parent(root, rest, p->opt.make_parents,
	    root == p->opt.slash ? BENEATH_IN_ROOT : BENEATH_FOLLOW, p->name, err);
	return p->parent < 0 ? -1 : 0;
}

struct place *place_open(const struct place_options *opt, struct err *err)
{
	struct place *p = calloc(1, sizeof(*p));

	if (p == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	p->opt = *opt;
	p->parent = p->fd = -1;
	p->path = strdup(opt->path);
	p->digest = digest_create();
	if (opt->digest == PLACE_DIGEST_SHA256)
		p->sha256 = crypto_sha256_create();
	if (p->path == NULL || p->digest == NULL ||
	    (opt->digest == PLACE_DIGEST_SHA256 && p->sha256 == NULL)) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	} else if (open_parent(p, err) == 0 && look_at_target(p, err) == 0 &&
	    make_part(p, err) == 0) {
		return p;
	}
	place_abort(p);
	return NULL;
}

int place_write(struct place *p, const void *bytes, size_t len, struct err *err)
{
	const uint8_t *at = bytes;

	if (p->opt.size_known && len > p->opt.size - p->written)
		return err_set(err, GRPC_DATA_LOSS,
		    "%s: more than the %" PRIu64 " bytes that were promised", p->path, p->opt.size);
	digest_update(p->digest, bytes, len);
	if (p->sha256 != NULL)
		crypto_sha256_update(p->sha256, bytes, len);
	for (size_t left = len; left > 0;) {
		ssize_t n = write(p->fd, at, left);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, errno, "%s", p->path);
		at += n;
		left -= (size_t)n;
	}
	p->written += len;
	return 0;
}

void place_expect(struct place *p, const uint8_t digest[static 16])
{
	p->opt.digest = PLACE_DIGEST_XXH3_128;
	memcpy(p->opt.expected, digest, 16);
}

static int verify(struct place *p, uint8_t digest[static 16], struct err *err)
{
	uint8_t sha256[CRYPTO_SHA256_SIZE];

	digest_value(p->digest, digest);
	if (p->opt.size_known && p->written != p->opt.size)
		return err_set(err, GRPC_DATA_LOSS,
		    "%s: %" PRIu64 " of the %" PRIu64 " promised bytes came", p->path, p->written,
		    p->opt.size);
	if (p->sha256 != NULL)
		crypto_sha256_value(p->sha256, sha256);
	if ((p->opt.digest == PLACE_DIGEST_XXH3_128 && memcmp(digest, p->opt.expected, 16) != 0) ||
	    (p->sha256 != NULL && memcmp(sha256, p->opt.expected, sizeof(sha256)) != 0))
		return err_set(err, GRPC_DATA_LOSS,
		    "%s: the digest of what came is not the promised one", p->path);
	return 0;
}

/* Mode and times, then durable, then visible, then durably visible. */
static int publish(struct place *p, struct err *err)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, p->opt.mtime };

	if (fchmod(p->fd, p->mode) != 0)
		return err_sys(err, errno, "%s: mode", p->path);
	if (p->opt.has_mtime && futimens(p->fd, times) != 0)
		return err_sys(err, errno, "%s: modification time", p->path);
	if (fsync(p->fd) != 0)
		return err_sys(err, errno, "%s: sync", p->path);
	if (renameat(p->parent, p->part, p->parent, p->name) != 0)
		return err_sys(err, errno, "%s", p->path);
	close(p->fd);
	p->fd = -1; /* no part file any more */
	/* The directory was opened for its name alone; syncing needs it open for reading. */
	int dir = openat(p->parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir >= 0) {
		fsync(dir);
		close(dir);
	}
	return 0;
}

int place_commit(struct place *p, uint64_t *bytes, uint8_t digest[static 16], struct err *err)
{
	*bytes = p->written;
	if (verify(p, digest, err) != 0 || publish(p, err) != 0) {
		place_abort(p);
		return -1;
	}
	place_free(p);
	return 0;
}
