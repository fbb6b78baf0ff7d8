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
#include <sys/xattr.h>
#include <unistd.h>

#include "base/beneath.h"
#include "transfer/link.h"
#include "transfer/tree/tree_later.h"
#include "transfer/tree/tree_plain.h"
#include "transfer/tree/tree_report.h"

#define RATIO_FREE ((uint64_t)16 << 20) /* bytes that may come before the ratio counts */
#define PART_NAME  ".towline-unpack"

/* The large file that came last. Until the next header has not withdrawn it, it waits under
 * another name, and in the directory that is kept open. */
struct waiting {
	char path[TREE_PATH_MAX]; /* "": it was none */
	char last[BENEATH_NAME_MAX];
	bool whole;     /* and not failed for itself */
	uint64_t bytes; /* of content, before it */
};

struct unpack {
	const struct tree_unpack *opt;
	struct tree_result *result;
	struct tree_report report;
	struct tree_later later;
	struct archive *a;
	struct archive_entry *entry;
	struct tree_plain *plain;
	size_t header; /* bytes read since it was one, some of them content perhaps */
	bool in_header;
	uint64_t dropped; /* bytes of content that went nowhere */
	uint64_t claimed; /* bytes the entries so far say they have */
	uint64_t withdrawn;
	struct waiting waiting;
	bool over; /* the stream is damaged, or a limit passed: nothing can come any more */
	int dir;   /* the directory of the last entry, kept for its neighbours */
	char dir_path[TREE_PATH_MAX];
	struct err err; /* of the pull */
};

/* An entry, as the functions that make it want it. */
struct target {
	const char *path; /* clean, beneath the root */
	const char *last; /* its name in u->dir */
};

