#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rpc/call.h"
#include "rpc/crypto.h"
#include "transfer/confine.h"
#include "transfer/flow.h"
#include "transfer/lane.h"

#define INFLOW_SLICES_MAX 65536 /* that wait; more are too small to be honest */
#define INFLOW_LANE       (RPC_WINDOW_MAX + RPC_WINDOW) /* bytes; more than any stream window */
#define INFLOW_AHEAD      ((size_t)1 << 19)   /* bytes that wait for the disk while more may come */
#define INFLOW_TURN       ((size_t)4 << 20)   /* bytes of a job: others want the worker too */
#define INFLOW_TELL       ((size_t)256 << 10) /* bytes written, and the loop hears of it */

/* A file that can be resumed is synced in the background of its writing. */
#define INFLOW_SYNC     ((uint64_t)2 << 20) /* bytes written behind which a sync begins */
#define INFLOW_UNSYNCED ((uint64_t)4 << 20) /* bytes behind which writing waits for it */
#define INFLOW_SYNC_MS  500                 /* fewer bytes than that wait no longer */

/* What a worker does next with a file. */
enum inflow_step { INFLOW_OPENING, INFLOW_IDLE, INFLOW_PREPARING, INFLOW_WRITING, INFLOW_ENDING };

struct inflow {
	struct job job; /* first; with the workers unless INFLOW_IDLE */
	struct inflow_env env;
	struct digest *digest; /* of a tree or a descriptor; a place has its own */
	struct flow_result result;
	uint8_t expected[DIGEST_SIZE];
	struct crypto_sha256 *sha256; /* of a tree, when that is what was promised */
	uint8_t expected_sha256[CRYPTO_SHA256_SIZE];
	bool has_expected, eof, ended;
	struct err err;   /* what went wrong first; of the job while it runs */
	struct err abort; /* why to undo; code GRPC_OK: go on */
	struct post post;

	/* A file or a descriptor: */
	enum inflow_step step;
	struct place_options place_options;
	char *path, *id;
	struct place *place;
	struct job sync; /* with the workers while ${syncing} */
	bool syncing;
	uint64_t syncing_to, durable;
	struct err sync_err;
	struct timer *sync_timer; /* of one that can be resumed */
	int fd;                   /* borrowed; -1: a place */
	size_t uncredited;        /* bytes the sender has not got back */
	pthread_mutex_t lock;     /* between loop and job, over what follows */
	struct bufq waiting;      /* what came; bounded by window and INFLOW_AHEAD */
	size_t writing;           /* bytes the job has taken out of it */
	uint64_t written;         /* where they go */
	uint64_t heard;           /* so much of it the loop knows */
	uint64_t stop;            /* no more is written before something is durable */
	struct post progress;
	bool telling;

	/* A tree: */
	struct lane *lane;
	int (*open)(void *arg, struct err *);
	void *open_arg;
	struct tree_result tree;
};

static void next_step(struct inflow *);

void inflow_free(struct inflow *i)
{
	if (i == NULL)
		return;
	loop_unpost(i->env.flow.loop, &i->post);
	if (i->lane != NULL)
		lane_free(i->lane);
	bufq_free(&i->waiting);
	pthread_mutex_destroy(&i->lock);
	timer_free(i->sync_timer);
	digest_free(i->digest);
	crypto_sha256_free(i->sha256);
	free(i->path);
	free(i->id);
	free(i);
}

void inflow_result(const struct inflow *i, struct flow_result *r)
{
	*r = i->result;
}

/* The digest of all that came, against what was promised. */
static int check_digest(struct inflow *i, struct err *err)
{
	uint8_t sha256[CRYPTO_SHA256_SIZE];

	digest_value(i->digest, i->result.digest);
	if (i->sha256 != NULL)
		crypto_sha256_value(i->sha256, sha256);
	if ((i->has_expected && memcmp(i->result.digest, i->expected, DIGEST_SIZE) != 0) ||
	    (i->sha256 != NULL && memcmp(sha256, i->expected_sha256, sizeof(sha256)) != 0))
		return err_set(
		    err, GRPC_DATA_LOSS, "the digest of what came is not that of what was sent");
	return 0;
}

