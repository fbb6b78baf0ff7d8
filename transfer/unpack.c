/*
 * Tar streams onto the file system: libarchive says what an entry is, everything that
 * touches a path is here. Each entry's directory is opened with openat2 beneath the
 * root and without following links; what is made in it is made by one plain name.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/text.h"
#include "transfer/tree.h"
#include "transfer/link.h"

#define RATIO_FREE ((uint64_t)16 << 20) /* bytes that may come before the ratio counts */
#define PART_NAME  ".towline-unpack"

struct unpack {
	const struct tree_unpack *opt;
	struct tree_result *result;
	uint64_t packed;  /* bytes pulled */
	uint64_t claimed; /* bytes the entries so far say they have */
	int dir;          /* the directory of the last entry, kept for its neighbours */
	char dir_path[TREE_PATH_MAX];
	struct err err; /* of the pull */
};

static la_ssize_t on_read(struct archive *a, void *cookie, const void **bytes)
{
	struct unpack *u = cookie;
	ssize_t n = u->opt->pull(u->opt->cookie, bytes, &u->err);

	if (n < 0)
		archive_set_error(a, EIO, "%s", u->err.text);
	else
		u->packed += (uint64_t)n;
	return n;
}

static void note(struct unpack *u, const char *path, const char *why)
{
	struct text t;

	u->result->skipped++;
	if (u->opt->note == NULL)
		return;
	text_init(&t, TREE_PATH_MAX + 256);
	text_addf(&t, "skipped ");
	text_add_plain(&t, path, strlen(path));
	text_addf(&t, ": %s", why);
	if (!t.failed)
		u->opt->note(u->opt->cookie, t.data);
	text_free(&t);
}

/*
 * The name with "./" and doubled or trailing slashes taken out. Refused: what is
 * absolute, has "..", is too long or too deep. ${out} is "" for the root itself.
 */
static int clean_name(const char *name, char out[static TREE_PATH_MAX], struct err *err)
{
	size_t len = 0, depth = 0;

	if (name[0] == '/')
		return err_set(
		    err, GRPC_PERMISSION_DENIED, "%s: the archive has an absolute name", name);
	for (const char *at = name; *at != '\0';) {
		size_t n = strcspn(at, "/");
		if (n == 2 && at[0] == '.' && at[1] == '.')
			return err_set(err, GRPC_PERMISSION_DENIED,
			    "%s: the archive has a name with \"..\"", name);
		if (n > 0 && !(n == 1 && at[0] == '.')) {
			if (n >= BENEATH_NAME_MAX || len + n + 2 > TREE_PATH_MAX ||
			    ++depth > TREE_DEPTH_MAX)
				return err_set(err, GRPC_INVALID_ARGUMENT,
				    "%.100s...: too long or too deep a name in the archive", name);
			if (len > 0)
				out[len++] = '/';
			memcpy(out + len, at, n);
			len += n;
		}
		at += n + (at[n] == '/');
	}
	out[len] = '\0';
	return 0;
}

/* Opens (and makes) the directory ${path} holds, and points ${last} at its last name. */
static int enter_parent(struct unpack *u, const char *path, const char **last, struct err *err)
{
	const char *slash = strrchr(path, '/');
	size_t len = slash != NULL ? (size_t)(slash - path) : 0;

	*last = slash != NULL ? slash + 1 : path;
	if (u->dir >= 0 && strncmp(u->dir_path, path, len) == 0 && u->dir_path[len] == '\0')
		return 0;
	if (u->dir >= 0)
		close(u->dir);
	memcpy(u->dir_path, path, len);
	u->dir_path[len] = '\0';
	const char *dir = len > 0 ? u->dir_path : ".";
	u->dir = beneath_open(u->opt->root, dir, O_PATH | O_DIRECTORY, 0, BENEATH_NO_LINKS, err);
	if (u->dir < 0 && err->code == GRPC_NOT_FOUND) {
		err_clear(err);
		if (beneath_mkdir(u->opt->root, dir, 0777, BENEATH_NO_LINKS, err) == 0)
			u->dir = beneath_open(
			    u->opt->root, dir, O_PATH | O_DIRECTORY, 0, BENEATH_NO_LINKS, err);
	}
	return u->dir < 0 ? -1 : 0;
}

/* More bytes than so many packed ones can honestly be: a bomb. */
static int check_ratio(const struct unpack *u, uint64_t unpacked, const char *path, struct err *err)
{
	if (unpacked > RATIO_FREE && unpacked / TREE_RATIO_MAX > u->packed)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "%s: the archive unpacks to more than %d times its size", path, TREE_RATIO_MAX);
	return 0;
}

/* Writes the blocks where they belong; a hole stays one. */
static int write_blocks(
    struct unpack *u, struct archive *a, int fd, const char *path, uint64_t size, struct err *err)
{
	const void *bytes;
	size_t len;
	la_int64_t offset;
	int r;

