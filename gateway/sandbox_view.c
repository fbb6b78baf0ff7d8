/* A sandbox as the API has it. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "gateway/message.h"
#include "gateway/sandbox.h"

static void add(struct sandbox_view *v, const char *type, const char *status, const char *reason,
    const char *message, int64_t since_ms)
{
	size_t at = v->status.n_conditions;
	Openshell__V1__SandboxCondition *c = &v->conditions[at];

	openshell__v1__sandbox_condition__init(c);
	c->type = (char *)type;
	c->status = (char *)status;
	c->reason = (char *)reason;
	c->message = (char *)message;
	if (since_ms != 0) {
		message_set_time(&v->times[at], since_ms);
		c->transition_time = &v->times[at];
		text_time(since_ms / 1000, v->time_texts[at]);
		c->last_transition_time = v->time_texts[at];
	}
	v->condition_list[at] = c;
	v->status.n_conditions++;
}

static void add_ready(const struct sandbox *s, struct sandbox_view *v)
{
	bool wanted =
	    s->phase == PHASE_PROVISIONING || s->phase == PHASE_STARTING || s->phase == PHASE_READY;

	if (s->phase == PHASE_READY && s->facts.connected) {
		add(v, "Ready", "True", s->reason, s->message, s->changed_ms);
		return;
	}
	if (!wanted || s->facts.connected) {
		add(v, "Ready", "False", s->reason, s->message, s->changed_ms);
		return;
	}
	const char *message = s->phase == PHASE_READY
	    ? "the supervisor's session is down; waiting for it to come back"
	    : "the supervisor has not connected yet";
	int64_t since =
	    s->phase == PHASE_READY && s->connected_ms != 0 ? s->connected_ms : s->changed_ms;
	add(v, "Ready", "False", "SupervisorNotConnected", message, since);
	add(v, "SupervisorNotConnected", "True",
	    s->phase == PHASE_READY ? "SessionDown" : "WaitingForSession", message, since);
}

static void add_conditions(const struct sandbox *s, struct sandbox_view *v)
{
	add_ready(s, v);
	if (s->trouble.code != GRPC_OK)
		add(v, "OperationFailed", "True", err_code_name(s->trouble.code), s->trouble.text,
		    0);
	for (size_t i = 0; i < s->status.condition_count && i < DRIVER_CONDITIONS_MAX; i++) {
		const struct driver_condition *c = &s->status.conditions[i];

		add(v, c->type, c->status, c->reason, c->message, 0);
	}
}

void sandbox_view(const struct sandbox *s, struct sandbox_view *v)
{
	v->sandbox = *s->body;
	v->meta = *s->body->metadata;
	v->meta.resource_version = s->version;
	if (v->meta.deletion_timestamp_ms != 0) {
		message_set_time(&v->deleted, v->meta.deletion_timestamp_ms);
		v->meta.deletion_time = &v->deleted;
	}
	v->sandbox.metadata = &v->meta;
	if (s->all->opt.host_key_fingerprint != NULL)
		v->sandbox.host_key_fingerprint = (char *)s->all->opt.host_key_fingerprint;
	openshell__v1__sandbox_status__init(&v->status);
	v->status.sandbox_name = v->meta.name;
	v->status.agent_pod = (char *)s->status.instance_id;
	v->status.phase = (Openshell__V1__SandboxPhase)sandbox_phase(s);
	v->status.conditions = v->condition_list;
	add_conditions(s, v);
	v->sandbox.status = &v->status;
}
