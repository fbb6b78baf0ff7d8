#include "relay/framed.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "proto/frame.h"
#include "relay/framed_role.h"
#include "rpc/reader.h"

enum framed_role { FRAMED_CLIENT, FRAMED_SERVER, FRAMED_CHANNEL };

struct framed {
	enum framed_role role;
	struct loop *loop;
	struct rpc_call *call; /* NULL: over */
	const struct framed_ops *ops;
	void *cookie;
	struct frame_decoder decoder;

	/* Of what waits to leave, the bytes that the owner is told of, and the others:
	 * frames, and what was sent before there was an owner. */
	size_t unsent, overhead;

	uint32_t field; /* of the last payload */

	bool ended;        /* the own direction */
	bool finished;     /* serving: the status is said; what comes is dropped */
	bool broken;       /* what came could not be decoded; ${why} says how */
	bool dead;         /* freed by its owner, or over */
	bool end_is_known; /* end() would be the second to say so */
	struct err why;
	void (*over)(void *cookie); /* who watches; may be NULL */
	void *over_cookie;
	struct post post; /* the way to closed(), or out of memory */
};

const struct framed_field FRAMED_BYTES = { 2, 0 };

/* Serving, OK has to be said; a client that says nothing has only half-closed. */
static const struct err ok = { .code = GRPC_OK };

/* The end of it. */

static void run_free(struct post *post)
{
	struct framed *f = (struct framed *)((char *)post - offsetof(struct framed, post));

	frame_decoder_free(&f->decoder);
	free(f);
}

/* The memory stays for the turn: we may be inside of one of our callbacks. */
static void release(struct framed *f)
{
	assert(!f->dead);
	f->dead = true;
	f->call = NULL;
	f->post.run = run_free;
	if (!f->post.pending)
		loop_post(f->loop, &f->post);
	if (f->over != NULL)
		f->over(f->over_cookie);
}

static void tell_closed(struct framed *f, const struct err *why)
{
	const struct framed_ops *ops = f->ops;
	void *cookie = f->cookie;

	release(f);
	ops->closed(cookie, why);
}

static void run_closed(struct post *post)
{
	struct framed *f = (struct framed *)((char *)post - offsetof(struct framed, post));

	tell_closed(f, &f->why);
}

/* Resets the call; its owner hears of it later in the turn. */
static void leave(struct framed *f, const struct err *why)
{
	f->broken = true;
	f->why = *why;
	rpc_call_cancel(f->call, why);
	f->call = NULL;
	f->post.run = run_closed;
	loop_post(f->loop, &f->post);
}

/* The peer does not speak our language: serving, it is told; as a client we leave. */
static void give_up(struct framed *f, enum grpc_code code, const char *text)
{
	struct err why;

	if (f->broken || f->dead || f->finished)
		return;
	err_set(&why, code, "%s", text);
	if (f->role == FRAMED_CLIENT) {
		leave(f, &why);
		return;
	}
	f->broken = f->finished = true;
	f->why = why;
	rpc_call_finish(f->call, &why);
}

/* Receiving. */

/* One event of the decoder. ${s} is what it was fed with; the result is how many bytes
 * of it the owner will give credit for. */
static size_t take_event(struct framed *f, const struct frame_event *ev, const struct slice *s)
{
	switch (ev->kind) {
	case FRAME_PAYLOAD:
		if (f->ops->payload == NULL) {
			give_up(f, GRPC_INVALID_ARGUMENT, "bytes where none belong");
			return 0;
		}
		f->field = ev->field;
		f->ops->payload(f->cookie, slice_sub(s, (size_t)(ev->data - s->data), ev->len));
		return ev->len;
	case FRAME_END:
		if (!ev->had_payload && f->ops->message != NULL)
			f->ops->message(f->cookie, ev->data, ev->len);
		else if (!ev->had_payload && ev->len > 0)
			give_up(f, GRPC_INVALID_ARGUMENT, "a message where bytes belong");
		return 0;
	case FRAME_ERROR:
		give_up(f, (enum grpc_code)ev->code, ev->text);
		return 0;
	default:
		return 0;
	}
}

static bool is_deaf(const struct framed *f)
{
	return f->dead || f->broken || f->finished;
}