/* Files: on a worker. */

static void run_open(struct job *job)
{
	struct inflow *i = (struct inflow *)job;

	i->place = place_open(&i->place_options, &i->err);
}

static void run_prepare(struct job *job)
{
	struct inflow *i = (struct inflow *)job;

	place_prepare(i->place, &i->err);
}

static void run_sync(struct job *job)
{
	struct inflow *i = (struct inflow *)((char *)job - offsetof(struct inflow, sync));

	place_sync(i->place, i->syncing_to, &i->sync_err);
}

static int write_fd(int fd, const uint8_t *at, size_t left, struct err *err)
{
	while (left > 0) {
		ssize_t n = write(fd, at, left);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, errno, "write");
		at += n;
		left -= (size_t)n;
	}
	return 0;
}

static struct slice take_slice(struct inflow *i)
{
	struct slice s = { 0 };

	pthread_mutex_lock(&i->lock);
	if (i->written < i->stop)
		s = bufq_pop(&i->waiting, SIZE_MAX);
	i->writing = s.len;
	pthread_mutex_unlock(&i->lock);
	return s;
}

/* The loop gives credit and begins syncs while the job goes on. */
static void tell_loop(struct inflow *i)
{
	pthread_mutex_lock(&i->lock);
	i->written += i->writing;
	i->writing = 0;
	bool tell = !i->telling && i->written - i->heard >= INFLOW_TELL;
	i->telling = i->telling || tell;
	pthread_mutex_unlock(&i->lock);
	if (tell)
		loop_post(i->env.flow.loop, &i->progress);
}

static int write_slice(struct inflow *i, const struct slice *s)
{
	if (i->fd < 0)
		return place_write(i->place, s->data, s->len, &i->err);
	digest_update(i->digest, s->data, s->len);
	return write_fd(i->fd, s->data, s->len, &i->err);
}

/* What comes meanwhile is written too: going to the loop and back takes as long as
 * writing some hundred KiB. */
static void run_write(struct job *job)
{
	struct inflow *i = (struct inflow *)job;

	for (size_t turn = 0; turn < INFLOW_TURN && i->err.code == GRPC_OK;) {
		struct slice s = take_slice(i);
		if (s.len == 0)
			return;
		turn += s.len;
		if (write_slice(i, &s) == 0)
			tell_loop(i);
		slice_release(&s);
	}
}

static void run_commit(struct job *job)
{
	struct inflow *i = (struct inflow *)job;
	uint64_t bytes;

	if (i->place == NULL) {
		check_digest(i, &i->err);
		return;
	}
	if (i->has_expected)
		place_expect(i->place, i->expected);
	i->result.same = place_is_same(i->place);
	i->result.unread = place_is_unread(i->place);
	place_commit(i->place, &bytes, i->result.digest, &i->err);
	if (i->err.code == GRPC_OK)
		i->result.bytes = bytes;
	i->place = NULL;
}

/* What came is kept, if it can be, but for what is known to be wrong. */
static void run_abort(struct job *job)
{
	struct inflow *i = (struct inflow *)job;

	if (i->err.code == GRPC_DATA_LOSS)
		place_abort(i->place);
	else
		place_suspend(i->place);
	i->place = NULL;
}

/* Files: on the loop. */

static void run_ended(struct post *post)
{
	struct inflow *i = (struct inflow *)((char *)post - offsetof(struct inflow, post));

	i->env.flow.ended(i->env.flow.cookie, &i->err);
}

/* Nothing is left to do; what still waits was for nobody. */
static void end_later(struct inflow *i)
{
	if (i->ended)
		return;
	i->ended = true;
	if (i->err.code == GRPC_OK)
		i->err = i->abort;
	i->post.run = run_ended;
	loop_post(i->env.flow.loop, &i->post);
}

