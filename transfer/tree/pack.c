/* A file or a tree as a pax tar stream. Walks with descriptors, never by path. */
#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
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
#include "base/map.h"
#include "transfer/link.h"
#include "transfer/tree/tree_report.h"
#include "transfer/tree/tree_rules.h"

#define INODE_TEXT 64            /* "device:inode" */
#define PACK_BLOCK TREE_HELD_MAX /* bytes gathered before they are pushed */

/* A stretch of a file that is no hole. */
struct extent {
	uint64_t offset, len;
};

struct pack {
	const struct tree_pack *opt;
	struct tree_result *result;
	struct tree_report report;
	struct archive *a;
	struct archive_entry *entry;
	uint8_t *buffer;     /* PACK_BLOCK bytes */
	uint8_t *zeros;      /* as many */
	char *attributes;    /* 2 * TREE_XATTRS_MAX bytes: names, a value */
	struct map *links;   /* "device:inode" to the first name, an allocated text */
	size_t links_bytes;  /* of these names */
	struct extent *data; /* TREE_HOLES_MAX + 1 of the file at hand */
	size_t extents;
	uint64_t withdrawn; /* entries */
	size_t skip;        /* bytes of a path before what the patterns given are about */
	struct err *err;    /* set once something failed for good */
	bool failed;        /* nothing more goes out: a broken archive must look broken */
};

/* An entry on the walk. */
struct step {
	const struct step *up; /* the directory it is in; NULL: the root */
	int dir;
	const char *name, *path;
	const struct tree_rules *rules; /* of the directory it is in */
	unsigned depth;
	dev_t dev; /* of a directory that is entered */
	ino_t ino;
};

static la_ssize_t on_write(struct archive *a, void *cookie, const void *bytes, size_t len)
{
	struct pack *p = cookie;

	if (p->failed)
		return (la_ssize_t)len;
	if (p->opt->push(p->opt->cookie, bytes, len, p->err) != 0) {
		archive_set_error(a, EIO, "%s", p->err->text);
		return -1;
	}
	return (la_ssize_t)len;
}

static int skip(struct pack *p, const char *path, const char *why)
{
	tree_report_skip(&p->report, path, why);
	return 0;
}

static void fail(struct pack *p, enum grpc_code code, const char *path, const char *why)
{
	struct err err;

	err_set(&err, code, "%s: %s", path, why);
	tree_report_fail(&p->report, &err);
}

/* libarchive's error, unless the push already said why. */
static int archive_failed(struct pack *p)
{
	if (p->err->code == GRPC_OK)
		err_set(p->err, GRPC_INTERNAL, "pack: %s", archive_error_string(p->a));
	return -1;
}

