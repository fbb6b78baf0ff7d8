#include "transfer/fetch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "transfer/fetch_stream.h"

static void go_on(struct fetch *);

static void run_post(struct post *post)
{
	go_on((struct fetch *)((char *)post - offsetof(struct fetch, post)));
}

/* What comes next is decided when nobody of us is on the stack. */
static void go_on_later(struct fetch *f)
{
	f->post.run = run_post;
	if (!f->post.pending)
		loop_post(f->opt.loop, &f->post);
}

void fetch_free(struct fetch *f)
{
	if (f == NULL)
		return;
	assert(!f->busy);
	loop_unpost(f->opt.loop, &f->post);
	for (size_t i = 0; i < STASH_RANGES_MAX; i++)
		fetch_stream_free(&f->streams[i]);
	free(f);
}

static bool is_active(const struct fetch *f)
{
	for (size_t i = 0; i < STASH_RANGES_MAX; i++)
		if (f->streams[i].active)
			return true;
	return f->busy;
}

static void stop_streams(struct fetch *f, const struct err *why)
{
	for (size_t i = 0; i < STASH_RANGES_MAX; i++) {
		struct fetch_stream *s = &f->streams[i];

		if (s->resting)
			timer_stop(s->timer);
		s->resting = false;
		fetch_stream_stop(s, why);
	}
	go_on_later(f);
}

static void fail(struct fetch *f, const struct err *why)
{
	struct err copy = *why;

	if (f->err.code != GRPC_OK)
		return;
	f->err = copy;
	stop_streams(f, &copy);
}

void fetch_stop(struct fetch *f, const struct err *why)
{
	fail(f, why);
}

void fetch_moved(struct fetch *f)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < STASH_RANGES_MAX; i++)
		bytes += f->streams[i].there;
	f->opt.moved(f->opt.cookie, bytes, f->source.total);
}

/* Jobs: on a worker. */

static void run_find(struct job *job)
{
	struct fetch *f = (struct fetch *)job;
	struct stat st;

	if (f->opt.no_replace && lstat(f->opt.path, &st) == 0) {
		err_set(&f->job_err, GRPC_ALREADY_EXISTS,
		    "%s is there already, and must not be replaced", f->opt.path);
		return;
	}
	f->stash = stash_find(f->opt.slash, f->opt.path, f->source.key, f->opt.fresh, &f->job_err);
}

static void run_create(struct job *job)
{
	struct fetch *f = (struct fetch *)job;

	stash_remove(f->stash);
	f->stash = stash_create(
	    f->opt.slash, f->opt.path, &f->source, f->count, f->is_sparse, &f->job_err);
}

static void run_commit(struct job *job)
{
	struct fetch *f = (struct fetch *)job;

	stash_commit(
	    f->stash, f->mode, f->has_mtime ? &f->mtime : NULL, !f->opt.no_replace, &f->job_err);
	f->stash = NULL;
}

/* Whether the same command would find the same file, and what came of it is right. */
static bool is_worth_keeping(const struct fetch *f)
{
	switch (f->err.code) {
	case GRPC_CANCELLED:
	case GRPC_UNAVAILABLE:
	case GRPC_DEADLINE_EXCEEDED:
	case GRPC_FAILED_PRECONDITION: /* the sandbox is stopped */
		return !f->opt.fresh;
	default:
		return false;
	}
}

static void run_leave(struct job *job)
{
	struct fetch *f = (struct fetch *)job;

	if (f->stash != NULL && is_worth_keeping(f))
		f->result.kept = stash_keep(f->stash);
	else
		stash_remove(f->stash);
	f->stash = NULL;
}

/* And on the loop. */

static void submit(struct fetch *f, void (*run)(struct job *), void (*done)(struct job *))
{
	f->busy = true;
	f->job.run = run;
	f->job.done = done;
	if (workers_submit(f->opt.workers, f->opt.loop, &f->job) == 0)
		return;
	/* No room with the workers: that must not keep us from tidying up. */
	if (run == run_leave)
		run_leave(&f->job);
	else
		err_set(
		    &f->job_err, GRPC_RESOURCE_EXHAUSTED, "too many file operations are waiting");
	done(&f->job);
}

static void after_last(struct job *job)
{
	struct fetch *f = (struct fetch *)job;

	f->busy = false;
	f->over = true;
	if (f->err.code == GRPC_OK)
		f->err = f->job_err;
	go_on_later(f);
}

static void after_find(struct job *job)
{
	struct fetch *f = (struct fetch *)job;

	f->busy = false;
	f->asking = f->stash == NULL;
	if (f->stash != NULL)
		f->source = *stash_source(f->stash);
	if (f->job_err.code != GRPC_OK)
		fail(f, &f->job_err);
	go_on_later(f);
}

static void after_create(struct job *job)
{
	struct fetch *f = (struct fetch *)job;

	f->busy = false;
	if (f->job_err.code != GRPC_OK) {
		fail(f, &f->job_err);
		return;
	}
	f->asking = false;
	fetch_stream_step(&f->streams[0]);
	go_on_later(f);
}

/* What there is. */

static void note_attributes(struct fetch *f, const Openshell__V1__DownloadFileHeader *h)
{
	f->mode = (mode_t)(h->mode & 0777);
	f->has_mtime = h->modified_time != NULL;
	if (f->has_mtime)
		f->mtime = (struct timespec){ .tv_sec = h->modified_time->seconds,
			.tv_nsec = h->modified_time->nanos };
}

