#include "transfer/put_pieces.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/random.h"
#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"

#define MIB ((uint64_t)1 << 20)

/* One piece under way. It is over when it has neither a call nor a flow. */
struct stream {
	struct put_pieces *all;
	bool active;
	struct range piece;
	struct framed *call; /* NULL: over */
	struct outflow *out; /* NULL: over */
	bool answered;       /* and the answer is that it has come as it was sent */
	uint64_t sent;
	uint8_t digest[DIGEST_SIZE];
};

struct put_pieces {
	struct transfer *transfer;
	void (*over)(struct transfer *, const struct err *, bool refused);
	uint64_t size, piece_bytes;
	struct ranges done;
	size_t count;
	struct stream streams[PUT_STREAMS_MAX];
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
static void go_on_later(struct put_pieces *p)
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
	go_on_later(p);
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
	free(p);
}

static void show_progress(struct put_pieces *p)
{
	uint64_t moved = ranges_bytes(&p->done);

	for (size_t i = 0; i < p->count; i++) {
		const struct stream *s = &p->streams[i];
		uint64_t bytes = s->piece.end - s->piece.begin;

		if (s->active)
			moved += s->sent < bytes ? s->sent : bytes;
	}
	p->transfer->moved = moved;
}

/* A piece's flow and its call. */

static void flow_ended(void *cookie, const struct err *err)
{
	struct stream *s = cookie;
	struct flow_result r;
	struct err copy = *err;

	outflow_result(s->out, &r);
	outflow_free(s->out);
	s->out = NULL;
	s->all->transfer->result.wire_bytes += r.wire;
	memcpy(s->digest, r.digest, DIGEST_SIZE);
	if (copy.code != GRPC_OK)
		fail(s->all, &copy, false);
	else if (s->call != NULL)
		framed_end(s->call);
	go_on_later(s->all);
}

/* What the sandbox has stored is what we have sent, or the upload has failed. */
static void check_answer(struct stream *s, const Openshell__V1__UploadFileResponse *r)
{
	struct err err;

	s->answered = s->out == NULL && r->bytes_written == s->piece.end - s->piece.begin &&
	    r->digest != NULL && r->digest->value.len == DIGEST_SIZE &&
	    memcmp(r->digest->value.data, s->digest, DIGEST_SIZE) == 0;
	if (s->answered)
		return;
	err_set(&err, GRPC_DATA_LOSS, "%s: what the sandbox has stored is not what was sent",
	    s->all->transfer->remote);
	fail(s->all, &err, false);
}

static void call_message(void *cookie, const uint8_t *message, size_t len)
{
	struct stream *s = cookie;
	enum guard_result why;
	struct err err;
	Openshell__V1__UploadFileResponse *r =
	    codec_unpack(&openshell__v1__upload_file_response__descriptor, message, len, &why);

	if (r == NULL) {
		err_set(&err, GRPC_INTERNAL, "UploadFileResponse: %s", guard_text(why));
		fail(s->all, &err, false);
		return;
	}
	check_answer(s, r);
	codec_free(r);
}

static void call_end(void *cookie, const struct err *status)
{
	struct stream *s = cookie;
	struct err err;

	if (status != NULL && status->code != GRPC_OK) {
		fail(s->all, status, true);
	} else if (!s->answered) {
		err_set(&err, GRPC_INTERNAL, "%s: the sandbox did not say that it has stored it",
		    s->all->transfer->remote);
		fail(s->all, &err, false);
	}
}

static void call_sent(void *cookie, size_t bytes)
{
	struct stream *s = cookie;

	s->sent += bytes;
	show_progress(s->all);
	if (s->out != NULL)
		outflow_sent(s->out, bytes);
}

static void call_opened(void *cookie)
{
	((struct stream *)cookie)->all->transfer->put.taken = true;
}

