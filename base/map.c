#include "base/map.h"

#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct entry {
	UT_hash_handle hh;
	void *value;
	char key[];
};

struct map {
	struct entry *entries;
};

struct map *map_create(void)
{
	return calloc(1, sizeof(struct map));
}

void map_free(struct map *m)
{
	struct entry *e, *next;

	if (m == NULL)
		return;
	e = m->entries;
	HASH_CLEAR(hh, m->entries);
	for (; e != NULL; e = next) {
		next = e->hh.next;
		free(e);
	}
	free(m);
}

static struct entry *find(const struct map *m, const char *key)
{
	struct entry *e;

	HASH_FIND(hh, m->entries, key, strlen(key), e);
	return e;
}

void *map_get(const struct map *m, const char *key)
{
	struct entry *e = find(m, key);

	return e != NULL ? e->value : NULL;
}

int map_put(struct map *m, const char *key, void *value)
{
	size_t len = strlen(key);
	struct entry *e;

	if (find(m, key) != NULL || (e = calloc(1, sizeof(*e) + len + 1)) == NULL)
		return -1;
	memcpy(e->key, key, len + 1);
	e->value = value;
	HASH_ADD_KEYPTR(hh, m->entries, e->key, len, e);
	if (e->hh.tbl == NULL) {
		free(e); /* no memory for its table */
		return -1;
	}
	return 0;
}

void *map_remove(struct map *m, const char *key)
{
	struct entry *e = find(m, key);

	if (e == NULL)
		return NULL;
	void *value = e->value;
	HASH_DEL(m->entries, e);
	free(e);
	return value;
}

size_t map_count(const struct map *m)
{
	return HASH_COUNT(m->entries);
}

void map_each(struct map *m, bool (*each)(void *cookie, const char *key, void *value), void *cookie)
{
	struct entry *e, *next;

	HASH_ITER(hh, m->entries, e, next)
	{
		if (!each(cookie, e->key, e->value))
			return;
	}
}
