#include "cli/remote.h"

#include <stdlib.h>

#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "relay/framed.h"

struct question {
	struct session_wait wait;
	struct framed *call; /* NULL: over */
	enum copy_kind kind;
};

static void answer(struct question *q, const struct err *status)
{
	struct err err = *status;

	switch (err.code) {
	case GRPC_NOT_FOUND:
		q->kind = COPY_KIND_NONE;
		err_clear(&err);
		break;
	case GRPC_FAILED_PRECONDITION:
		q->kind = COPY_KIND_DIRECTORY;
		err_clear(&err);
		break;
	case GRPC_OK:
		err_set(&err, GRPC_INTERNAL, "a download without a header");
		break;
	default:
		break;
	}
	session_done(&q->wait, &err);
}

/* The header: there is a file. */
static void on_message(void *cookie, const uint8_t *message, size_t len)
{
	struct question *q = cookie;

	(void)message;
	(void)len;
	q->kind = COPY_KIND_FILE;
	session_done(&q->wait, NULL);
}

static void on_payload(void *cookie, struct slice data)
{
	(void)cookie;
	slice_release(&data);
}

static void on_end(void *cookie, const struct err *status)
{
	answer(cookie, status);
}

static void on_closed(void *cookie, const struct err *why)
{
	struct question *q = cookie;

	q->call = NULL;
	answer(q, why);
}

static const struct framed_ops call_ops = {
	.payload = on_payload,
	.message = on_message,
	.end = on_end,
	.closed = on_closed,
};

static int ask(struct question *q, const char *sandbox, const char *path, struct err *err)
{
	struct session *s = q->wait.session;
	Openshell__V1__DownloadFileRequest request = OPENSHELL__V1__DOWNLOAD_FILE_REQUEST__INIT;
	struct rpc_client_call call = { .path = "/openshell.v1.OpenShell/DownloadFile" };
	struct rpc_client *client = session_client(s, err);
	size_t len;

	request.sandbox = (char *)sandbox;
	request.remote_path = (char *)path;
	request.length = 1;
	request.workspace_scope = session_scope(s);
	if (client == NULL)
		return -1;
	uint8_t *packed = codec_pack_new(&request.base, &len);
	if (packed == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	if ((q->call = framed_call(client, &call, NULL, &call_ops, q, err)) != NULL) {
		framed_send(q->call, packed, len);
		framed_end(q->call);
	}
	free(packed);
	return q->call != NULL ? 0 : -1;
}

int remote_kind(
    struct session *s, const char *sandbox, const char *path, enum copy_kind *kind, struct err *err)
{
	struct question q = { .wait.session = s };
	int r = ask(&q, sandbox, path, err);

	if (r == 0)
		r = session_wait(s, &q.wait, SESSION_CALL_MS, err);
	if (q.call != NULL)
		framed_cancel(q.call, NULL);
	*kind = q.kind;
	return r;
}
