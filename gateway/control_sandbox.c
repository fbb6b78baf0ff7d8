/* Calls that make, show, stop, start and delete sandboxes. */
#include "gateway/control.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/gateway.h"
#include "gateway/paging.h"
#include "gateway/selector.h"
#include "gateway/validate.h"
#include "gateway/workspaces.h"
#include "proto/codec.h"

/* How long DeleteSandbox waits for the end before it answers that it goes on. */
#define DELETE_WAIT_MS 10000

static void reply_sandbox(struct control *c, const struct sandbox *s)
{
	Openshell__V1__SandboxResponse reply = OPENSHELL__V1__SANDBOX_RESPONSE__INIT;
	struct sandbox_view view;

	sandbox_view(s, &view);
	reply.sandbox = &view.sandbox;
	control_reply(c, &reply.base);
}

/* The workspace that is meant; NOT_FOUND if there is none of that name. */
static int choose_workspace(struct gateway *g,
    const Openshell__Datamodel__V1__WorkspaceSelector *selector, const char **workspace,
    struct err *err)
{
	if (control_workspace_of(selector, workspace, err) != 0)
		return -1;
	if (*workspace == NULL)
		*workspace = WORKSPACES_DEFAULT;
	return workspaces_find(g->workspaces, *workspace, err) != NULL ? 0 : -1;
}

static struct sandbox *find(struct gateway *g, const char *name,
    const Openshell__Datamodel__V1__WorkspaceSelector *selector, struct err *err)
{
	const char *workspace;

	if (control_workspace_of(selector, &workspace, err) != 0)
		return NULL;
	return sandboxes_find(g->sandboxes, name, workspace, err);
}

/* Create. */

/* The sandbox that an earlier request of the same id made: 1, 0 if there was no such
 * request, -1 if its answer cannot be given again. */
static int made_before(struct gateway *g, const Openshell__V1__CreateSandboxRequest *r,
    const char *workspace, struct sandbox **made, struct err *err)
{
	struct store_request request;
	char id[NAMES_WORKSPACE_MAX + 1];
	int found;

	if (control_request(&request, "CreateSandbox", workspace, r->request_id, "") == NULL)
		return 0;
	if ((found = store_request_find(g->store, &request, id, err)) <= 0)
		return found;
	*made = sandboxes_find_id(g->sandboxes, id);
	if (*made == NULL)
		return err_set(err, GRPC_NOT_FOUND,
		    "the sandbox that request_id \"%.64s\" made has been deleted", r->request_id);
	if (r->name[0] != '\0' && strcmp(r->name, sandbox_name(*made)) != 0)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "request_id \"%.64s\" was used to make sandbox \"%s\"", r->request_id,
		    sandbox_name(*made));
	return 1;
}

static struct sandbox *create(
    struct gateway *g, const Openshell__V1__CreateSandboxRequest *r, struct err *err)
{
	const char *workspace;
	struct sandbox *s;
	int before;

	if (choose_workspace(g, r->workspace_scope, &workspace, err) != 0)
		return NULL;
	if ((before = made_before(g, r, workspace, &s, err)) != 0)
		return before > 0 ? s : NULL;
	if (validate_create(r, err) != 0)
		return NULL;
	return sandboxes_add(
	    g->sandboxes, r, workspace, r->request_id[0] != '\0' ? r->request_id : NULL, err);
}

void control_sandbox_create(struct control *c, const void *request)
{
	struct err err;
	struct sandbox *s = create(control_gateway(c), request, &err);

	if (s == NULL)
		control_fail(c, &err);
	else
		reply_sandbox(c, s);
}

/* Get and list. */

void control_sandbox_get(struct control *c, const void *request)
{
	const Openshell__V1__GetSandboxRequest *r = request;
	struct err err;
	struct sandbox *s = find(control_gateway(c), r->name, r->workspace_scope, &err);

	if (s == NULL)
		control_fail(c, &err);
	else
		reply_sandbox(c, s);
}

/* What is listed, and from where on. */
struct listing {
	const char *workspace; /* NULL: all */
	struct selector selector;
	size_t page_size;
	char *scope; /* for paging.h */
	char *after; /* key */
};

static void listing_free(struct listing *l)
{
	selector_free(&l->selector);
	free(l->scope);
	free(l->after);
}

static int listing_workspace(struct listing *l, struct gateway *g,
    const Openshell__V1__ListSandboxesRequest *r, struct err *err)
{
	const Openshell__Datamodel__V1__WorkspaceSelector *selector = r->workspace_scope;

	if (r->all_workspaces ||
	    (selector != NULL &&
		selector->selection_case ==
		    OPENSHELL__DATAMODEL__V1__WORKSPACE_SELECTOR__SELECTION_ALL_WORKSPACES))
		return 0;
	return choose_workspace(g, selector, &l->workspace, err);
}