static la_ssize_t on_read(struct archive *a, void *cookie, const void **bytes)
{
	struct unpack *u = cookie;
	ssize_t n = tree_plain_read(u->plain, bytes, &u->err);

	if (n < 0)
		archive_set_error(a, EIO, "%s", u->err.text);
	else if (u->in_header && (u->header += (size_t)n) > TREE_HEADER_MAX)
		return err_set(&u->err, GRPC_RESOURCE_EXHAUSTED,
		    "entry %" PRIu64 " of the archive has more than %zu bytes of headers",
		    u->result->entries + 1, TREE_HEADER_MAX);
	return n;
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

/* Nothing after it can be had. */
static int end_stream(struct unpack *u)
{
	u->over = true;
	return -1;
}

/* More bytes than so many packed ones can honestly be: a bomb. */
static int check_ratio(struct unpack *u, const char *path, struct err *err)
{
	uint64_t unpacked = u->result->bytes + u->dropped;

	if (unpacked <= RATIO_FREE || unpacked / TREE_RATIO_MAX <= tree_plain_packed(u->plain))
		return 0;
	err_set(err, GRPC_RESOURCE_EXHAUSTED,
	    "%s: the archive unpacks to more than %d times its size", path, TREE_RATIO_MAX);
	return end_stream(u);
}

static int write_block(
    int fd, const uint8_t *at, size_t len, off_t offset, const char *path, struct err *err)
{
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
	return 0;
}

/* Writes the blocks where they belong; a hole stays one. */
static int write_blocks(struct unpack *u, int fd, const char *path, uint64_t size, struct err *err)
{
	const void *bytes;
	size_t len;
	la_int64_t offset;
	int r;

	while ((r = archive_read_data_block(u->a, &bytes, &len, &offset)) == ARCHIVE_OK ||
	    r == ARCHIVE_WARN) {
		if (offset < 0 || (uint64_t)offset > size || len > size - (uint64_t)offset)
			return err_set(err, GRPC_INVALID_ARGUMENT,
			    "%s: more data than the archive's header says", path);
		u->result->bytes += len;
		if (check_ratio(u, path, err) != 0 ||
		    write_block(fd, bytes, len, offset, path, err) != 0)
			return -1;
	}
	if (r == ARCHIVE_EOF)
		return 0;
	err_set(err, GRPC_INVALID_ARGUMENT, "%s: %s", path, archive_error_string(u->a));
	return end_stream(u);
}

/* Those of users; others would be rights. A file system without them has none. */
static int set_attributes(struct unpack *u, int fd, const char *path, struct err *err)
{
	const char *name;
	const void *value;
	size_t len, all = 0;

	archive_entry_xattr_reset(u->entry);
	while (archive_entry_xattr_next(u->entry, &name, &value, &len) == ARCHIVE_OK) {
		if (strncmp(name, "user.", 5) != 0)
			continue;
		all += len;
		if (all > TREE_XATTRS_MAX)
			return err_set(err, GRPC_INVALID_ARGUMENT,
			    "%s: more than %zu bytes of extended attributes", path,
			    TREE_XATTRS_MAX);
		if (fsetxattr(fd, name, value, len, 0) != 0 && errno != EOPNOTSUPP)
			return err_sys(err, errno, "%s: extended attributes", path);
	}
	return 0;
}

static struct timespec time_of(struct archive_entry *e)
{
	struct timespec t = { .tv_nsec = UTIME_OMIT };

	if (archive_entry_mtime_is_set(e)) {
		t.tv_sec = archive_entry_mtime(e);
		t.tv_nsec = archive_entry_mtime_nsec(e);
	}
	return t;
}

static int fill_file(struct unpack *u, int fd, const char *path, struct err *err)
{
	uint64_t size = (uint64_t)archive_entry_size(u->entry);
	struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, time_of(u->entry) };

	if (write_blocks(u, fd, path, size, err) != 0)
		return -1;
	if (archive_entry_sparse_count(u->entry) > 0 && ftruncate(fd, (off_t)size) != 0)
		return err_sys(err, errno, "%s", path);
	if (set_attributes(u, fd, path, err) != 0)
		return -1;
	if (fchmod(fd, archive_entry_perm(u->entry) & 0777) != 0)
		return err_sys(err, errno, "%s: mode", path);
	if (futimens(fd, times) != 0)
		return err_sys(err, errno, "%s: modification time", path);
	return 0;
}

static int put_in_place(struct unpack *u, const struct target *t, struct err *err)
{
	if (renameat(u->dir, PART_NAME, u->dir, t->last) == 0)
		return 0;
	err_sys(err, errno, "%s", t->path);
	unlinkat(u->dir, PART_NAME, 0);
	return -1;
}

/* Complete under another name first, then renamed. */
static int unpack_file(struct unpack *u, const struct target *t, struct err *err)
{
	int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(u->dir, PART_NAME, flags, 0600);

	if (fd < 0 && errno == EEXIST && unlinkat(u->dir, PART_NAME, 0) == 0)
		fd = openat(u->dir, PART_NAME, flags, 0600);
	if (fd < 0)
		return err_sys(err, errno, "%s", t->path);
	int r = fill_file(u, fd, t->path, err);
	close(fd);
	if (r != 0) {
		unlinkat(u->dir, PART_NAME, 0);
		return -1;
	}
	if (u->waiting.path[0] == '\0')
		return put_in_place(u, t, err);
	snprintf(u->waiting.last, sizeof(u->waiting.last), "%s", t->last);
	u->waiting.whole = true;
	return 0;
}

