#include "gateway/directory.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"

struct directory {
	pthread_rwlock_t lock;
	struct map *by_id;   /* owns the entries */
	struct map *by_name; /* "workspace/name" */
};

struct entry {
	char id[NAMES_ID_MAX + 1];
	char workspace[NAMES_WORKSPACE_MAX + 1];
	char full_name[NAMES_WORKSPACE_MAX + 1 + NAMES_SANDBOX_MAX + 1];
	struct err refusal;
};

struct directory *directory_create(struct err *err)
{
	struct directory *d = calloc(1, sizeof(*d));

	if (d == NULL || (d->by_id = map_create()) == NULL || (d->by_name = map_create()) == NULL) {
		if (d != NULL)
			map_free(d->by_id);
		free(d);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	pthread_rwlock_init(&d->lock, NULL);
	return d;
}

static bool free_entry(void *cookie, const char *id, void *value)
{
	(void)cookie;
	(void)id;
	free(value);
	return true;
}

void directory_free(struct directory *d)
{
	if (d == NULL)
		return;
	map_each(d->by_id, free_entry, NULL);
	map_free(d->by_name);
	map_free(d->by_id);
	pthread_rwlock_destroy(&d->lock);
	free(d);
}

static struct entry *add(
    struct directory *d, const char *id, const char *workspace, const char *name)
{
	struct entry *e = calloc(1, sizeof(*e));

	if (e == NULL)
		return NULL;
	snprintf(e->id, sizeof(e->id), "%s", id);
	snprintf(e->workspace, sizeof(e->workspace), "%s", workspace);
	snprintf(e->full_name, sizeof(e->full_name), "%s/%s", workspace, name);
	if (map_put(d->by_id, id, e) != 0) {
		free(e);
		return NULL;
	}
	if (map_put(d->by_name, e->full_name, e) != 0) {
		map_remove(d->by_id, id);
		free(e);
		return NULL;
	}
	return e;
}

int directory_put(struct directory *d, const char *id, const char *workspace, const char *name,
    const struct err *refusal, struct err *err)
{
	struct entry *e;

	pthread_rwlock_wrlock(&d->lock);
	e = map_get(d->by_id, id);
	if (e == NULL)
		e = add(d, id, workspace, name);
	if (e != NULL)
		e->refusal = *refusal;
	pthread_rwlock_unlock(&d->lock);
	return e != NULL ? 0 : err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

void directory_remove(struct directory *d, const char *id)
{
	struct entry *e;

	pthread_rwlock_wrlock(&d->lock);
	e = map_remove(d->by_id, id);
	if (e != NULL)
		map_remove(d->by_name, e->full_name);
	pthread_rwlock_unlock(&d->lock);
	free(e);
}

/* Under the lock. */
static const struct entry *find(struct directory *d, const char *sandbox, const char *workspace)
{
	char full_name[NAMES_WORKSPACE_MAX + 1 + NAMES_SANDBOX_MAX + 1];
	const struct entry *e;
	int len = snprintf(full_name, sizeof(full_name), "%s/%s",
	    workspace != NULL ? workspace : "default", sandbox);

	if ((size_t)len < sizeof(full_name) && (e = map_get(d->by_name, full_name)) != NULL)
		return e;
	e = map_get(d->by_id, sandbox);
	if (e != NULL && workspace != NULL && strcmp(e->workspace, workspace) != 0)
		return NULL;
	return e;
}

static int look_up(struct directory *d, const char *sandbox, const char *workspace,
    struct entry *out, struct err *err)
{
	const struct entry *e;

	if (sandbox[0] == '\0')
		return err_set(err, GRPC_INVALID_ARGUMENT, "the request names no sandbox");
	pthread_rwlock_rdlock(&d->lock);
	e = find(d, sandbox, workspace);
	if (e != NULL)
		*out = *e;
	pthread_rwlock_unlock(&d->lock);
	if (e == NULL)
		return err_set(err, GRPC_NOT_FOUND, "no sandbox \"%.64s\" in workspace \"%.63s\"",
		    sandbox, workspace != NULL ? workspace : "default");
	return 0;
}

int directory_resolve(struct directory *d, const char *sandbox, const char *workspace,
    char id[static NAMES_ID_MAX + 1], struct err *err)
{
	struct entry e = { 0 };

	if (look_up(d, sandbox, workspace, &e, err) != 0)
		return -1;
	memcpy(id, e.id, sizeof(e.id));
	return 0;
}

int directory_admit(struct directory *d, const char *sandbox, const char *workspace,
    char id[static NAMES_ID_MAX + 1], struct err *err)
{
	struct entry e = { 0 };

	if (look_up(d, sandbox, workspace, &e, err) != 0)
		return -1;
	if (e.refusal.code != GRPC_OK) {
		*err = e.refusal;
		return -1;
	}
	memcpy(id, e.id, sizeof(e.id));
	return 0;
}