static int listing_init(struct listing *l, struct gateway *g,
    const Openshell__V1__ListSandboxesRequest *r, struct err *err)
{
	*l = (struct listing){ 0 };
	if (listing_workspace(l, g, r, err) != 0 ||
	    paging_size(r->page_size, &l->page_size, err) != 0 ||
	    selector_parse(&l->selector, r->label_selector, err) != 0)
		return -1;
	if (asprintf(&l->scope, "sandboxes\n%s\n%s", l->workspace != NULL ? l->workspace : "*",
		r->label_selector) < 0) {
		l->scope = NULL;
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	}
	return paging_after(r->page_token, l->scope, &l->after, err);
}

static bool is_listed(const struct listing *l, const struct sandbox *s)
{
	const Openshell__Datamodel__V1__ObjectMeta *meta = sandbox_meta(s);

	if (l->workspace != NULL && strcmp(meta->workspace, l->workspace) != 0)
		return false;
	return selector_matches(&l->selector, meta->labels, meta->n_labels);
}

/* The next that is listed, from ${s} on. */
static struct sandbox *next_listed(const struct listing *l, struct sandbox *s)
{
	while (s != NULL && !is_listed(l, s))
		s = sandboxes_next(s);
	return s;
}

/* Fills the page: as many as were asked for and as fit into one answer. */
static void list_page(struct control *c, const struct listing *l, struct sandbox_view *views,
    Openshell__V1__Sandbox **list)
{
	Openshell__V1__ListSandboxesResponse reply = OPENSHELL__V1__LIST_SANDBOXES_RESPONSE__INIT;
	struct gateway *g = control_gateway(c);
	struct sandbox *s = next_listed(l, sandboxes_after(g->sandboxes, l->after));
	const char *last = NULL;
	char *token = NULL;
	size_t n = 0, bytes = 0;

	while (s != NULL && n < l->page_size) {
		sandbox_view(s, &views[n]);
		bytes += codec_size(&views[n].sandbox.base);
		if (bytes > PAGING_BYTES_MAX && n > 0)
			break;
		list[n] = &views[n].sandbox;
		n++;
		last = sandbox_key(s);
		s = next_listed(l, sandboxes_next(s));
	}
	if (s != NULL && last != NULL && (token = paging_token(l->scope, last)) != NULL)
		reply.next_page_token = token;
	reply.n_sandboxes = n;
	reply.sandboxes = list;
	control_reply(c, &reply.base);
	free(token);
}

void control_sandbox_list(struct control *c, const void *request)
{
	struct gateway *g = control_gateway(c);
	struct listing l;
	struct err err;

	if (listing_init(&l, g, request, &err) != 0) {
		control_fail(c, &err);
		listing_free(&l);
		return;
	}
	size_t most = l.page_size < sandboxes_count(g->sandboxes) ? l.page_size
								  : sandboxes_count(g->sandboxes);
	struct sandbox_view *views = calloc(most + 1, sizeof(*views));
	Openshell__V1__Sandbox **list = calloc(most + 1, sizeof(Openshell__V1__Sandbox *));
	if (views != NULL && list != NULL) {
		list_page(c, &l, views, list);
	} else {
		err_set(&err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		control_fail(c, &err);
	}
	free(list);
	free(views);
	listing_free(&l);
}

/* Stop and start. They are on the way when this is answered. */

typedef int change(struct sandbox *, const struct store_request *, struct err *);

/* A request that was answered before is answered with the sandbox as it is. */
static int change_once(struct gateway *g, struct sandbox *s, change *apply, const char *method,
    const char *request_id, struct err *err)
{
	struct store_request space;
	const struct store_request *request =
	    control_request(&space, method, sandbox_workspace(s), request_id, sandbox_id(s));
	char id[NAMES_WORKSPACE_MAX + 1];
	int found = request == NULL ? 0 : store_request_find(g->store, request, id, err);

	if (found < 0)
		return -1;
	if (found > 0 && strcmp(id, sandbox_id(s)) != 0)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "request_id \"%.64s\" was used for another sandbox", request_id);
	return found > 0 ? 0 : apply(s, request, err);
}

void control_sandbox_stop(struct control *c, const void *request)
{
	const Openshell__V1__StopSandboxRequest *r = request;
	struct gateway *g = control_gateway(c);
	struct err err;
	struct sandbox *s = find(g, r->name, r->workspace_scope, &err);

	if (s == NULL || change_once(g, s, sandbox_stop, "StopSandbox", r->request_id, &err) != 0)
		control_fail(c, &err);
	else
		reply_sandbox(c, s);
}

