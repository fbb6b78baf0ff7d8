#include "transfer/pieces.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "transfer/part.h"

struct pieces_work {
	struct pieces_work *next;
	struct pieces_board *board;
	struct claim claim;
	struct part part;
	int dir;
	uint64_t writer;
	struct piece *first;
	bool broken; /* a sync has failed: what is on the disk nobody knows */
};

/* The lock is held while an upload begins and ends and its journal is written, but not
 * while its file is synced. */
struct pieces_board {
	pthread_mutex_t lock;
	struct pieces_work *first;
};

struct pieces_board *pieces_board_create(void)
{
	struct pieces_board *b = calloc(1, sizeof(*b));

	if (b != NULL && pthread_mutex_init(&b->lock, NULL) != 0) {
		free(b);
		return NULL;
	}
	return b;
}

void pieces_board_free(struct pieces_board *b)
{
	if (b == NULL)
		return;
	assert(b->first == NULL);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

/* Works. With the lock held. */

static struct pieces_work *find_work(struct pieces_board *b, const struct claim_target *target)
{
	struct pieces_work *w = b->first;

	while (w != NULL && !claim_target_is(&w->claim.target, target))
		w = w->next;
	return w;
}

/* Not on the board, or not any more. */
static void work_free(struct pieces_work *w)
{
	if (w->broken)
		part_remove(&w->part);
	else
		part_leave(&w->part);
	claims_drop(&w->claim);
	if (w->dir >= 0)
		close(w->dir);
	free(w);
}

static struct pieces_work *work_create(
    const struct pieces_wanted *wanted, const struct claim_target *target, struct err *err)
{
	struct pieces_work *w = calloc(1, sizeof(*w));

	if (w == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	w->part = (struct part)PART_NONE;
	w->writer = wanted->begun.writer;
	w->dir = fcntl(wanted->dir, F_DUPFD_CLOEXEC, 3);
	if (w->dir < 0)
		err_sys(err, errno, "the directory of %s", wanted->target);
	else if (claims_take(wanted->claims, &w->claim, target, err) == 0 &&
	    part_join(&w->part, w->dir, wanted->target, &wanted->begun, err) == 0)
		return w;
	work_free(w);
	return NULL;
}

static void put_on_board(struct pieces_board *b, struct pieces_work *w)
{
	w->board = b;
	w->next = b->first;
	b->first = w;
}

static void take_off_board(struct pieces_work *w)
{
	struct pieces_work **at = &w->board->first;

	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
}

/* Who may join. With the lock held. */

static int check_writer(struct pieces_work *w, const struct pieces_wanted *wanted, struct err *err)
{
	if (w->writer == wanted->begun.writer && strcmp(w->part.state.id, wanted->begun.id) == 0)
		return part_check(&w->part, wanted->target, &wanted->begun, err);
	return err_set(
	    err, GRPC_ABORTED, "another upload to it is running; try again when it has ended");
}

/* Each that is being written may come to be a range of its own, unless it goes on with one. */
static int check_room(const struct pieces_work *w, struct range range, struct err *err)
{
	struct ranges durable = w->part.state.durable;

	if (w->broken)
		return err_set(err, GRPC_ABORTED, "it could not be synced; begin anew");
	bool fits = ranges_remove(&durable, range);
	size_t count = durable.count + !ranges_touch(&durable, range.begin);
	for (const struct piece *p = w->first; p != NULL; p = p->next) {
		if (p->range.begin < range.end && range.begin < p->range.end)
			return err_set(err, GRPC_ABORTED,
			    "that piece of it is being written; try again when it has ended");
		count += !ranges_touch(&durable, p->range.begin);
	}
	return fits && count <= RANGES_MAX
	    ? 0
	    : err_set(err, GRPC_RESOURCE_EXHAUSTED,
		  "more than %d ranges of it; send the pieces from the beginning on", RANGES_MAX);
}

static int admit(
    struct pieces_work *w, struct piece *p, const struct pieces_wanted *wanted, struct err *err)
{
	if (check_writer(w, wanted, err) != 0 || check_room(w, wanted->range, err) != 0)
		return -1;
	/* What will be written over is not durable from now on. */
	if (part_unnote(&w->part, wanted->range, err) != 0)
		return -1;
	*p =
	    (struct piece){ .next = w->first, .work = w, .range = wanted->range, .fd = w->part.fd };
	w->first = p;
	return 0;
}

static int join(struct pieces_board *b, struct piece *p, const struct pieces_wanted *wanted,
    const struct claim_target *target, bool *first, struct err *err)
{
	struct pieces_work *w = find_work(b, target);

	*first = w == NULL;
	if (w != NULL)
		return admit(w, p, wanted, err);
	if ((w = work_create(wanted, target, err)) == NULL)
		return -1;
	if (admit(w, p, wanted, err) != 0) {
		work_free(w);
		return -1;
	}
	put_on_board(b, w);
	return 0;
}

int pieces_join(struct pieces_board *b, struct piece *p, const struct pieces_wanted *wanted,
    bool *first, struct err *err)
{
	struct claim_target target;

	if (claim_target_of(&target, wanted->dir, wanted->target, err) != 0)
		return -1;
	pthread_mutex_lock(&b->lock);
	int r = join(b, p, wanted, &target, first, err);
	pthread_mutex_unlock(&b->lock);
	return r;
}

/* One that has joined. */

int piece_sync(struct piece *p, uint64_t upto, struct err *err)
{
	struct pieces_work *w = p->work;
	int r = part_flush(&w->part, err);

	pthread_mutex_lock(&w->board->lock);
	if (r == 0 && w->broken)
		r = err_set(err, GRPC_ABORTED, "another piece of it could not be synced");
	if (r == 0)
		r = part_note(&w->part, (struct range){ p->range.begin, upto }, err);
	w->broken = w->broken || r != 0;
	pthread_mutex_unlock(&w->board->lock);
	return r;
}

void piece_forget(struct piece *p)
{
	struct pieces_work *w = p->work;

	pthread_mutex_lock(&w->board->lock);
	if (part_unnote(&w->part, p->range, NULL) != 0)
		w->broken = true;
	pthread_mutex_unlock(&w->board->lock);
}

void piece_leave(struct piece *p)
{
	struct pieces_work *w = p->work;

	if (w == NULL)
		return;
	struct pieces_board *b = w->board;
	pthread_mutex_lock(&b->lock);
	struct piece **at = &w->first;
	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	p->work = NULL;
	p->fd = -1;
	if (w->first == NULL) {
		take_off_board(w);
		work_free(w); /* before another one can begin */
	}
	pthread_mutex_unlock(&b->lock);
}
