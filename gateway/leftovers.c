#include "gateway/leftovers.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "gateway/names.h"

static const struct log_area area = { "gateway.leftovers" };

struct leftover {
	struct leftover *next;
	struct leftovers *all;
	char id[NAMES_ID_MAX + 1];
	struct driver_op *op; /* NULL: done with */
};

struct leftovers {
	const struct driver_ops *driver;
	void *self;
	struct leftover *list;
	bool (*known)(void *cookie, const char *sandbox_id);
	void *cookie;
};

static void on_stopped(void *cookie, const struct driver_status *status, const struct err *why)
{
	struct leftover *l = cookie;

	(void)status;
	l->op = NULL;
	if (why != NULL)
		log_warn(&area, "leftover_runs", LOG_STR("sandbox", l->id), LOG_ERR(why));
	else
		log_warn(&area, "leftover_stopped", LOG_STR("sandbox", l->id));
}

/* The driver knows now what runs there, and can end it. */
static void on_inspected(void *cookie, const struct driver_status *status, const struct err *why)
{
	struct leftover *l = cookie;
	struct err err;

	(void)status;
	l->op = NULL;
	if (why == NULL) {
		l->op = l->all->driver->stop(l->all->self, l->id, on_stopped, l, &err);
		why = l->op == NULL ? &err : NULL;
	}
	if (why != NULL)
		log_warn(&area, "leftover_runs", LOG_STR("sandbox", l->id), LOG_ERR(why));
}

static void on_place(void *cookie, const char *id)
{
	struct leftovers *all = cookie;
	struct leftover *l;
	struct err err;

	if (all->known(all->cookie, id) || (l = calloc(1, sizeof(*l))) == NULL)
		return;
	l->all = all;
	snprintf(l->id, sizeof(l->id), "%s", id);
	log_warn(&area, "leftover", LOG_STR("sandbox", l->id));
	l->op = all->driver->inspect(all->self, l->id, on_inspected, l, &err);
	if (l->op == NULL)
		log_warn(&area, "leftover_runs", LOG_STR("sandbox", l->id), LOG_ERR(&err));
	l->next = all->list;
	all->list = l;
}

struct leftovers *leftovers_sweep(const struct driver_ops *driver, void *self,
    bool (*known)(void *cookie, const char *sandbox_id), void *cookie)
{
	struct leftovers *all = calloc(1, sizeof(*all));
	struct err err;

	if (all == NULL)
		return NULL;
	*all = (struct leftovers){ driver, self, NULL, known, cookie };
	if (driver->list(self, on_place, all, &err) != 0)
		log_warn(&area, "places_unknown", LOG_ERR(&err));
	if (all->list != NULL)
		return all;
	free(all);
	return NULL;
}

void leftovers_free(struct leftovers *all)
{
	struct leftover *l;

	if (all == NULL)
		return;
	while ((l = all->list) != NULL) {
		all->list = l->next;
		if (l->op != NULL)
			all->driver->cancel(all->self, l->op);
		free(l);
	}
	free(all);
}
