#include "transfer/claims.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct claims {
	pthread_mutex_t lock;
	struct claim *first;
	struct claim_record kept[CLAIMS_KEPT];
	size_t next; /* of ${kept}, to be overwritten */
};

struct claims *claims_create(void)
{
	struct claims *c = calloc(1, sizeof(*c));

	if (c != NULL && pthread_mutex_init(&c->lock, NULL) != 0) {
		free(c);
		return NULL;
	}
	return c;
}

void claims_free(struct claims *c)
{
	if (c == NULL)
		return;
	assert(c->first == NULL);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

int claim_target_of(struct claim_target *t, int dir, const char *name, struct err *err)
{
	struct stat st;

	if (fstat(dir, &st) != 0)
		return err_sys(err, errno, "the directory of %s", name);
	*t = (struct claim_target){ .device = st.st_dev, .directory = st.st_ino };
	digest_of(name, strlen(name), t->name);
	return 0;
}

bool claim_target_is(const struct claim_target *a, const struct claim_target *b)
{
	return a->device == b->device && a->directory == b->directory &&
	    memcmp(a->name, b->name, sizeof(a->name)) == 0;
}

int claims_take(
    struct claims *c, struct claim *claim, const struct claim_target *target, struct err *err)
{
	struct claim *other;

	pthread_mutex_lock(&c->lock);
	for (other = c->first; other != NULL; other = other->next)
		if (claim_target_is(&other->target, target))
			break;
	if (other == NULL) {
		*claim = (struct claim){ .next = c->first, .owner = c, .target = *target };
		c->first = claim;
	}
	pthread_mutex_unlock(&c->lock);
	return other == NULL ? 0
			     : err_set(err, GRPC_ABORTED,
				   "another upload to it is running; try again when it has ended");
}

void claims_drop(struct claim *claim)
{
	struct claims *c = claim->owner;

	if (c == NULL)
		return;
	pthread_mutex_lock(&c->lock);
	struct claim **at = &c->first;
	while (*at != claim)
		at = &(*at)->next;
	*at = claim->next;
	claim->owner = NULL;
	pthread_mutex_unlock(&c->lock);
}

void claims_finished(struct claims *c, const struct claim_target *target, const char *id,
    const struct stat *st, const uint8_t *digest)
{
	pthread_mutex_lock(&c->lock);
	struct claim_record *r = &c->kept[c->next];
	c->next = (c->next + 1) % CLAIMS_KEPT;
	snprintf(r->id, sizeof(r->id), "%s", id);
	r->target = *target;
	r->size = (uint64_t)st->st_size;
	r->has_digest = digest != NULL;
	if (digest != NULL)
		memcpy(r->digest, digest, DIGEST_SIZE);
	r->inode = st->st_ino;
	r->changed = st->st_ctim;
	pthread_mutex_unlock(&c->lock);
}

bool claims_find(struct claims *c, const struct claim_target *target, const char *id,
    struct claim_record *record)
{
	bool found = false;

	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < CLAIMS_KEPT && !found; i++) {
		/* The latest first. */
		const struct claim_record *r =
		    &c->kept[(c->next + (size_t)2 * CLAIMS_KEPT - 1 - i) % CLAIMS_KEPT];
		found = strcmp(r->id, id) == 0 && claim_target_is(&r->target, target);
		if (found)
			*record = *r;
	}
	pthread_mutex_unlock(&c->lock);
	return found;
}
