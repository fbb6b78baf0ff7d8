/* A file or a tree as a pax tar stream. Walks with descriptors, never by path. */
#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/text.h"
#include "transfer/tree.h"
#include "transfer/link.h"

#define PACK_BLOCK (256 << 10) /* bytes gathered before they are pushed */

struct pack {
	const struct tree_pack *opt;
	struct tree_result *result;
	struct archive *a;
	struct archive_entry *entry;
	uint8_t *buffer; /* PACK_BLOCK bytes */
	struct err *err; /* set once something failed */
};

static la_ssize_t on_write(struct archive *a, void *cookie, const void *bytes, size_t len)
{
	struct pack *p = cookie;

	if (p->opt->push(p->opt->cookie, bytes, len, p->err) != 0) {
		archive_set_error(a, EIO, "%s", p->err->text);
		return -1;
	}
	return (la_ssize_t)len;
}

static void note(struct pack *p, const char *path, const char *why)
{
	struct text t;

	p->result->skipped++;
	if (p->opt->note == NULL)
		return;
	text_init(&t, TREE_PATH_MAX + 256);
	text_addf(&t, "skipped ");
	text_add_plain(&t, path, strlen(path));
	text_addf(&t, ": %s", why);
	if (!t.failed)
		p->opt->note(p->opt->cookie, t.data);
	text_free(&t);
}

/* libarchive's error, unless the push or the reading already said why. */
static int archive_failed(struct pack *p)
{
	if (p->err->code == GRPC_OK)
		err_set(p->err, GRPC_INTERNAL, "pack: %s", archive_error_string(p->a));
	return -1;
}

static int write_header(struct pack *p, const char *path, const struct stat *st)
{
	archive_entry_set_pathname(p->entry, path);
	archive_entry_set_filetype(p->entry, st->st_mode & S_IFMT);
	archive_entry_set_perm(p->entry, st->st_mode & 0777);
	archive_entry_set_mtime(p->entry, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
	archive_entry_set_size(p->entry, S_ISREG(st->st_mode) ? st->st_size : 0);
	p->result->entries++;
	if (!S_ISDIR(st->st_mode))
		p->result->files++;
	int r = archive_write_header(p->a, p->entry);
	archive_entry_clear(p->entry);
	return r < ARCHIVE_WARN ? archive_failed(p) : 0;
}

static int pack_content(struct pack *p, int fd, const char *path, uint64_t size)
{
	for (uint64_t left = size; left > 0;) {
		ssize_t n = read(fd, p->buffer, left < PACK_BLOCK ? (size_t)left : PACK_BLOCK);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(p->err, errno, "%s", path);
		if (n == 0)
			return err_set(
			    p->err, GRPC_ABORTED, "%s: the file shrank while it was read", path);
		if (archive_write_data(p->a, p->buffer, (size_t)n) != n)
			return archive_failed(p);
		left -= (uint64_t)n;
	}
	p->result->bytes += size;
	return 0;
}

static int pack_file(struct pack *p, int dir, const char *name, const char *path)
{
	struct stat st;
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), r;

	if (fd < 0) {
		note(p, path, strerror(errno));
		return 0;
	}
	if (fstat(fd, &st) != 0)
		r = err_sys(p->err, errno, "%s", path);
	else if (!S_ISREG(st.st_mode))
		note(p, path, "not a file any more"), r = 0;
	else if ((r = write_header(p, path, &st)) == 0)
		r = pack_content(p, fd, path, (uint64_t)st.st_size);
	close(fd);
	return r;
}

static int pack_link(
    struct pack *p, int dir, const char *name, const char *path, const struct stat *st)
{
	char target[TREE_PATH_MAX];
	ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);

	if (n < 0) {
		note(p, path, strerror(errno));
		return 0;
	}
	target[n] = '\0';
	if (!link_stays_inside(strncmp(path, "./", 2) == 0 ? path + 2 : path, target)) {
		note(p, path, "a symbolic link that leads out of the tree");
		return 0;
	}
	archive_entry_set_symlink(p->entry, target);
	return write_header(p, path, st);
}

