#include "transfer/fetch_stream.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/scope.h"
#include "transfer/ask.h"

#define BATCH         ((size_t)512 << 10) /* bytes of a job, or one slice */
#define PREFIX_A_TURN ((uint64_t)64 << 20)

/* Holes are queued with the slices; they have no bytes, only a length. */
static const uint8_t hole_mark[1];

static bool is_hole(const struct slice *s)
{
	return s->data == hole_mark;
}

void fetch_stream_free(struct fetch_stream *s)
{
	timer_free(s->timer);
	s->timer = NULL;
	digest_free(s->digest);
	s->digest = NULL;
	bufq_free(&s->waiting);
	bufq_free(&s->batch);
}

/* On a worker. */

static void digest_zeros(struct digest *digest, uint64_t n)
{
	static const uint8_t zeros[16384];

	for (uint64_t part; n > 0; n -= part) {
		part = n < sizeof(zeros) ? n : sizeof(zeros);
		digest_update(digest, zeros, (size_t)part);
	}
}

/* What is there of the range belongs to its digest. */
static void run_digest(struct job *job)
{
	struct fetch_stream *s = (struct fetch_stream *)job;
	uint64_t n = s->begun_at - s->digested;

	n = n < PREFIX_A_TURN ? n : PREFIX_A_TURN;
	if (stash_digest(s->fetch->stash, s->range, s->digested, n, s->digest, &s->file_err) == 0)
		s->digested += n;
}

static void write_one(struct fetch_stream *s, const struct slice *slice)
{
	struct stash *stash = s->fetch->stash;

	if (is_hole(slice)) {
		digest_zeros(s->digest, slice->len);
		stash_skip(stash, s->range, slice->len);
	} else {
		digest_update(s->digest, slice->data, slice->len);
		stash_write(stash, s->range, slice->data, slice->len, &s->file_err);
	}
	s->digested += slice->len;
}

static void run_write(struct job *job)
{
	struct fetch_stream *s = (struct fetch_stream *)job;

	for (struct slice slice; (slice = bufq_pop(&s->batch, SIZE_MAX)).len > 0;
	     slice_release(&slice))
		if (s->file_err.code == GRPC_OK)
			write_one(s, &slice);
	if (s->file_err.code == GRPC_OK)
		stash_mark(s->fetch->stash, s->range, &s->file_err);
}

/* On the loop. */

/* Credit for all that came but what is held beyond FETCH_AHEAD: the network goes on while the
 * disk is written, and a slow disk stops it. */
static void give_credit(struct fetch_stream *s)
{
	size_t held = s->held + s->batch_held;
	size_t owed = held > FETCH_AHEAD ? held - FETCH_AHEAD : 0;

	if (s->uncredited <= owed)
		return;
	size_t n = s->uncredited - owed;
	s->uncredited = owed;
	if (s->call != NULL)
		framed_credit(s->call, n);
}

static void after_job(struct job *job)
{
	struct fetch_stream *s = (struct fetch_stream *)job;

	s->busy = false;
	s->batch_held = 0;
	s->there = stash_range(s->fetch->stash, s->range).done;
	bufq_free(&s->batch); /* what is left there after a failure */
	give_credit(s);
	fetch_moved(s->fetch);
	if (s->file_err.code != GRPC_OK)
		fetch_stream_stop(s, &s->file_err);
	else
		fetch_stream_step(s);
}

static void submit(struct fetch_stream *s, void (*run)(struct job *))
{
	struct fetch *f = s->fetch;

	s->busy = true;
	s->job.run = run;
	s->job.done = after_job;
	if (workers_submit(f->opt.workers, f->opt.loop, &s->job) == 0)
		return;
	err_set(&s->file_err, GRPC_RESOURCE_EXHAUSTED, "too many file operations are waiting");
	after_job(&s->job);
}

