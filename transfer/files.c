#include "transfer/files.h"

#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"

int files_place(const struct transfers *t, const char *path, const char *field,
    struct files_place *place, struct err *err)
{
	if (path[0] == '\0')
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "%s: empty; \".\" is the working directory", field);
	place->root = beneath_root(t->workdir, t->slash, path, &place->rest);
	place->links = place->root == t->slash ? BENEATH_IN_ROOT : BENEATH_FOLLOW;
	return 0;
}

enum files_result files_reply(struct files_call *c, const ProtobufCMessage *m, struct err *err)
{
	c->reply = codec_pack_new(m, &c->reply_len);
	if (c->reply != NULL)
		return FILES_DONE;
	err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	return FILES_FAILED;
}

/* A call on its way. */
struct run {
	struct job job; /* first */
	struct files_call seen;
	struct transfers *transfers;
	struct framed *call; /* NULL: the client is gone */
	const struct files_op *op;
	void *request;
	bool working; /* the job is a worker's */
	enum files_result result;
	struct err err;
};

static void run_free(struct run *r)
{
	if (r->op->end != NULL)
		r->op->end(r->seen.state);
	transfers_leave(r->transfers, false);
	file_info_free(&r->seen.info);
	free(r->seen.state);
	free(r->seen.reply);
	codec_free(r->request);
	free(r);
}

static void work(struct job *job)
{
	struct run *r = (struct run *)job;

	r->result = r->op->run(&r->seen, &r->err);
}

static void finish(struct run *r)
{
	if (r->err.code == GRPC_OK && framed_send(r->call, r->seen.reply, r->seen.reply_len) != 0)
		err_set(&r->err, GRPC_INTERNAL, "the answer could not be sent");
	framed_finish(r->call, r->err.code == GRPC_OK ? NULL : &r->err);
}

static void submit(struct run *r)
{
	r->working = workers_submit(r->transfers->workers, r->transfers->loop, &r->job) == 0;
	if (r->working)
		return;
	err_set(
	    &r->err, GRPC_RESOURCE_EXHAUSTED, "too many file operations are waiting; try again");
	finish(r);
}

static void after(struct job *job)
{
	struct run *r = (struct run *)job;

	r->working = false;
	if (r->call == NULL)
		run_free(r);
	else if (r->result == FILES_MORE)
		submit(r);
	else
		finish(r);
}

static void call_closed(void *cookie, const struct err *why)
{
	struct run *r = cookie;

	(void)why;
	r->call = NULL;
	if (!r->working)
		run_free(r);
}

static const struct framed_ops call_ops = { .closed = call_closed };

/* NULL: too many run, or no memory. Takes ${request} otherwise. */
static struct run *create(
    struct transfers *t, const struct files_op *op, void *request, struct err *err)
{
	struct run *r;

	if (transfers_enter(t, false, err) != 0)
		return NULL;
	r = calloc(1, sizeof(*r));
	if (r != NULL && (r->seen.state = calloc(1, op->state + 1)) != NULL) {
		r->job = (struct job){ .run = work, .done = after };
		r->transfers = t;
		r->op = op;
		r->request = request;
		r->seen.transfers = t;
		r->seen.request = request;
		file_info_init(&r->seen.info, t->slash);
		return r;
	}
	free(r);
	transfers_leave(t, false);
	err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	return NULL;
}

void files_serve(struct transfers *t, struct framed *call, const struct channel_request *q,
    const struct files_op *op)
{
	struct err err;
	enum guard_result why;
	void *request = codec_unpack(op->request, q->first_message, q->first_len, &why);
	struct run *r = NULL;

	if (request == NULL)
		err_set(&err, (enum grpc_code)guard_status(why), "%s: %s", op->request->short_name,
		    guard_text(why));
	else
		r = create(t, op, request, &err);
	if (r == NULL) {
		codec_free(request);
		framed_finish(call, &err);
		return;
	}
	r->call = call;
	framed_bind(call, &call_ops, r);
	submit(r);
}

/* The methods of towline.v1.Files that are of this room alone. */
static const struct method {
	const char *path;
	const struct files_op *op;
} methods[] = {
	{ "/towline.v1.Files/StatFile", &files_stat },
	{ "/towline.v1.Files/MakeDirectory", &files_mkdir },
	{ "/towline.v1.Files/MoveFile", &files_move },
	{ "/towline.v1.Files/RemoveFile", &files_remove },
};

void transfer_serve_files(struct transfers *t, struct framed *call, const struct channel_request *r)
{
	struct err err;

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (strcmp(methods[i].path, r->method) == 0) {
			files_serve(t, call, r, methods[i].op);
			return;
		}
	err_set(&err, GRPC_UNIMPLEMENTED, "%s is not served by this supervisor", r->method);
	framed_finish(call, &err);
}