	while ((r = archive_read_data_block(a, &bytes, &len, &offset)) == ARCHIVE_OK ||
	    r == ARCHIVE_WARN) {
		const uint8_t *at = bytes;
		if (offset < 0 || (uint64_t)offset > size || len > size - (uint64_t)offset)
			return err_set(err, GRPC_INVALID_ARGUMENT,
			    "%s: more data than the archive's header says", path);
		u->result->bytes += len;
		if (check_ratio(u, u->result->bytes, path, err) != 0)
			return -1;
		while (len > 0) {
			ssize_t n = pwrite(fd, at, len, offset);
			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				return err_sys(err, errno, "%s", path);
			at += n;
			offset += n;
			len -= (size_t)n;
		}
	}
	if (r != ARCHIVE_EOF)
		return err_set(err, GRPC_INVALID_ARGUMENT, "%s: %s", path, archive_error_string(a));
	return 0;
}

static int fill_file(struct unpack *u, struct archive *a, struct archive_entry *e, int fd,
    const char *path, struct err *err)
{
	uint64_t size = (uint64_t)archive_entry_size(e);
	struct timespec times[2] = { { .tv_nsec = UTIME_NOW },
		{ .tv_sec = archive_entry_mtime(e), .tv_nsec = archive_entry_mtime_nsec(e) } };

	if (write_blocks(u, a, fd, path, size, err) != 0 ||
	    check_ratio(u, u->claimed, path, err) != 0)
		return -1;
	if (ftruncate(fd, (off_t)size) != 0)
		return err_sys(err, errno, "%s", path);
	if (fchmod(fd, archive_entry_perm(e) & 0777) != 0)
		return err_sys(err, errno, "%s: mode", path);
	if (archive_entry_mtime_is_set(e) && futimens(fd, times) != 0)
		return err_sys(err, errno, "%s: modification time", path);
	return 0;
}

/* Complete under another name first, then renamed. */
static int unpack_file(struct unpack *u, struct archive *a, struct archive_entry *e,
    const char *path, const char *last, struct err *err)
{
	int fd =
	    openat(u->dir, PART_NAME, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0 && errno == EEXIST && unlinkat(u->dir, PART_NAME, 0) == 0)
		fd = openat(
		    u->dir, PART_NAME, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(err, errno, "%s", path);
	int r = fill_file(u, a, e, fd, path, err);
	close(fd);
	if (r == 0 && renameat(u->dir, PART_NAME, u->dir, last) != 0)
		r = err_sys(err, errno, "%s", path);
	if (r != 0)
		unlinkat(u->dir, PART_NAME, 0);
	return r;
}

static int unpack_directory(
    struct unpack *u, struct archive_entry *e, const char *path, const char *last, struct err *err)
{
	mode_t mode = (archive_entry_perm(e) & 0777) | 0700; /* what comes next goes into it */
	struct stat st;

	if (mkdirat(u->dir, last, mode) != 0) {
		if (errno != EEXIST)
			return err_sys(err, errno, "%s", path);
		if (fstatat(u->dir, last, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(st.st_mode))
			return err_set(err, GRPC_FAILED_PRECONDITION,
			    "%s: something that is no directory is there", path);
	}
	int fd = openat(u->dir, last, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "%s", path);
	int r = fchmod(fd, mode) != 0 ? err_sys(err, errno, "%s: mode", path) : 0;
	close(fd);
	return r;
}

static int unpack_symlink(
    struct unpack *u, struct archive_entry *e, const char *path, const char *last, struct err *err)
{
	const char *target = archive_entry_symlink(e);

	if (target == NULL || target[0] == '\0')
		return err_set(err, GRPC_INVALID_ARGUMENT, "%s: a symbolic link to nowhere", path);
	if (!link_stays_inside(path, target))
		return err_set(err, GRPC_PERMISSION_DENIED,
		    "%s: a symbolic link that leads out of the directory", path);
	if (!u->opt->links) {
		note(u, path, "a symbolic link");
		u->result->files--;
		return 0;
	}
	if (symlinkat(target, u->dir, PART_NAME) != 0 &&
	    (unlinkat(u->dir, PART_NAME, 0) != 0 || symlinkat(target, u->dir, PART_NAME) != 0))
		return err_sys(err, errno, "%s", path);
	if (renameat(u->dir, PART_NAME, u->dir, last) != 0) {
		err_sys(err, errno, "%s", path);
		unlinkat(u->dir, PART_NAME, 0);
		return -1;
	}
	return 0;
}

/* A second name for a file of the same archive. */
static int unpack_hardlink(
    struct unpack *u, struct archive_entry *e, const char *path, const char *last, struct err *err)
{
	char target[TREE_PATH_MAX], name[BENEATH_NAME_MAX];
	struct stat st;
	int r = -1;

	if (clean_name(archive_entry_hardlink(e), target, err) != 0)
		return err_wrap(err, "%s: a link to", path);
	int dir = beneath_parent(u->opt->root, target, false, BENEATH_NO_LINKS, name, err);
	if (dir < 0)
		return err_wrap(err, "%s: a link to", path);
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		err_sys(err, errno, "%s: a link to %s", path, target);
	else if (!S_ISREG(st.st_mode))
		err_set(err, GRPC_PERMISSION_DENIED, "%s: a link to what is no file", path);
	else if (unlinkat(u->dir, last, 0) != 0 && errno != ENOENT)
		err_sys(err, errno, "%s", path);
	else if (linkat(dir, name, u->dir, last, 0) != 0)
		err_sys(err, errno, "%s: a link to %s", path, target);
	else
		r = 0;
	close(dir);
	return r;
}

/* A header that promises more than its bytes can be is a bomb. */
static int count_entry(struct unpack *u, struct archive_entry *e, const char *path, struct err *err)
{
	uint64_t max = u->opt->max_entries != 0 ? u->opt->max_entries : TREE_ENTRIES_MAX;
	la_int64_t size = archive_entry_size(e);

	if (++u->result->entries > max)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "%s: the archive has more than %" PRIu64 " entries", path, max);
	if (size < 0)
		return err_set(err, GRPC_INVALID_ARGUMENT, "%s: a negative size", path);
	if (archive_entry_filetype(e) != AE_IFDIR)
		u->result->files++;
	if (archive_entry_filetype(e) != AE_IFREG)
		return 0;
	if (__builtin_add_overflow(u->claimed, (uint64_t)size, &u->claimed) ||
	    (u->opt->max_bytes != 0 && u->claimed > u->opt->max_bytes))
		return err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "%s: the archive unpacks to too many bytes", path);
	return 0;
}

