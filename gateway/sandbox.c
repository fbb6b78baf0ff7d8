#include "gateway/sandbox.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "gateway/ssh_sessions.h"
#include "gateway/wall.h"
#include "proto/codec.h"

static const struct log_area area = { "gateway.sandbox" };

/* A step that a timer brings about. */
static void on_retry(void *cookie)
{
	sandbox_step(cookie);
}

static void on_deadline(void *cookie)
{
	struct sandbox *s = cookie;
	struct err err;

	if (s->phase != PHASE_PROVISIONING && s->phase != PHASE_STARTING)
		return;
	if (sandbox_move(s, PHASE_ERROR, "ProvisioningTimedOut",
		"the supervisor did not connect in time; see supervisor.log, then start the "
		"sandbox again",
		NULL, &err) != 0)
		sandbox_retry(s, &err);
}

struct sandbox *sandbox_create(struct sandboxes *all, Openshell__V1__Sandbox *body)
{
	struct sandbox *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->all = all;
	s->retry = timer_create_on(all->opt.loop, on_retry, s);
	s->deadline = timer_create_on(all->opt.loop, on_deadline, s);
	if (s->retry == NULL || s->deadline == NULL) {
		sandbox_free(s);
		return NULL;
	}
	s->body = body;
	snprintf(s->id, sizeof(s->id), "%s", body->metadata->id);
	snprintf(s->key, sizeof(s->key), "%s/%s", body->metadata->workspace, body->metadata->name);
	s->retry_ms = SANDBOX_RETRY_MIN_MS;
	events_init(&s->events, all->first_event);
	return s;
}

void sandbox_free(struct sandbox *s)
{
	if (s == NULL)
		return;
	while (s->listeners != NULL)
		sandbox_unlisten(s->listeners);
	timer_free(s->retry);
	timer_free(s->deadline);
	events_free(&s->events);
	codec_free(s->body);
	free(s);
}

void sandbox_row(const struct sandbox *s, struct store_sandbox *row)
{
	*row = (struct store_sandbox){
		.id = s->id,
		.workspace = s->body->metadata->workspace,
		.name = s->body->metadata->name,
		.phase = (int)s->phase,
		.reason = s->reason,
		.message = s->message,
		.version = s->version,
		.changed_ms = s->changed_ms,
		.token_hash = s->has_token ? s->token_hash : NULL,
	};
}

/* Writes ${row}, made from ${s} and changed, as the next version. */
static int save(struct sandbox *s, struct store_sandbox *row, const struct store_request *request,
    struct err *err)
{
	size_t len;
	uint8_t *body = codec_pack_new(&s->body->base, &len);
	int result;

