#include "transfer/pass.h"

#include <stdlib.h>
#include <string.h>

#include "proto/codec.h"
#include "proto/scope.h"
#include "transfer/ask.h"

struct pass {
	struct pass_options opt;
	struct framed *get; /* NULL: over */
	struct framed *to;  /* NULL: none yet, or not any more */
	struct digest *digest;
	uint64_t promised; /* bytes of a file that the header speaks of */
	uint64_t bytes;
	uint64_t owed; /* bytes that have come and that the source has no credit for */
	bool whole;    /* the source has said that it was all, and it was */
	bool has_status;
	struct err err; /* how the call ended */
};

void pass_free(struct pass *p)
{
	if (p == NULL)
		return;
	pass_stop(p, NULL);
	digest_free(p->digest);
	free(p);
}

void pass_stop(struct pass *p, const struct err *why)
{
	struct framed *get = p->get;

	p->get = p->to = NULL;
	if (get != NULL)
		framed_cancel(get, why);
}

void pass_onto(struct pass *p, struct framed *to)
{
	p->to = to;
}

bool pass_is_over(const struct pass *p)
{
	return p->get == NULL;
}

uint64_t pass_bytes(const struct pass *p)
{
	return p->bytes;
}

uint64_t pass_left(const struct pass *p)
{
	return p->bytes - p->owed;
}

void pass_digest(const struct pass *p, uint8_t digest[static DIGEST_SIZE])
{
	digest_value(p->digest, digest);
}

void pass_sent(struct pass *p, size_t bytes)
{
	size_t credit = bytes < p->owed ? bytes : (size_t)p->owed;

	p->owed -= credit;
	if (p->get != NULL && credit > 0)
		framed_credit(p->get, credit);
}

static void end(struct pass *p, struct err *err)
{
	if (err->code != GRPC_OK)
		err_wrap(err, "%s", p->opt.from.sandbox);
	p->opt.ended(p->opt.cookie, p->whole, err);
}

static void fail(struct pass *p, struct err *err)
{
	pass_stop(p, err);
	p->whole = false;
	end(p, err);
}

/* All that was to come has, and it is what the source has read. */
static int check_trailer(
    struct pass *p, const Openshell__V1__DownloadFileTrailer *t, struct err *err)
{
	const Towline__V1__Digest *d = t->digest;
	uint8_t digest[DIGEST_SIZE];

	if (p->to == NULL || p->whole)
		return err_set(err, GRPC_INTERNAL, "a trailer where none belongs");
	digest_value(p->digest, digest);
	if (t->bytes != p->bytes || (!p->opt.tree && p->bytes != p->promised) || d == NULL ||
	    d->algorithm != TOWLINE__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_XXH3_128 ||
	    d->value.len != DIGEST_SIZE || memcmp(d->value.data, digest, DIGEST_SIZE) != 0)
		return err_set(
		    err, GRPC_DATA_LOSS, "%s: what came is not what was sent", p->opt.from.path);
	p->whole = true;
	return 0;
}

static void take_trailer(struct pass *p, const Openshell__V1__DownloadFileTrailer *t)
{
	struct err err = { 0 };

	if (check_trailer(p, t, &err) != 0)
		fail(p, &err);
	else if (p->opt.trailer != NULL)
		p->opt.trailer(p->opt.cookie, t);
}

static void take_header(struct pass *p, const Openshell__V1__DownloadFileHeader *h)
{
	p->promised = h->size_bytes;
	p->opt.header(p->opt.cookie, h);
}

static void get_message(void *cookie, const uint8_t *message, size_t len)
{
	struct pass *p = cookie;
	enum guard_result why;
	struct err err;
	Openshell__V1__DownloadFileResponse *r =
	    codec_unpack(&openshell__v1__download_file_response__descriptor, message, len, &why);

	if (r == NULL) {
		err_set(&err, GRPC_INTERNAL, "DownloadFileResponse: %s", guard_text(why));
		fail(p, &err);
	} else if (r->payload_case == OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__PAYLOAD_HEADER) {
		take_header(p, r->header);
	} else if (r->payload_case == OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__PAYLOAD_TRAILER) {
		take_trailer(p, r->trailer);
	} else if (len > 0) {
		err_set(&err, GRPC_INTERNAL, "a message that belongs nowhere in a download");
		fail(p, &err);
	}
	codec_free(r);
}

static void get_payload(void *cookie, struct slice data)
{
	struct pass *p = cookie;
	struct err err;

	digest_update(p->digest, data.data, data.len);
	p->bytes += data.len;
	p->owed += data.len;
	bool belongs = p->to != NULL && !p->whole;
	bool fits = p->opt.tree || p->bytes <= p->promised;
	if (belongs && fits && framed_write(p->to, FRAMED_BYTES, data) == 0)
		return;
	slice_release(&data);
	if (fits)
		err_set(&err, GRPC_INTERNAL, "content where none belongs");
	else
		err_set(&err, GRPC_DATA_LOSS, "%s: more came than was promised", p->opt.from.path);
	fail(p, &err);
}

static void get_end(void *cookie, const struct err *status)
{
	struct pass *p = cookie;

	p->has_status = true;
	p->err = *status;
}

static void get_closed(void *cookie, const struct err *why)
{
	struct pass *p = cookie;
	struct err err = p->has_status ? p->err : *why;

	p->get = p->to = NULL;
	if (!p->has_status || (err.code != GRPC_OK && !p->opt.tree))
		p->whole = false;
	if (!p->whole && err.code == GRPC_OK)
		err_set(
		    &err, GRPC_DATA_LOSS, "%s: it ended before it was complete", p->opt.from.path);
	end(p, &err);
}

static void get_opened(void *cookie)
{
	struct pass *p = cookie;

	if (p->opt.opened != NULL)
		p->opt.opened(p->opt.cookie);
}

static const struct framed_ops get_ops = {
	.payload = get_payload,
	.message = get_message,
	.end = get_end,
	.closed = get_closed,
	.opened = get_opened,
};

/* The beginning. */

static int request(struct pass *p, struct err *err)
{
	const struct pass_options *o = &p->opt;
	Openshell__V1__DownloadFileRequest q = OPENSHELL__V1__DOWNLOAD_FILE_REQUEST__INIT;
	Openshell__Datamodel__V1__WorkspaceSelector scope;

	q.workspace_scope = scope_of_workspace(&scope, o->workspace);
	q.sandbox = (char *)o->from.sandbox;
	q.remote_path = (char *)o->from.path;
	q.as_archive = o->tree;
	if (o->tree && o->compress)
		q.compression = TOWLINE__V1__COMPRESSION__COMPRESSION_ZSTD;
	q.exclude = o->tree ? (char **)o->exclude : NULL;
	while (q.exclude != NULL && q.exclude[q.n_exclude] != NULL)
		q.n_exclude++;
	if (o->etag != NULL)
		q.if_match = (char *)o->etag;
	q.offset = o->offset;
	q.length = o->length;
	return ask(p->get, &q, err);
}

struct pass *pass_start(const struct pass_options *opt, struct err *err)
{
	struct rpc_client_call call = { .path = "/openshell.v1.OpenShell/DownloadFile" };
	struct pass *p = calloc(1, sizeof(*p));

	if (p == NULL || (p->digest = digest_create()) == NULL) {
		free(p);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	p->opt = *opt;
	p->get = framed_call(opt->client, &call, NULL, &get_ops, p, err);
	if (p->get != NULL && request(p, err) == 0)
		return p;
	pass_free(p);
	return NULL;
}
