#include "gateway/workspaces.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/random.h"
#include "gateway/message.h"
#include "gateway/wall.h"
#include "proto/codec.h"

static const struct log_area area = { "gateway.workspaces" };

struct workspaces {
	struct store *store;
	Openshell__Datamodel__V1__Workspace *list[WORKSPACES_MAX]; /* sorted by name */
	size_t count;
};

/* The index of the first whose name is not less. */
static size_t position(const struct workspaces *all, const char *name)
{
	size_t at = 0;

	while (at < all->count && strcmp(all->list[at]->metadata->name, name) < 0)
		at++;
	return at;
}

static bool is_at(const struct workspaces *all, size_t at, const char *name)
{
	return at < all->count && strcmp(all->list[at]->metadata->name, name) == 0;
}

static void insert(struct workspaces *all, Openshell__Datamodel__V1__Workspace *w)
{
	size_t at = position(all, w->metadata->name);

	for (size_t i = all->count; i > at; i--)
		all->list[i] = all->list[i - 1];
	all->list[at] = w;
	all->count++;
}

static int load(void *cookie, const struct store_workspace *row, struct err *err)
{
	struct workspaces *all = cookie;
	Openshell__Datamodel__V1__Workspace *w;

	if (all->count == WORKSPACES_MAX)
		return err_set(
		    err, GRPC_RESOURCE_EXHAUSTED, "more than %d workspaces", WORKSPACES_MAX);
	w = message_unpack(
	    &openshell__datamodel__v1__workspace__descriptor, row->body, row->body_len, err);
	if (w == NULL)
		return err_wrap(err, "workspace %s", row->name);
	if (w->metadata == NULL) {
		codec_free(w);
		return err_set(err, GRPC_DATA_LOSS, "workspace %s has no metadata", row->name);
	}
	w->metadata->resource_version = row->version;
	insert(all, w);
	return 0;
}

struct workspaces *workspaces_create(struct store *store, struct err *err)
{
	Openshell__V1__CreateWorkspaceRequest first = OPENSHELL__V1__CREATE_WORKSPACE_REQUEST__INIT;
	struct workspaces *all = calloc(1, sizeof(*all));

	if (all == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	all->store = store;
	first.name = (char *)WORKSPACES_DEFAULT;
	if (store_workspace_each(store, load, all, err) == 0 &&
	    (workspaces_has(all, first.name) || workspaces_add(all, &first, NULL, err) != NULL))
		return all;
	workspaces_free(all);
	return NULL;
}

void workspaces_free(struct workspaces *all)
{
	if (all == NULL)
		return;
	for (size_t i = 0; i < all->count; i++)
		codec_free(all->list[i]);
	free(all);
}

bool workspaces_has(const struct workspaces *all, const char *name)
{
	return is_at(all, position(all, name), name);
}

const Openshell__Datamodel__V1__Workspace *workspaces_find(
    const struct workspaces *all, const char *name, struct err *err)
{
	size_t at = position(all, name);

	if (is_at(all, at, name))
		return all->list[at];
	err_set(err, GRPC_NOT_FOUND, "there is no workspace \"%.64s\"", name);
	return NULL;
}

const Openshell__Datamodel__V1__Workspace *workspaces_after(
    const struct workspaces *all, const char *name)
{
	size_t at = position(all, name);

	if (is_at(all, at, name))
		at++;
	return at < all->count ? all->list[at] : NULL;
}

/* By way of the wire, which makes a copy of everything. */
static Openshell__Datamodel__V1__Workspace *copy(
    const Openshell__V1__CreateWorkspaceRequest *request, const char *id, uint8_t **packed,
    size_t *len)
{
	Openshell__Datamodel__V1__Workspace w = OPENSHELL__DATAMODEL__V1__WORKSPACE__INIT;
	Openshell__Datamodel__V1__ObjectMeta meta = OPENSHELL__DATAMODEL__V1__OBJECT_META__INIT;
	Openshell__Datamodel__V1__WorkspaceStatus status =
	    OPENSHELL__DATAMODEL__V1__WORKSPACE_STATUS__INIT;
	Google__Protobuf__Timestamp created;
	int64_t now = wall_now_ms();

	message_set_time(&created, now);
	meta.id = (char *)id;
	meta.name = request->name;
	meta.created_at_ms = now;
	meta.created_time = &created;
	meta.resource_version = 1;
	meta.n_labels = request->n_labels;
	meta.labels = (Openshell__Datamodel__V1__ObjectMeta__LabelsEntry **)request->labels;
	status.phase = OPENSHELL__DATAMODEL__V1__WORKSPACE_PHASE__WORKSPACE_PHASE_ACTIVE;
	w.metadata = &meta;
	w.status = &status;
	if ((*packed = codec_pack_new(&w.base, len)) == NULL)
		return NULL;
	return codec_unpack(&openshell__datamodel__v1__workspace__descriptor, *packed, *len, NULL);
}

const Openshell__Datamodel__V1__Workspace *workspaces_add(struct workspaces *all,
    const Openshell__V1__CreateWorkspaceRequest *request, const struct store_request *remember,
    struct err *err)
{
	Openshell__Datamodel__V1__Workspace *w;
	struct store_workspace row = { .name = request->name, .version = 1 };
	char id[NAMES_ID_MAX + 1];
	uint8_t *packed = NULL;
	int result;

	if (names_check_workspace(request->name, err) != 0)
		return NULL;
	if (all->count == WORKSPACES_MAX) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "there are %d workspaces already",
		    WORKSPACES_MAX);
		return NULL;
	}
	random_uuid(id);
	w = copy(request, id, &packed, &row.body_len);
	if (w == NULL) {
		free(packed);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	row.id = id;
	row.body = packed;
	result = store_workspace_insert(all->store, &row, remember, err);
	free(packed);
	if (result != 0) {
		codec_free(w);
		return NULL;
	}
	log_info(&area, "workspace_created", LOG_STR("name", request->name));
	insert(all, w);
	return w;
}

int workspaces_remove(
    struct workspaces *all, const char *name, const struct store_request *remember, struct err *err)
{
	size_t at = position(all, name);

	if (!is_at(all, at, name))
		return err_set(err, GRPC_NOT_FOUND, "there is no workspace \"%.64s\"", name);
	if (strcmp(name, WORKSPACES_DEFAULT) == 0)
		return err_set(
		    err, GRPC_FAILED_PRECONDITION, "workspace \"%s\" cannot be deleted", name);
	if (store_workspace_remove(all->store, name, remember, err) != 0)
		return -1;
	log_info(&area, "workspace_deleted", LOG_STR("name", name));
	codec_free(all->list[at]);
	all->count--;
	for (size_t i = at; i < all->count; i++)
		all->list[i] = all->list[i + 1];
	return 0;
}