/* What comes next goes into it: so its mode and time come last. */
static int unpack_directory(struct unpack *u, const struct target *t, struct err *err)
{
	mode_t mode = archive_entry_perm(u->entry) & 0777;
	struct stat st;

	if (mkdirat(u->dir, t->last, mode | 0700) != 0) {
		if (errno != EEXIST)
			return err_sys(err, errno, "%s", t->path);
		if (fstatat(u->dir, t->last, &st, AT_SYMLINK_NOFOLLOW) != 0)
			return err_sys(err, errno, "%s", t->path);
		if (!S_ISDIR(st.st_mode))
			return err_set(err, GRPC_FAILED_PRECONDITION,
			    "%s: something that is no directory is there", t->path);
	}
	int fd = openat(u->dir, t->last, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys(err, errno, "%s", t->path);
	int r = set_attributes(u, fd, t->path, err);
	if (fchmod(fd, mode | 0700) != 0 && r == 0)
		r = err_sys(err, errno, "%s: mode", t->path);
	close(fd);
	if (r == 0 && !tree_later_add(&u->later, t->path, mode, time_of(u->entry)))
		tree_report_say(
		    &u->report, t->path, "too many directories to keep its mode and time");
	return r;
}

static int unpack_symlink(struct unpack *u, const struct target *t, struct err *err)
{
	const char *link = archive_entry_symlink(u->entry);
	struct timespec times[2] = { { .tv_nsec = UTIME_NOW }, time_of(u->entry) };

	if (link == NULL || link[0] == '\0')
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "%s: a symbolic link to nowhere", t->path);
	if (!link_stays_inside(t->path, link))
		return err_set(err, GRPC_PERMISSION_DENIED,
		    "%s: a symbolic link that leads out of the directory", t->path);
	if (!u->opt->links) {
		tree_report_skip(&u->report, t->path, "a symbolic link");
		return 0;
	}
	if (symlinkat(link, u->dir, PART_NAME) != 0 &&
	    (errno != EEXIST || unlinkat(u->dir, PART_NAME, 0) != 0 ||
		symlinkat(link, u->dir, PART_NAME) != 0))
		return err_sys(err, errno, "%s", t->path);
	(void)utimensat(u->dir, PART_NAME, times, AT_SYMLINK_NOFOLLOW);
	return put_in_place(u, t, err);
}

/* Another name for the file ${name} in ${dir}, in place of what has it. */
static int link_file(struct unpack *u, int dir, const char *name, const struct target *t,
    const char *link, struct err *err)
{
	struct stat st, old;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return err_sys(err, errno, "%s: a link to %s", t->path, link);
	if (!S_ISREG(st.st_mode))
		return err_set(
		    err, GRPC_PERMISSION_DENIED, "%s: a link to what is no file", t->path);
	if (fstatat(u->dir, t->last, &old, AT_SYMLINK_NOFOLLOW) == 0 && old.st_dev == st.st_dev &&
	    old.st_ino == st.st_ino)
		return 0; /* a link to itself among them */
	if (linkat(dir, name, u->dir, PART_NAME, 0) != 0 &&
	    (unlinkat(u->dir, PART_NAME, 0) != 0 || linkat(dir, name, u->dir, PART_NAME, 0) != 0))
		return err_sys(err, errno, "%s: a link to %s", t->path, link);
	return put_in_place(u, t, err);
}

/* A second name for a file of the same archive. */
static int unpack_hardlink(struct unpack *u, const struct target *t, struct err *err)
{
	char link[TREE_PATH_MAX], name[BENEATH_NAME_MAX];

	if (clean_name(archive_entry_hardlink(u->entry), link, err) != 0)
		return err_wrap(err, "%s: a link to", t->path);
	int dir = beneath_parent(u->opt->root, link, false, BENEATH_NO_LINKS, name, err);
	if (dir < 0)
		return err_wrap(err, "%s: a link to", t->path);
	int r = link_file(u, dir, name, t, link, err);
	close(dir);
	return r;
}

/* A header that promises more than its bytes can be is a bomb. */
static int check_size(struct unpack *u, const char *path, struct err *err)
{
	la_int64_t size = archive_entry_size(u->entry);

	if (size < 0)
		return err_set(err, GRPC_INVALID_ARGUMENT, "%s: a negative size", path);
	if (archive_entry_filetype(u->entry) != AE_IFREG)
		return 0;
	if ((uint64_t)size > TREE_SPARSE_MAX ||
	    __builtin_add_overflow(u->claimed, (uint64_t)size, &u->claimed) ||
	    (u->opt->max_bytes != 0 && u->claimed > u->opt->max_bytes)) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "%s: the archive unpacks to too many bytes",
		    path);
		return end_stream(u);
	}
	return 0;
}

