#include "transfer/client_files.h"

#include <stdio.h>
#include <stdlib.h>

#include "relay/framed.h"
#include "transfer/ask.h"

#define PATH_SIZE 64

struct client_files {
	struct framed *call;
	const struct client_files_ops *ops;
	void *cookie;
	struct err err; /* the call's status */
	bool ended;     /* it is known */
};

static void on_message(void *cookie, const uint8_t *message, size_t len)
{
	struct client_files *f = cookie;

	f->ops->message(f->cookie, message, len);
}

static void on_end(void *cookie, const struct err *status)
{
	struct client_files *f = cookie;

	f->ended = true;
	if (status != NULL)
		f->err = *status;
}

static void on_closed(void *cookie, const struct err *why)
{
	struct client_files *f = cookie;
	const struct client_files_ops *ops = f->ops;
	struct err err = f->err;
	void *user = f->cookie;

	if (!f->ended && err.code == GRPC_OK)
		err = *why;
	free(f);
	ops->done(user, &err);
}

static const struct framed_ops call_ops = {
	.message = on_message,
	.end = on_end,
	.closed = on_closed,
};

struct client_files *client_files_start(struct rpc_client *client, const char *method,
    void *request, const struct client_files_ops *ops, void *cookie, struct err *err)
{
	static const struct framed_options options = { .whole = true };
	char path[PATH_SIZE];
	struct rpc_client_call call = { .path = path };
	struct client_files *f = calloc(1, sizeof(*f));

	if (f == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	snprintf(path, sizeof(path), "/towline.v1.Files/%s", method);
	f->ops = ops;
	f->cookie = cookie;
	f->call = framed_call(client, &call, &options, &call_ops, f, err);
	if (f->call != NULL && ask(f->call, request, err) == 0)
		return f;
	if (f->call != NULL)
		framed_cancel(f->call, err);
	free(f);
	return NULL;
}

void client_files_cancel(struct client_files *f)
{
	framed_cancel(f->call, NULL);
	free(f);
}
