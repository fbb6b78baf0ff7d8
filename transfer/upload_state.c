/* QueryUpload and AbortUpload: about an upload by its id and target, running or not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "towline/v1/files.pb-c.h"
#include "transfer/journal.h"
#include "transfer/place.h"
#include "transfer/raw_path.h"
#include "transfer/transfers.h"

struct upload_state {
	struct job job; /* first */
	struct transfers *transfers;
	struct framed *call; /* NULL: the client is gone */
	bool forget;
	char *path;
	char id[JOURNAL_ID_MAX + 1];
	struct place_state state;
	struct err err;
};

static void state_free(struct upload_state *s)
{
	transfers_leave(s->transfers, false);
	free(s->path);
	free(s);
}

static void call_message(void *cookie, const uint8_t *message, size_t len)
{
	(void)cookie;
	(void)message;
	(void)len;
}

static void call_end(void *cookie, const struct err *status)
{
	(void)cookie;
	(void)status;
}

static void call_closed(void *cookie, const struct err *why)
{
	(void)why;
	((struct upload_state *)cookie)->call = NULL;
}

static void answered_closed(void *cookie, const struct err *why)
{
	(void)cookie;
	(void)why;
}

static const struct framed_ops call_ops = {
	.message = call_message,
	.end = call_end,
	.closed = call_closed,
};

/* Of a call that is answered and has nothing behind it. */
static const struct framed_ops answered_ops = {
	.message = call_message,
	.end = call_end,
	.closed = answered_closed,
};

static void run(struct job *job)
{
	struct upload_state *s = (struct upload_state *)job;
	struct place_options o = { .workdir = s->transfers->workdir,
		.slash = s->transfers->slash,
		.path = s->path,
		.id = s->id,
		.claims = s->transfers->claims };

	if (s->forget)
		place_forget(&o, &s->err);
	else
		place_query(&o, &s->state, &s->err);
}

static void answer(struct upload_state *s)
{
	Towline__V1__QueryUploadResponse query = TOWLINE__V1__QUERY_UPLOAD_RESPONSE__INIT;
	Towline__V1__AbortUploadResponse abort = TOWLINE__V1__ABORT_UPLOAD_RESPONSE__INIT;
	const ProtobufCMessage *message = s->forget ? &abort.base : &query.base;
	Towline__V1__ByteRange ranges[RANGES_MAX], *at[RANGES_MAX];
	size_t len;

	query.durable_bytes = s->state.durable;
	query.size_bytes = s->state.size;
	query.complete = s->state.complete;
	query.durable_ranges = at;
	query.n_durable_ranges = s->state.ranges.count;
	for (size_t i = 0; i < s->state.ranges.count; i++) {
		const struct range *r = &s->state.ranges.at[i];

		ranges[i] = (Towline__V1__ByteRange)TOWLINE__V1__BYTE_RANGE__INIT;
		ranges[i].offset = r->begin;
		ranges[i].bytes = r->end - r->begin;
		at[i] = &ranges[i];
	}
	uint8_t *packed = codec_pack_new(message, &len);
	if (s->err.code == GRPC_OK && (packed == NULL || framed_send(s->call, packed, len) != 0))
		err_set(&s->err, GRPC_INTERNAL, "the answer could not be sent");
	free(packed);
	framed_bind(s->call, &answered_ops, NULL);
	framed_finish(s->call, s->err.code == GRPC_OK ? NULL : &s->err);
}

static void done(struct job *job)
{
	struct upload_state *s = (struct upload_state *)job;

	if (s->call != NULL)
		answer(s);
	state_free(s);
}

static int check(const char *path, const char *id, struct err *err)
{
	if (!journal_id_is_valid(id))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "upload_id: 1 to %d characters of A-Z, a-z, 0-9, _ and - make one",
		    JOURNAL_ID_MAX);
	if (path[0] == '\0')
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "remote_path: empty; name the file that is uploaded");
	return 0;
}

static int start(struct transfers *t, struct framed *call, const char *path, const char *id,
    bool forget, struct err *err)
{
	struct upload_state *s;

	if (check(path, id, err) != 0 || transfers_enter(t, false, err) != 0)
		return -1;
	if ((s = calloc(1, sizeof(*s))) == NULL) {
		transfers_leave(t, false);
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	}
	*s = (struct upload_state){ .job = { .run = run, .done = done },
		.transfers = t,
		.call = call,
		.forget = forget,
		.path = strdup(path) };
	snprintf(s->id, sizeof(s->id), "%s", id);
	if (s->path == NULL)
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	else if (workers_submit(t->workers, t->loop, &s->job) != 0)
		err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "too many file operations are waiting; try again");
	if (err->code != GRPC_OK) {
		state_free(s);
		return -1;
	}
	framed_bind(call, &call_ops, s);
	return 0;
}

void transfer_serve_query_upload(
    struct transfers *t, struct framed *call, const struct channel_request *r)
{
	enum guard_result why;
	struct err err = { 0 };
	Towline__V1__QueryUploadRequest *m = codec_unpack(
	    &towline__v1__query_upload_request__descriptor, r->first_message, r->first_len, &why);

	if (m == NULL)
		err_set(&err, (enum grpc_code)guard_status(why), "QueryUploadRequest: %s",
		    guard_text(why));
	else if (raw_path_take(m, &err) == 0)
		start(t, call, m->remote_path, m->upload_id, false, &err);
	codec_free(m);
	if (err.code != GRPC_OK)
		framed_finish(call, &err);
}

void transfer_serve_abort_upload(
    struct transfers *t, struct framed *call, const struct channel_request *r)
{
	enum guard_result why;
	struct err err = { 0 };
	Towline__V1__AbortUploadRequest *m = codec_unpack(
	    &towline__v1__abort_upload_request__descriptor, r->first_message, r->first_len, &why);

	if (m == NULL)
		err_set(&err, (enum grpc_code)guard_status(why), "AbortUploadRequest: %s",
		    guard_text(why));
	else if (raw_path_take(m, &err) == 0)
		start(t, call, m->remote_path, m->upload_id, true, &err);
	codec_free(m);
	if (err.code != GRPC_OK)
		framed_finish(call, &err);
}
