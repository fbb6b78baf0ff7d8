#include "transfer/sync/sync_flow.h"

#include <stdlib.h>
#include <unistd.h>

#include "rpc/call.h"
#include "transfer/confine.h"
#include "transfer/tree/ignore.h"
#include "transfer/lane.h"
#include "transfer/sync/sync_team.h"

#define IN_WINDOW  (RPC_WINDOW_MAX + RPC_WINDOW) /* bytes; more than any stream window */
#define OUT_WINDOW ((size_t)1 << 20)             /* bytes of records on their way out */

struct sync_flow {
	struct sync_flow_env env;
	struct framed *call; /* NULL: gone */
	struct ignore *exclude;
	struct lane *lane;
	struct sync_counts counts;
	struct err err; /* of the loop's side */
	uint64_t moved;
	size_t preface;
	size_t leaving; /* bytes with the call, not credited */
	bool eof;
};

/* On the threads. */

static ssize_t pull(void *lane, const void **bytes, struct err *err)
{
	return lane_read(lane, bytes, err);
}

static int push(void *lane, const void *bytes, size_t len, struct err *err)
{
	return lane_write(lane, bytes, len, err);
}

static void stop(void *lane, const struct err *why)
{
	lane_abort(lane, why);
}

static bool stopped(void *lane)
{
	return lane_is_aborted(lane);
}

static struct sync_link link_of(struct lane *lane)
{
	return (struct sync_link){
		.pull = pull, .push = push, .stop = stop, .stopped = stopped, .cookie = lane
	};
}

static bool excluded(void *cookie, const char *path, bool directory)
{
	return ignore_covers(((struct sync_flow *)cookie)->exclude, path, directory);
}

static void note(void *cookie, const char *text)
{
	struct sync_flow *f = cookie;

	if (f->env.note != NULL)
		f->env.note(f->env.cookie, text);
}

static void item(void *cookie, enum sync_act act, const struct sync_entry *e)
{
	struct sync_flow *f = cookie;

	if (f->env.item != NULL)
		f->env.item(f->env.cookie, act, e);
}

static void spread(void *cookie)
{
	struct sync_flow *f = cookie;

	f->env.spread(f->env.cookie);
}

static int work_in_team(struct lane *lane, void *arg, struct err *err)
{
	struct sync_flow *f = arg;
	const struct sync_link link = link_of(lane);

	return f->env.source ? sync_source_stream(f->env.team, &link, &f->counts, err)
			     : sync_target_stream(f->env.team, &link, &f->counts, err);
}

static int lead(struct lane *lane, struct sync_flow *f, struct err *err)
{
	struct sync_options o = f->env.options;
	const struct sync_link link = link_of(lane);
	int root = f->env.open(f->env.cookie, err), r;

	if (root < 0 && err->code != GRPC_OK)
		return -1;
	if (root >= 0)
		confine_to(root); /* this thread, and the one it may start, do nothing else */
	o.excluded = f->exclude != NULL ? excluded : NULL;
	o.note = note;
	o.item = item;
	o.spread = f->env.spread != NULL ? spread : NULL;
	o.team = f->env.team;
	o.cookie = f;
	r = f->env.source ? sync_source(root, &o, &link, &f->counts, err)
			  : sync_target(root, &o, &link, &f->counts, err);
	if (root >= 0)
		close(root);
	return r;
}

static int work(struct lane *lane, void *arg, struct err *err)
{
	struct sync_flow *f = arg;
	int r = lead(lane, f, err);

	if (f->env.team != NULL)
		sync_team_end(f->env.team);
	return r;
}

/* On the loop. */

static void lane_used(void *cookie, size_t bytes)
{
	struct sync_flow *f = cookie;

	if (f->call != NULL)
		framed_credit(f->call, bytes);
}

static void lane_data(void *cookie, struct slice s)
{
	struct sync_flow *f = cookie;
	size_t len = s.len;

	f->moved += len;
	if (f->call != NULL && framed_write(f->call, FRAMED_BYTES, s) == 0) {
		f->leaving += len;
		return;
	}
	slice_release(&s);
	lane_credit(f->lane, len);
	if (f->call == NULL)
		return;
	err_set(&f->err, GRPC_UNAVAILABLE, "the other end takes no more");
	lane_abort(f->lane, &f->err);
}

static void lane_ended(void *cookie, int result, const struct err *err)
{
	struct sync_flow *f = cookie;

	f->env.ended(f->env.cookie, &f->counts, result == 0 ? &err_none : err);
}

static const struct lane_ops lane_ops = {
	.used = lane_used,
	.data = lane_data,
	.ended = lane_ended,
	.out_window = OUT_WINDOW,
};

struct sync_flow *sync_flow_start(const struct sync_flow_env *env, struct err *err)
{
	struct sync_flow *f = calloc(1, sizeof(*f));

	if (f == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	f->env = *env;
	f->call = env->call;
	f->preface = env->preface;
	if ((env->exclude == NULL || env->exclude[0] == NULL ||
		(f->exclude = ignore_list(env->exclude, err)) != NULL) &&
	    (f->lane = lane_start(env->loop, IN_WINDOW, env->joins ? work_in_team : work, f,
		 &lane_ops, f, err)) != NULL) {
		if (env->team != NULL)
			sync_team_hold(env->team);
		return f;
	}
	ignore_free(f->exclude);
	free(f);
	return NULL;
}

void sync_flow_push(struct sync_flow *f, struct slice s)
{
	size_t len = s.len;

	f->moved += len;
	if (lane_push(f->lane, s) == 0)
		return;
	slice_release(&s);
	if (f->call != NULL)
		framed_credit(f->call, len);
}

void sync_flow_sent(struct sync_flow *f, size_t bytes)
{
	size_t preface = bytes < f->preface ? bytes : f->preface;

	f->preface -= preface;
	f->leaving -= bytes - preface;
	if (bytes > preface)
		lane_credit(f->lane, bytes - preface);
}

void sync_flow_eof(struct sync_flow *f)
{
	f->eof = true;
	lane_eof(f->lane);
}

uint64_t sync_flow_moved(const struct sync_flow *f)
{
	return f->moved;
}

void sync_flow_abort(struct sync_flow *f, const struct err *why)
{
	lane_abort(f->lane, why);
}

void sync_flow_stop(struct sync_flow *f, const struct err *why)
{
	f->call = NULL;
	lane_credit(f->lane, f->leaving); /* nobody waits for it to leave */
	f->leaving = 0;
	if (!f->eof)
		lane_abort(f->lane, why);
}

void sync_flow_free(struct sync_flow *f)
{
	if (f == NULL)
		return;
	lane_free(f->lane);
	sync_team_release(f->env.team);
	ignore_free(f->exclude);
	free(f);
}
