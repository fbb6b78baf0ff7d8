/* Waiting for a sandbox to be ready, stopped or gone: what WatchSandbox says. */
#include <string.h>

#include "cli/sandbox.h"
#include "proto/codec.h"
#include "relay/framed.h"

struct watching {
	struct session_wait wait;
	enum sandbox_goal goal;
	struct framed *call; /* NULL: over */
	Openshell__V1__SandboxStreamEvent *last;
};

static const Openshell__V1__SandboxStatus *last_status(const struct watching *w)
{
	return w->last != NULL ? w->last->sandbox->status : NULL;
}

static bool is_reached(const struct watching *w)
{
	const Openshell__V1__SandboxStatus *status = last_status(w);

	if (status == NULL)
		return false;
	return (w->goal == SANDBOX_GOAL_READY &&
		   status->phase == OPENSHELL__V1__SANDBOX_PHASE__SANDBOX_PHASE_READY) ||
	    (w->goal == SANDBOX_GOAL_STOPPED &&
		status->phase == OPENSHELL__V1__SANDBOX_PHASE__SANDBOX_PHASE_STOPPED);
}

static bool is_lost(const struct watching *w)
{
	const Openshell__V1__SandboxStatus *status = last_status(w);

	return status != NULL && w->goal != SANDBOX_GOAL_GONE &&
	    status->phase == OPENSHELL__V1__SANDBOX_PHASE__SANDBOX_PHASE_ERROR;
}

/* The condition that says most: the last one that is not as it should be. */
static const char *explanation(const struct watching *w)
{
	const Openshell__V1__SandboxStatus *status = last_status(w);
	const char *text = "";

	for (size_t i = 0; status != NULL && i < status->n_conditions; i++) {
		const Openshell__V1__SandboxCondition *c = status->conditions[i];
		bool matters =
		    strcmp(c->type, "Ready") == 0 || strcmp(c->type, "OperationFailed") == 0;

		if (matters && c->message[0] != '\0')
			text = c->message;
	}
	return text;
}

static const struct err fine = { .code = GRPC_OK };

static void finish(struct watching *w, const struct err *why)
{
	struct err err = *why;

	if (err.code == GRPC_OK && is_lost(w))
		err_set(&err, GRPC_FAILED_PRECONDITION, "the sandbox is in phase ERROR: %s",
		    explanation(w));
	else if (err.code == GRPC_OK && !is_reached(w) && w->goal != SANDBOX_GOAL_GONE)
		err_set(&err, GRPC_NOT_FOUND, "the sandbox is deleted");
	else if (err.code == GRPC_NOT_FOUND && w->goal == SANDBOX_GOAL_GONE)
		err_clear(&err);
	session_done(&w->wait, &err);
}

static void on_message(void *cookie, const uint8_t *message, size_t len)
{
	struct watching *w = cookie;
	enum guard_result why;
	Openshell__V1__SandboxStreamEvent *event =
	    codec_unpack(&openshell__v1__sandbox_stream_event__descriptor, message, len, &why);

	if (event == NULL ||
	    event->payload_case != OPENSHELL__V1__SANDBOX_STREAM_EVENT__PAYLOAD_SANDBOX ||
	    event->sandbox->metadata == NULL) {
		codec_free(event);
		return;
	}
	codec_free(w->last);
	w->last = event;
	if (is_reached(w) || is_lost(w))
		finish(w, &fine);
}

static void on_end(void *cookie, const struct err *status)
{
	finish(cookie, status);
}

static void on_closed(void *cookie, const struct err *why)
{
	struct watching *w = cookie;

	w->call = NULL;
	finish(w, why);
}

static const struct framed_ops call_ops = {
	.message = on_message,
	.end = on_end,
	.closed = on_closed,
};

static int start(struct watching *w, struct session *s, const char *name, struct err *err)
{
	Openshell__V1__WatchSandboxRequest request = OPENSHELL__V1__WATCH_SANDBOX_REQUEST__INIT;
	struct rpc_client_call call = { .path = "/openshell.v1.OpenShell/WatchSandbox" };
	struct framed_options options = { .whole = true };
	struct rpc_client *client = session_client(s, err);
	size_t len;

	request.sandbox = (char *)name;
	request.follow_status = true;
	request.stop_on_terminal = w->goal == SANDBOX_GOAL_READY;
	request.workspace_scope = session_scope(s);
	uint8_t *packed = codec_pack_new(&request.base, &len);
	if (packed == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	w->call = client != NULL ? framed_call(client, &call, &options, &call_ops, w, err) : NULL;
	if (w->call != NULL && framed_send(w->call, packed, len) != 0)
		err_set(&w->wait.err, GRPC_INTERNAL, "the request could not be sent");
	free(packed);
	if (w->call == NULL)
		return -1;
	framed_end(w->call);
	return 0;
}

int sandbox_await(struct session *s, const char *name, enum sandbox_goal goal, uint64_t ms,
    Openshell__V1__SandboxStreamEvent **last, struct err *err)
{
	struct watching w = { .wait.session = s, .goal = goal };
	int r = start(&w, s, name, err);

	if (r == 0)
		r = session_wait(s, &w.wait, ms, err);
	if (r != 0 && err->code == GRPC_DEADLINE_EXCEEDED)
		err_set(err, GRPC_DEADLINE_EXCEEDED,
		    "sandbox %s is still %s after %llu seconds%s%s", name,
		    w.last != NULL ? sandbox_phase(w.last->sandbox) : "not seen",
		    (unsigned long long)ms / 1000, explanation(&w)[0] != '\0' ? ": " : "",
		    explanation(&w));
	if (w.call != NULL)
		framed_cancel(w.call, NULL);
	if (last != NULL)
		*last = w.last;
	else
		codec_free(w.last);
	return r;
}
