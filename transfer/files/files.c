#include "transfer/files/files.h"

#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "transfer/tree/ignore.h"
#include "transfer/raw_path.h"

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

int files_exclude(char *const *patterns, size_t count, struct ignore **exclude, struct err *err)
{
	const char **list = count > 0 ? calloc(count + 1, sizeof(*list)) : NULL;

	*exclude = NULL;
	if (count == 0)
		return 0;
	if (list == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	memcpy(list, patterns, count * sizeof(*list));
	*exclude = ignore_list(list, err);
	free(list);
	return *exclude != NULL ? 0 : err_wrap(err, "exclude");
}

static enum files_result no_memory(struct err *err)
{
	err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	return FILES_FAILED;
}

enum files_result files_reply(struct files_call *c, const ProtobufCMessage *m, struct err *err)
{
	c->reply = codec_pack_new(m, &c->reply_len);
	return c->reply != NULL ? FILES_DONE : no_memory(err);
}

int files_batch(struct text *batch, const ProtobufCMessage *m, struct err *err)
{
	size_t len;
	uint8_t *packed = codec_pack_new(m, &len);

	if (packed != NULL)
		text_add(batch, (const char *)packed, len);
	free(packed);
	return packed != NULL && !batch->failed ? 0 : no_memory(err);
}

enum files_result files_send(
    struct files_call *c, struct text *batch, enum files_result result, struct err *err)
{
	if (batch->len == 0)
		return result;
	if ((c->reply = malloc(batch->len)) == NULL)
		return no_memory(err);
	memcpy(c->reply, batch->data, batch->len);
	c->reply_len = batch->len;
	batch->len = 0;
	return result;
}

/* A call on its way. */
struct run {
	struct job job; /* first */
	struct files_call seen;
	struct transfers *transfers;
	struct framed *call; /* NULL: the client is gone */
	const struct files_op *op;
	void *request;
	bool begun, working; /* the job has been, and is, a worker's */
	bool paused;         /* until the client has taken what was sent */
	struct watch *watch; /* of wait_fd, made when it is first waited for */
	struct timer *timer; /* likewise, of wait_ms */
	enum files_result result;
	struct err err;
};

static int enter(struct transfers *t, const struct files_op *op, struct err *err)
{
	if (op->lasts && t->watches >= FILES_WATCHES_MAX)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "%zu watches run in this sandbox; end one", t->watches);
	if (transfers_enter(t, false, err) != 0)
		return -1;
	t->watches += op->lasts;
	return 0;
}

static void leave(struct transfers *t, const struct files_op *op)
{
	t->watches -= op->lasts;
	transfers_leave(t, false);
}

/* The end. */

static void run_free(struct job *job)
{
	struct run *r = (struct run *)job;

	leave(r->transfers, r->op);
	file_info_free(&r->seen.info);
	free(r->seen.state);
	free(r->seen.reply);
	codec_free(r->request);
	free(r);
}

static void work_end(struct job *job)
{
	struct run *r = (struct run *)job;

	r->op->end(r->seen.state);
}

/* What an operation holds may take long to let go. */
static void run_end(struct run *r)
{
	watch_free(r->watch);
	timer_free(r->timer);
	r->job = (struct job){ .run = work_end, .done = run_free };
	if (r->op->end != NULL &&
	    workers_submit(r->transfers->workers, r->transfers->loop, &r->job) == 0)
		return;
	if (r->op->end != NULL)
		r->op->end(r->seen.state);
	run_free(&r->job);
}

static void finish(struct run *r)
{
	framed_finish(r->call, r->err.code == GRPC_OK ? NULL : &r->err);
}

/* Its turns. */

static void submit(struct run *r);

static void work(struct job *job)
{
	struct run *r = (struct run *)job;

	r->result = r->op->run(&r->seen, &r->err);
}

static void go_on(struct run *r)
{
	r->paused = framed_queued(r->call) > FILES_QUEUE_HIGH;
	if (!r->paused)
		submit(r);
}

