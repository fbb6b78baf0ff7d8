#include "transfer/prefix_digest.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "proto/scope.h"
#include "relay/framed.h"
#include "transfer/ask.h"

struct prefix_digest {
	struct prefix_digest_options opt;
	struct framed *call;
	bool known;
	uint8_t digest[DIGEST_SIZE];
	struct err err;
};

static void call_message(void *cookie, const uint8_t *message, size_t len)
{
	struct prefix_digest *p = cookie;
	enum guard_result why;
	Openshell__V1__DownloadFileResponse *r =
	    codec_unpack(&openshell__v1__download_file_response__descriptor, message, len, &why);

	if (r != NULL &&
	    r->payload_case == OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__PAYLOAD_TRAILER) {
		const Towline__V1__Digest *d = r->trailer->digest;

		p->known = d != NULL && d->value.len == DIGEST_SIZE &&
		    d->algorithm == TOWLINE__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_XXH3_128 &&
		    r->trailer->bytes == 0 && r->trailer->digest_bytes == p->opt.bytes;
		if (p->known)
			memcpy(p->digest, d->value.data, DIGEST_SIZE);
	}
	codec_free(r);
}

/* Of a file of that etag there is nothing behind its end, and of another we need nothing. */
static void call_payload(void *cookie, struct slice data)
{
	struct prefix_digest *p = cookie;
	size_t len = data.len;

	slice_release(&data);
	framed_credit(p->call, len);
}

static void call_end(void *cookie, const struct err *status)
{
	struct prefix_digest *p = cookie;

	p->err = *status;
	p->known = p->known && status->code == GRPC_OK;
}

static void call_closed(void *cookie, const struct err *why)
{
	struct prefix_digest *p = cookie;

	if (!p->known && p->err.code == GRPC_OK)
		p->err = *why;
	p->opt.ended(p->opt.cookie, p->known ? p->digest : NULL, &p->err);
	free(p);
}

static const struct framed_ops call_ops = {
	.payload = call_payload,
	.message = call_message,
	.end = call_end,
	.closed = call_closed,
};

static int request(struct prefix_digest *p, struct err *err)
{
	Openshell__V1__DownloadFileRequest q = OPENSHELL__V1__DOWNLOAD_FILE_REQUEST__INIT;
	Openshell__Datamodel__V1__WorkspaceSelector scope;
	struct rpc_client_call c = { .path = "/openshell.v1.OpenShell/DownloadFile" };

	q.sandbox = (char *)p->opt.sandbox;
	q.remote_path = (char *)p->opt.path;
	q.offset = q.prefix_bytes = p->opt.bytes;
	q.length = 1;
	q.if_match = (char *)p->opt.etag;
	q.workspace_scope = scope_of_workspace(&scope, p->opt.workspace);
	p->call = framed_call(p->opt.client, &c, NULL, &call_ops, p, err);
	return p->call != NULL ? ask(p->call, &q, err) : -1;
}

struct prefix_digest *prefix_digest_start(const struct prefix_digest_options *opt, struct err *err)
{
	struct prefix_digest *p = calloc(1, sizeof(*p));

	if (p == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	p->opt = *opt;
	if (request(p, err) == 0)
		return p;
	if (p->call != NULL)
		framed_cancel(p->call, NULL);
	free(p);
	return NULL;
}

void prefix_digest_cancel(struct prefix_digest *p)
{
	framed_cancel(p->call, NULL);
	free(p);
}
