#include "transfer/put_pieces.h"

#include <stdlib.h>

#include "base/random.h"
#include "transfer/put_stream.h"

#define MIB ((uint64_t)1 << 20)

struct put_pieces {
	struct transfer *transfer;
	void (*over)(struct transfer *, const struct err *, bool refused);
	uint64_t size, piece_bytes;
	struct ranges done;
	size_t count;
	struct put_stream streams[PUT_STREAMS_MAX];
	struct err err; /* why it fails */
	bool refused;
	struct post post;
};

static void go_on(struct put_pieces *);

static void run_post(struct post *post)
{
	go_on((struct put_pieces *)((char *)post - offsetof(struct put_pieces, post)));
}

/* What comes next is decided when nobody of us is on the stack. */
void put_pieces_changed(struct put_pieces *p)
{
	p->post.run = run_post;
	if (!p->post.pending)
		loop_post(p->transfer->loop, &p->post);
}

static void fail(struct put_pieces *p, const struct err *why, bool refused)
{
	if (p->err.code == GRPC_OK) {
		p->err = *why;
		p->refused = refused;
	}
	put_pieces_changed(p);
}

void put_pieces_stop(struct put_pieces *p, const struct err *why)
{
	fail(p, why, false);
}

void put_pieces_free(struct put_pieces *p)
{
	if (p == NULL)
		return;
	loop_unpost(p->transfer->loop, &p->post);
	for (size_t i = 0; i < p->count; i++)
		put_stream_free(&p->streams[i]);
	free(p);
}

void put_pieces_moved(struct put_pieces *p)
{
	uint64_t moved = ranges_bytes(&p->done);

	for (size_t i = 0; i < p->count; i++) {
		const struct put_stream *s = &p->streams[i];
		uint64_t bytes = s->piece.end - s->piece.begin;

		if (s->active)
			moved += s->sent < bytes ? s->sent : bytes;
	}
	p->transfer->moved = moved;
}

/* A stream has asked what is durable, to go on with its piece. What it had sent before was not
 * compared, and so the whole file is in the end. */
int put_pieces_take_state(struct put_stream *s, const struct ranges *durable)
{
	struct put_pieces *p = s->all;
	struct ranges *there = &p->transfer->put.durable;
	struct range piece = s->piece;

	for (size_t i = 0; i < p->done.count; i++)
		if (!ranges_have(durable, p->done.at[i]))
			return -1;
	for (size_t i = 0; i < durable->count; i++)
		if (durable->at[i].begin <= piece.begin && durable->at[i].end > piece.begin)
			piece.begin =
			    durable->at[i].end < piece.end ? durable->at[i].end : piece.end;
	struct range more = { s->piece.begin, piece.begin };
	if (more.begin == more.end || !ranges_add(&p->done, more))
		return 0;
	s->until_ms = 0;
	s->piece = piece;
	if (!ranges_add(there, more))
		*there = p->done;
	return 0;
}

/* Which piece is next. */

/* The sandbox's journal has room for so many ranges of what is durable: each piece under way
 * may come to be one, unless it goes on with one. */
static bool has_room(const struct put_pieces *p, uint64_t begin)
{
	size_t count = p->done.count + !ranges_touch(&p->done, begin);

	for (size_t i = 0; i < p->count; i++)
		count += p->streams[i].active && !ranges_touch(&p->done, p->streams[i].piece.begin);
	return count <= RANGES_MAX;
}

/* The first bytes that nobody sends: so what is durable grows from the beginning on. */
static bool next_piece(const struct put_pieces *p, struct range *piece)
{
	struct ranges taken = p->done;

	for (size_t i = 0; i < p->count; i++)
		if (p->streams[i].active && !ranges_add(&taken, p->streams[i].piece))
			return false;
	if (!ranges_gap(&taken, p->size, piece) || !has_room(p, piece->begin))
		return false;
	if (piece->end - piece->begin > p->piece_bytes)
		piece->end = piece->begin + p->piece_bytes;
	return true;
}

/* Whatever is next. */

static void stop_streams(struct put_pieces *p)
{
	for (size_t i = 0; i < p->count; i++)
		put_stream_stop(&p->streams[i], &p->err);
}

/* The way is gone for all, and for as long as it was to be waited for. */
static void give_up(struct put_pieces *p, const struct put_stream *last)
{
	for (size_t i = 0; i < p->count; i++)
		if (p->streams[i].call != NULL)
			return;
	p->transfer->put.until_ms = last->until_ms;
}

/* What has become of a stream: one whose way broke tries again by itself, any other failure is
 * that of all. */