/* Credit for all that came but what is held beyond INFLOW_AHEAD: so the network goes on
 * while the disk is written, and a slow disk stops it. */
static void give_credit(struct inflow *i, size_t held)
{
	size_t owed = held > INFLOW_AHEAD ? held - INFLOW_AHEAD : 0;

	if (i->uncredited <= owed)
		return;
	size_t n = i->uncredited - owed;
	i->uncredited = owed;
	i->env.used(i->env.flow.cookie, n);
}

static void is_durable(struct inflow *i, uint64_t upto)
{
	i->durable = upto;
	if (i->sync_timer == NULL)
		return;
	pthread_mutex_lock(&i->lock);
	i->stop = upto + INFLOW_UNSYNCED;
	pthread_mutex_unlock(&i->lock);
}

static void after_sync(struct job *job)
{
	struct inflow *i = (struct inflow *)((char *)job - offsetof(struct inflow, sync));

	i->syncing = false;
	if (i->sync_err.code == GRPC_OK)
		is_durable(i, i->syncing_to);
	else if (i->abort.code == GRPC_OK)
		i->abort = i->sync_err;
	next_step(i);
}

/* When the workers have no room, the timer tries again. */
static void start_sync(struct inflow *i)
{
	if (i->syncing || i->place == NULL || i->ended || i->result.bytes == i->durable)
		return;
	i->syncing_to = i->result.bytes;
	i->sync.run = run_sync;
	i->sync.done = after_sync;
	i->syncing = workers_submit(i->env.flow.workers, i->env.flow.loop, &i->sync) == 0;
}

/* When so much is ${behind}, or the timer says that it has waited long enough. */
static void sync_soon(struct inflow *i, uint64_t behind)
{
	if (i->sync_timer == NULL || (i->step != INFLOW_IDLE && i->step != INFLOW_WRITING) ||
	    i->result.bytes == i->durable)
		return;
	if (i->result.bytes - i->durable >= behind)
		start_sync(i);
	if (!timer_is_running(i->sync_timer))
		timer_start(i->sync_timer, INFLOW_SYNC_MS);
}

static void on_sync_timer(void *cookie)
{
	sync_soon(cookie, 0);
}

static void hear_progress(struct inflow *i)
{
	pthread_mutex_lock(&i->lock);
	i->result.bytes = i->heard = i->written;
	size_t held = i->waiting.bytes + i->writing;
	pthread_mutex_unlock(&i->lock);
	give_credit(i, held);
	sync_soon(i, INFLOW_SYNC);
}

/* The job's post, before that of its end. */
static void run_progress(struct post *post)
{
	struct inflow *i = (struct inflow *)((char *)post - offsetof(struct inflow, progress));

	pthread_mutex_lock(&i->lock);
	i->telling = false;
	pthread_mutex_unlock(&i->lock);
	hear_progress(i);
}

static void after_job(struct job *job)
{
	struct inflow *i = (struct inflow *)job;
	enum inflow_step step = i->step;

	i->step = INFLOW_IDLE;
	if (step == INFLOW_OPENING) {
		i->written = i->place_options.offset;
		is_durable(i, i->written);
	}
	if (step == INFLOW_OPENING || step == INFLOW_WRITING)
		hear_progress(i);
	if (step == INFLOW_ENDING)
		end_later(i);
	else
		next_step(i);
}

static void submit(struct inflow *i, enum inflow_step step, void (*run)(struct job *))
{
	i->step = step;
	i->job.run = run;
	i->job.done = after_job;
	if (workers_submit(i->env.flow.workers, i->env.flow.loop, &i->job) == 0)
		return;
	i->step = INFLOW_IDLE;
	err_set(
	    &i->err, GRPC_RESOURCE_EXHAUSTED, "too many file operations are waiting; try again");
	if (i->syncing)
		return; /* after_sync() goes on */
	/* No room with the workers: undoing is short, so it is done here. */
	run_abort(&i->job);
	end_later(i);
}

