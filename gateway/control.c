#include "gateway/control.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/gateway.h"
#include "gateway/message.h"
#include "proto/codec.h"
#include "proto/methods.h"

struct control {
	struct post post; /* on the way to the first loop, then on the way home */
	struct gateway *gateway;
	struct loop *home;
	control_handler *handler;
	struct rpc_call *call; /* the home loop's; NULL: the client is gone */
	void *request;
	bool answered;  /* at home; closed() frees */
	bool is_secret; /* the reply is */
	uint8_t *reply; /* packed; NULL: failed with ${err} */
	size_t reply_len;
	struct err err;
};

static struct control *of_post(struct post *post)
{
	return (struct control *)((char *)post - offsetof(struct control, post));
}

static void control_free(struct control *c)
{
	codec_free(c->request);
	if (c->is_secret && c->reply != NULL)
		explicit_bzero(c->reply, c->reply_len);
	free(c->reply);
	free(c);
}

/* Home, with the answer. closed() still comes, and frees. */
static void deliver(struct post *post)
{
	struct control *c = of_post(post);

	if (c->call == NULL) {
		control_free(c);
		return;
	}
	c->answered = true;
	if (c->reply != NULL && rpc_call_send(c->call, c->reply, c->reply_len) != 0)
		err_set(&c->err, GRPC_RESOURCE_EXHAUSTED, "the answer is too long");
	rpc_call_finish(c->call, c->err.code != GRPC_OK ? &c->err : NULL);
}

static void on_closed(void *cookie, const struct err *why)
{
	struct control *c = cookie;

	(void)why;
	c->call = NULL;
	if (c->answered)
		control_free(c);
}

/* The server has seen to it that there is one message. */
static void on_data(void *cookie, struct slice slice)
{
	struct control *c = cookie;

	rpc_call_credit(c->call, slice.len);
	slice_release(&slice);
}

static void on_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	(void)cookie;
	(void)status;
	(void)trailers;
}

static const struct rpc_call_ops call_ops = {
	.data = on_data,
	.end = on_end,
	.closed = on_closed,
};

static void handle(struct post *post)
{
	struct control *c = of_post(post);

	c->handler(c, c->request);
}

void control_call(struct rpc_call *call, struct gateway *gateway, control_handler *handler,
    const uint8_t *message, size_t len)
{
	struct control *c = calloc(1, sizeof(*c));
	struct err err;

	if (c == NULL) {
		err_set(&err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		rpc_call_finish(call, &err);
		return;
	}
	c->request = message_unpack(methods_find(rpc_call_path(call))->request, message, len, &err);
	if (c->request == NULL) {
		free(c);
		rpc_call_finish(call, &err);
		return;
	}
	c->gateway = gateway;
	c->home = rpc_call_loop(call);
	c->handler = handler;
	c->call = call;
	rpc_call_bind(call, &call_ops, c);
	c->post.run = handle;
	loop_post(gateway->loops[0], &c->post);
}

struct gateway *control_gateway(const struct control *c)
{
	return c->gateway;
}

void control_reply(struct control *c, const ProtobufCMessage *message)
{
	c->reply = codec_pack_new(message, &c->reply_len);
	if (c->reply == NULL)
		err_set(&c->err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	c->post.run = deliver;
	loop_post(c->home, &c->post);
}

void control_reply_secret(struct control *c, const ProtobufCMessage *message)
{
	c->is_secret = true;
	control_reply(c, message);
}

void control_fail(struct control *c, const struct err *err)
{
	c->err = *err;
	c->post.run = deliver;
	loop_post(c->home, &c->post);
}

int control_workspace_of(const Openshell__Datamodel__V1__WorkspaceSelector *selector,
    const char **workspace, struct err *err)
{
	*workspace = NULL;
	if (selector == NULL)
		return 0;
	switch (selector->selection_case) {
	case OPENSHELL__DATAMODEL__V1__WORKSPACE_SELECTOR__SELECTION_WORKSPACE:
		if (selector->workspace[0] != '\0')
			*workspace = selector->workspace;
		return 0;
	case OPENSHELL__DATAMODEL__V1__WORKSPACE_SELECTOR__SELECTION_ALL_WORKSPACES:
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "workspace_scope: all_workspaces is for lists only; name one workspace");
	default:
		return 0;
	}
}

const struct store_request *control_request(struct store_request *request, const char *method,
    const char *workspace, const char *request_id, const char *subject)
{
	*request = (struct store_request){ method, workspace, request_id, subject };
	return request_id[0] != '\0' ? request : NULL;
}