static void on_data(void *cookie, struct slice s)
{
	struct framed *f = cookie;
	struct frame_event ev = { .kind = FRAME_NONE };
	size_t at = 0, owed = 0;

	while (!is_deaf(f)) {
		at += frame_decoder_feed(&f->decoder, s.data + at, s.len - at, &ev);
		if (ev.kind == FRAME_NONE)
			break;
		owed += take_event(f, &ev, &s);
	}
	/* Frames are used up when they are read; their content when its owner says so. */
	if (f->call != NULL && s.len > owed)
		rpc_call_credit(f->call, s.len - owed);
	slice_release(&s);
}

/* Serving, a status is the gateway's, and the end of the channel; a fine one is that of
 * the client's direction. */
static void on_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	struct framed *f = cookie;
	bool fine = status == NULL || status->code == GRPC_OK;

	(void)trailers;
	if (is_deaf(f))
		return;
	if (fine && !frame_decoder_is_idle(&f->decoder)) {
		give_up(f, f->role == FRAMED_CLIENT ? GRPC_DATA_LOSS : GRPC_INVALID_ARGUMENT,
		    "the stream ended in the middle of a message");
		return;
	}
	if (f->role == FRAMED_CHANNEL && !fine) {
		leave(f, status);
		return;
	}
	if (f->ops->end != NULL && !f->end_is_known)
		f->ops->end(f->cookie, f->role == FRAMED_CLIENT ? status : NULL);
	if (!fine && f->role == FRAMED_CLIENT && !f->ended && f->call != NULL)
		leave(f, status); /* nobody reads what we would still send */
}

static void on_sent(void *cookie, size_t bytes)
{
	struct framed *f = cookie;
	size_t frames = bytes < f->overhead ? bytes : f->overhead;

	f->overhead -= frames;
	bytes -= frames;
	assert(bytes <= f->unsent);
	f->unsent -= bytes;
	if (bytes > 0 && f->ops->sent != NULL)
		f->ops->sent(f->cookie, bytes);
}

static void on_closed(void *cookie, const struct err *why)
{
	struct framed *f = cookie;
	struct err copy = f->broken ? f->why : *why;

	f->call = NULL;
	tell_closed(f, &copy);
}

static void on_headers(void *cookie, const struct rpc_meta *meta)
{
	struct framed *f = cookie;

	(void)meta;
	if (f->ops->opened != NULL)
		f->ops->opened(f->cookie);
}

static const struct rpc_call_ops call_ops = {
	.headers = on_headers,
	.data = on_data,
	.end = on_end,
	.sent = on_sent,
	.closed = on_closed,
};

/* Making one. */

static struct framed *framed_create(enum framed_role role, const struct framed_options *o,
    const struct framed_ops *ops, void *cookie)
{
	struct framed *f = calloc(1, sizeof(*f));
	size_t other =
	    o != NULL && o->max_structured != 0 ? o->max_structured : FRAMED_STRUCTURED_MAX;
	bool whole = o != NULL && o->whole;
	enum frame_shape shape = whole ? FRAME_SHAPE_WHOLE
	    : o != NULL && o->event    ? FRAME_SHAPE_EVENT
				       : FRAME_SHAPE_BYTES;

	if (f == NULL)
		return NULL;
	f->role = role;
	f->ops = ops;
	f->cookie = cookie;
	frame_decoder_init(&f->decoder, shape, (uint32_t)FRAMED_MESSAGE_MAX,
	    (uint32_t)(whole ? FRAMED_MESSAGE_MAX : other));
	return f;
}