	if (body == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	row->body = body;
	row->body_len = len;
	row->version = s->version + 1;
	result = store_sandbox_update(s->all->opt.store, row, s->version, request, err);
	free(body);
	if (result == 0)
		s->version++;
	return result;
}

static void tell_listeners(struct sandbox *s)
{
	struct sandbox_listener *l, *next;

	for (l = s->listeners; l != NULL; l = next) {
		next = l->next;
		if (l->changed != NULL)
			l->changed(l);
	}
}

/* What those who call the sandbox are told. */
static void refusal(const struct sandbox *s, struct err *why)
{
	const char *name = s->body->metadata->name;

	*why = (struct err){ 0 };
	switch (s->phase) {
	case PHASE_READY:
		return; /* a session that is away is the tunnels' to report */
	case PHASE_ERROR:
		/* It was there and is wanted: as good as a tunnel that broke. */
		if (strcmp(s->reason, "SupervisorExited") == 0)
			err_set(why, GRPC_UNAVAILABLE,
			    "the supervisor of sandbox \"%s\" has ended (phase ERROR); start the "
			    "sandbox again",
			    name);
		else
			err_set(why, GRPC_FAILED_PRECONDITION,
			    "sandbox \"%s\" is in phase ERROR: %s", name, s->message);
		return;
	case PHASE_STOPPED:
		err_set(why, GRPC_FAILED_PRECONDITION,
		    "sandbox \"%s\" is in phase STOPPED; start it first", name);
		return;
	case PHASE_PROVISIONING:
	case PHASE_STARTING:
		err_set(why, GRPC_FAILED_PRECONDITION,
		    "sandbox \"%s\" is in phase %s; wait until it is READY", name,
		    phase_name(s->phase));
		return;
	case PHASE_DELETING:
	case PHASE_STOPPING:
		err_set(why, GRPC_FAILED_PRECONDITION, "sandbox \"%s\" is in phase %s", name,
		    phase_name(s->phase));
		return;
	}
}

void sandbox_publish(struct sandbox *s)
{
	struct err why, err;

	refusal(s, &why);
	/* Only the first time needs memory, and that one is sandboxes_add()'s. */
	directory_put(
	    s->all->opt.directory, s->id, sandbox_workspace(s), sandbox_name(s), &why, &err);
}

/* Ends its session and its calls, those too that wait for a supervisor to come back. */
static void drop_calls(struct sandbox *s, const char *text)
{
	struct err why;

	err_set(&why, GRPC_UNAVAILABLE, "%s", text);
	if (s->all->tunnels != NULL)
		tunnels_drop(s->all->tunnels, s->id, &why);
	s->facts.connected = false; /* of what it ends itself a gateway hears no more */
}

/* Everything that goes with a phase besides itself. */
static void entered(struct sandbox *s)
{
	timer_stop(s->deadline);
	s->retry_ms = SANDBOX_RETRY_MIN_MS;
	err_clear(&s->trouble);
	switch (s->phase) {
	case PHASE_PROVISIONING:
	case PHASE_STARTING:
		timer_start(s->deadline, s->all->opt.ready_ms);
		break;
	case PHASE_STOPPING:
	case PHASE_DELETING:
		if (s->phase == PHASE_DELETING && s->all->opt.ssh != NULL)
			ssh_sessions_drop_sandbox(s->all->opt.ssh, s->id);
		tokens_revoke(s->all->opt.tokens, s->id);
		drop_calls(s,
		    s->phase == PHASE_STOPPING ? "the sandbox is being stopped"
					       : "the sandbox is being deleted");
		break;
	case PHASE_ERROR:
		if (s->facts.driver != DRIVER_STATE_RUNNING)
			drop_calls(s, "the sandbox's supervisor has ended; start it again");
		break;
	case PHASE_READY:
	case PHASE_STOPPED:
		break;
	}
}

static bool is_bad(enum phase phase)
{
	return phase == PHASE_ERROR;
}

int sandbox_move(struct sandbox *s, enum phase to, const char *reason, const char *message,
    const struct store_request *request, struct err *err)
{
	struct store_sandbox row;
	enum phase from = s->phase;
	int64_t now = wall_now_ms();

	assert(phase_may_follow(from, to));
	sandbox_row(s, &row);
	row.phase = (int)to;
	row.reason = reason;
	row.message = message;
	row.changed_ms = now;
	if (to == PHASE_STOPPING || to == PHASE_DELETING)
		row.token_hash = NULL;
	if (save(s, &row, request, err) != 0)
		return -1;
	s->phase = to;
	s->changed_ms = now;
	s->has_token = row.token_hash != NULL;
	snprintf(s->reason, sizeof(s->reason), "%s", reason);
	snprintf(s->message, sizeof(s->message), "%s", message);
	log_info(&area, "phase", LOG_STR("sandbox", s->id), LOG_STR("name", sandbox_name(s)),
	    LOG_STR("from", phase_name(from)), LOG_STR("to", phase_name(to)),
	    LOG_STR("reason", reason));
	events_add(&s->events, is_bad(to), reason, message[0] != '\0' ? message : phase_name(to));
	sandbox_publish(s);
	entered(s);
	tell_listeners(s);
	return 0;
}

int sandbox_save(struct sandbox *s, struct err *err)
{
	struct store_sandbox row;

	sandbox_row(s, &row);
	return save(s, &row, NULL, err);
}

void sandbox_touch(struct sandbox *s)
{
	struct err err;

	if (sandbox_save(s, &err) != 0)
		log_warn(&area, "not_saved", LOG_STR("sandbox", s->id), LOG_ERR(&err));
	tell_listeners(s);
}

void sandbox_retry(struct sandbox *s, const struct err *why)
{
	bool news = strcmp(s->trouble.text, why->text) != 0;

	s->trouble = *why;
	timer_start(s->retry, s->retry_ms);
	log_warn(&area, "retry", LOG_STR("sandbox", s->id), LOG_STR("phase", phase_name(s->phase)),
	    LOG_U64("wait_ms", s->retry_ms), LOG_ERR(why));
	s->retry_ms =
	    s->retry_ms * 2 < SANDBOX_RETRY_MAX_MS ? s->retry_ms * 2 : SANDBOX_RETRY_MAX_MS;
	if (news)
		tell_listeners(s);
}

void sandbox_step(struct sandbox *s)
{
	struct phase_step step;
	enum phase_work work;
	struct err err;

	s->facts.busy = s->op != NULL;
	step = phase_settle(s->phase, &s->facts);
	if (step.to != s->phase) {
		char message[ERR_TEXT_MAX] = "";

		if (step.to == PHASE_ERROR)
			snprintf(message, sizeof(message),
			    "the supervisor ended with exit code %d; see supervisor.log",
			    s->status.exit_code);
		if (sandbox_move(s, step.to, step.reason, message, NULL, &err) != 0) {
			sandbox_retry(s, &err);
			return;
		}
	}
	work = phase_work(s->phase, &s->facts);
	if (work != PHASE_WORK_NONE && s->op == NULL && !s->all->closing && s->all->driver != NULL)
		sandbox_begin(s, work);
}

void sandbox_finish_delete(struct sandbox *s)
{
	struct sandboxes *all = s->all;
	struct sandbox_listener *l;
	struct err err;

	if (store_sandbox_remove(all->opt.store, s->id, &err) != 0) {
		sandbox_retry(s, &err);
		return;
	}
	log_info(&area, "deleted", LOG_STR("sandbox", s->id), LOG_STR("name", sandbox_name(s)));
	directory_remove(all->opt.directory, s->id);
	sandboxes_forget(all, s);
	while ((l = s->listeners) != NULL) {
		sandbox_unlisten(l);
		if (l->gone != NULL)
			l->gone(l);
	}
	sandbox_free(s);
}

/* What clients ask for. */

static int in_the_way(const struct sandbox *s, const char *what, struct err *err)
{
	return err_set(err, GRPC_FAILED_PRECONDITION,
	    "sandbox \"%s\" is in phase %s and cannot be %s", sandbox_name(s), phase_name(s->phase),
	    what);
}

/* Nothing is to be done; the request is remembered all the same. */
static int done_already(struct sandbox *s, const struct store_request *request, struct err *err)
{
	return request == NULL ? 0 : store_request_put(s->all->opt.store, request, err);
}

int sandbox_stop(struct sandbox *s, const struct store_request *request, struct err *err)
{
	if (s->phase == PHASE_STOPPING || s->phase == PHASE_STOPPED)
		return done_already(s, request, err);
	if (!phase_may_follow(s->phase, PHASE_STOPPING))
		return in_the_way(s, "stopped", err);
	if (sandbox_move(s, PHASE_STOPPING, "StopRequested", "", request, err) != 0)
		return -1;
	sandbox_step(s);
	return 0;
}

int sandbox_start(struct sandbox *s, const struct store_request *request, struct err *err)
{
	if (s->phase == PHASE_READY || s->phase == PHASE_PROVISIONING || s->phase == PHASE_STARTING)
		return done_already(s, request, err);
	if (!phase_may_follow(s->phase, PHASE_STARTING))
		return in_the_way(s, "started", err);
	if (sandbox_move(s, PHASE_STARTING, "StartRequested", "", request, err) != 0)
		return -1;
	if (s->facts.driver == DRIVER_STATE_RUNNING)
		s->facts.stale = true;
	else
		s->facts.driver = DRIVER_STATE_STOPPED; /* an earlier failure is forgiven */
	sandbox_step(s);
	return 0;
}

int sandbox_delete(struct sandbox *s, const struct store_request *request, struct err *err)
{
	int64_t now = wall_now_ms();

	if (s->phase == PHASE_DELETING)
		return done_already(s, request, err);
	s->body->metadata->deletion_timestamp_ms = now;
	if (sandbox_move(s, PHASE_DELETING, "DeleteRequested", "", request, err) != 0) {
		s->body->metadata->deletion_timestamp_ms = 0;
		return -1;
	}
	/* It may be gone at once, so the caller hears of it after its own turn. */
	timer_start(s->retry, 0);
	return 0;
}

/* What is known of it. */

const char *sandbox_id(const struct sandbox *s)
{
	return s->id;
}

const char *sandbox_key(const struct sandbox *s)
{
	return s->key;
}

const char *sandbox_name(const struct sandbox *s)
{
	return s->body->metadata->name;
}

const char *sandbox_workspace(const struct sandbox *s)
{
	return s->body->metadata->workspace;
}

enum phase sandbox_phase(const struct sandbox *s)
{
	return phase_shown(s->phase, &s->facts);
}

uint64_t sandbox_version(const struct sandbox *s)
{
	return s->version;
}

const struct events *sandbox_events(const struct sandbox *s)
{
	return &s->events;
}

const Openshell__Datamodel__V1__ObjectMeta *sandbox_meta(const struct sandbox *s)
{
	return s->body->metadata;
}

void sandbox_listen(struct sandbox *s, struct sandbox_listener *l)
{
	l->next = s->listeners;
	l->at = &s->listeners;
	if (l->next != NULL)
		l->next->at = &l->next;
	s->listeners = l;
}

void sandbox_unlisten(struct sandbox_listener *l)
{
	if (l->at == NULL)
		return;
	*l->at = l->next;
	if (l->next != NULL)
		l->next->at = l->at;
	l->next = NULL;
	l->at = NULL;
}