static int check_count(struct unpack *u, const char *path, struct err *err)
{
	uint64_t max = u->opt->max_entries != 0 ? u->opt->max_entries : TREE_ENTRIES_MAX;

	if (u->result->entries + u->withdrawn <= max)
		return 0;
	err_set(err, GRPC_RESOURCE_EXHAUSTED, "%s: the archive has more than %" PRIu64 " entries",
	    path, max);
	return end_stream(u);
}

static int count_entry(struct unpack *u, const char *path, struct err *err)
{
	u->result->entries++;
	if (archive_entry_filetype(u->entry) != AE_IFDIR)
		u->result->files++;
	return check_count(u, path, err) == 0 ? check_size(u, path, err) : -1;
}

static int make_entry(struct unpack *u, const struct target *t, struct err *err)
{
	if (archive_entry_hardlink(u->entry) != NULL)
		return unpack_hardlink(u, t, err);
	switch (archive_entry_filetype(u->entry)) {
	case AE_IFREG:
		return unpack_file(u, t, err);
	case AE_IFDIR:
		return unpack_directory(u, t, err);
	case AE_IFLNK:
		return unpack_symlink(u, t, err);
	default:
		return err_set(err, GRPC_PERMISSION_DENIED,
		    "%s: the archive has a device, socket or pipe; only files, directories and links are unpacked",
		    t->path);
	}
}

/* It can be withdrawn, whatever becomes of it here. */
static void note_large(struct unpack *u, const char *path)
{
	if (archive_entry_filetype(u->entry) != AE_IFREG ||
	    archive_entry_hardlink(u->entry) != NULL ||
	    archive_entry_size(u->entry) <= (la_int64_t)TREE_HELD_MAX)
		return;
	snprintf(u->waiting.path, sizeof(u->waiting.path), "%s", path);
	u->waiting.bytes = u->result->bytes;
}

static int unpack_entry(struct unpack *u, struct err *err)
{
	const char *raw = archive_entry_pathname(u->entry);
	char path[TREE_PATH_MAX] = "";
	struct target t = { .path = path };

	if (count_entry(u, raw != NULL ? raw : "", err) != 0)
		return -1;
	if (raw == NULL || raw[0] == '\0')
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "entry %" PRIu64 " of the archive has no readable name", u->result->entries);
	if (clean_name(raw, path, err) != 0)
		return -1;
	if (path[0] == '\0')
		return 0; /* the root is there */
	note_large(u, path);
	if (enter_parent(u, path, &t.last, err) != 0)
		return err_wrap(err, "%s", path);
	return make_entry(u, &t, err);
}

/* Nothing comes that could withdraw it. */
static void settle(struct unpack *u)
{
	struct waiting *w = &u->waiting;
	const struct target t = { .path = w->path, .last = w->last };
	struct err why;

	if (w->whole && put_in_place(u, &t, &why) != 0)
		tree_report_fail(&u->report, &why);
	w->whole = false;
	w->path[0] = '\0';
}

static void discard(struct unpack *u)
{
	if (u->waiting.whole)
		unlinkat(u->dir, PART_NAME, 0);
	u->waiting.whole = false;
}

static bool is_withdrawal(const struct unpack *u)
{
	const char *name;
	const void *value;
	size_t len;

	archive_entry_xattr_reset(u->entry);
	while (archive_entry_xattr_next(u->entry, &name, &value, &len) == ARCHIVE_OK)
		if (strcmp(name, TREE_WITHDRAWN) == 0)
			return true;
	return false;
}

