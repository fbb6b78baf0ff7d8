#include "transfer/serve.h"

#include <assert.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/beneath.h"
#include "base/clock.h"
#include "base/log.h"
#include "transfer/confine.h"
#include "transfer/sweep.h"
#include "transfer/transfers.h"

/* Sweeping. */

#define SWEEP_MS     ((uint64_t)3600 * 1000) /* between two sweeps, or a quarter of the expiry */
#define SWEEP_MIN_MS ((uint64_t)1000)

static void run_sweep(struct job *job)
{
	struct transfers *t = (struct transfers *)((char *)job - offsetof(struct transfers, sweep));

	sweep_tree(t->workdir, t->upload_expiry_ms, t->boot, SWEEP_TREE_MAX);
}

static void after_sweep(struct job *job)
{
	struct transfers *t = (struct transfers *)((char *)job - offsetof(struct transfers, sweep));
	uint64_t ms = t->upload_expiry_ms / 4;

	ms = ms > SWEEP_MS ? SWEEP_MS : ms < SWEEP_MIN_MS ? SWEEP_MIN_MS : ms;
	timer_start(t->sweep_timer, ms);
}

static void on_sweep_timer(void *cookie)
{
	struct transfers *t = cookie;

	t->sweep.run = run_sweep;
	t->sweep.done = after_sweep;
	if (workers_submit(t->workers, t->loop, &t->sweep) != 0)
		after_sweep(&t->sweep);
}

static const struct log_area area = { "transfer" };

struct transfers *transfers_create(const struct transfer_options *o, struct err *err)
{
	struct transfers *t = calloc(1, sizeof(*t));

	if (t != NULL) {
		if (!confine_supported())
			log_info(&area, "no_landlock",
			    LOG_STR("meaning", "unpacked archives are held by openat2 alone"));
		t->loop = o->loop;
		t->workers = o->workers;
		t->workdir = o->workdir;
		t->slash = o->slash;
		t->workdir_path = o->workdir_path != NULL ? o->workdir_path : "/";
		t->upload_expiry_ms =
		    o->upload_expiry_ms != 0 ? o->upload_expiry_ms : TRANSFER_UPLOAD_EXPIRY_MS;
		t->boot = clock_boot();
		t->claims = claims_create();
		t->board = pieces_board_create();
		if (t->workers != NULL)
			t->sweep_timer = timer_create_on(t->loop, on_sweep_timer, t);
	}
	if (t == NULL || t->claims == NULL || t->board == NULL ||
	    (t->workers != NULL && t->sweep_timer == NULL)) {
		if (t != NULL) {
			claims_free(t->claims);
			pieces_board_free(t->board);
		}
		free(t);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	if (t->sweep_timer != NULL)
		on_sweep_timer(t);
	return t;
}

void transfers_free(struct transfers *t)
{
	if (t == NULL)
		return;
	assert(t->running == 0 && t->talks == 0);
	timer_free(t->sweep_timer);
	pieces_board_free(t->board);
	claims_free(t->claims);
	free(t);
}

int transfers_enter(struct transfers *t, bool archive, struct err *err)
{
	if (t->running >= TRANSFER_MAX || (archive && t->archives >= TRANSFER_ARCHIVES_MAX))
		return err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "%zu transfers (%zu archives) run in this sandbox; wait for one to end",
		    t->running, t->archives);
	t->running++;
	t->archives += archive;
	return 0;
}

void transfers_leave(struct transfers *t, bool archive)
{
	t->running--;
	t->archives -= archive;
}

int transfers_open_directory(struct transfers *t, const char *path, bool make, struct err *err)
{
	const char *rest;
	int root = beneath_root(t->workdir, t->slash, path, &rest);
	enum beneath_links links = root == t->slash ? BENEATH_IN_ROOT : BENEATH_FOLLOW;
	int fd = beneath_open(root, rest, O_RDONLY | O_DIRECTORY, 0, links, err);

	if (fd >= 0 || !make || err->code != GRPC_NOT_FOUND)
		return fd;
	err_clear(err);
	if (beneath_mkdir(root, rest, 0777, links, err) != 0)
		return -1;
	return beneath_open(root, rest, O_RDONLY | O_DIRECTORY, 0, links, err);
}
