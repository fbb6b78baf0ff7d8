/* One message there, one back. */
#include <stdlib.h>

#include "rpc/client.h"
#include "rpc/reader.h"
#include "rpc/server.h"

struct rpc_unary {
	struct rpc_call *call;
	struct rpc_reader reader;
	rpc_unary_done *done;
	void *cookie;
	bool replied, ended;
	struct err err;
	uint8_t *reply;
	size_t len;
};

static void unary_free(struct rpc_unary *u)
{
	rpc_reader_free(&u->reader);
	free(u->reply);
	free(u);
}

/* Keeps the one reply; a second is an error. */
static void take_replies(struct rpc_unary *u)
{
	const uint8_t *message;
	size_t len;

	while (u->err.code == GRPC_OK && rpc_reader_next(&u->reader, &message, &len, &u->err) > 0) {
		if (u->replied) {
			err_set(&u->err, GRPC_INTERNAL, "a second reply to a unary call");
			return;
		}
		u->replied = true;
		u->len = len;
		if (len > 0 && (u->reply = malloc(len)) == NULL)
			err_set(&u->err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		for (size_t i = 0; u->reply != NULL && i < len; i++)
			u->reply[i] = message[i];
	}
}

static void on_data(void *cookie, struct slice s)
{
	struct rpc_unary *u = cookie;

	rpc_call_credit(u->call, s.len);
	if (rpc_reader_push(&u->reader, s, &u->err) == 0)
		take_replies(u);
}

static void on_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	struct rpc_unary *u = cookie;

	(void)trailers;
	u->ended = true;
	if (status != NULL && status->code != GRPC_OK && u->err.code == GRPC_OK)
		u->err = *status;
	else if (!u->replied && u->err.code == GRPC_OK)
		err_set(&u->err, GRPC_INTERNAL, "the call ended without a reply");
}

static void on_closed(void *cookie, const struct err *why)
{
	struct rpc_unary *u = cookie;

	if (!u->ended && u->err.code == GRPC_OK)
		u->err = *why;
	u->done(u->cookie, u->err.code == GRPC_OK ? u->reply : NULL,
	    u->err.code == GRPC_OK ? u->len : 0, &u->err);
	unary_free(u);
}

static const struct rpc_call_ops ops = { .data = on_data, .end = on_end, .closed = on_closed };

struct rpc_unary *rpc_client_unary(struct rpc_client *client, const char *path,
    const struct rpc_meta *meta, uint64_t timeout_ms, const void *message, size_t len,
    rpc_unary_done *done, void *cookie, struct err *err)
{
	struct rpc_unary *u = calloc(1, sizeof(*u));
	const struct rpc_client_call call = {
		.path = path, .meta = meta, .timeout_ms = timeout_ms, .ops = &ops, .cookie = u
	};

	if (u == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	u->done = done;
	u->cookie = cookie;
	rpc_reader_init(&u->reader, RPC_MESSAGE_MAX);
	if ((u->call = rpc_client_call(client, &call, err)) == NULL) {
		unary_free(u);
		return NULL;
	}
	if (rpc_call_send(u->call, message, len) != 0) {
		rpc_call_cancel(u->call, NULL);
		unary_free(u);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "the message is too large for a call");
		return NULL;
	}
	rpc_call_end(u->call, NULL);
	return u;
}

void rpc_unary_cancel(struct rpc_unary *u)
{
	rpc_call_cancel(u->call, NULL);
	unary_free(u);
}