/* What else the entry has (links, holes, attributes) has been set before. */
static int write_header(struct pack *p, const char *path, const struct stat *st, uint64_t size)
{
	if (p->result->entries + p->withdrawn >= TREE_ENTRIES_MAX)
		return err_set(p->err, GRPC_RESOURCE_EXHAUSTED,
		    "%s: the tree has more than %d entries", path, TREE_ENTRIES_MAX);
	archive_entry_set_pathname(p->entry, path);
	archive_entry_set_filetype(p->entry, st->st_mode & S_IFMT);
	archive_entry_set_perm(p->entry, st->st_mode & 0777);
	archive_entry_set_mtime(p->entry, st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
	archive_entry_set_size(p->entry, (la_int64_t)size);
	p->result->entries++;
	if (!S_ISDIR(st->st_mode))
		p->result->files++;
	int r = archive_write_header(p->a, p->entry);
	archive_entry_clear(p->entry);
	return r < ARCHIVE_WARN ? archive_failed(p) : 0;
}

/* libarchive escapes other names, and no reader has the escapes undone. */
static bool name_is_plain(const char *name)
{
	for (; *name > ' ' && *name < 0x7f && *name != '%' && *name != '='; name++)
		;
	return *name == '\0';
}

/* Attributes that are users' own: others speak of rights that are not ours to give. */
static void add_attributes(struct pack *p, int fd, const char *path)
{
	char *value = p->attributes + TREE_XATTRS_MAX;
	ssize_t len = flistxattr(fd, p->attributes, TREE_XATTRS_MAX), n;
	size_t all = 0;

	for (ssize_t at = 0; at < len; at += (ssize_t)strlen(p->attributes + at) + 1) {
		const char *name = p->attributes + at;
		if (strncmp(name, "user.", 5) != 0)
			continue;
		if (!name_is_plain(name)) {
			skip(p, path, "an extended attribute with an odd name");
			continue;
		}
		if ((n = fgetxattr(fd, name, value, TREE_XATTRS_MAX)) < 0)
			continue;
		all += (size_t)n;
		if (all > TREE_XATTRS_MAX) {
			skip(p, path, "extended attributes that are too long");
			return;
		}
		archive_entry_xattr_add_entry(p->entry, name, value, (size_t)n);
	}
	if (len < 0 && errno == E2BIG)
		skip(p, path, "too many extended attributes");
}

/* Files of several names. */

static bool free_name(void *cookie, const char *key, void *value)
{
	(void)cookie;
	(void)key;
	free(value);
	return true;
}

static void name_inode(char key[static INODE_TEXT], const struct stat *st)
{
	snprintf(
	    key, INODE_TEXT, "%" PRIx64 ":%" PRIx64, (uint64_t)st->st_dev, (uint64_t)st->st_ino);
}

/* It was not packed after all: its next name is the first. */
static void forget_name(struct pack *p, const struct stat *st)
{
	char key[INODE_TEXT];

	name_inode(key, st);
	char *name = map_remove(p->links, key);
	if (name != NULL)
		p->links_bytes -= strlen(name) + 1;
	free(name);
}

/* The name under which the file has been packed already. Else ${path} is remembered. */
static const char *first_name(struct pack *p, const struct stat *st, const char *path)
{
	size_t size = strlen(path) + 1;
	char key[INODE_TEXT];
	char *name;

	if (st->st_nlink < 2)
		return NULL;
	name_inode(key, st);
	if ((name = map_get(p->links, key)) != NULL)
		return name;
	if (size > TREE_LINKS_MAX - p->links_bytes || (name = strdup(path)) == NULL)
		return NULL;
	if (map_put(p->links, key, name) == 0)
		p->links_bytes += size;
	else
		free(name);
	return NULL;
}

/* Content. */

static int put(struct pack *p, const uint8_t *bytes, size_t len)
{
	return archive_write_data(p->a, bytes, len) == (la_ssize_t)len ? 0 : archive_failed(p);
}

static int put_zeros(struct pack *p, uint64_t len)
{
	while (len > 0) {
		size_t n = len < PACK_BLOCK ? (size_t)len : PACK_BLOCK;
		if (put(p, p->zeros, n) != 0)
			return -1;
		len -= n;
	}
	return 0;
}

/* Where the data are. Behind the last extent there is room for no more of them, so it
 * reaches to the end. */
static void find_extents(struct pack *p, int fd, uint64_t size)
{
	off_t at = 0, end;

	p->extents = 0;
	while ((uint64_t)at < size && p->extents < TREE_HOLES_MAX) {
		off_t data = lseek(fd, at, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			return; /* a hole to the end */
		if (data < 0 || (end = lseek(fd, data, SEEK_HOLE)) <= data)
			break;
		if ((uint64_t)end > size)
			end = (off_t)size;
		if (end <= data)
			return;
		p->data[p->extents++] = (struct extent){ (uint64_t)data, (uint64_t)(end - data) };
		at = end;
	}
	if ((uint64_t)at < size)
		p->data[p->extents++] = (struct extent){ (uint64_t)at, size - (uint64_t)at };
}

/* Whether ${path} goes into a ustar header, whole or split at a slash (POSIX.1-2017, pax,
 * "ustar Interchange Format": 155 and 100 bytes). One of other bytes than ASCII must go into
 * its last part. Where it does not, libarchive 3.6.2 names a sparse file by what does
 * (archive_write_set_format_pax.c: "GNU.sparse.name" is set from the shortened name). */
static bool fits_ustar(const char *path)
{
	size_t len = strlen(path);
	const char *slash;

	for (const char *c = path; *c != '\0'; c++)
		if ((unsigned char)*c >= 0x80)
			return len < 100;
	if (len <= 100)
		return true;
	slash = strchr(path + len - 101, '/');
	return slash != NULL && slash[1] != '\0' && slash - path <= 155;
}

/* Sparse when the file system has less of it than its size is. */
static void describe_content(struct pack *p, int fd, const char *path, const struct stat *st)
{
	uint64_t size = (uint64_t)st->st_size;

	p->extents = 1;
	p->data[0] = (struct extent){ 0, size };
	archive_entry_set_size(p->entry, st->st_size); /* sparse entries are checked against it */
	if ((uint64_t)st->st_blocks * 512 >= size || !fits_ustar(path))
		return;
	find_extents(p, fd, size);
	if (p->extents == 1 && p->data[0].len == size)
		return;
	for (size_t i = 0; i < p->extents; i++)
		archive_entry_sparse_add_entry(
		    p->entry, (la_int64_t)p->data[i].offset, (la_int64_t)p->data[i].len);
	if (p->extents == 0)
		archive_entry_sparse_add_entry(p->entry, 0, 0);
}

/* Reads what there should be; where it is not, ${why} says so. */
static void read_all(int fd, uint8_t *to, size_t len, uint64_t offset, const char **why)
{
	while (len > 0 && *why == NULL) {
		ssize_t n = pread(fd, to, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			*why = strerror(errno);
		else if (n == 0)
			*why = "it shrank while it was read";
		to += n > 0 ? n : 0;
		offset += n > 0 ? (uint64_t)n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
}

/* One stretch; of a file that is not ${held} in the buffer, in blocks. The size has been said:
 * once ${why} it cannot be read on, zeros go in its place. */
static int pack_extent(struct pack *p, int fd, const struct extent *e, bool held, const char **why)
{
	if (held)
		return put(p, p->buffer + e->offset, (size_t)e->len);
	for (uint64_t done = 0; done < e->len && *why == NULL;) {
		size_t len = e->len - done < PACK_BLOCK ? (size_t)(e->len - done) : PACK_BLOCK;
		read_all(fd, p->buffer, len, e->offset + done, why);
		if (*why != NULL)
			return put_zeros(p, e->len - done);
		if (put(p, p->buffer, len) != 0)
			return -1;
		done += len;
	}
	return *why == NULL ? 0 : put_zeros(p, e->len);
}

/* libarchive wants the holes too, and leaves them out itself. */
static int put_content(struct pack *p, int fd, const struct stat *st, bool held, const char **why)
{
	uint64_t at = 0;

	for (size_t i = 0; i < p->extents; i++) {
		if (put_zeros(p, p->data[i].offset - at) != 0 ||
		    pack_extent(p, fd, &p->data[i], held, why) != 0)
			return -1;
		at = p->data[i].offset + p->data[i].len;
	}
	return put_zeros(p, (uint64_t)st->st_size - at);
}

/* An archive cannot take back an entry that has begun, but the next one can say that it is
 * none. Who does not understand that has an empty file, with no rights to it. */
static int withdraw(struct pack *p, const char *path, const struct stat *st, const char *why)
{
	const struct stat nothing = { .st_mode = S_IFREG };

	archive_entry_xattr_add_entry(p->entry, TREE_WITHDRAWN, "1", 1);
	if (write_header(p, path, &nothing, 0) != 0)
		return -1;
	p->result->entries -= 2;
	p->result->files -= 2;
	p->withdrawn++;
	forget_name(p, st);
	fail(p, GRPC_ABORTED, path, why);
	return 0;
}

static int pack_content(struct pack *p, int fd, const char *path, const struct stat *st, bool held)
{
	const char *why = NULL;
	struct stat now;

	if (put_content(p, fd, st, held, &why) != 0)
		return -1;
	if (why != NULL)
		return withdraw(p, path, st, why);
	for (size_t i = 0; i < p->extents; i++)
		p->result->bytes += p->data[i].len;
	if (fstat(fd, &now) != 0 || now.st_size != st->st_size ||
	    now.st_mtim.tv_sec != st->st_mtim.tv_sec || now.st_mtim.tv_nsec != st->st_mtim.tv_nsec)
		fail(p, GRPC_ABORTED, path, "it changed while it was read");
	return 0;
}

/* Entries of each kind. */

static int pack_open_file(struct pack *p, int fd, const char *path)
{
	const char *first, *why = NULL;
	struct stat st;

	if (fstat(fd, &st) != 0)
		return skip(p, path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return skip(p, path, "not a file any more");
	if ((first = first_name(p, &st, path)) != NULL) {
		archive_entry_set_hardlink(p->entry, first);
		return write_header(p, path, &st, 0);
	}
	/* What fits is read before it is begun, so that it can be left out. */
	bool held = st.st_size <= (off_t)TREE_HELD_MAX;
	if (held)
		read_all(fd, p->buffer, (size_t)st.st_size, 0, &why);
	if (why != NULL) {
		fail(p, GRPC_ABORTED, path, why);
		forget_name(p, &st);
		return 0;
	}
	add_attributes(p, fd, path);
	describe_content(p, fd, path, &st);
	if (write_header(p, path, &st, (uint64_t)st.st_size) != 0)
		return -1;
	return pack_content(p, fd, path, &st, held);
}

static int pack_file(struct pack *p, const struct step *s)
{
	int follow = p->opt->follow_links ? 0 : O_NOFOLLOW;
	int fd = openat(s->dir, s->name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | follow);

	if (fd < 0)
		return skip(p, s->path, strerror(errno));
	int r = pack_open_file(p, fd, s->path);
	close(fd);
	return r;
}

static int pack_link(struct pack *p, const struct step *s, const struct stat *st)
{
	char target[TREE_PATH_MAX];
	const char *path = strncmp(s->path, "./", 2) == 0 ? s->path + 2 : s->path;
	ssize_t n = readlinkat(s->dir, s->name, target, sizeof(target) - 1);

	if (n < 0)
		return skip(p, s->path, strerror(errno));
	target[n] = '\0';
	if (!link_stays_inside(path, target))
		return skip(p, s->path, "a symbolic link that leads out of the tree");
	archive_entry_set_symlink(p->entry, target);
	return write_header(p, s->path, st, 0);
}

static int pack_directory(struct pack *p, struct step *s);

/* The patterns given come first. What is named is never left out. */
static bool is_out(const struct pack *p, const struct step *s, bool directory)
{
	enum ignore_answer answer = IGNORE_SILENT;

	if (s->up == NULL)
		return false;
	if (p->opt->exclude != NULL)
		answer = ignore_match(p->opt->exclude, s->path + p->skip, directory);
	if (answer != IGNORE_SILENT)
		return answer == IGNORE_OUT;
	return tree_rules_out(s->rules, s->path, directory);
}

static int pack_one(struct pack *p, struct step *s)
{
	struct stat st;
	int follow = p->opt->follow_links ? 0 : AT_SYMLINK_NOFOLLOW;

	if (fstatat(s->dir, s->name, &st, follow) != 0)
		return skip(p, s->path, strerror(errno));
	if (is_out(p, s, S_ISDIR(st.st_mode))) {
		p->result->ignored++;
		return 0;
	}
	switch (st.st_mode & S_IFMT) {
	case S_IFREG:
		return pack_file(p, s);
	case S_IFDIR:
		return pack_directory(p, s);
	case S_IFLNK:
		return pack_link(p, s, &st);
	default:
		return skip(p, s->path, "a socket, pipe or device");
	}
}

/* One name that readdir() gave. */
static int pack_child(struct pack *p, const struct step *parent, int dir, const char *name,
    const struct tree_rules *rules)
{
	char path[TREE_PATH_MAX];
	struct step s = { .up = parent,
		.dir = dir,
		.name = name,
		.path = path,
		.rules = rules,
		.depth = parent->depth + 1 };

	if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return 0;
	if (p->opt->git_ignore && strcmp(name, ".git") == 0) {
		p->result->ignored++;
		return 0;
	}
	if (snprintf(path, sizeof(path), "%s/%s", parent->path, name) >= (int)sizeof(path))
		return skip(p, name, "its path is too long");
	return pack_one(p, &s);
}

/* All entries of an open directory. */
static int pack_children(struct pack *p, const struct step *s, int fd)
{
	struct tree_rules own = { .up = s->rules, .skip = strlen(s->path) + 1 };
	const struct tree_rules *rules = s->rules;
	DIR *list = fdopendir(fd);
	struct err err = { 0 };
	int r = 0;

	if (list == NULL) {
		close(fd);
		return err_set(p->err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	}
	if (p->opt->git_ignore && (own.patterns = tree_rules_load(fd, ".gitignore", &err)) != NULL)
		rules = &own;
	if (err.code != GRPC_OK)
		tree_report_say(&p->report, s->path, err.text);
	for (struct dirent *e; r == 0 && (errno = 0, e = readdir(list)) != NULL;)
		r = pack_child(p, s, fd, e->d_name, rules);
	if (r == 0 && errno != 0)
		r = err_sys(p->err, errno, "%s", s->path);
	closedir(list);
	ignore_free(own.patterns);
	return r;
}

/* Followed links may lead to where we are. */
static bool is_entered(const struct step *s, const struct stat *st)
{
	for (; s != NULL; s = s->up)
		if (s->dev == st->st_dev && s->ino == st->st_ino)
			return true;
	return false;
}

static int enter_directory(struct pack *p, struct step *s, int fd)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return skip(p, s->path, strerror(errno));
	if (is_entered(s->up, &st))
		return skip(p, s->path, "a symbolic link to a directory it is in");
	s->dev = st.st_dev;
	s->ino = st.st_ino;
	add_attributes(p, fd, s->path);
	return write_header(p, s->path, &st, 0) == 0 ? 1 : -1;
}

static int pack_directory(struct pack *p, struct step *s)
{
	int follow = p->opt->follow_links ? 0 : O_NOFOLLOW;

	if (s->depth > TREE_DEPTH_MAX)
		return skip(p, s->path, "too deep");
	int fd = openat(s->dir, s->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | follow);
	if (fd < 0 && s->depth == 0)
		return err_sys(p->err, errno, "%s", s->path);
	if (fd < 0)
		return skip(p, s->path, strerror(errno));
	int r = enter_directory(p, s, fd);
	if (r == 1)
		return pack_children(p, s, fd);
	close(fd);
	return r;
}

/* All of it. */

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
	archive_write_set_format_pax(a);
	archive_write_set_options(a, "hdrcharset=BINARY,xattrheader=SCHILY");
	archive_write_set_bytes_per_block(a, PACK_BLOCK);
	archive_write_set_bytes_in_last_block(a, 1);
	if (archive_write_open(a, p, NULL, on_write, NULL) != ARCHIVE_OK) {
		archive_write_free(a);
		return NULL;
	}
	return a;
}

static int walk(struct pack *p, struct step *s)
{
	struct tree_above *above = NULL;

	p->skip = strlen(s->path) + 1;
	if (p->opt->git_ignore)
		above = tree_above_find(p->opt->root, p->skip);
	s->rules = tree_above_rules(above);
	int r = strcmp(s->name, ".") == 0 ? pack_directory(p, s) : pack_one(p, s);
	tree_above_free(above);
	return r;
}

static int pack_all(struct pack *p)
{
	char last[BENEATH_NAME_MAX];
	struct step s = { .dir = p->opt->root, .name = ".", .path = "." };

	if (strcmp(p->opt->name, ".") == 0)
		return walk(p, &s);
	s.dir = beneath_parent(p->opt->root, p->opt->name, false, BENEATH_FOLLOW, last, p->err);
	if (s.dir < 0)
		return -1;
	s.name = s.path = last;
	int r = walk(p, &s);
	close(s.dir);
	return r;
}

static int pack_init(struct pack *p)
{
	p->buffer = malloc(PACK_BLOCK);
	p->zeros = calloc(1, PACK_BLOCK);
	p->attributes = malloc(2 * TREE_XATTRS_MAX);
	p->data = malloc((TREE_HOLES_MAX + 1) * sizeof(*p->data));
	p->links = map_create();
	p->entry = archive_entry_new();
	if (p->buffer != NULL && p->zeros != NULL && p->attributes != NULL && p->data != NULL &&
	    p->links != NULL && p->entry != NULL)
		p->a = open_writer(p);
	return p->a != NULL ? 0 : err_set(p->err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

static void pack_free(struct pack *p)
{
	if (p->links != NULL)
		map_each(p->links, free_name, NULL);
	map_free(p->links);
	archive_entry_free(p->entry);
	archive_write_free(p->a);
	free(p->data);
	free(p->attributes);
	free(p->zeros);
	free(p->buffer);
}

int tree_pack(const struct tree_pack *opt, struct tree_result *result, struct err *err)
{
	struct pack p = { .opt = opt,
		.result = result,
		.report = { .note = opt->note, .cookie = opt->cookie, .result = result },
		.err = err };

	memset(result, 0, sizeof(*result));
	err_clear(err);
	int r = pack_init(&p);
	if (r == 0) {
		r = pack_all(&p);
		if (r == 0 && archive_write_close(p.a) != ARCHIVE_OK)
			r = archive_failed(&p);
		/* Not archive_write_fail(): what has failed is never closed, and its block leaks. */
		p.failed = r != 0;
	}
	pack_free(&p);
	result->complete = r == 0;
	return r == 0 ? tree_report_end(&p.report, err) : r;
}
