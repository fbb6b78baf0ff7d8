/*
 * Trees onto archives and back: what the bytes describe is made, packed and unpacked, and
 * both ends have to count the same. Whatever is in the tree, neither may fail.
 *
 * A byte for options, then entries: a byte for the kind, one for the parent, one for the
 * length of the name, the name; of a file a byte for its size, of a link its target.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "scratch.h"
#include "transfer/tree/tree.h"

#define ENTRIES_MAX 16
#define ARCHIVE_MAX ((size_t)4 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *at;
	size_t left;
};

struct archive_bytes {
	uint8_t *bytes;
	size_t len, at;
};

static unsigned byte(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->at++;
}

/* Bytes for a name or a target, without NUL; a name has no slash. */
static const char *text(struct input *in, char out[static 300], bool is_name)
{
	size_t len = byte(in) % 255 + 1;

	for (size_t i = 0; i < len; i++) {
		unsigned c = byte(in);
		out[i] = c == 0 || (is_name && c == '/') ? 'x' : (char)c;
	}
	out[len] = '\0';
	return out;
}

static void make_file(int dir, const char *name, unsigned size)
{
	/* O_EXCL: not behind a link, nor into a pipe, that has the name already. */
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600 | (size & 077));

	if (fd < 0)
		return;
	/* Some with a hole before, some with one behind. */
	if (pwrite(fd, "content", size % 8, (off_t)(size % 3) << 17) < 0 ||
	    (size % 5 == 0 && ftruncate(fd, (off_t)size << 12) != 0))
		abort();
	close(fd);
}

/* Directories as they were made, by their number. */
static void make_tree(int root, struct input *in)
{
	int dirs[ENTRIES_MAX + 1] = { root }, count = 1;
	char name[300], target[300];

	for (unsigned n = 0; n < ENTRIES_MAX && in->left > 0; n++) {
		unsigned kind = byte(in);
		int dir = dirs[byte(in) % (unsigned)count];
		text(in, name, true);
		switch (kind % 5) {
		case 0:
			if (mkdirat(dir, name, 0700) == 0)
				dirs[count++] =
				    openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			break;
		case 1:
			(void)!symlinkat(text(in, target, false), dir, name);
			break;
		case 2:
			(void)!linkat(root, text(in, target, true), dir, name, 0);
			break;
		case 3:
			(void)!mkfifoat(dir, name, 0600);
			break;
		default:
			make_file(dir, name, byte(in));
		}
	}
	for (int i = 1; i < count; i++)
		close(dirs[i]);
}

static int push(void *cookie, const void *bytes, size_t len, struct err *err)
{
	struct archive_bytes *a = cookie;

	if (len > ARCHIVE_MAX - a->len)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "too long");
	memcpy(a->bytes + a->len, bytes, len);
	a->len += len;
	return 0;
}

static ssize_t pull(void *cookie, const void **bytes, struct err *err)
{
	struct archive_bytes *a = cookie;
	size_t n = a->len - a->at;

	(void)err;
	*bytes = a->bytes + a->at;
	a->at += n;
	return (ssize_t)n;
}

static int make_directory(int folder, const char *name)
{
	int fd = mkdirat(folder, name, 0700) == 0
	    ? openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
	    : -1;

	if (fd < 0)
		abort();
	return fd;
}

static void there_and_back(int tree, int in, unsigned options, struct archive_bytes *a)
{
	struct tree_result packed, unpacked;
	struct err err = { 0 };
	struct tree_pack p = { .root = tree,
		.name = ".",
		.compression = (enum tree_compression)(options % 3),
		.git_ignore = (options & 4) != 0,
		.push = push,
		.cookie = a };
	struct tree_unpack u = { .root = in, .pull = pull, .cookie = a, .links = true };

	if (tree_pack(&p, &packed, &err) != 0 || tree_unpack(&u, &unpacked, &err) != 0 ||
	    packed.entries != unpacked.entries || packed.files != unpacked.files ||
	    packed.bytes != unpacked.bytes) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int folder = scratch_folder();
	struct input in = { data, size };
	struct archive_bytes a = { .bytes = malloc(ARCHIVE_MAX) };
	struct err err;

	int tree = make_directory(folder, "tree"), into = make_directory(folder, "in");
	unsigned options = byte(&in);
	make_tree(tree, &in);
	there_and_back(tree, into, options, &a);
	close(tree);
	close(into);
	if (beneath_remove_tree(folder, "tree", &err) != 0 ||
	    beneath_remove_tree(folder, "in", &err) != 0)
		abort();
	free(a.bytes);
	return 0;
}