static int unpack_entry(
    struct unpack *u, struct archive *a, struct archive_entry *e, struct err *err)
{
	const char *raw = archive_entry_pathname(e), *last;
	char path[TREE_PATH_MAX] = "";

	if (raw == NULL)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "entry %" PRIu64 " of the archive has no readable name",
		    u->result->entries + 1);
	if (count_entry(u, e, raw, err) != 0 || clean_name(raw, path, err) != 0)
		return -1;
	if (path[0] == '\0')
		return 0; /* the root is there */
	if (enter_parent(u, path, &last, err) != 0)
		return err_wrap(err, "%s", path);
	if (archive_entry_hardlink(e) != NULL)
		return unpack_hardlink(u, e, path, last, err);
	switch (archive_entry_filetype(e)) {
	case AE_IFREG:
		return unpack_file(u, a, e, path, last, err);
	case AE_IFDIR:
		return unpack_directory(u, e, path, last, err);
	case AE_IFLNK:
		return unpack_symlink(u, e, path, last, err);
	default:
		return err_set(err, GRPC_PERMISSION_DENIED,
		    "%s: the archive has a device, socket or pipe; only files, directories and links are unpacked",
		    path);
	}
}

static struct archive *open_reader(struct unpack *u, struct err *err)
{
	struct archive *a = archive_read_new();

	if (a == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	/* Only what we send: every other format is attack surface. */
	archive_read_support_filter_gzip(a);
	archive_read_support_filter_zstd(a);
	archive_read_support_format_tar(a);
	archive_read_support_format_empty(a);
	if (archive_read_open(a, u, NULL, on_read, NULL) != ARCHIVE_OK) {
		err_set(err, GRPC_INVALID_ARGUMENT, "no tar archive: %s", archive_error_string(a));
		archive_read_free(a);
		return NULL;
	}
	return a;
}

int tree_unpack(const struct tree_unpack *opt, struct tree_result *result, struct err *err)
{
	struct unpack u = { .opt = opt, .result = result, .dir = -1 };
	struct archive_entry *e;
	int r = 0, got = ARCHIVE_EOF;

	memset(result, 0, sizeof(*result));
	struct archive *a = open_reader(&u, err);
	while (a != NULL && r == 0 && (got = archive_read_next_header(a, &e)) <= ARCHIVE_OK &&
	    got >= ARCHIVE_WARN)
		r = unpack_entry(&u, a, e, err);
	if (a == NULL || (r == 0 && got != ARCHIVE_EOF)) {
		r = -1;
		if (a != NULL)
			err_set(err, GRPC_INVALID_ARGUMENT, "the archive is damaged: %s",
			    archive_error_string(a));
	}
	if (u.err.code != GRPC_OK) {
		*err = u.err; /* the stream broke, whatever libarchive made of it */
		r = -1;
	}
	if (u.dir >= 0)
		close(u.dir);
	archive_read_free(a);
	if (r == 0 && result->entries > 0 && syncfs(opt->root) != 0 && errno != EBADF)
		r = err_sys(err, errno, "sync");
	return r;
}
