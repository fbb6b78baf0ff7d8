#include "transfer/sync/sync_joint.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/loop.h"
#include "transfer/sync/sync_peer.h"

#define LOOK_MS 200 /* between two looks whether somebody is gone */

/* Each stream can have begun one more that is before all others. */
#define JOINTS_AT_MOST (SYNC_JOINTS_MAX + SYNC_STREAMS_MAX)

struct sync_joint {
	pthread_mutex_t lock; /* over the files, but what the last writer has */
	pthread_cond_t moved;
	struct sync_joint_file *files;
	size_t count;
	uint64_t moves; /* ranges begun and ended */
	uint64_t wait_us;
	bool stopped;
};

struct sync_joint *sync_joint_create(uint64_t wait_ms, struct err *err)
{
	struct sync_joint *j = calloc(1, sizeof(*j));
	pthread_condattr_t attr;

	if (j == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	j->wait_us = wait_ms * 1000;
	pthread_mutex_init(&j->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC); /* the other may be set back */
	pthread_cond_init(&j->moved, &attr);
	pthread_condattr_destroy(&attr);
	return j;
}

void sync_joint_drop(struct sync_joint_file *f)
{
	sync_part_undo(&f->part);
	free(f->path);
	free(f);
}

void sync_joint_free(struct sync_joint *j)
{
	if (j == NULL)
		return;
	while (j->files != NULL) {
		struct sync_joint_file *f = j->files;
		j->files = f->next;
		sync_joint_drop(f);
	}
	pthread_cond_destroy(&j->moved);
	pthread_mutex_destroy(&j->lock);
	free(j);
}

/* With the lock held, as all that follows up to sync_joint_enter(). */

static struct sync_joint_file *find(struct sync_joint *j, uint64_t number)
{
	struct sync_joint_file *f = j->files;

	while (f != NULL && f->number != number)
		f = f->next;
	return f;
}

static struct sync_joint_file *add(
    struct sync_joint *j, const struct sync_entry *e, const struct sync_range *r, struct err *err)
{
	struct sync_joint_file *f = NULL;
	size_t count = sync_ranges_of(e->size, r->size);

	if (j->count >= JOINTS_AT_MOST) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "%s: ranges of more than %d files at a time, and out of order", e->path,
		    SYNC_JOINTS_MAX);
		return NULL;
	}
	if ((f = calloc(1, sizeof(*f))) == NULL || (f->path = strdup(e->path)) == NULL) {
		free(f);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	f->joint = j;
	f->part = SYNC_PART_NONE;
	f->number = r->file;
	f->size = e->size;
	f->range = r->size;
	f->missing = UINT64_MAX >> (SYNC_RANGES_MAX - count);
	f->next = j->files;
	j->files = f;
	j->count++;
	return f;
}

static bool goes_with(
    const struct sync_joint_file *f, const struct sync_entry *e, const struct sync_range *r)
{
	return strcmp(f->path, e->path) == 0 && f->size == e->size && f->range == r->size &&
	    (f->missing >> r->number & 1) != 0;
}

static bool may_enter(struct sync_joint *j, uint64_t number)
{
	bool first = true;

	for (const struct sync_joint_file *f = j->files; f != NULL; f = f->next) {
		if (f->number == number)
			return true;
		first = first && number < f->number;
	}
	return first || j->count < SYNC_JOINTS_MAX;
}

static void wait_a_little(struct sync_joint *j)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += LOOK_MS * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_cond_timedwait(&j->moved, &j->lock, &until);
}

static int await_turn(
    struct sync_joint *j, uint64_t number, const struct sync_joint_user *user, struct err *err)
{
	uint64_t moves = j->moves, end = loop_now_us() + j->wait_us;

	while (!may_enter(j, number)) {
		if (j->stopped || user->stopped(user->cookie))
			return err_set(err, GRPC_CANCELLED, "the sync has come to its end");
		if (moves != j->moves)
			end = loop_now_us() + j->wait_us;
		else if (loop_now_us() > end)
			return err_set(err, GRPC_DEADLINE_EXCEEDED,
			    "ranges of %d files were begun, and nothing more has come of them",
			    SYNC_JOINTS_MAX);
		moves = j->moves;
		wait_a_little(j);
	}
	return 0;
}

static void move(struct sync_joint *j)
{
	j->moves++;
	pthread_cond_broadcast(&j->moved);
}

static struct sync_joint_file *begin(struct sync_joint *j, const struct sync_entry *e,
    const struct sync_range *r, const struct sync_joint_user *user, struct err *err)
{
	struct sync_joint_file *f = find(j, r->file);

	if (f == NULL) {
		if ((f = add(j, e, r, err)) == NULL)
			return NULL;
		user->make(user->cookie, &f->part);
	} else if (!goes_with(f, e, r)) {
		err_set(err, GRPC_INVALID_ARGUMENT,
		    "%s: a range that does not go with the others of its file", e->path);
		return NULL;
	}
	f->missing &= ~((uint64_t)1 << r->number);
	f->writers++;
	move(j);
	return f;
}

struct sync_joint_file *sync_joint_enter(struct sync_joint *j, const struct sync_entry *e,
    const struct sync_range *r, const struct sync_joint_user *user, struct err *err)
{
	struct sync_joint_file *f = NULL;

	pthread_mutex_lock(&j->lock);
	if (await_turn(j, r->file, user, err) == 0)
		f = begin(j, e, r, user, err);
	pthread_mutex_unlock(&j->lock);
	return f;
}

void sync_joint_stop(struct sync_joint *j)
{
	pthread_mutex_lock(&j->lock);
	j->stopped = true;
	pthread_cond_broadcast(&j->moved);
	pthread_mutex_unlock(&j->lock);
}

bool sync_joint_spoil(struct sync_joint_file *f)
{
	pthread_mutex_lock(&f->joint->lock);
	bool first = !f->failed;
	f->failed = true;
	pthread_mutex_unlock(&f->joint->lock);
	return first;
}

bool sync_joint_leave(struct sync_joint_file *f)
{
	struct sync_joint *j = f->joint;
	struct sync_joint_file **at = &j->files;

	pthread_mutex_lock(&j->lock);
	bool last = --f->writers == 0 && f->missing == 0;
	if (last) {
		while (*at != f)
			at = &(*at)->next;
		*at = f->next;
		j->count--;
	}
	move(j);
	pthread_mutex_unlock(&j->lock);
	return last;
}
