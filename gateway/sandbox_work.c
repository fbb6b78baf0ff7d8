/* What the driver does for a sandbox, one operation at a time. */
#include "gateway/sandbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static const struct log_area area = { "gateway.sandbox" };

static void after_success(
    struct sandbox *s, enum phase_work work, const struct driver_status *status)
{
	s->status = *status;
	s->facts.driver = status->state;
	s->facts.inspected = true;
	s->retry_ms = SANDBOX_RETRY_MIN_MS;
	err_clear(&s->trouble);
	if (work == PHASE_WORK_STOP)
		s->facts.stale = false;
}

static void after_failure(struct sandbox *s, enum phase_work work, const struct err *why)
{
	struct err err;

	if (work != PHASE_WORK_LAUNCH ||
	    (s->phase != PHASE_PROVISIONING && s->phase != PHASE_STARTING)) {
		sandbox_retry(s, why);
		return;
	}
	log_warn(&area, "launch_failed", LOG_STR("sandbox", s->id), LOG_ERR(why));
	s->facts.driver = DRIVER_STATE_STOPPED;
	if (sandbox_move(s, PHASE_ERROR, "LaunchFailed", why->text, NULL, &err) != 0)
		sandbox_retry(s, &err);
}

static void on_done(void *cookie, const struct driver_status *status, const struct err *why)
{
	struct sandbox *s = cookie;
	enum phase_work work = s->work;

	s->op = NULL;
	s->work = PHASE_WORK_NONE;
	if (why != NULL) {
		after_failure(s, work, why);
		return;
	}
	after_success(s, work, status);
	if (work == PHASE_WORK_DESTROY) {
		sandbox_finish_delete(s);
		return;
	}
	sandbox_touch(s);
	sandbox_step(s);
}

/* The template's environment, then the sandbox's own, which comes last and wins. */
static struct driver_pair *make_environment(const Openshell__V1__SandboxSpec *spec, size_t *count)
{
	const Openshell__V1__SandboxTemplate *t = spec->template_;
	size_t from_template = t != NULL ? t->n_environment : 0;
	struct driver_pair *pairs = calloc(from_template + spec->n_environment + 1, sizeof(*pairs));
	size_t n = 0;

	if (pairs == NULL)
		return NULL;
	for (size_t i = 0; i < from_template; i++) {
		bool hidden = false;

		for (size_t k = 0; k < spec->n_environment && !hidden; k++)
			hidden = strcmp(spec->environment[k]->key, t->environment[i]->key) == 0;
		if (!hidden)
			pairs[n++] = (struct driver_pair){ t->environment[i]->key,
				t->environment[i]->value };
	}
	for (size_t i = 0; i < spec->n_environment; i++)
		pairs[n++] =
		    (struct driver_pair){ spec->environment[i]->key, spec->environment[i]->value };
	*count = n;
	return pairs;
}

static struct driver_op *launch_with(struct sandbox *s, const char *token, struct err *err)
{
	const Openshell__V1__SandboxSpec *spec = s->body->spec;
	struct sandbox_spec wanted = {
		.id = s->id,
		.name = sandbox_name(s),
		.workspace = sandbox_workspace(s),
		.image = spec->template_ != NULL ? spec->template_->image : "",
		.log_level = spec->log_level,
		.token = token,
	};
	struct driver_pair *environment = make_environment(spec, &wanted.environment_count);
	const struct driver_ops *driver = s->all->driver;
	struct driver_op *op;

	if (environment == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	wanted.environment = environment;
	op = (s->phase == PHASE_PROVISIONING ? driver->create : driver->start)(
	    s->all->driver_self, &wanted, on_done, s, err);
	free(environment);
	return op;
}

/* A token of its own for each start. Its hash is stored before the token leaves here:
 * whatever the driver has started can identify itself to any later gateway. */
static struct driver_op *launch(struct sandbox *s, struct err *err)
{
	char token[TOKENS_TEXT_SIZE];
	struct driver_op *op = NULL;

	tokens_make(s->id, token, s->token_hash);
	s->has_token = true;
	if (sandbox_save(s, err) == 0 &&
	    tokens_set(s->all->opt.tokens, s->id, s->token_hash, err) == 0)
		op = launch_with(s, token, err);
	explicit_bzero(token, sizeof(token));
	return op;
}

static struct driver_op *begin(struct sandbox *s, enum phase_work work, struct err *err)
{
	const struct driver_ops *driver = s->all->driver;
	void *self = s->all->driver_self;

	switch (work) {
	case PHASE_WORK_INSPECT:
		return driver->inspect(self, s->id, on_done, s, err);
	case PHASE_WORK_LAUNCH:
		return launch(s, err);
	case PHASE_WORK_STOP:
		return driver->stop(self, s->id, on_done, s, err);
	case PHASE_WORK_DESTROY:
		return driver->destroy(self, s->id, on_done, s, err);
	case PHASE_WORK_NONE:
		break;
	}
	return NULL;
}

/* The driver may be at its limits, which passes; what it says of a launch otherwise is
 * final. */
static bool is_passing(const struct err *err)
{
	return err->code == GRPC_RESOURCE_EXHAUSTED || err->code == GRPC_ABORTED ||
	    err->code == GRPC_UNAVAILABLE;
}

void sandbox_begin(struct sandbox *s, enum phase_work work)
{
	struct err err = { 0 };

	s->work = work;
	s->op = begin(s, work, &err);
	if (s->op != NULL)
		return;
	s->work = PHASE_WORK_NONE;
	if (is_passing(&err))
		sandbox_retry(s, &err);
	else
		after_failure(s, work, &err);
}
