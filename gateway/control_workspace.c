/* Calls that make, show and delete workspaces. */
#include "gateway/control.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/gateway.h"
#include "gateway/paging.h"
#include "gateway/selector.h"
#include "gateway/validate.h"
#include "gateway/workspaces.h"
#include "proto/codec.h"

/* Create. */

/* As for sandboxes: 1 if an earlier request of the same id made it. */
static int made_before(
    struct gateway *g, const Openshell__V1__CreateWorkspaceRequest *r, struct err *err)
{
	struct store_request request;
	char name[NAMES_WORKSPACE_MAX + 1];
	int found;

	if (control_request(&request, "CreateWorkspace", "", r->request_id, "") == NULL)
		return 0;
	if ((found = store_request_find(g->store, &request, name, err)) <= 0)
		return found;
	if (strcmp(name, r->name) != 0)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "request_id \"%.64s\" was used to make workspace \"%s\"", r->request_id, name);
	return 1;
}

static const Openshell__Datamodel__V1__Workspace *create(
    struct gateway *g, const Openshell__V1__CreateWorkspaceRequest *r, struct err *err)
{
	struct store_request space;
	const struct store_request *request =
	    control_request(&space, "CreateWorkspace", "", r->request_id, r->name);
	int before = made_before(g, r, err);

	if (before != 0)
		return before > 0 ? workspaces_find(g->workspaces, r->name, err) : NULL;
	if (validate_labels((Openshell__V1__CreateSandboxRequest__LabelsEntry *const *)r->labels,
		r->n_labels, err) != 0)
		return NULL;
	return workspaces_add(g->workspaces, r, request, err);
}

void control_workspace_create(struct control *c, const void *request)
{
	Openshell__V1__CreateWorkspaceResponse reply =
	    OPENSHELL__V1__CREATE_WORKSPACE_RESPONSE__INIT;
	struct err err;

	reply.workspace =
	    (Openshell__Datamodel__V1__Workspace *)create(control_gateway(c), request, &err);
	if (reply.workspace == NULL)
		control_fail(c, &err);
	else
		control_reply(c, &reply.base);
}

/* Get and list. */

void control_workspace_get(struct control *c, const void *request)
{
	const Openshell__V1__GetWorkspaceRequest *r = request;
	Openshell__V1__GetWorkspaceResponse reply = OPENSHELL__V1__GET_WORKSPACE_RESPONSE__INIT;
	struct err err;

	reply.workspace =
	    (Openshell__Datamodel__V1__Workspace *)workspaces_find(control_gateway(c)->workspaces,
		r->name[0] != '\0' ? r->name : WORKSPACES_DEFAULT, &err);
	if (reply.workspace == NULL)
		control_fail(c, &err);
	else
		control_reply(c, &reply.base);
}

static const Openshell__Datamodel__V1__Workspace *next_listed(
    struct gateway *g, const struct selector *selector, const char *after)
{
	const Openshell__Datamodel__V1__Workspace *w = workspaces_after(g->workspaces, after);

	while (w != NULL && !selector_matches(selector, w->metadata->labels, w->metadata->n_labels))
		w = workspaces_after(g->workspaces, w->metadata->name);
	return w;
}

static void list_page(struct control *c, const struct selector *selector, size_t page_size,
    const char *scope, const char *after)
{
	Openshell__V1__ListWorkspacesResponse reply = OPENSHELL__V1__LIST_WORKSPACES_RESPONSE__INIT;
	struct gateway *g = control_gateway(c);
	const Openshell__Datamodel__V1__Workspace *w = next_listed(g, selector, after);
	Openshell__Datamodel__V1__Workspace *list[PAGING_MAX];
	char *token = NULL;
	size_t n = 0, bytes = 0;

	while (w != NULL && n < page_size) {
		bytes += codec_size(&w->base);
		if (bytes > PAGING_BYTES_MAX && n > 0)
			break;
		list[n++] = (Openshell__Datamodel__V1__Workspace *)w;
		w = next_listed(g, selector, w->metadata->name);
	}
	if (w != NULL && n > 0 &&
	    (token = paging_token(scope, list[n - 1]->metadata->name)) != NULL)
		reply.next_page_token = token;
	reply.n_workspaces = n;
	reply.workspaces = list;
	control_reply(c, &reply.base);
	free(token);
}

void control_workspace_list(struct control *c, const void *request)
{
	const Openshell__V1__ListWorkspacesRequest *r = request;
	struct selector selector = { 0 };
	char *scope = NULL, *after = NULL;
	size_t page_size;
	struct err err;

	if (asprintf(&scope, "workspaces\n%s", r->label_selector) < 0) {
		scope = NULL;
		err_set(&err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		control_fail(c, &err);
	} else if (paging_size(r->page_size, &page_size, &err) != 0 ||
	    selector_parse(&selector, r->label_selector, &err) != 0 ||
	    paging_after(r->page_token, scope, &after, &err) != 0) {
		control_fail(c, &err);
	} else {
		list_page(c, &selector, page_size, scope, after);
	}
	selector_free(&selector);
	free(scope);
	free(after);
}

/* Delete. */

static void reply_deleted(struct control *c, Openshell__V1__DeletionOutcome outcome)
{
	Openshell__V1__DeleteWorkspaceResponse reply =
	    OPENSHELL__V1__DELETE_WORKSPACE_RESPONSE__INIT;

	reply.outcome = outcome;
	reply.deleted = outcome == OPENSHELL__V1__DELETION_OUTCOME__DELETION_OUTCOME_COMPLETED;
	control_reply(c, &reply.base);
}

static int check_empty(struct gateway *g, const char *name, struct err *err)
{
	size_t count = sandboxes_count_in(g->sandboxes, name);

	if (count > 0)
		return err_set(err, GRPC_FAILED_PRECONDITION,
		    "workspace \"%s\" has %zu sandboxes; delete them first", name, count);
	return 0;
}

void control_workspace_delete(struct control *c, const void *request)
{
	const Openshell__V1__DeleteWorkspaceRequest *r = request;
	struct gateway *g = control_gateway(c);
	struct store_request space;
	const struct store_request *remember =
	    control_request(&space, "DeleteWorkspace", "", r->request_id, r->name);
	char name[NAMES_WORKSPACE_MAX + 1];
	struct err err;

	if (!workspaces_has(g->workspaces, r->name) && remember != NULL &&
	    store_request_find(g->store, remember, name, &err) > 0 && strcmp(name, r->name) == 0) {
		reply_deleted(c, OPENSHELL__V1__DELETION_OUTCOME__DELETION_OUTCOME_COMPLETED);
		return;
	}
	if (!workspaces_has(g->workspaces, r->name) && r->allow_missing) {
		reply_deleted(c, OPENSHELL__V1__DELETION_OUTCOME__DELETION_OUTCOME_ALREADY_ABSENT);
		return;
	}
	if (check_empty(g, r->name, &err) != 0 ||
	    workspaces_remove(g->workspaces, r->name, remember, &err) != 0) {
		control_fail(c, &err);
		return;
	}
	reply_deleted(c, OPENSHELL__V1__DELETION_OUTCOME__DELETION_OUTCOME_COMPLETED);
}