static void settle(struct put_pieces *p, struct put_stream *s)
{
	bool is_still = put_stream_is_still(s), ends = p->err.code != GRPC_OK;

	if (s->err.code != GRPC_OK && !ends) {
		if (s->of_way && (!is_still || put_stream_retry(s)))
			return;
		if (s->of_way)
			give_up(p, s);
		fail(p, &s->err, s->refused);
		return;
	}
	if (!is_still || (!s->answered && !ends))
		return;
	s->active = s->again = false;
	s->until_ms = 0;
	if (!s->answered)
		return;
	p->transfer->put.knows_pieces = true;
	ranges_add(&p->done, s->piece);
}

static size_t count_active(struct put_pieces *p)
{
	size_t active = 0;

	for (size_t i = 0; i < p->count; i++) {
		if (p->streams[i].active)
			settle(p, &p->streams[i]);
		active += p->streams[i].active;
	}
	return active;
}

static size_t start_streams(struct put_pieces *p, size_t active)
{
	struct range piece;

	for (size_t i = 0; i < p->count; i++) {
		if (p->streams[i].active || !next_piece(p, &piece))
			continue;
		put_stream_start(&p->streams[i], piece);
		active++;
	}
	return active;
}

static void go_on(struct put_pieces *p)
{
	struct range gap;

	if (p->err.code != GRPC_OK)
		stop_streams(p);
	size_t active = count_active(p);
	if (p->err.code == GRPC_OK)
		active = start_streams(p, active);
	if (active > 0 || p->post.pending)
		return;
	if (p->err.code == GRPC_OK && ranges_gap(&p->done, p->size, &gap))
		err_set(&p->err, GRPC_RESOURCE_EXHAUSTED,
		    "%s: what is there of it has too many gaps", transfer_target(p->transfer).path);
	put_pieces_moved(p);
	p->over(p->transfer, &p->err, p->refused);
}

/* The beginning. */

bool put_pieces_are_wanted(const struct transfer *t)
{
	const struct transfer_put *p = &t->put;
	uint64_t size = (uint64_t)p->st.st_size;
	struct range gap;

	if (p->knows_none || (p->doubtful && !p->knows_pieces))
		return false;
	return t->streams > 1 && p->id[0] != '\0' && !p->one_stream &&
	    size - ranges_bytes(&p->durable) >= 2 * PUT_PIECE_MIN &&
	    ranges_gap(&p->durable, size, &gap);
}

/* What a supervisor that knows no pieces says of them: it takes each for an upload that goes
 * on from its offset to the end of the file. It may have other reasons; so QueryUpload is
 * asked, whose answer shows it. */
void put_pieces_failed(struct transfer *t)
{
	struct transfer_put *p = &t->put;

	if (p->refused && !p->knows_pieces &&
	    (t->err.code == GRPC_ABORTED || t->err.code == GRPC_OUT_OF_RANGE ||
		t->err.code == GRPC_DATA_LOSS))
		p->doubtful = true;
}

bool put_pieces_go_another_way(struct transfer *t)
{
	struct transfer_put *p = &t->put;

	if (!p->refused || p->writer == 0)
		return false;
	if ((t->err.code == GRPC_OUT_OF_RANGE || (t->err.code == GRPC_DATA_LOSS && p->doubtful)) &&
	    !p->one_stream) {
		p->one_stream = true;
		return true;
	}
	if (t->err.code == GRPC_FAILED_PRECONDITION && p->compared) {
		p->whole = true;
		return true;
	}
	return false;
}

int put_pieces_start(struct transfer *t,
    void (*over)(struct transfer *, const struct err *, bool refused), struct err *err)
{
	struct put_pieces *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	p->transfer = t;
	p->over = over;
	p->size = (uint64_t)t->put.st.st_size;
	p->done = t->put.durable;
	p->count = t->streams < PUT_STREAMS_MAX ? t->streams : PUT_STREAMS_MAX;
	p->piece_bytes = (p->size / p->count + MIB - 1) / MIB * MIB;
	if (p->piece_bytes < PUT_PIECE_MIN)
		p->piece_bytes = PUT_PIECE_MIN;
	if (p->piece_bytes > PUT_PIECE_MAX)
		p->piece_bytes = PUT_PIECE_MAX;
	for (size_t i = 0; i < p->count; i++) {
		p->streams[i].all = p;
		p->streams[i].transfer = t;
		p->streams[i].number = i;
	}
	if (t->put.writer == 0)
		random_bytes(&t->put.writer, sizeof(t->put.writer));
	t->put.pieces = p;
	t->total = p->size;
	put_pieces_changed(p);
	return 0;
}
