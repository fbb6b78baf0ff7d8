/* What both ends of a sync need. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "transfer/sync/sync_peer.h"

void sync_note(const struct sync_options *o, const char *path, const char *why)
{
	struct text t;

	if (o->note == NULL)
		return;
	text_init(&t, 4 * TREE_PATH_MAX + ERR_TEXT_MAX);
	/* An error often begins with the name. */
	if (strncmp(path, why, strlen(path)) != 0) {
		text_add_plain(&t, path, strlen(path));
		text_addf(&t, ": ");
	}
	text_add_plain(&t, why, strlen(why));
	if (!t.failed)
		o->note(o->cookie, t.data);
	text_free(&t);
}

int sync_names_add(struct sync_names *n, const char *name)
{
	size_t len = strlen(name) + 1;

	if (n->at == n->len)
		n->at = n->len = 0;
	if (n->at > n->cap / 2) {
		memmove(n->data, n->data + n->at, n->len - n->at);
		n->len -= n->at;
		n->at = 0;
	}
	if (n->len - n->at + len > n->max)
		return -1;
	if (n->len + len > n->cap) {
		size_t cap = (n->len + len) * 2;
		char *data = realloc(n->data, cap);
		if (data == NULL)
			return -1;
		n->data = data;
		n->cap = cap;
	}
	memcpy(n->data + n->len, name, len);
	n->len += len;
	n->count++;
	return 0;
}

int sync_names_add_two(struct sync_names *n, const char *name, const char *other)
{
	if (sync_names_add(n, name) != 0)
		return -1;
	if (sync_names_add(n, other) == 0)
		return 0;
	n->len -= strlen(name) + 1;
	n->count--;
	return -1;
}

const char *sync_names_first(const struct sync_names *n)
{
	return n->at < n->len ? n->data + n->at : NULL;
}

void sync_names_drop(struct sync_names *n)
{
	n->at += strlen(n->data + n->at) + 1;
	n->count--;
}

void sync_names_free(struct sync_names *n)
{
	free(n->data);
	*n = (struct sync_names){ 0 };
}