static void call_closed(void *cookie, const struct err *why)
{
	struct stream *s = cookie;

	s->call = NULL;
	if (why->code != GRPC_OK && !s->answered)
		fail(s->all, why, true);
	if (s->out != NULL)
		outflow_stop(s->out);
	go_on_later(s->all);
}

static const struct framed_ops call_ops = {
	.message = call_message,
	.end = call_end,
	.sent = call_sent,
	.closed = call_closed,
	.opened = call_opened,
};

static int start_flow(struct stream *s, struct err *err)
{
	struct transfer *t = s->all->transfer;
	struct flow_env env = {
		.loop = t->loop, .workers = t->workers, .ended = flow_ended, .cookie = s
	};
	struct outflow_range range = { .offset = t->put.base + s->piece.begin,
		.bytes = s->piece.end - s->piece.begin };
	int fd = fcntl(t->fd, F_DUPFD_CLOEXEC, 3);

	if (fd < 0)
		return err_sys(err, errno, "%s", t->local);
	s->out = outflow_range(&env, s->call, fd, &range, t->local, err);
	if (s->out != NULL)
		return 0;
	close(fd);
	return -1;
}

static int start_stream(struct stream *s, struct range piece, struct err *err)
{
	struct transfer *t = s->all->transfer;
	struct rpc_client_call call = { .path = "/openshell.v1.OpenShell/UploadFile" };
	struct rpc_client *client = t->client;

	s->piece = piece;
	s->answered = false;
	s->sent = 0;
	if (t->ops->another != NULL &&
	    (client = t->ops->another(t->cookie, (size_t)(s - s->all->streams), err)) == NULL)
		return -1;
	s->call = framed_call(client, &call, NULL, &call_ops, s, err);
	if (s->call == NULL)
		return -1;
	if (transfer_send_metadata(t, s->call, &piece, err) == 0 && start_flow(s, err) == 0) {
		s->active = true;
		return 0;
	}
	framed_cancel(s->call, err);
	s->call = NULL;
	return -1;
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
	for (size_t i = 0; i < p->count; i++) {
		struct stream *s = &p->streams[i];

		if (s->call != NULL)
			framed_cancel(s->call, &p->err);
		s->call = NULL;
		if (s->out != NULL)
			outflow_stop(s->out);
	}
}

static size_t count_active(struct put_pieces *p)
{
	size_t active = 0;

	for (size_t i = 0; i < p->count; i++) {
		struct stream *s = &p->streams[i];

		if (s->active && s->call == NULL && s->out == NULL) {
			s->active = false;
			if (s->answered)
				ranges_add(&p->done, s->piece);
		}
		active += s->active;
	}
	return active;
}

static size_t start_streams(struct put_pieces *p, size_t active)
{
	struct err err = { 0 };
	struct range piece;

	for (size_t i = 0; i < p->count && p->err.code == GRPC_OK; i++) {
		if (p->streams[i].active || !next_piece(p, &piece))
			continue;
		if (start_stream(&p->streams[i], piece, &err) == 0)
			active++;
		else
			fail(p, &err, err.code == GRPC_UNAVAILABLE);
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
		    "%s: what is there of it has too many gaps", p->transfer->remote);
	show_progress(p);
	p->over(p->transfer, &p->err, p->refused);
}

/* The beginning. */

bool put_pieces_are_wanted(const struct transfer *t)
{
	const struct transfer_put *p = &t->put;
	uint64_t size = (uint64_t)p->st.st_size;
	struct range gap;

	return t->streams > 1 && p->id[0] != '\0' && !p->one_stream &&
	    size - ranges_bytes(&p->durable) >= 2 * PUT_PIECE_MIN &&
	    ranges_gap(&p->durable, size, &gap);
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
	for (size_t i = 0; i < p->count; i++)
		p->streams[i].all = p;
	if (t->put.writer == 0)
		random_bytes(&t->put.writer, sizeof(t->put.writer));
	t->put.pieces = p;
	t->total = p->size;
	go_on_later(p);
	return 0;
}
