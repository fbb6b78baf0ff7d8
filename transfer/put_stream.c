#include "transfer/put_stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"

static bool is_from_sandbox(const struct put_stream *s)
{
	return s->transfer->to_sandbox[0] != '\0';
}

static void pass_over(struct put_stream *s)
{
	s->transfer->result.wire_bytes += pass_bytes(s->pass);
	pass_digest(s->pass, s->digest);
	pass_free(s->pass);
	s->pass = NULL;
}

static void stop_flow(struct put_stream *s, const struct err *why)
{
	if (s->out != NULL)
		outflow_stop(s->out);
	if (s->pass == NULL)
		return;
	pass_stop(s->pass, why);
	pass_over(s);
}

/* The first thing that went wrong. */
static void fail(struct put_stream *s, const struct err *why, bool refused, bool of_way)
{
	if (s->err.code == GRPC_OK) {
		s->err = *why;
		s->refused = refused;
		s->of_way = of_way;
	}
	stop_flow(s, why);
	put_pieces_changed(s->all);
}

/* Its flow and its call. */

static void flow_ended(void *cookie, const struct err *err)
{
	struct put_stream *s = cookie;
	struct flow_result r;
	struct err copy = *err;

	outflow_result(s->out, &r);
	outflow_free(s->out);
	s->out = NULL;
	s->transfer->result.wire_bytes += r.wire;
	memcpy(s->digest, r.digest, DIGEST_SIZE);
	if (copy.code != GRPC_OK)
		fail(s, &copy, false, false);
	else if (s->call != NULL)
		framed_end(s->call);
	put_pieces_changed(s->all);
}

/* What is to come is the piece, of the file that was told of. */
static void pass_header(void *cookie, const Openshell__V1__DownloadFileHeader *h)
{
	struct put_stream *s = cookie;
	struct err err;

	if (!h->is_archive && h->size_bytes == s->piece.end - s->piece.begin &&
	    strcmp(h->etag, s->transfer->put.etag) == 0)
		return;
	err_set(&err, GRPC_FAILED_PRECONDITION, "%s: %s is another file now", s->transfer->sandbox,
	    s->transfer->remote);
	fail(s, &err, false, false);
}

/* Without all of it the call is not ended, and so the piece not answered. Cancelled without a
 * status: as in call_closed(). */
static void pass_ended(void *cookie, bool whole, const struct err *status)
{
	struct put_stream *s = cookie;
	struct framed *call = s->call;
	struct err err = *status;

	pass_over(s);
	if (whole && call != NULL) {
		framed_end(call);
	} else if (!whole) {
		s->call = NULL;
		if (call != NULL)
			framed_cancel(call, &err);
		fail(s, &err, false, err.code == GRPC_UNAVAILABLE || err.code == GRPC_CANCELLED);
	}
	put_pieces_changed(s->all);
}

/* What the sandbox has stored is what we have sent, or the upload has failed. */
static void check_answer(struct put_stream *s, const Openshell__V1__UploadFileResponse *r)
{
	struct err err;

	s->answered = s->out == NULL && s->pass == NULL &&
	    r->bytes_written == s->piece.end - s->piece.begin && r->digest != NULL &&
	    r->digest->value.len == DIGEST_SIZE &&
	    memcmp(r->digest->value.data, s->digest, DIGEST_SIZE) == 0;
	if (s->answered)
		return;
	err_set(&err, GRPC_DATA_LOSS, "%s: what the sandbox has stored is not what was sent",
	    transfer_target(s->transfer).path);
	fail(s, &err, false, false);
}

static void call_message(void *cookie, const uint8_t *message, size_t len)
{
	struct put_stream *s = cookie;
	enum guard_result why;
	struct err err;
	Openshell__V1__UploadFileResponse *r =
	    codec_unpack(&openshell__v1__upload_file_response__descriptor, message, len, &why);

	if (r == NULL) {
		err_set(&err, GRPC_INTERNAL, "UploadFileResponse: %s", guard_text(why));
		fail(s, &err, false, false);
		return;
	}
	check_answer(s, r);
	codec_free(r);
}

