#include "transfer/files/watch_tree.h"

#include <stdlib.h>
#include <string.h>

#define BUCKETS_FIRST 64

static struct watch_node **bucket_of(const struct watch_tree *t, int wd)
{
	return &t->buckets[(size_t)(unsigned)wd & (t->bucket_count - 1)];
}

static int grow(struct watch_tree *t)
{
	size_t count = t->bucket_count == 0 ? BUCKETS_FIRST : 2 * t->bucket_count;
	struct watch_tree bigger = { .buckets = calloc(count, sizeof(struct watch_node *)),
		.bucket_count = count };

	if (bigger.buckets == NULL)
		return -1;
	for (size_t i = 0; i < t->bucket_count; i++)
		for (struct watch_node *n = t->buckets[i], *next; n != NULL; n = next) {
			struct watch_node **b = bucket_of(&bigger, n->wd);

			next = n->bucket;
			n->bucket = *b;
			*b = n;
		}
	free(t->buckets);
	t->buckets = bigger.buckets;
	t->bucket_count = count;
	return 0;
}

static void link_to(struct watch_node *n, struct watch_node *parent)
{
	n->parent = parent;
	n->prev = NULL;
	n->next = parent != NULL ? parent->child : NULL;
	if (n->next != NULL)
		n->next->prev = n;
	if (parent != NULL)
		parent->child = n;
}

static void unlink_from(struct watch_node *n)
{
	if (n->prev != NULL)
		n->prev->next = n->next;
	else if (n->parent != NULL)
		n->parent->child = n->next;
	if (n->next != NULL)
		n->next->prev = n->prev;
}

struct watch_node *watch_tree_add(
    struct watch_tree *t, struct watch_node *parent, const char *name, int wd, struct err *err)
{
	struct watch_node *n;

	if (t->count >= WATCH_TREE_MAX) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "more than %d directories to watch: watch fewer, or exclude some",
		    WATCH_TREE_MAX);
		return NULL;
	}
	n = t->count < t->bucket_count || grow(t) == 0 ? calloc(1, sizeof(*n)) : NULL;
	if (n == NULL || (n->name = strdup(name)) == NULL) {
		free(n);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	n->wd = wd;
	n->bucket = *bucket_of(t, wd);
	*bucket_of(t, wd) = n;
	link_to(n, parent);
	if (parent == NULL)
		t->top = n;
	t->count++;
	return n;
}

struct watch_node *watch_tree_find(const struct watch_tree *t, int wd)
{
	struct watch_node *n = t->bucket_count > 0 ? *bucket_of(t, wd) : NULL;

	while (n != NULL && n->wd != wd)
		n = n->bucket;
	return n;
}

struct watch_node *watch_tree_child(const struct watch_node *parent, const char *name)
{
	struct watch_node *n = parent->child;

	while (n != NULL && strcmp(n->name, name) != 0)
		n = n->next;
	return n;
}

int watch_tree_move(struct watch_node *n, struct watch_node *parent, const char *name)
{
	char *copy;

	for (const struct watch_node *up = parent; up != NULL; up = up->parent)
		if (up == n)
			return -1;
	if ((copy = strdup(name)) == NULL)
		return -1;
	free(n->name);
	n->name = copy;
	unlink_from(n);
	link_to(n, parent);
	return 0;
}

static void remove_one(struct watch_tree *t, struct watch_node *n)
{
	struct watch_node **b = bucket_of(t, n->wd);

	while (*b != n)
		b = &(*b)->bucket;
	*b = n->bucket;
	unlink_from(n);
	if (t->top == n)
		t->top = NULL;
	t->count--;
	free(n->name);
	free(n);
}

/* Leaves first, without recursion: a tree can be deeper than the stack. */
void watch_tree_drop(struct watch_tree *t, struct watch_node *n,
    void (*gone)(void *cookie, const struct watch_node *), void *cookie)
{
	struct watch_node *leaf = n, *next;

	do {
		while (leaf->child != NULL)
			leaf = leaf->child;
		next = leaf == n ? NULL : leaf->parent;
		if (gone != NULL)
			gone(cookie, leaf);
		remove_one(t, leaf);
	} while ((leaf = next) != NULL);
}

void watch_tree_free(struct watch_tree *t)
{
	if (t->top != NULL)
		watch_tree_drop(t, t->top, NULL, NULL);
	free(t->buckets);
	memset(t, 0, sizeof(*t));
}

void watch_tree_path(const struct watch_node *n, struct text *path)
{
	const struct watch_node *parts[WATCH_DEPTH_MAX];
	size_t count = 0;

	for (; n->parent != NULL && count < WATCH_DEPTH_MAX; n = n->parent)
		parts[count++] = n;
	if (n->parent != NULL) { /* without its beginning it would be another's */
		path->failed = true;
		return;
	}
	while (count-- > 0) {
		text_add(path, parts[count]->name, strlen(parts[count]->name));
		text_add(path, "/", 1);
	}
}