static void fill_batch(struct fetch_stream *s)
{
	while (s->waiting.count > 0 && s->batch_held < BATCH) {
		struct slice slice = bufq_pop(&s->waiting, SIZE_MAX);
		size_t held = is_hole(&slice) ? 0 : slice.len;

		if (bufq_push(&s->batch, slice) != 0) {
			slice_release(&slice);
			err_set(&s->file_err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
			return;
		}
		s->held -= held;
		s->batch_held += held;
	}
}

/* All has come and is written. */
static void check_end(struct fetch_stream *s)
{
	uint8_t digest[DIGEST_SIZE];

	digest_value(s->digest, digest);
	if (memcmp(digest, s->expected, sizeof(digest)) == 0)
		s->complete = true;
	else
		err_set(&s->err, GRPC_DATA_LOSS,
		    "%s: the digest of what came is not that of what was sent",
		    s->fetch->opt.remote);
	s->active = false;
	fetch_stream_over(s->fetch, s);
}

void fetch_stream_step(struct fetch_stream *s)
{
	bool is_ready = !s->fetch->asking;

	if (!s->active || s->busy || s->fetch->busy || (!is_ready && s->call != NULL))
		return;
	if (s->file_err.code == GRPC_OK && is_ready) {
		if (s->digested < s->begun_at && s->err.code == GRPC_OK) {
			submit(s, run_digest);
			return;
		}
		if (s->digested >= s->begun_at && s->waiting.count > 0) {
			fill_batch(s);
			submit(s, run_write);
			return;
		}
		if (s->has_trailer && s->call == NULL && s->err.code == GRPC_OK) {
			check_end(s);
			return;
		}
	}
	if (s->call != NULL)
		return;
	s->active = false;
	if (s->file_err.code != GRPC_OK)
		s->err = s->file_err;
	fetch_stream_over(s->fetch, s);
}

void fetch_stream_stop(struct fetch_stream *s, const struct err *why)
{
	struct framed *call = s->call;

	if (!s->active)
		return;
	if (s->err.code == GRPC_OK)
		s->err = *why;
	s->call = NULL;
	if (call != NULL)
		framed_cancel(call, why);
	fetch_stream_step(s);
}

void fetch_stream_drop(struct fetch_stream *s)
{
	framed_cancel(s->call, NULL);
	s->call = NULL;
	s->active = false;
}

static int lies(struct fetch_stream *s, const char *how)
{
	struct err err;

	err_set(&err, GRPC_DATA_LOSS, "%s: %s", s->fetch->opt.remote, how);
	fetch_stream_stop(s, &err);
	return -1;
}

/* Takes the slice, always. */
static void push(struct fetch_stream *s, struct slice slice)
{
	struct err err;

	if (!s->has_header || s->has_trailer || slice.len > s->to_come) {
		slice_release(&slice);
		lies(
		    s, s->has_header ? "more came than was promised" : "content before its header");
		return;
	}
	s->to_come -= slice.len;
	s->progress += slice.len;
	if (bufq_push(&s->waiting, slice) == 0) {
		fetch_stream_step(s);
		return;
	}
	slice_release(&slice);
	err_set(&err, GRPC_RESOURCE_EXHAUSTED, "the chunks are too small and too many");
	fetch_stream_stop(s, &err);
}

static void call_payload(void *cookie, struct slice data)
{
	struct fetch_stream *s = cookie;

	s->wire += data.len;
	s->uncredited += data.len;
	s->held += data.len;
	push(s, data);
	give_credit(s);
}

/* What is asked for goes to the end of the range; nothing else may come. */
static int take_header(struct fetch_stream *s, const Openshell__V1__DownloadFileHeader *h)
{
	struct fetch *f = s->fetch;

	if (s->has_header || h->is_archive)
		return lies(s, "a header that does not belong here");
	s->has_header = true;
	s->to_come = h->size_bytes;
	if (f->asking) {
		fetch_header(f, h);
		return 0;
	}

	struct stash_range r = stash_range(f->stash, s->range);
	uint64_t total = h->total_bytes != 0 ? h->total_bytes : h->size_bytes;
	if (total != f->source.total || strcmp(h->etag, f->source.etag) != 0 ||
	    h->size_bytes != r.end - r.begin - s->begun_at)
		return lies(s, "it is not the file that was asked for");
	fetch_header(f, h);
	return 0;
}

static int take_trailer(struct fetch_stream *s, const Openshell__V1__DownloadFileTrailer *t)
{
	const Towline__V1__Digest *d = t->digest;

	if (!s->has_header || s->has_trailer)
		return lies(s, "a trailer where none belongs");
	if (s->to_come != 0)
		return lies(s, "less came than was promised");
	if (d == NULL || d->value.len != DIGEST_SIZE ||
	    d->algorithm != TOWLINE__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_XXH3_128 ||
	    (s->begun_at != 0 && t->digest_bytes != s->begun_at + s->progress))
		return lies(s, "there is no digest that says whether it is right");
	s->has_trailer = true;
	memcpy(s->expected, d->value.data, DIGEST_SIZE);
	fetch_stream_step(s);
	return 0;
}

static void call_message(void *cookie, const uint8_t *message, size_t len)
{
	struct fetch_stream *s = cookie;
	enum guard_result why;
	Openshell__V1__DownloadFileResponse *r =
	    codec_unpack(&openshell__v1__download_file_response__descriptor, message, len, &why);

	if (r == NULL)
		lies(s, guard_text(why));
	else if (r->payload_case == OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__PAYLOAD_HEADER)
		take_header(s, r->header);
	else if (r->payload_case == OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__PAYLOAD_TRAILER)
		take_trailer(s, r->trailer);
	else if (r->payload_case == OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__PAYLOAD_HOLE_BYTES)
		push(s, (struct slice){ .data = hole_mark, .len = r->hole_bytes });
	else if (len > 0)
		lies(s, "a message that belongs nowhere in a download");
	codec_free(r);
}

static void call_over(struct fetch_stream *s, const struct err *status)
{
	if (s->has_trailer || s->err.code != GRPC_OK)
		return;
	if (status != NULL && status->code != GRPC_OK)
		s->err = *status;
	else
		err_set(&s->err, GRPC_DATA_LOSS, "%s: the download ended before it was complete",
		    s->fetch->opt.remote);
}

static void call_end(void *cookie, const struct err *status)
{
	call_over(cookie, status);
}

static void call_closed(void *cookie, const struct err *why)
{
	struct fetch_stream *s = cookie;

	s->call = NULL;
	if (why->code == GRPC_CANCELLED && !s->has_trailer && s->err.code == GRPC_OK)
		err_set(&s->err, GRPC_UNAVAILABLE, "%s", why->text); /* by somebody on the way */
	call_over(s, why);
	fetch_stream_step(s);
}

static const struct framed_ops call_ops = {
	.payload = call_payload,
	.message = call_message,
	.end = call_end,
	.closed = call_closed,
};

/* The beginning of a call. */

static int send_request(struct fetch_stream *s, uint64_t length)
{
	const struct fetch *f = s->fetch;
	Openshell__V1__DownloadFileRequest q = OPENSHELL__V1__DOWNLOAD_FILE_REQUEST__INIT;
	Openshell__Datamodel__V1__WorkspaceSelector scope;

	q.sandbox = (char *)f->opt.sandbox;
	q.remote_path = (char *)f->opt.remote;
	q.sparse_ok = true;
	if (!f->asking) {
		q.if_match = (char *)f->source.etag;
		q.offset = stash_range(f->stash, s->range).begin + s->begun_at;
		q.prefix_bytes = s->begun_at;
		q.length = length;
	}
	q.workspace_scope = scope_of_workspace(&scope, f->opt.workspace);
	return ask(s->call, &q, &s->err);
}

/* Where the range stands; what is there is hashed again only if it is an earlier
 * command's. A range that is all there has its last byte sent again, for the digest. */
static uint64_t find_place(struct fetch_stream *s)
{
	struct fetch *f = s->fetch;
	uint64_t length = 0;

	s->begun_at = 0;
	s->there = 0;
	if (!f->asking) {
		struct stash_range r = stash_range(f->stash, s->range);

		length = r.end - r.begin;
		if (r.done == length && length > 0) {
			stash_rewind(f->stash, s->range);
			r.done--;
		}
		s->begun_at = r.done;
		length -= r.done;
		s->there = r.done;
	}
	if (s->digested != s->begun_at) {
		digest_reset(s->digest);
		s->digested = 0;
		s->used_earlier = s->begun_at > 0;
	}
	return length;
}

int fetch_stream_start(struct fetch_stream *s)
{
	struct fetch *f = s->fetch;
	struct rpc_client_call call = { .path = "/openshell.v1.OpenShell/DownloadFile" };
	struct rpc_client *client = f->opt.client;

	s->has_header = s->has_trailer = s->complete = false;
	s->to_come = s->progress = 0;
	s->uncredited = 0;
	err_clear(&s->err);
	err_clear(&s->file_err);
	if (s->digest == NULL && (s->digest = digest_create()) == NULL)
		return err_set(&s->err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	bufq_free(&s->waiting); /* what a failure has left there */
	bufq_init(&s->waiting, FETCH_SLICES_MAX, SIZE_MAX);
	bufq_init(&s->batch, FETCH_SLICES_MAX, SIZE_MAX);
	s->held = s->batch_held = 0;
	if (f->opt.again != NULL &&
	    (client = f->opt.again(f->opt.cookie, s->range, &s->err)) == NULL)
		return -1;
	uint64_t length = find_place(s);
	if ((s->call = framed_call(client, &call, NULL, &call_ops, s, &s->err)) == NULL)
		return -1;
	s->active = true;
	if (send_request(s, length) == 0) {
		fetch_stream_step(s);
		return 0;
	}
	framed_cancel(s->call, &s->err);
	s->call = NULL;
	s->active = false;
	return -1;
}
