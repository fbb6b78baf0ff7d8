#include "transfer/sync/sync_links.h"

#include <stdlib.h>
#include <string.h>

/* A file, by its number less one. */
struct file {
	char *first;     /* NULL: no name of it has come */
	uint64_t theirs; /* the target's number for the file of that name */
	bool kept;
};

struct sync_links {
	struct file *files;
	size_t count;
	size_t bytes;              /* of first names */
	struct sync_names waiting; /* a name, its file's first, a name... */
	char path[TREE_PATH_MAX];  /* given out */
	char first[TREE_PATH_MAX];
};

struct sync_links *sync_links_create(struct err *err)
{
	struct sync_links *l = calloc(1, sizeof(*l));

	if (l == NULL)
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	else
		l->waiting.max = SYNC_LINKS_MAX;
	return l;
}

void sync_links_free(struct sync_links *l)
{
	if (l == NULL)
		return;
	for (size_t i = 0; i < l->count; i++)
		free(l->files[i].first);
	free(l->files);
	sync_names_free(&l->waiting);
	free(l);
}

static struct file *find(struct sync_links *l, uint64_t number)
{
	return number > 0 && number <= l->count ? &l->files[number - 1] : NULL;
}

/* Numbers come one after the other: the walk counts them up. */
static struct file *find_or_add(struct sync_links *l, uint64_t number)
{
	if (number > l->count) {
		size_t count = number < 64 ? 64 : (size_t)number * 2;
		struct file *files = realloc(l->files, count * sizeof(*files));
		if (files == NULL)
			return NULL;
		memset(files + l->count, 0, (count - l->count) * sizeof(*files));
		l->files = files;
		l->count = count;
	}
	return find(l, number);
}

enum sync_link_answer sync_links_add(
    struct sync_links *l, const struct sync_entry *mine, const struct sync_entry *theirs)
{
	uint64_t number = theirs != NULL && theirs->kind == SYNC_KIND_FILE ? theirs->file : 0;
	size_t len = strlen(mine->path) + 1;

	if (mine->kind != SYNC_KIND_FILE || mine->file == 0)
		return SYNC_LINK_NONE;
	struct file *f = find_or_add(l, mine->file);
	if (f == NULL)
		return SYNC_LINK_NONE;
	if (f->first == NULL) {
		if (len > SYNC_LINKS_MAX - l->bytes || (f->first = strdup(mine->path)) == NULL)
			return SYNC_LINK_NONE;
		l->bytes += len;
		f->theirs = number;
		return SYNC_LINK_NONE;
	}
	if (f->kept && number != 0 && number == f->theirs)
		return SYNC_LINK_SAME;
	return sync_names_add_two(&l->waiting, mine->path, f->first) == 0 ? SYNC_LINK_WAITS
									  : SYNC_LINK_NONE;
}

void sync_links_kept(struct sync_links *l, const struct sync_entry *e)
{
	struct file *f = find(l, e->file);

	if (f != NULL && f->first != NULL && strcmp(f->first, e->path) == 0)
		f->kept = true;
}

bool sync_links_next(struct sync_links *l, const char **path, const char **first)
{
	const char *name = sync_names_first(&l->waiting);

	if (name == NULL)
		return false;
	memcpy(l->path, name, strlen(name) + 1);
	sync_names_drop(&l->waiting);
	name = sync_names_first(&l->waiting);
	memcpy(l->first, name, strlen(name) + 1);
	sync_names_drop(&l->waiting);
	*path = l->path;
	*first = l->first;
	return true;
}