void control_sandbox_start(struct control *c, const void *request)
{
	const Openshell__V1__StartSandboxRequest *r = request;
	struct gateway *g = control_gateway(c);
	struct err err;
	struct sandbox *s = find(g, r->name, r->workspace_scope, &err);

	if (s == NULL || change_once(g, s, sandbox_start, "StartSandbox", r->request_id, &err) != 0)
		control_fail(c, &err);
	else
		reply_sandbox(c, s);
}

/* Delete. */

/* A call that waits for a sandbox to be gone. */
struct waiter {
	struct sandbox_listener listener; /* first */
	struct control *control;
	struct timer *timer;
	char id[NAMES_ID_MAX + 1];
};

static void reply_deleted(struct control *c, Openshell__V1__DeletionOutcome outcome, const char *id)
{
	Openshell__V1__DeleteSandboxResponse reply = OPENSHELL__V1__DELETE_SANDBOX_RESPONSE__INIT;

	reply.outcome = outcome;
	reply.deleted = outcome != OPENSHELL__V1__DELETION_OUTCOME__DELETION_OUTCOME_ALREADY_ABSENT;
	reply.sandbox_id = (char *)id;
	control_reply(c, &reply.base);
}

static void waiter_end(struct waiter *w, Openshell__V1__DeletionOutcome outcome)
{
	sandbox_unlisten(&w->listener);
	timer_free(w->timer);
	reply_deleted(w->control, outcome, w->id);
	free(w);
}

static void on_gone(struct sandbox_listener *l)
{
	waiter_end((struct waiter *)l, OPENSHELL__V1__DELETION_OUTCOME__DELETION_OUTCOME_COMPLETED);
}

/* The gateway ends, and the next one goes on with it. */
static void on_ended(struct sandbox_listener *l)
{
	waiter_end((struct waiter *)l, OPENSHELL__V1__DELETION_OUTCOME__DELETION_OUTCOME_ACCEPTED);
}

static void on_late(void *cookie)
{
	waiter_end(cookie, OPENSHELL__V1__DELETION_OUTCOME__DELETION_OUTCOME_ACCEPTED);
}

/* Answers when it is gone, or after a while that it will be. */
static void wait_deleted(struct control *c, struct sandbox *s)
{
	struct gateway *g = control_gateway(c);
	struct waiter *w = calloc(1, sizeof(*w));

	if (w == NULL || (w->timer = timer_create_on(g->loops[0], on_late, w)) == NULL) {
		free(w);
		reply_deleted(
		    c, OPENSHELL__V1__DELETION_OUTCOME__DELETION_OUTCOME_ACCEPTED, sandbox_id(s));
		return;
	}
	w->control = c;
	w->listener.gone = on_gone;
	w->listener.ended = on_ended;
	memcpy(w->id, sandbox_id(s), sizeof(w->id));
	sandbox_listen(s, &w->listener);
	timer_start(w->timer, DELETE_WAIT_MS);
}

/* There is no such sandbox: because this very request deleted it, or it never was. */
static void reply_absent(
    struct control *c, const Openshell__V1__DeleteSandboxRequest *r, const struct err *why)
{
	struct gateway *g = control_gateway(c);
	struct store_request request;
	const char *workspace;
	char id[NAMES_WORKSPACE_MAX + 1];
	struct err err;

	if (why->code != GRPC_NOT_FOUND ||
	    control_workspace_of(r->workspace_scope, &workspace, &err) != 0) {
		control_fail(c, why);
		return;
	}
	if (control_request(&request, "DeleteSandbox",
		workspace != NULL ? workspace : WORKSPACES_DEFAULT, r->request_id, "") != NULL &&
	    store_request_find(g->store, &request, id, &err) > 0) {
		reply_deleted(c, OPENSHELL__V1__DELETION_OUTCOME__DELETION_OUTCOME_COMPLETED, id);
		return;
	}
	if (r->allow_missing)
		reply_deleted(
		    c, OPENSHELL__V1__DELETION_OUTCOME__DELETION_OUTCOME_ALREADY_ABSENT, "");
	else
		control_fail(c, why);
}

void control_sandbox_delete(struct control *c, const void *request)
{
	const Openshell__V1__DeleteSandboxRequest *r = request;
	struct gateway *g = control_gateway(c);
	struct err err;
	struct sandbox *s = find(g, r->name, r->workspace_scope, &err);

	if (s == NULL)
		reply_absent(c, r, &err);
	else if (change_once(g, s, sandbox_delete, "DeleteSandbox", r->request_id, &err) != 0)
		control_fail(c, &err);
	else
		wait_deleted(c, s);
}