static void wake(struct run *r)
{
	if (r->watch != NULL)
		watch_want(r->watch, WATCH_NONE);
	if (r->timer != NULL)
		timer_stop(r->timer);
	go_on(r);
}

static void on_ready(void *cookie, unsigned events)
{
	(void)events;
	wake(cookie);
}

static void on_timer(void *cookie)
{
	wake(cookie);
}

/* False: no memory, and it is finished. */
static bool start_timer(struct run *r, uint64_t ms)
{
	if (r->timer == NULL &&
	    (r->timer = timer_create_on(r->transfers->loop, on_timer, r)) == NULL) {
		err_set(&r->err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		finish(r);
		return false;
	}
	timer_start(r->timer, ms);
	return true;
}

static void wait(struct run *r)
{
	if (r->watch == NULL &&
	    (r->watch = watch_create(r->transfers->loop, r->seen.wait_fd, on_ready, r, &r->err)) ==
		NULL) {
		finish(r);
		return;
	}
	if (r->seen.wait_ms == 0 || start_timer(r, r->seen.wait_ms))
		watch_want(r->watch, WATCH_READ);
}

static void submit(struct run *r)
{
	r->working = workers_submit(r->transfers->workers, r->transfers->loop, &r->job) == 0;
	if (r->working) {
		r->begun = true;
	} else if (r->begun) {
		start_timer(r, FILES_RETRY_MS);
	} else {
		err_set(&r->err, GRPC_RESOURCE_EXHAUSTED,
		    "too many file operations are waiting; try again");
		finish(r);
	}
}

static void send(struct run *r)
{
	if (r->seen.reply != NULL && framed_send(r->call, r->seen.reply, r->seen.reply_len) != 0 &&
	    r->err.code == GRPC_OK) {
		err_set(&r->err, GRPC_INTERNAL, "the answer could not be sent");
		r->result = FILES_FAILED;
	}
	free(r->seen.reply);
	r->seen.reply = NULL;
}

static void after(struct job *job)
{
	struct run *r = (struct run *)job;

	r->working = false;
	if (r->call == NULL) {
		run_end(r);
		return;
	}
	send(r);
	if (r->result == FILES_MORE)
		go_on(r);
	else if (r->result == FILES_WAIT)
		wait(r);
	else
		finish(r);
}

static void call_sent(void *cookie, size_t bytes)
{
	struct run *r = cookie;

	(void)bytes;
	if (r->paused)
		go_on(r);
}

static void call_closed(void *cookie, const struct err *why)
{
	struct run *r = cookie;

	(void)why;
	r->call = NULL;
	if (!r->working)
		run_end(r);
}

static const struct framed_ops call_ops = { .sent = call_sent, .closed = call_closed };

/* The beginning. */

/* NULL: too many run, or no memory. Takes ${request} otherwise. */
static struct run *create(
    struct transfers *t, const struct files_op *op, void *request, struct err *err)
{
	struct run *r;

	if (enter(t, op, err) != 0)
		return NULL;
	r = calloc(1, sizeof(*r));
	if (r != NULL && (r->seen.state = calloc(1, op->state + 1)) != NULL) {
		r->job = (struct job){ .run = work, .done = after };
		r->transfers = t;
		r->op = op;
		r->request = request;
		r->seen.transfers = t;
		r->seen.request = request;
		r->seen.wait_fd = -1;
		file_info_init(&r->seen.info, t->slash);
		return r;
	}
	free(r);
	leave(t, op);
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
	else if (raw_path_take(request, &err) == 0)
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
	{ "/towline.v1.Files/ListDirectory", &files_list },
	{ "/towline.v1.Files/MakeDirectory", &files_mkdir },
	{ "/towline.v1.Files/MoveFile", &files_move },
	{ "/towline.v1.Files/RemoveFile", &files_remove },
	{ "/towline.v1.Files/WatchFiles", &files_watch },
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
