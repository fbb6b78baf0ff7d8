#include "transfer/sync/sync_team.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum team_state { TEAM_WAITS, TEAM_LED, TEAM_OVER };

struct sync_team {
	pthread_mutex_t lock; /* over all that follows */
	pthread_cond_t moved;
	size_t holders;
	enum team_state state;
	struct sync_lead lead;
	const struct sync_link *links[SYNC_STREAMS_MAX]; /* of the members */
	size_t members;
	struct err err; /* the first that failed */

	struct sync_job jobs[SYNC_JOBS_MAX]; /* a ring */
	size_t first, count, with_sums;
	bool ranges;    /* large files go in them */
	bool finished;  /* no more jobs will come */
	size_t engaged; /* members that have a part and are not done with it */
	struct sync_counts sum;
	uint64_t items; /* of the target's leader */
};

struct sync_team *sync_team_create(struct err *err)
{
	struct sync_team *t = calloc(1, sizeof(*t));

	if (t == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->moved, NULL);
	t->holders = 1;
	return t;
}

struct sync_team *sync_team_hold(struct sync_team *t)
{
	pthread_mutex_lock(&t->lock);
	t->holders++;
	pthread_mutex_unlock(&t->lock);
	return t;
}

void sync_job_free(struct sync_job *j)
{
	free(j->path);
	sync_sums_free(j->sums);
	sync_split_release(j->split);
	*j = (struct sync_job){ 0 };
}

void sync_team_release(struct sync_team *t)
{
	if (t == NULL)
		return;
	pthread_mutex_lock(&t->lock);
	size_t holders = --t->holders;
	pthread_mutex_unlock(&t->lock);
	if (holders > 0)
		return;
	for (size_t i = 0; i < SYNC_JOBS_MAX; i++)
		sync_job_free(&t->jobs[i]);
	pthread_mutex_destroy(&t->lock);
	pthread_cond_destroy(&t->moved);
	free(t);
}

/* The leader. */

void sync_team_lead(struct sync_team *t, const struct sync_lead *lead)
{
	pthread_mutex_lock(&t->lock);
	t->lead = *lead;
	t->state = TEAM_LED;
	pthread_cond_broadcast(&t->moved);
	pthread_mutex_unlock(&t->lock);
}

void sync_team_end(struct sync_team *t)
{
	struct err over;

	err_set(&over, GRPC_CANCELLED, "the sync has come to its end");
	pthread_mutex_lock(&t->lock);
	t->state = TEAM_OVER;
	pthread_cond_broadcast(&t->moved);
	for (size_t i = 0; i < SYNC_STREAMS_MAX; i++)
		if (t->links[i] != NULL)
			t->links[i]->stop(t->links[i]->cookie, &over);
	if (t->lead.joint != NULL)
		sync_joint_stop(t->lead.joint);
	while (t->members > 0)
		pthread_cond_wait(&t->moved, &t->lock);
	t->lead.joint = NULL;
	pthread_mutex_unlock(&t->lock);
}

/* With the lock held: whether it is over, and why. */
static bool is_over(const struct sync_team *t, struct err *err)
{
	if (t->err.code != GRPC_OK)
		*err = t->err;
	else if (t->state == TEAM_OVER)
		err_set(err, GRPC_CANCELLED, "the sync has come to its end");
	else
		return false;
	return true;
}

/* Jobs. */

void sync_team_allow_ranges(struct sync_team *t)
{
	pthread_mutex_lock(&t->lock);
	t->ranges = true;
	pthread_mutex_unlock(&t->lock);
}

bool sync_team_may_split(struct sync_team *t)
{
	pthread_mutex_lock(&t->lock);
	bool may = t->ranges;
	pthread_mutex_unlock(&t->lock);
	return may;
}

static bool has_sums(const struct sync_job *j)
{
	return j->sums != NULL || (j->split != NULL && j->split->sums != NULL);
}