void fetch_header(struct fetch *f, const Openshell__V1__DownloadFileHeader *h)
{
	note_attributes(f, h);
	if (!f->asking)
		return;
	f->source.total = h->size_bytes;
	f->is_sparse = h->sparse;
	memset(f->source.etag, 0, sizeof(f->source.etag));
	if (strlen(h->etag) < sizeof(f->source.etag))
		memcpy(f->source.etag, h->etag, strlen(h->etag));
	f->count = f->source.total / FETCH_RANGE_MIN;
	f->count = f->count < f->opt.streams ? f->count : f->opt.streams;
	if (f->count < 2 || f->source.etag[0] == '\0')
		f->count = 1;
	if (f->count > 1)
		fetch_stream_drop(&f->streams[0]);
	submit(f, run_create, after_create);
}

/* How it goes on after a call that failed. */

static void on_rested(void *cookie)
{
	struct fetch_stream *s = cookie;

	s->resting = false;
	go_on_later(s->fetch);
}

static bool try_later(struct fetch *f, struct fetch_stream *s)
{
	uint64_t delay = FETCH_DELAY_MS;

	if (s->err.code != GRPC_UNAVAILABLE || f->opt.again == NULL)
		return false;
	if (s->progress > 0)
		s->tries = 0;
	if (++s->tries > FETCH_TRIES_MAX)
		return false;
	if (s->timer == NULL && (s->timer = timer_create_on(f->opt.loop, on_rested, s)) == NULL)
		return false;
	for (unsigned i = 1; i < s->tries && delay < FETCH_DELAY_MAX; i++)
		delay *= 2;
	if (f->source.etag[0] == '\0')
		f->restart = !f->asking;
	s->resting = true;
	timer_start(s->timer, delay);
	return true;
}

/* It is another file by now, or what an earlier command left was not right. */
static bool start_anew(struct fetch *f, const struct fetch_stream *s)
{
	bool other = s->err.code == GRPC_FAILED_PRECONDITION || s->err.code == GRPC_OUT_OF_RANGE;
	bool wrong = s->err.code == GRPC_DATA_LOSS && s->used_earlier;

	if (f->asking || !(other || wrong) || f->restarts >= FETCH_RESTARTS_MAX)
		return false;
	f->restarts++;
	f->restart = true;
	return true;
}

void fetch_stream_over(struct fetch *f, struct fetch_stream *s)
{
	struct err why = s->err;

	go_on_later(f);
	if (s->complete || f->err.code != GRPC_OK || f->restart)
		return;
	if (start_anew(f, s))
		stop_streams(f, &why);
	else if (!try_later(f, s))
		fail(f, &why);
}

/* Whatever is next. */

static void restart(struct fetch *f)
{
	f->restart = false;
	f->asking = true;
	for (size_t i = 0; i < STASH_RANGES_MAX; i++) {
		f->streams[i].complete = f->streams[i].used_earlier = false;
		f->streams[i].there = 0;
	}
}

/* The calls that are missing. Returns whether all ranges are complete. */
static bool start_streams(struct fetch *f)
{
	size_t count = f->asking ? 1 : stash_count(f->stash), running = 0, complete = 0;

	for (size_t i = 0; i < count; i++) {
		running += f->streams[i].active || f->streams[i].resting;
		complete += f->streams[i].complete;
	}
	for (size_t i = 0; i < count && running < f->opt.streams; i++) {
		struct fetch_stream *s = &f->streams[i];

		if (f->err.code != GRPC_OK || f->restart)
			return false;
		if (s->active || s->resting || s->complete)
			continue;
		running++;
		if (fetch_stream_start(s) != 0)
			fetch_stream_over(f, s);
	}
	return complete == count;
}

static void end(struct fetch *f)
{
	if (f->err.code == GRPC_OK) {
		f->result.bytes = f->source.total;
		f->result.has_digest = f->count == 1;
		memcpy(f->result.digest, f->streams[0].expected, DIGEST_SIZE);
	}
	for (size_t i = 0; i < STASH_RANGES_MAX; i++)
		f->result.wire += f->streams[i].wire;
	f->opt.ended(f->opt.cookie, &f->result, &f->err);
}

static void go_on(struct fetch *f)
{
	if (f->over) {
		end(f);
		return;
	}
	if (f->busy)
		return;
	if (f->err.code != GRPC_OK) {
		if (!is_active(f))
			submit(f, run_leave, after_last);
		return;
	}
	if (f->restart && is_active(f))
		return;
	if (f->restart)
		restart(f);
	if (start_streams(f) && !is_active(f)) {
		f->count = stash_count(f->stash);
		submit(f, run_commit, after_last);
	}
}

/* The beginning. */

/* Who the source is, with the ends of its names. */
static int make_key(struct fetch *f)
{
	const char *const names[] = { f->opt.sandbox, f->opt.workspace, f->opt.remote };
	struct digest *d = digest_create();

	if (d == NULL)
		return -1;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		digest_update(d, names[i], strlen(names[i]) + 1);
	digest_value(d, f->source.key);
	digest_free(d);
	return 0;
}

struct fetch *fetch_start(const struct fetch_options *opt, struct err *err)
{
	struct fetch *f = calloc(1, sizeof(*f));

	if (f == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	f->opt = *opt;
	f->opt.streams = opt->streams < 1     ? 1
	    : opt->streams > STASH_RANGES_MAX ? STASH_RANGES_MAX
					      : opt->streams;
	for (size_t i = 0; i < STASH_RANGES_MAX; i++) {
		f->streams[i].fetch = f;
		f->streams[i].range = i;
	}
	f->job.run = run_find;
	f->job.done = after_find;
	f->busy = true;
	if (make_key(f) == 0 && workers_submit(opt->workers, opt->loop, &f->job) == 0)
		return f;
	f->busy = false;
	fetch_free(f);
	err_set(err, GRPC_RESOURCE_EXHAUSTED, "too many file operations are waiting");
	return NULL;
}
