#include "gateway/sandboxes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/map.h"
#include "base/random.h"
#include "gateway/leftovers.h"
#include "gateway/message.h"
#include "gateway/sandbox.h"
#include "gateway/wall.h"
#include "proto/codec.h"

static const struct log_area area = { "gateway.sandboxes" };

#define NAME_TRIES 32 /* before giving up to find a free name */

struct sandboxes *sandboxes_create(const struct sandboxes_options *opt, struct err *err)
{
	struct sandboxes *all = calloc(1, sizeof(*all));

	if (all == NULL || (all->by_id = map_create()) == NULL) {
		free(all);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	all->opt = *opt;
	/* Microseconds: no run of the gateway has made so many events by the next. */
	all->first_event = (uint64_t)wall_now_ms() * 1000;
	return all;
}

void sandboxes_free(struct sandboxes *all)
{
	if (all == NULL)
		return;
	leftovers_free(all->leftovers);
	for (size_t i = 0; i < all->count; i++) {
		struct sandbox *s = all->sorted[i];

		if (s->op != NULL)
			all->driver->cancel(all->driver_self, s->op);
		sandbox_free(s);
	}
	map_free(all->by_id);
	free(all->sorted);
	free(all);
}

/* The set. */

/* The index of the first whose key is not less than ${key}. */
static size_t position(const struct sandboxes *all, const char *key)
{
	size_t low = 0, high = all->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (strcmp(all->sorted[middle]->key, key) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int insert(struct sandboxes *all, struct sandbox *s)
{
	size_t at = position(all, s->key);

	if (all->count == all->cap) {
		size_t cap = all->cap == 0 ? 16 : all->cap * 2;
		struct sandbox **sorted = realloc(all->sorted, cap * sizeof(struct sandbox *));

		if (sorted == NULL)
			return -1;
		all->sorted = sorted;
		all->cap = cap;
	}
	if (map_put(all->by_id, s->id, s) != 0)
		return -1;
	memmove(
	    all->sorted + at + 1, all->sorted + at, (all->count - at) * sizeof(struct sandbox *));
	all->sorted[at] = s;
	all->count++;
	return 0;
}

void sandboxes_forget(struct sandboxes *all, struct sandbox *s)
{
	size_t at = position(all, s->key);

	if (map_remove(all->by_id, s->id) == NULL)
		return;
	all->count--;
	memmove(
	    all->sorted + at, all->sorted + at + 1, (all->count - at) * sizeof(struct sandbox *));
}

struct sandbox *sandboxes_find_id(struct sandboxes *all, const char *id)
{
	return map_get(all->by_id, id);
}

struct sandbox *sandboxes_find(
    struct sandboxes *all, const char *name_or_id, const char *workspace, struct err *err)
{
	char id[NAMES_ID_MAX + 1];

	if (directory_resolve(all->opt.directory, name_or_id, workspace, id, err) != 0)
		return NULL;
	return map_get(all->by_id, id);
}

struct sandbox *sandboxes_after(struct sandboxes *all, const char *key)
{
	size_t at = position(all, key);

	while (at < all->count && strcmp(all->sorted[at]->key, key) == 0)
		at++;
	return at < all->count ? all->sorted[at] : NULL;
}

struct sandbox *sandboxes_next(const struct sandbox *s)
{
	return sandboxes_after(s->all, s->key);
}

size_t sandboxes_count(const struct sandboxes *all)
{
	return all->count;
}

size_t sandboxes_count_in(const struct sandboxes *all, const char *workspace)
{
	size_t count = 0;

	for (size_t i = 0; i < all->count; i++)
		if (strcmp(sandbox_workspace(all->sorted[i]), workspace) == 0)
			count++;
	return count;
}

/* From the store. */

static int load_row(struct sandbox *s, const struct store_sandbox *row, struct err *err)
{
	if (!phase_is_known(row->phase))
		return err_set(err, GRPC_DATA_LOSS, "sandbox %s has the unknown phase %d", row->id,
		    row->phase);
	s->phase = (enum phase)row->phase;
	snprintf(s->reason, sizeof(s->reason), "%s", row->reason);
	snprintf(s->message, sizeof(s->message), "%s", row->message);
	s->version = row->version;
	s->changed_ms = row->changed_ms;
	s->has_token = row->token_hash != NULL;
	if (!s->has_token)
		return 0;
	memcpy(s->token_hash, row->token_hash, sizeof(s->token_hash));
	return tokens_set(s->all->opt.tokens, s->id, s->token_hash, err);
}

static int load(void *cookie, const struct store_sandbox *row, struct err *err)
{
	struct sandboxes *all = cookie;
	enum guard_result why;
	Openshell__V1__Sandbox *body =
	    codec_unpack(&openshell__v1__sandbox__descriptor, row->body, row->body_len, &why);
	struct sandbox *s;

	if (body == NULL || body->metadata == NULL || body->spec == NULL) {
		codec_free(body);
		return err_set(err, GRPC_DATA_LOSS, "the row of sandbox %s cannot be read: %s",
		    row->id, body == NULL ? guard_text(why) : "parts are missing");
	}
	if ((s = sandbox_create(all, body)) == NULL) {
		codec_free(body);
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	}
	if (load_row(s, row, err) != 0) {
		sandbox_free(s);
		return -1;
	}
	if (insert(all, s) != 0) {
		sandbox_free(s);
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	}
	sandbox_publish(s);
	return 0;
}

int sandboxes_load(struct sandboxes *all, struct err *err)
{
	return store_sandbox_each(all->opt.store, load, all, err);
}

/* After a restart. */

static bool is_known(void *cookie, const char *id)
{
	struct sandboxes *all = cookie;

	return map_get(all->by_id, id) != NULL;
}

void sandboxes_reconcile(
    struct sandboxes *all, const struct driver_ops *driver, void *self, struct tunnels *tunnels)
{
	all->driver = driver;
	all->driver_self = self;
	all->tunnels = tunnels;
	for (size_t i = 0; i < all->count; i++) {
		struct sandbox *s = all->sorted[i];

		if (s->phase == PHASE_PROVISIONING || s->phase == PHASE_STARTING)
			timer_start(s->deadline, all->opt.ready_ms);
		timer_start(s->retry, 0); /* a step may free it: not while this list is walked */
	}
	all->leftovers = leftovers_sweep(driver, self, is_known, all);
}

void sandboxes_stop_work(struct sandboxes *all)
{
	all->closing = true;
	for (size_t i = 0; i < all->count; i++) {
		struct sandbox_listener *l, *next;

		for (l = all->sorted[i]->listeners; l != NULL; l = next) {
			next = l->next;
			if (l->ended == NULL)
				continue;
			sandbox_unlisten(l);
			l->ended(l);
		}
	}
}

void sandboxes_drop_sessions(struct sandboxes *all, const struct err *why)
{
	for (size_t i = 0; i < all->count; i++)
		tunnels_drop(all->tunnels, all->sorted[i]->id, why);
}

/* What the driver and the tunnels report. */

void sandboxes_driver_changed(void *cookie, const char *id, const struct driver_status *status)
{
	struct sandboxes *all = cookie;
	struct sandbox *s = map_get(all->by_id, id);
	char message[64];

	if (s == NULL)
		return;
	s->status = *status;
	s->facts.driver = status->state;
	if (status->state == DRIVER_STATE_FAILED) {
		snprintf(message, sizeof(message), "exit code %d", status->exit_code);
		events_add(&s->events, true, "SupervisorExited", message);
	}
	sandbox_touch(s);
	sandbox_step(s);
}

static void session_changed(struct sandboxes *all, const char *id, bool up, const char *message)
{
	struct sandbox *s = map_get(all->by_id, id);

	if (s == NULL)
		return;
	/* A second session that supersedes the first brings no news. */
	if (s->facts.connected == up)
		return;
	s->facts.connected = up;
	s->connected_ms = wall_now_ms();
	events_add(&s->events, !up, up ? "SessionUp" : "SessionDown", message);
	if (s->phase == PHASE_READY)
		sandbox_touch(s);
	sandbox_step(s);
}

void sandboxes_session_up(
    void *cookie, const char *id, const char *instance_id, const char *version)
{
	char message[128];

	snprintf(message, sizeof(message), "supervisor %s, instance %s",
	    version != NULL ? version : "", instance_id != NULL ? instance_id : "");
	session_changed(cookie, id, true, message);
}

void sandboxes_session_down(void *cookie, const char *id, const struct err *why)
{
	session_changed(cookie, id, false, why != NULL ? why->text : "");
}

/* A new one. */

/* The request's maps and the object's are different types of the same fields. */
static void fill_meta(
    Openshell__Datamodel__V1__ObjectMeta *meta, const Openshell__V1__CreateSandboxRequest *request)
{
	meta->n_labels = request->n_labels;
	meta->labels = (Openshell__Datamodel__V1__ObjectMeta__LabelsEntry **)request->labels;
	meta->n_annotations = request->n_annotations;
	meta->annotations =
	    (Openshell__Datamodel__V1__ObjectMeta__AnnotationsEntry **)request->annotations;
}

/* By way of the wire, which makes a copy of everything. */
static Openshell__V1__Sandbox *make_body(const Openshell__V1__CreateSandboxRequest *request,
    const char *workspace, const char *name, const char *id)
{
	Openshell__V1__Sandbox sandbox = OPENSHELL__V1__SANDBOX__INIT;
	Openshell__V1__SandboxSpec empty = OPENSHELL__V1__SANDBOX_SPEC__INIT;
	Openshell__Datamodel__V1__ObjectMeta meta = OPENSHELL__DATAMODEL__V1__OBJECT_META__INIT;
	Google__Protobuf__Timestamp created;
	int64_t now = wall_now_ms();
	uint8_t *packed;
	size_t len;
	void *body;

	message_set_time(&created, now);
	fill_meta(&meta, request);
	meta.id = (char *)id;
	meta.name = (char *)name;
	meta.workspace = (char *)workspace;
	meta.created_at_ms = now;
	meta.created_time = &created;
	sandbox.metadata = &meta;
	sandbox.spec = request->spec != NULL ? request->spec : &empty;
	if ((packed = codec_pack_new(&sandbox.base, &len)) == NULL)
		return NULL;
	body = codec_unpack(&openshell__v1__sandbox__descriptor, packed, len, NULL);
	free(packed);
	return body;
}

static bool is_taken(struct sandboxes *all, const char *workspace, const char *name)
{
	char key[SANDBOX_KEY_SIZE];
	size_t at;

	snprintf(key, sizeof(key), "%s/%s", workspace, name);
	at = position(all, key);
	return at < all->count && strcmp(all->sorted[at]->key, key) == 0;
}

static int choose_name(struct sandboxes *all, const char *asked, const char *workspace,
    char name[static NAMES_SANDBOX_MAX + 1], struct err *err)
{
	if (asked[0] != '\0') {
		snprintf(name, NAMES_SANDBOX_MAX + 1, "%s", asked);
		return 0; /* the store says if it is taken */
	}
	for (int i = 0; i < NAME_TRIES; i++) {
		names_generate(name);
		if (!is_taken(all, workspace, name))
			return 0;
	}
	return err_set(
	    err, GRPC_RESOURCE_EXHAUSTED, "no free name was found; give the sandbox one");
}

static int store_new(struct sandbox *s, const char *request_id, struct err *err)
{
	struct store_request request = {
		.method = "CreateSandbox",
		.workspace = sandbox_workspace(s),
		.request_id = request_id,
		.subject = s->id,
	};
	struct store_sandbox row;
	size_t len;
	uint8_t *body = codec_pack_new(&s->body->base, &len);
	int result;

	if (body == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	sandbox_row(s, &row);
	row.body = body;
	row.body_len = len;
	result = store_sandbox_insert(
	    s->all->opt.store, &row, request_id != NULL ? &request : NULL, err);
	free(body);
	return result;
}

static struct sandbox *make(struct sandboxes *all,
    const Openshell__V1__CreateSandboxRequest *request, const char *workspace, const char *name)
{
	char id[NAMES_ID_MAX + 1];
	Openshell__V1__Sandbox *body;
	struct sandbox *s;

	random_uuid(id);
	if ((body = make_body(request, workspace, name, id)) == NULL)
		return NULL;
	if ((s = sandbox_create(all, body)) == NULL) {
		codec_free(body);
		return NULL;
	}
	s->phase = PHASE_PROVISIONING;
	snprintf(s->reason, sizeof(s->reason), "Created");
	s->version = 1;
	s->changed_ms = wall_now_ms();
	/* Nothing can be there yet. */
	s->facts = (struct phase_facts){ .inspected = true, .driver = DRIVER_STATE_ABSENT };
	return s;
}

struct sandbox *sandboxes_add(struct sandboxes *all,
    const Openshell__V1__CreateSandboxRequest *request, const char *workspace,
    const char *request_id, struct err *err)
{
	char name[NAMES_SANDBOX_MAX + 1];
	struct sandbox *s;

	if (all->count >= SANDBOXES_MAX) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "there are %d sandboxes, the most this gateway takes; delete some",
		    SANDBOXES_MAX);
		return NULL;
	}
	if (choose_name(all, request->name, workspace, name, err) != 0)
		return NULL;
	if ((s = make(all, request, workspace, name)) == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	if (store_new(s, request_id, err) != 0) {
		sandbox_free(s);
		return NULL;
	}
	if (insert(all, s) != 0) {
		/* Its row stays: the next start of the gateway brings it up. */
		sandbox_free(s);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	log_info(&area, "created", LOG_STR("sandbox", s->id), LOG_STR("name", name),
	    LOG_STR("workspace", workspace));
	events_add(&s->events, false, "Created", "PROVISIONING");
	sandbox_publish(s);
	timer_start(s->deadline, all->opt.ready_ms);
	sandbox_step(s);
	return s;
}
