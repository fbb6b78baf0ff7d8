/*
 * gateway/workspaces.h: the rooms that sandboxes are in. "default" is always there.
 *
 * First loop.
 */
#ifndef GATEWAY_WORKSPACES_H
#define GATEWAY_WORKSPACES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "gateway/store.h"
#include "openshell/datamodel/v1/datamodel.pb-c.h"
#include "openshell/v1/openshell.pb-c.h"

#define WORKSPACES_MAX     1000
#define WORKSPACES_DEFAULT "default"

struct workspaces;

/* Reads them from the store, and adds the default one. */
struct workspaces *workspaces_create(struct store *, struct err *);
void workspaces_free(struct workspaces *);

bool workspaces_has(const struct workspaces *, const char *name);

/* NOT_FOUND if it is not there. What is returned is good until it is removed. */
const Openshell__Datamodel__V1__Workspace *workspaces_find(
    const struct workspaces *, const char *name, struct err *);

/* The first whose name comes behind ${name}; NULL at the end. */
const Openshell__Datamodel__V1__Workspace *workspaces_after(
    const struct workspaces *, const char *name);

/* Labels have been validated. ALREADY_EXISTS, INVALID_ARGUMENT for the name. */
const Openshell__Datamodel__V1__Workspace *workspaces_add(struct workspaces *,
    const Openshell__V1__CreateWorkspaceRequest *, const struct store_request *, struct err *);

/* FAILED_PRECONDITION for the default one. That it is empty is the caller's to see. */
int workspaces_remove(
    struct workspaces *, const char *name, const struct store_request *, struct err *);

#endif
