#include "relay/registry.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "relay/channel.h"
#include "relay/session.h"

static const struct log_area area = { "relay" };

void registry_run_on(struct loop *loop, struct post *post)
{
	if (loop_is_current(loop))
		post->run(post);
	else
		loop_post(loop, post);
}

void registry_run(struct tunnels *t, struct post *post)
{
	registry_run_on(t->first, post);
}

struct sandbox *registry_find(const struct tunnels *t, const char *sandbox_id)
{
	return map_get(t->sandboxes, sandbox_id);
}

struct sandbox *registry_enter(struct tunnels *t, const char *sandbox_id)
{
	struct sandbox *sandbox = registry_find(t, sandbox_id);

	if (sandbox != NULL)
		return sandbox;
	sandbox = calloc(1, sizeof(*sandbox));
	if (sandbox == NULL)
		return NULL;
	TAILQ_INIT(&sandbox->unclaimed);
	TAILQ_INIT(&sandbox->claimed);
	sandbox->id = strdup(sandbox_id);
	if (sandbox->id == NULL || map_put(t->sandboxes, sandbox_id, sandbox) != 0) {
		free(sandbox->id);
		free(sandbox);
		return NULL;
	}
	return sandbox;
}

void registry_settle(struct tunnels *t, struct sandbox *sandbox)
{
	if (sandbox->session != NULL || sandbox->pins > 0)
		return;
	if (sandbox->unclaimed_count > 0 || sandbox->claimed_count > 0)
		return;
	map_remove(t->sandboxes, sandbox->id);
	free(sandbox->id);
	free(sandbox);
}

/* Takes the session off its sandbox; what it has claimed ends with it. */
static void registry_detach(struct tunnels *t, struct sandbox *sandbox, const struct err *why)
{
	struct session *session = sandbox->session;

	sandbox->session = NULL;
	atomic_fetch_sub(&t->sessions, 1);
	session_unref(session);
	channel_drop_all(&sandbox->claimed, why);
}

/* The newest connection is the one that is served; the connections of one supervisor
 * process are numbered, so that one which was slow to arrive does not win. */
static bool registry_is_stale(const struct sandbox *sandbox, const struct session_hello *hello)
{
	const struct session_hello *current;

	if (sandbox->session == NULL || hello->epoch == 0)
		return false;
	current = session_hello(sandbox->session);
	return strcmp(current->instance_id, hello->instance_id) == 0 &&
	    hello->epoch < current->epoch;
}

static void registry_supersede(
    struct tunnels *t, struct sandbox *sandbox, const struct session_hello *newer)
{
	struct session *old = sandbox->session;
	struct err why;

	err_set(&why, GRPC_ABORTED, "superseded by a newer session of this sandbox, of instance %s",
	    newer->instance_id);
	session_ref(old);
	registry_detach(t, sandbox,
	    &(struct err){
		.code = GRPC_UNAVAILABLE,
		.text = "the sandbox's supervisor was replaced by a newer one; try again",
	    });
	session_end(old, &why);
	session_unref(old);
}

static int registry_admit(struct tunnels *t, struct session *session, struct err *e)
{
	const struct session_hello *hello = session_hello(session);
	struct sandbox *sandbox;

	if (t->shut)
		return err_set(e, GRPC_UNAVAILABLE, "the gateway is shutting down");
	sandbox = registry_enter(t, session_sandbox(session));
	if (sandbox == NULL)
		return err_set(e, GRPC_RESOURCE_EXHAUSTED, "the gateway is out of memory");
	if (registry_is_stale(sandbox, hello))
		return err_set(e, GRPC_UNAVAILABLE,
		    "superseded: connection %llu of this supervisor is newer than %llu",
		    (unsigned long long)session_hello(sandbox->session)->epoch,
		    (unsigned long long)hello->epoch);
	if (sandbox->session != NULL)
		registry_supersede(t, sandbox, hello);
	session_ref(session);
	sandbox->session = session;
	atomic_fetch_add(&t->sessions, 1);
	return 0;
}

void registry_greet(struct tunnels *t, struct session *session)
{
	const struct session_hello *hello = session_hello(session);
	const char *sandbox_id = session_sandbox(session);
	struct sandbox *sandbox;
	struct err e;

	if (registry_admit(t, session, &e) != 0) {
		session_reject(session, &e);
		return;
	}
	log_info(&area, "session_up", LOG_STR("sandbox", sandbox_id), LOG_STR("session", hello->id),
	    LOG_STR("instance", hello->instance_id), LOG_STR("version", hello->version));
	if (t->events.up != NULL)
		t->events.up(t->events.cookie, sandbox_id, hello->instance_id, hello->version);
	session_accept(session);
	sandbox = registry_find(t, sandbox_id);
	if (sandbox != NULL && sandbox->session == session) /* else it is over already */
		channel_offer_all(sandbox);
}

void registry_lost(struct tunnels *t, struct session *session, const struct err *why)
{
	const char *sandbox_id = session_sandbox(session);
	struct sandbox *sandbox = registry_find(t, sandbox_id);
	struct err lost;

	if (sandbox == NULL || sandbox->session != session)
		return;
	log_info(&area, "session_down", LOG_STR("sandbox", sandbox_id),
	    LOG_STR("session", session_hello(session)->id), LOG_ERR(why));
	err_set(&lost, GRPC_UNAVAILABLE, "the tunnel to the sandbox was lost: %s", why->text);
	registry_detach(t, sandbox, &lost);
	registry_settle(t, sandbox);
	if (t->events.down != NULL)
		t->events.down(t->events.cookie, sandbox_id, why);
}

void registry_drop(struct tunnels *t, struct sandbox *sandbox, const struct err *why)
{
	struct session *session = sandbox->session;

	sandbox->pins++;
	if (session != NULL) {
		session_ref(session);
		registry_detach(t, sandbox, why);
		session_end(session, why);
		session_unref(session);
	}
	channel_drop_all(&sandbox->unclaimed, why);
	sandbox->pins--;
	registry_settle(t, sandbox);
}