/* The other end could not read the file before to its end, and says so itself. */
static int withdraw(struct unpack *u, struct err *err)
{
	const char *raw = archive_entry_pathname(u->entry);
	struct waiting *w = &u->waiting;
	char path[TREE_PATH_MAX] = "";

	u->withdrawn++;
	if (check_count(u, raw != NULL ? raw : "", err) != 0 ||
	    clean_name(raw != NULL ? raw : "", path, err) != 0)
		return -1;
	if (path[0] == '\0' || strcmp(path, w->path) != 0) {
		settle(u);
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "%s: the archive withdraws it, and it is not the large file before", path);
	}
	discard(u);
	w->path[0] = '\0';
	u->dropped += u->result->bytes - w->bytes;
	u->result->bytes = w->bytes;
	u->result->entries--;
	u->result->files--;
	return 0;
}

/* Past what is left of an entry, which is all of one that could not be made. */
static int drop_content(struct unpack *u, struct err *err)
{
	const void *bytes;
	size_t len;
	la_int64_t offset;

	while (archive_read_data_block(u->a, &bytes, &len, &offset) == ARCHIVE_OK) {
		u->dropped += len;
		if (check_ratio(u, "what is left out", err) != 0)
			return -1;
	}
	return 0; /* the next header says what is wrong with it */
}

/* libarchive gathers them in memory: long names, attributes, and the map of holes. */
static int next_header(struct unpack *u)
{
	u->header = 0;
	u->in_header = true;
	int got = archive_read_next_header(u->a, &u->entry);
	u->in_header = false;
	return got;
}

static int take_entry(struct unpack *u, struct err *err)
{
	if (is_withdrawal(u))
		return withdraw(u, err);
	settle(u);
	return unpack_entry(u, err);
}

/* Entry for entry; what cannot be made is told of, and what cannot go on ends it. */
static int unpack_all(struct unpack *u, struct err *err)
{
	struct err why;
	int got;

	while ((got = next_header(u)) <= ARCHIVE_OK && got >= ARCHIVE_WARN) {
		err_clear(&why);
		int r = take_entry(u, &why);
		if (r != 0 &&
		    (u->over || why.code == GRPC_RESOURCE_EXHAUSTED || u->err.code != GRPC_OK)) {
			*err = why;
			return -1;
		}
		if (r != 0)
			tree_report_fail(&u->report, &why);
		if (drop_content(u, err) != 0)
			return -1;
	}
	if (got == ARCHIVE_EOF) {
		settle(u);
		return 0;
	}
	return err_set(
	    err, GRPC_INVALID_ARGUMENT, "the archive is damaged: %s", archive_error_string(u->a));
}

static struct archive *open_reader(struct unpack *u, struct err *err)
{
	if ((u->plain = tree_plain_open(u->opt->pull, u->opt->cookie, err)) == NULL)
		return NULL;
	struct archive *a = archive_read_new();
	if (a == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	/* Only what we send: every other format is attack surface. */
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
	struct unpack u = { .opt = opt,
		.result = result,
		.report = { .note = opt->note, .cookie = opt->cookie, .result = result },
		.dir = -1 };
	int r;

	memset(result, 0, sizeof(*result));
	r = (u.a = open_reader(&u, err)) != NULL ? unpack_all(&u, err) : -1;
	if (u.err.code != GRPC_OK) {
		*err = u.err; /* the stream broke, whatever libarchive made of it */
		r = -1;
	}
	discard(&u);
	if (u.dir >= 0)
		close(u.dir);
	archive_read_free(u.a);
	tree_plain_free(u.plain);
	tree_later_apply(&u.later, opt->root);
	result->complete = r == 0;
	if (r == 0 && result->entries > 0 && syncfs(opt->root) != 0 && errno != EBADF)
		r = err_sys(err, errno, "sync");
	return r == 0 ? tree_report_end(&u.report, err) : r;
}