/* The last job, once no sync runs beside it. */
static void finish(struct inflow *i, void (*run)(struct job *))
{
	if (!i->syncing)
		submit(i, INFLOW_ENDING, run);
}

static void next_step(struct inflow *i)
{
	if (i->step != INFLOW_IDLE || i->ended)
		return;
	bool failed = i->err.code != GRPC_OK || i->abort.code != GRPC_OK;
	if (failed && i->place == NULL) {
		end_later(i);
	} else if (failed) {
		finish(i, run_abort);
	} else if (i->place != NULL && !place_is_ready(i->place)) {
		submit(i, INFLOW_PREPARING, run_prepare);
	} else if (i->place != NULL && place_is_same(i->place)) {
		finish(i, run_commit); /* whatever still comes is not needed */
	} else if (i->waiting.bytes > 0 && i->written < i->stop) {
		submit(i, INFLOW_WRITING, run_write);
	} else if (i->waiting.bytes == 0 && i->eof) {
		finish(i, run_commit);
	}
}

static struct inflow *inflow_create(const struct inflow_env *env, struct err *err)
{
	struct inflow *i = calloc(1, sizeof(*i));

	if (i == NULL || (i->digest = digest_create()) == NULL) {
		free(i);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	i->env = *env;
	i->fd = -1;
	i->stop = UINT64_MAX;
	i->progress.run = run_progress;
	pthread_mutex_init(&i->lock, NULL);
	bufq_init(&i->waiting, INFLOW_SLICES_MAX, SIZE_MAX);
	return i;
}

static int make_resumable(struct inflow *i, const char *id)
{
	i->id = strdup(id);
	i->sync_timer = timer_create_on(i->env.flow.loop, on_sync_timer, i);
	return i->id != NULL && i->sync_timer != NULL ? 0 : -1;
}

struct inflow *inflow_file(
    const struct inflow_env *env, const struct place_options *options, struct err *err)
{
	struct inflow *i = inflow_create(env, err);

	if (i == NULL)
		return NULL;
	i->place_options = *options;
	if ((i->path = strdup(options->path)) == NULL ||
	    (options->id != NULL && make_resumable(i, options->id) != 0)) {
		inflow_free(i);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	i->place_options.path = i->path;
	i->place_options.id = i->id;
	submit(i, INFLOW_OPENING, run_open);
	return i;
}

struct inflow *inflow_fd(const struct inflow_env *env, int fd, struct err *err)
{
	struct inflow *i = inflow_create(env, err);

	if (i == NULL)
		return NULL;
	i->fd = fd;
	i->step = INFLOW_IDLE;
	return i;
}

/* Trees. */

/* The thread's side of a tree. */
struct unpacker {
	const struct inflow *flow;
	struct lane *lane;
};

static ssize_t pull(void *cookie, const void **bytes, struct err *err)
{
	return lane_read(((struct unpacker *)cookie)->lane, bytes, err);
}

static void tell(void *cookie, const char *text)
{
	const struct flow_env *env = &((struct unpacker *)cookie)->flow->env.flow;

	if (env->note != NULL)
		env->note(env->cookie, text);
}

static int unpack(struct lane *lane, void *arg, struct err *err)
{
	struct inflow *i = arg;
	struct unpacker unpacker = { .flow = i, .lane = lane };
	struct tree_unpack u = { .pull = pull, .note = tell, .cookie = &unpacker, .links = true };
	const void *rest;
	struct err broken;
	ssize_t n;

	if ((u.root = i->open(i->open_arg, err)) < 0)
		return -1;
	confine_to(u.root); /* this thread does nothing else */
	int r = tree_unpack(&u, &i->tree, err);
	/* Padding behind the archive's end belongs to the stream. */
	while (i->tree.complete && (n = lane_read(lane, &rest, &broken)) != 0)
		if (n < 0) {
			i->tree.complete = false;
			*err = broken;
			r = -1;
		}
	close(u.root);
	if (i->tree.complete && i->tree.files == 0 && i->tree.failed == 0)
		r = err_set(err, GRPC_FAILED_PRECONDITION, "the archive has no file in it");
	return r;
}

static void lane_used(void *cookie, size_t bytes)
{
	struct inflow *i = cookie;

	i->env.used(i->env.flow.cookie, bytes);
}

static void lane_ended(void *cookie, int result, const struct err *err)
{
	struct inflow *i = cookie;
	struct err wrong;

	i->result.bytes = i->tree.bytes;
	i->result.entries = i->tree.entries;
	i->result.files = i->tree.files;
	i->result.skipped = i->tree.skipped;
	i->result.failed = i->tree.failed;
	i->result.complete = i->tree.complete;
	if (result != 0)
		i->err = *err;
	lane_free(i->lane);
	i->lane = NULL;
	/* What was damaged under way is worse than an entry that could not be made. */
	if (i->tree.complete && check_digest(i, &wrong) != 0) {
		i->result.complete = false;
		i->err = wrong;
	}
	i->ended = true;
	i->env.flow.ended(i->env.flow.cookie, &i->err);
}

static const struct lane_ops lane_ops = { .used = lane_used, .ended = lane_ended };

struct inflow *inflow_tree(
    const struct inflow_env *env, int (*open)(void *arg, struct err *), void *arg, struct err *err)
{
	struct inflow *i = inflow_create(env, err);

	if (i == NULL)
		return NULL;
	i->open = open;
	i->open_arg = arg;
	if ((i->lane = lane_start(env->flow.loop, INFLOW_LANE, unpack, i, &lane_ops, i, err)) ==
	    NULL) {
		inflow_free(i);
		return NULL;
	}
	return i;
}

int inflow_expect_sha256(
    struct inflow *i, const uint8_t digest[static CRYPTO_SHA256_SIZE], struct err *err)
{
	memcpy(i->expected_sha256, digest, CRYPTO_SHA256_SIZE);
	i->sha256 = crypto_sha256_create();
	return i->sha256 != NULL ? 0 : err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

/* Both. */

static void push_to_lane(struct inflow *i, struct slice s)
{
	size_t len = s.len;

	digest_update(i->digest, s.data, len);
	if (i->sha256 != NULL)
		crypto_sha256_update(i->sha256, s.data, len);
	if (i->lane == NULL || lane_push(i->lane, s) != 0) {
		slice_release(&s);
		i->env.used(i->env.flow.cookie, len);
	}
}

void inflow_push(struct inflow *i, struct slice s)
{
	size_t len = s.len;

	i->result.wire += len;
	if (i->open != NULL) {
		push_to_lane(i, s);
		return;
	}
	pthread_mutex_lock(&i->lock);
	bool dropped = i->ended || i->abort.code != GRPC_OK || bufq_push(&i->waiting, s) != 0;
	size_t held = i->waiting.bytes + i->writing;
	pthread_mutex_unlock(&i->lock);
	if (dropped && !i->ended && i->abort.code == GRPC_OK)
		err_set(
		    &i->abort, GRPC_RESOURCE_EXHAUSTED, "the chunks are too small and too many");
	if (dropped)
		slice_release(&s);
	i->uncredited += len;
	give_credit(i, held);
	next_step(i);
}

void inflow_eof(struct inflow *i, const uint8_t digest[DIGEST_SIZE])
{
	i->eof = true;
	if (digest != NULL) {
		memcpy(i->expected, digest, DIGEST_SIZE);
		i->has_expected = true;
	}
	if (i->lane != NULL)
		lane_eof(i->lane);
	else if (i->open == NULL)
		next_step(i);
}

void inflow_abort(struct inflow *i, const struct err *why)
{
	if (i->abort.code == GRPC_OK)
		i->abort = *why;
	if (i->lane != NULL)
		lane_abort(i->lane, why);
	else if (i->open == NULL)
		next_step(i);
}