/* ABORTED is likely to be of our own attempt before, whose end has not been noticed yet. */
static void call_end(void *cookie, const struct err *status)
{
	struct put_stream *s = cookie;
	struct err err;

	if (status != NULL && status->code != GRPC_OK) {
		fail(s, status, true,
		    status->code == GRPC_UNAVAILABLE || (status->code == GRPC_ABORTED && s->again));
	} else if (!s->answered) {
		err_set(&err, GRPC_INTERNAL, "%s: the sandbox did not say that it has stored it",
		    transfer_target(s->transfer).path);
		fail(s, &err, false, false);
	}
}

static void call_sent(void *cookie, size_t bytes)
{
	struct put_stream *s = cookie;

	s->sent += bytes;
	put_pieces_moved(s->all);
	if (s->out != NULL)
		outflow_sent(s->out, bytes);
	if (s->pass != NULL)
		pass_sent(s->pass, bytes);
}

static void call_opened(void *cookie)
{
	((struct put_stream *)cookie)->transfer->put.taken = true;
}

/* Cancelled without a status: by somebody on the way, who has lost the one behind. */
static void call_closed(void *cookie, const struct err *why)
{
	struct put_stream *s = cookie;
	struct err err = *why;

	s->call = NULL;
	if (err.code != GRPC_OK && !s->answered)
		fail(s, &err, true, err.code == GRPC_UNAVAILABLE || err.code == GRPC_CANCELLED);
	else
		stop_flow(s, &err);
	put_pieces_changed(s->all);
}

static const struct framed_ops call_ops = {
	.message = call_message,
	.end = call_end,
	.sent = call_sent,
	.closed = call_closed,
	.opened = call_opened,
};