static int pack_directory(
    struct pack *p, int dir, const char *name, const char *path, unsigned depth);

static int pack_one(struct pack *p, int dir, const char *name, const char *path, unsigned depth)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
		note(p, path, strerror(errno));
		return 0;
	}
	switch (st.st_mode & S_IFMT) {
	case S_IFREG:
		return pack_file(p, dir, name, path);
	case S_IFDIR:
		return pack_directory(p, dir, name, path, depth);
	case S_IFLNK:
		return pack_link(p, dir, name, path, &st);
	default:
		note(p, path, "a socket, pipe or device");
		return 0;
	}
}

/* All entries of an open directory. */
static int pack_children(struct pack *p, int fd, const char *path, unsigned depth)
{
	DIR *list = fdopendir(fd);
	char child[TREE_PATH_MAX];
	int r = 0;

	if (list == NULL) {
		close(fd);
		return err_sys(p->err, errno, "%s", path);
	}
	for (struct dirent *e; r == 0 && (e = readdir(list)) != NULL;) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (snprintf(child, sizeof(child), "%s/%s", path, e->d_name) >= (int)sizeof(child))
			note(p, e->d_name, "its path is too long");
		else
			r = pack_one(p, dirfd(list), e->d_name, child, depth + 1);
	}
	closedir(list);
	return r;
}

static int pack_directory(
    struct pack *p, int dir, const char *name, const char *path, unsigned depth)
{
	struct stat st;

	if (depth > TREE_DEPTH_MAX) {
		note(p, path, "too deep");
		return 0;
	}
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0) {
		note(p, path, strerror(errno));
		return 0;
	}
	if (fstat(fd, &st) != 0) {
		close(fd);
		return err_sys(p->err, errno, "%s", path);
	}
	if (write_header(p, path, &st) != 0) {
		close(fd);
		return -1;
	}
	return pack_children(p, fd, path, depth);
}

/* Raw bytes for names, whatever they are: file names have no character set. */
static struct archive *open_writer(struct pack *p)
{
	struct archive *a = archive_write_new();

	if (a == NULL)
		return NULL;
	if (p->opt->compression == TREE_COMPRESSION_GZIP)
		archive_write_add_filter_gzip(a);
	else if (p->opt->compression == TREE_COMPRESSION_ZSTD)
		archive_write_add_filter_zstd(a);
	archive_write_set_format_pax_restricted(a);
	archive_write_set_options(a, "hdrcharset=BINARY");
	archive_write_set_bytes_per_block(a, PACK_BLOCK);
	archive_write_set_bytes_in_last_block(a, 1);
	if (archive_write_open(a, p, NULL, on_write, NULL) != ARCHIVE_OK) {
		archive_write_free(a);
		return NULL;
	}
	return a;
}

static int pack_all(struct pack *p)
{
	char last[BENEATH_NAME_MAX];

	if (strcmp(p->opt->name, ".") == 0)
		return pack_directory(p, p->opt->root, ".", ".", 0);
	int dir = beneath_parent(p->opt->root, p->opt->name, false, BENEATH_FOLLOW, last, p->err);
	if (dir < 0)
		return -1;
	int r = pack_one(p, dir, last, last, 0);
	close(dir);
	return r;
}

int tree_pack(const struct tree_pack *opt, struct tree_result *result, struct err *err)
{
	struct pack p = { .opt = opt, .result = result, .err = err };
	int r = -1;

	memset(result, 0, sizeof(*result));
	err_clear(err);
	p.buffer = malloc(PACK_BLOCK);
	p.entry = archive_entry_new();
	p.a = p.buffer != NULL && p.entry != NULL ? open_writer(&p) : NULL;
	if (p.a == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	} else {
		r = pack_all(&p);
		if (r == 0 && archive_write_close(p.a) != ARCHIVE_OK)
			r = archive_failed(&p);
		if (r != 0)
			archive_write_fail(p.a); /* no trailer: a broken archive must look broken */
		archive_write_free(p.a);
	}
	archive_entry_free(p.entry);
	free(p.buffer);
	return r;
}
