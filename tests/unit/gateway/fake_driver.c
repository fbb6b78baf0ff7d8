#include "fake_driver.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct driver_op {
	struct post post;
	struct fake_driver *driver;
	enum fake_kind kind;
	char id[64];
	driver_done *done; /* NULL: cancelled */
	void *cookie;
};

struct fake_place *fake_place(struct fake_driver *d, const char *id)
{
	for (size_t i = 0; i < FAKE_PLACES_MAX; i++)
		if (strcmp(d->places[i].id, id) == 0)
			return &d->places[i];
	return NULL;
}

static void set_state(struct fake_driver *d, const char *id, enum driver_state state)
{
	struct fake_place *p = fake_place(d, id);

	if (p == NULL)
		p = fake_place(d, "");
	assert(p != NULL);
	snprintf(p->id, sizeof(p->id), "%s", id);
	p->state = state;
	if (state == DRIVER_STATE_ABSENT)
		p->id[0] = '\0';
}

static void apply(struct driver_op *op)
{
	switch (op->kind) {
	case FAKE_CREATE:
	case FAKE_START:
		set_state(op->driver, op->id, DRIVER_STATE_RUNNING);
		break;
	case FAKE_STOP:
		set_state(op->driver, op->id, DRIVER_STATE_STOPPED);
		break;
	case FAKE_DESTROY:
		set_state(op->driver, op->id, DRIVER_STATE_ABSENT);
		break;
	case FAKE_INSPECT:
	case FAKE_NONE:
		break;
	}
}

static void end(struct post *post)
{
	struct driver_op *op = (struct driver_op *)post;
	struct fake_driver *d = op->driver;
	struct err failure = d->fail_next;
	struct driver_status status = { .condition_count = 1 };
	struct fake_place *p;

	err_clear(&d->fail_next);
	if (failure.code == GRPC_OK)
		apply(op);
	p = fake_place(d, op->id);
	status.state = p != NULL ? p->state : DRIVER_STATE_ABSENT;
	snprintf(status.conditions[0].type, sizeof(status.conditions[0].type), "Isolated");
	snprintf(status.conditions[0].status, sizeof(status.conditions[0].status), "False");
	if (op->done != NULL)
		op->done(op->cookie, failure.code == GRPC_OK ? &status : NULL,
		    failure.code == GRPC_OK ? NULL : &failure);
	free(op);
}

void fake_finish(struct fake_driver *d)
{
	struct driver_op *op = d->waiting;

	assert(op != NULL);
	d->waiting = NULL;
	loop_post(d->loop, &op->post);
}

static struct driver_op *begin(struct fake_driver *d, enum fake_kind kind, const char *id,
    driver_done *done, void *cookie, struct err *err)
{
	struct driver_op *op;

	d->last = kind;
	d->count[kind]++;
	if (d->refuse_next.code != GRPC_OK) {
		*err = d->refuse_next;
		err_clear(&d->refuse_next);
		return NULL;
	}
	op = calloc(1, sizeof(*op));
	op->post.run = end;
	op->driver = d;
	op->kind = kind;
	snprintf(op->id, sizeof(op->id), "%s", id);
	op->done = done;
	op->cookie = cookie;
	assert(d->waiting == NULL);
	if (d->manual)
		d->waiting = op;
	else
		loop_post(d->loop, &op->post);
	return op;
}

static struct driver_op *launch(struct fake_driver *d, enum fake_kind kind,
    const struct sandbox_spec *spec, driver_done *done, void *cookie, struct err *err)
{
	size_t used = 0;

	snprintf(d->token, sizeof(d->token), "%s", spec->token);
	d->environment[0] = '\0';
	for (size_t i = 0; i < spec->environment_count; i++)
		used += (size_t)snprintf(d->environment + used, sizeof(d->environment) - used,
		    "%s=%s;", spec->environment[i].key, spec->environment[i].value);
	return begin(d, kind, spec->id, done, cookie, err);
}

static struct driver_op *fake_create(
    void *self, const struct sandbox_spec *spec, driver_done *done, void *cookie, struct err *err)
{
	return launch(self, FAKE_CREATE, spec, done, cookie, err);
}

static struct driver_op *fake_start(
    void *self, const struct sandbox_spec *spec, driver_done *done, void *cookie, struct err *err)
{
	return launch(self, FAKE_START, spec, done, cookie, err);
}

static struct driver_op *fake_stop(
    void *self, const char *id, driver_done *done, void *cookie, struct err *err)
{
	return begin(self, FAKE_STOP, id, done, cookie, err);
}

static struct driver_op *fake_destroy(
    void *self, const char *id, driver_done *done, void *cookie, struct err *err)
{
	return begin(self, FAKE_DESTROY, id, done, cookie, err);
}

static struct driver_op *fake_inspect(
    void *self, const char *id, driver_done *done, void *cookie, struct err *err)
{
	return begin(self, FAKE_INSPECT, id, done, cookie, err);
}

static int fake_list(
    void *self, void (*each)(void *cookie, const char *id), void *cookie, struct err *err)
{
	struct fake_driver *d = self;

	(void)err;
	for (size_t i = 0; i < FAKE_PLACES_MAX; i++)
		if (d->places[i].id[0] != '\0')
			each(cookie, d->places[i].id);
	return 0;
}

static void fake_cancel(void *self, struct driver_op *op)
{
	struct fake_driver *d = self;

	op->done = NULL;
	if (d->waiting == op) {
		d->waiting = NULL;
		free(op);
	}
}

static int fake_open(void **self, const struct driver_env *env, struct err *err)
{
	(void)self;
	(void)env;
	(void)err;
	return 0;
}

static void fake_close(void *self)
{
	(void)self;
}

const struct driver_ops fake_driver = {
	.name = "fake",
	.open = fake_open,
	.close = fake_close,
	.create = fake_create,
	.stop = fake_stop,
	.start = fake_start,
	.destroy = fake_destroy,
	.inspect = fake_inspect,
	.list = fake_list,
	.cancel = fake_cancel,
};