int sync_team_give(struct sync_team *t, struct sync_job *job)
{
	bool sums = has_sums(job);
	int r = -1;

	pthread_mutex_lock(&t->lock);
	if (t->count < SYNC_JOBS_MAX && (!sums || t->with_sums < SYNC_JOBS_SUMS)) {
		t->jobs[(t->first + t->count++) % SYNC_JOBS_MAX] = *job;
		t->with_sums += sums;
		*job = (struct sync_job){ 0 };
		pthread_cond_broadcast(&t->moved);
		r = 0;
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

/* With the lock held, as what follows: the first job, or a range of it. */
static void take_first(struct sync_team *t, struct sync_job *job)
{
	struct sync_job *first = &t->jobs[t->first];

	*job = *first;
	if (first->split != NULL && first->range + 1 < first->split->count) {
		sync_split_hold(first->split);
		first->range++;
		return;
	}
	*first = (struct sync_job){ 0 };
	t->first = (t->first + 1) % SYNC_JOBS_MAX;
	t->count--;
	t->with_sums -= has_sums(job);
}

static void engage(struct sync_team *t, bool *engaged)
{
	if (engaged == NULL || *engaged)
		return;
	*engaged = true;
	t->engaged++;
}

int sync_team_take(
    struct sync_team *t, struct sync_job *job, bool wait, bool *engaged, struct err *err)
{
	int r = 0;

	pthread_mutex_lock(&t->lock);
	while (wait && t->count == 0 && !t->finished && !is_over(t, err))
		pthread_cond_wait(&t->moved, &t->lock);
	if (is_over(t, err)) {
		r = -1;
	} else if (t->count > 0) {
		take_first(t, job);
		engage(t, engaged);
		r = 1;
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

/* What an end counts itself; the rest is in the receipt. */
static void add(struct sync_counts *to, const struct sync_counts *c)
{
	to->items += c->items;
	to->files += c->files;
	to->bytes += c->bytes;
	to->literal += c->literal;
	to->directories += c->directories;
	to->links += c->links;
	to->touched += c->touched;
	to->skipped += c->skipped;
	to->failed += c->failed;
}

int sync_team_finish(struct sync_team *t, struct sync_counts *counts, struct err *err)
{
	pthread_mutex_lock(&t->lock);
	t->finished = true;
	pthread_cond_broadcast(&t->moved);
	while (t->engaged > 0 && !is_over(t, err))
		pthread_cond_wait(&t->moved, &t->lock);
	int r = is_over(t, err) ? -1 : 0;
	add(counts, &t->sum);
	pthread_mutex_unlock(&t->lock);
	return r;
}

void sync_team_advance(struct sync_team *t, uint64_t items)
{
	pthread_mutex_lock(&t->lock);
	if (t->items != items && t->members > 0)
		pthread_cond_broadcast(&t->moved);
	t->items = items;
	pthread_mutex_unlock(&t->lock);
}

void sync_team_sum(struct sync_team *t, struct sync_counts *counts)
{
	pthread_mutex_lock(&t->lock);
	add(counts, &t->sum);
	pthread_mutex_unlock(&t->lock);
}

/* The members. */

int sync_team_join(
    struct sync_team *t, const struct sync_link *link, struct sync_lead *lead, struct err *err)
{
	size_t i = 0;
	int r = 0;

	pthread_mutex_lock(&t->lock);
	while (t->state == TEAM_WAITS)
		pthread_cond_wait(&t->moved, &t->lock);
	while (i < SYNC_STREAMS_MAX - 1 && t->links[i] != NULL)
		i++;
	if (t->state == TEAM_OVER || t->finished) {
		r = err_set(err, GRPC_FAILED_PRECONDITION, "the sync has no more to do");
	} else if (i == SYNC_STREAMS_MAX - 1) {
		r = err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "the sync has %d streams, and more it may not", SYNC_STREAMS_MAX);
	} else {
		t->links[i] = link;
		t->members++;
		*lead = t->lead;
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

void sync_team_engage(struct sync_team *t, bool *engaged)
{
	pthread_mutex_lock(&t->lock);
	engage(t, engaged);
	pthread_mutex_unlock(&t->lock);
}

int sync_team_await(struct sync_team *t, uint64_t items, struct err *err)
{
	pthread_mutex_lock(&t->lock);
	while (t->items < items && !is_over(t, err))
		pthread_cond_wait(&t->moved, &t->lock);
	int r = is_over(t, err) ? -1 : 0;
	pthread_mutex_unlock(&t->lock);
	return r;
}

void sync_team_done(struct sync_team *t, const struct sync_counts *counts)
{
	pthread_mutex_lock(&t->lock);
	add(&t->sum, counts);
	t->engaged--;
	pthread_cond_broadcast(&t->moved);
	pthread_mutex_unlock(&t->lock);
}

void sync_team_leave(
    struct sync_team *t, const struct sync_link *link, bool missed, const struct err *why)
{
	pthread_mutex_lock(&t->lock);
	for (size_t i = 0; i < SYNC_STREAMS_MAX; i++)
		if (t->links[i] == link)
			t->links[i] = NULL;
	if (missed && t->state == TEAM_LED && t->err.code == GRPC_OK) {
		t->err = *why;
		t->lead.link->stop(t->lead.link->cookie, why);
		if (t->lead.joint != NULL)
			sync_joint_stop(t->lead.joint);
	}
	t->members--;
	pthread_cond_broadcast(&t->moved);
	pthread_mutex_unlock(&t->lock);
}
