#include "transfer/sync/sync_joint.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct sync_joint {
	pthread_mutex_t lock; /* over the files, but what the last writer has */
	struct sync_joint_file *files;
	size_t count;
};

struct sync_joint *sync_joint_create(struct err *err)
{
	struct sync_joint *j = calloc(1, sizeof(*j));

	if (j == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&j->lock, NULL);
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

	if (j->count >= SYNC_JOINTS_MAX) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "%s: ranges of more than %d files at a time",
		    e->path, SYNC_JOINTS_MAX);
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

struct sync_joint_file *sync_joint_enter(struct sync_joint *j, const struct sync_entry *e,
    const struct sync_range *r, void (*make)(void *cookie, struct sync_part *), void *cookie,
    struct err *err)
{
	bool first;

	pthread_mutex_lock(&j->lock);
	struct sync_joint_file *f = find(j, r->file);
	if ((first = f == NULL)) {
		f = add(j, e, r, err);
	} else if (!goes_with(f, e, r)) {
		err_set(err, GRPC_INVALID_ARGUMENT,
		    "%s: a range that does not go with the others of its file", e->path);
		f = NULL;
	}
	if (f != NULL) {
		f->missing &= ~((uint64_t)1 << r->number);
		f->writers++;
		if (first)
			make(cookie, &f->part);
	}
	pthread_mutex_unlock(&j->lock);
	return f;
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
	pthread_mutex_unlock(&j->lock);
	return last;
}
