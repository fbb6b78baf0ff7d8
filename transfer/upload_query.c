/* QueryUpload and AbortUpload. */
#include "transfer/serve.h"

static void refuse(struct framed *call)
{
	struct err err;

	err_set(&err, GRPC_UNIMPLEMENTED, "resumable uploads are not served");
	framed_finish(call, &err);
}

void transfer_serve_query_upload(
    struct transfers *t, struct framed *call, const struct channel_request *r)
{
	(void)t;
	(void)r;
	refuse(call);
}

void transfer_serve_abort_upload(
    struct transfers *t, struct framed *call, const struct channel_request *r)
{
	(void)t;
	(void)r;
	refuse(call);
}
