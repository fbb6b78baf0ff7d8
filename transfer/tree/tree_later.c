#include "transfer/tree/tree_later.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "transfer/tree/tree.h"

#define GROW 64 /* entries that are made room for at once */

struct tree_later_entry {
	struct timespec mtime;
	size_t order; /* as they were added */
	mode_t mode;
	unsigned depth;
	char path[];
};

static unsigned depth_of(const char *path)
{
	unsigned depth = 0;

	for (; (path = strchr(path, '/')) != NULL; path++)
		depth++;
	return depth;
}

static bool make_room(struct tree_later *l)
{
	struct tree_later_entry **entries;

	if (l->count % GROW != 0)
		return true;
	entries = realloc(l->entries, (l->count + GROW) * sizeof(struct tree_later_entry *));
	if (entries == NULL)
		return false;
	l->entries = entries;
	return true;
}

bool tree_later_add(struct tree_later *l, const char *path, mode_t mode, struct timespec mtime)
{
	size_t len = strlen(path) + 1, size = sizeof(struct tree_later_entry) + len;

	if (size > TREE_LATER_MAX - l->bytes || !make_room(l))
		return false;
	struct tree_later_entry *e = malloc(size);
	if (e == NULL)
		return false;
	*e = (struct tree_later_entry){
		.mtime = mtime, .order = l->count, .mode = mode, .depth = depth_of(path)
	};
	memcpy(e->path, path, len);
	l->entries[l->count++] = e;
	l->bytes += size;
	return true;
}

/* The deepest first, so that a directory that may not be entered any more has been; and of
 * one that came twice the last word counts. */
static int by_depth(const void *a, const void *b)
{
	const struct tree_later_entry *x = *(struct tree_later_entry *const *)a;
	const struct tree_later_entry *y = *(struct tree_later_entry *const *)b;

	if (x->depth != y->depth)
		return x->depth > y->depth ? -1 : 1;
	return x->order < y->order ? -1 : 1;
}

static void apply(const struct tree_later_entry *e, int root)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, e->mtime };
	struct err err;
	int fd = beneath_open(root, e->path, O_RDONLY | O_DIRECTORY, 0, BENEATH_NO_LINKS, &err);

	if (fd < 0)
		return; /* gone, or somebody else's by now */
	(void)futimens(fd, times);
	(void)fchmod(fd, e->mode);
	close(fd);
}

void tree_later_apply(struct tree_later *l, int root)
{
	if (l->count > 0)
		qsort(l->entries, l->count, sizeof(struct tree_later_entry *), by_depth);
	for (size_t i = 0; i < l->count; i++)
		apply(l->entries[i], root);
	tree_later_free(l);
}

void tree_later_free(struct tree_later *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->entries[i]);
	free(l->entries);
	*l = (struct tree_later){ 0 };
}