static struct framed *make_call(enum framed_role role, struct rpc_client *client,
    const struct rpc_client_call *call, const struct framed_options *o,
    const struct framed_ops *ops, void *cookie, struct err *err)
{
	struct framed *f = framed_create(role, o, ops, cookie);
	struct rpc_client_call c = *call;

	if (f == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	c.ops = &call_ops;
	c.cookie = f;
	if ((f->call = rpc_client_call(client, &c, err)) == NULL) {
		frame_decoder_free(&f->decoder);
		free(f);
		return NULL;
	}
	f->loop = rpc_call_loop(f->call);
	return f;
}

struct framed *framed_call(struct rpc_client *client, const struct rpc_client_call *call,
    const struct framed_options *o, const struct framed_ops *ops, void *cookie, struct err *err)
{
	return make_call(FRAMED_CLIENT, client, call, o, ops, cookie, err);
}

struct framed *framed_channel(struct rpc_client *client, const struct rpc_client_call *call,
    const struct framed_options *o, struct err *err)
{
	return make_call(FRAMED_CHANNEL, client, call, o, NULL, NULL, err);
}

void framed_forgo_end(struct framed *f)
{
	f->end_is_known = true;
}

void framed_leave(struct framed *f, const struct err *why)
{
	if (f->call != NULL)
		leave(f, why);
}

void framed_watch(struct framed *f, void (*over)(void *cookie), void *cookie)
{
	f->over = over;
	f->over_cookie = cookie;
}

struct framed *framed_serve(struct rpc_call *call, const struct framed_options *o,
    const struct framed_ops *ops, void *cookie)
{
	struct framed *f = framed_create(FRAMED_SERVER, o, ops, cookie);
	struct err err;

	if (f == NULL) {
		err_set(&err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		rpc_call_finish(call, &err);
		return NULL;
	}
	f->call = call;
	f->loop = rpc_call_loop(call);
	rpc_call_bind(call, &call_ops, f);
	return f;
}

void framed_bind(struct framed *f, const struct framed_ops *ops, void *cookie)
{
	f->ops = ops;
	f->cookie = cookie;
	f->overhead += f->unsent; /* the new owner knows nothing of it */
	f->unsent = 0;
}

/* Sending. */

static bool may_send(const struct framed *f, size_t len)
{
	return f->call != NULL && !f->ended && !f->finished && len <= FRAMED_MESSAGE_MAX &&
	    rpc_call_queued(f->call) + FRAME_HEADER_MAX + len <= RPC_CALL_QUEUE_MAX;
}

int framed_write(struct framed *f, struct framed_field field, struct slice payload)
{
	uint8_t head[FRAME_HEADER_MAX];
	size_t head_len, len = payload.len;

	if (!may_send(f, len))
		return -1;
	head_len = field.inner == 0
	    ? frame_header(head, field.outer, (uint32_t)len)
	    : frame_header_nested(head, field.outer, field.inner, (uint32_t)len);
	if (rpc_call_copy(f->call, head, head_len) != 0)
		return -1;
	f->overhead += head_len;
	if (len > 0 && rpc_call_write(f->call, payload) != 0) {
		/* A header without its payload: nothing that follows could be understood. */
		give_up(f, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return -1;
	}
	f->unsent += len;
	if (len == 0)
		slice_release(&payload);
	return 0;
}

int framed_send(struct framed *f, const void *message, size_t len)
{
	if (!may_send(f, len) || rpc_call_send(f->call, message, len) != 0)
		return -1;
	f->overhead += RPC_PREFIX_SIZE;
	f->unsent += len;
	return 0;
}

size_t framed_queued(const struct framed *f)
{
	return f->call != NULL ? rpc_call_queued(f->call) : 0;
}

void framed_credit(struct framed *f, size_t bytes)
{
	if (f->call != NULL && bytes > 0)
		rpc_call_credit(f->call, bytes);
}

void framed_end(struct framed *f)
{
	if (f->call == NULL || f->finished || f->ended)
		return;
	f->ended = true;
	rpc_call_end(f->call, f->role == FRAMED_CLIENT ? NULL : &ok);
}

void framed_finish(struct framed *f, const struct err *status)
{
	if (f->call == NULL || f->finished)
		return;
	f->finished = true;
	rpc_call_finish(f->call, status != NULL ? status : &ok);
}

void framed_cancel(struct framed *f, const struct err *why)
{
	if (f->call != NULL)
		rpc_call_cancel(f->call, why);
	release(f);
}

uint32_t framed_payload_field(const struct framed *f)
{
	return f->field;
}

struct loop *framed_loop(const struct framed *f)
{
	return f->loop;
}

uint64_t framed_time_left_ms(const struct framed *f)
{
	return f->call != NULL ? rpc_call_time_left_ms(f->call) : 0;
}