static int start_file(struct put_stream *s, struct err *err)
{
	struct transfer *t = s->transfer;
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

static int start_pass(struct put_stream *s, struct rpc_client *client, struct err *err)
{
	const struct transfer *t = s->transfer;
	struct pass_options o = {
		.client = client,
		.from = { .sandbox = t->sandbox, .path = t->remote },
		.workspace = t->workspace,
		.etag = t->put.etag,
		.offset = s->piece.begin,
		.length = s->piece.end - s->piece.begin,
		.header = pass_header,
		.ended = pass_ended,
		.cookie = s,
	};

	s->pass = pass_start(&o, err);
	if (s->pass == NULL)
		return -1;
	pass_onto(s->pass, s->call);
	return 0;
}

/* Of its own, if there may be several; the one before may have ended. */
static struct rpc_client *client_of(struct put_stream *s, struct err *err)
{
	struct transfer *t = s->transfer;

	if (t->ops->another != NULL)
		return t->ops->another(t->cookie, s->number, err);
	return transfer_has_client(t, err) ? t->client : NULL;
}

static int make_call(struct put_stream *s, struct err *err)
{
	struct rpc_client_call call = { .path = "/openshell.v1.OpenShell/UploadFile" };
	struct rpc_client *client = client_of(s, err);

	if (client == NULL)
		return -1;
	s->call = framed_call(client, &call, NULL, &call_ops, s, err);
	if (s->call == NULL)
		return -1;
	if (transfer_send_metadata(s->transfer, s->call, &s->piece, err) == 0 &&
	    (is_from_sandbox(s) ? start_pass(s, client, err) : start_file(s, err)) == 0)
		return 0;
	framed_cancel(s->call, err);
	s->call = NULL;
	return -1;
}

int put_stream_start(struct put_stream *s, struct range piece)
{
	struct err err = { 0 };

	s->piece = piece;
	s->active = true;
	s->answered = false;
	s->sent = 0;
	err_clear(&s->err);
	if (make_call(s, &err) == 0)
		return 0;
	fail(s, &err, err.code == GRPC_UNAVAILABLE, err.code == GRPC_UNAVAILABLE);
	return -1;
}

bool put_stream_is_still(const struct put_stream *s)
{
	return s->call == NULL && s->out == NULL && s->pass == NULL && s->query == NULL &&
	    !s->looking && (s->timer == NULL || !timer_is_running(s->timer));
}

void put_stream_stop(struct put_stream *s, const struct err *why)
{
	struct framed *call = s->call;

	if (s->err.code == GRPC_OK)
		s->err = *why;
	s->call = NULL;
	if (call != NULL)
		framed_cancel(call, why);
	stop_flow(s, why);
	if (s->query != NULL)
		rpc_unary_cancel(s->query);
	s->query = NULL;
	if (s->timer != NULL)
		timer_stop(s->timer);
}

void put_stream_free(struct put_stream *s)
{
	timer_free(s->timer);
	s->timer = NULL;
	pass_free(s->pass);
	s->pass = NULL;
}

/* Another attempt: what is durable of the piece is not sent again. */

static void go_on(struct put_stream *s, const struct ranges *durable)
{
	struct err err;

	if (put_pieces_take_state(s, durable) != 0) {
		err_set(&err, GRPC_UNAVAILABLE, "%s: what had been durable of it is gone",
		    transfer_target(s->transfer).path);
		fail(s, &err, true, false);
	} else if (s->piece.begin == s->piece.end) {
		s->answered = true;
	} else {
		put_stream_start(s, s->piece);
	}
	put_pieces_changed(s->all);
}

static void query_done(void *cookie, const uint8_t *reply, size_t len, const struct err *err)
{
	struct put_stream *s = cookie;
	struct ranges durable = { 0 };

	s->query = NULL;
	if (err->code == GRPC_OK)
		transfer_read_state(s->transfer, reply, len, &durable);
	if (err->code == GRPC_OK || err->code == GRPC_NOT_FOUND)
		go_on(s, &durable);
	else /* FAILED_PRECONDITION: the sandbox is being stopped, or started */
		fail(s, err, true,
		    err->code == GRPC_UNAVAILABLE || err->code == GRPC_FAILED_PRECONDITION);
}

static void ask(struct put_stream *s)
{
	struct err err = { 0 };
	struct rpc_client *client = client_of(s, &err);

	if (client != NULL)
		s->query = transfer_query(s->transfer, client, query_done, s, &err);
	if (s->query == NULL)
		fail(s, &err, err.code == GRPC_UNAVAILABLE, err.code == GRPC_UNAVAILABLE);
}

static void run_look(struct job *job)
{
	struct put_stream *s = (struct put_stream *)job;

	transfer_check_unchanged(s->transfer, &s->look_err);
}

static void after_look(struct job *job)
{
	struct put_stream *s = (struct put_stream *)job;

	s->looking = false;
	put_pieces_changed(s->all);
	if (s->err.code != GRPC_OK) /* stopped */
		return;
	if (s->look_err.code != GRPC_OK)
		fail(s, &s->look_err, false, false);
	else
		ask(s);
}

static void on_rested(void *cookie)
{
	struct put_stream *s = cookie;
	struct err err;

	err_clear(&s->err);
	err_clear(&s->look_err);
	s->refused = s->of_way = false;
	if (is_from_sandbox(s)) {
		ask(s);
		return;
	}
	s->job.run = run_look;
	s->job.done = after_look;
	s->looking = true;
	if (workers_submit(s->transfer->workers, s->transfer->loop, &s->job) == 0)
		return;
	s->looking = false;
	err_set(&err, GRPC_RESOURCE_EXHAUSTED, "too many file operations are waiting");
	fail(s, &err, false, false);
}

bool put_stream_retry(struct put_stream *s)
{
	struct transfer *t = s->transfer;
	uint64_t now = loop_now_ms(t->loop);

	if (!s->of_way || !t->put.taken || t->ops->again == NULL)
		return false;
	if (s->timer == NULL && (s->timer = timer_create_on(t->loop, on_rested, s)) == NULL)
		return false;
	if (s->until_ms == 0) {
		s->until_ms = now + TRY_AGAIN_MS;
		s->delay_ms = FIRST_DELAY_MS;
	}
	if (now >= s->until_ms)
		return false;
	s->again = true;
	timer_start(s->timer, s->delay_ms);
	s->delay_ms = 2 * s->delay_ms < LAST_DELAY_MS ? 2 * s->delay_ms : LAST_DELAY_MS;
	return true;
}
