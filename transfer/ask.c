#include "transfer/ask.h"

#include <stdlib.h>

#include "transfer/raw_path.h"

int ask_more(struct framed *call, const void *request, void *named, struct err *err)
{
	size_t len;
	uint8_t *packed = raw_path_pack(request, named, &len);

	if (packed == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	int r = framed_send(call, packed, len);
	free(packed);
	return r == 0 ? 0 : err_set(err, GRPC_UNAVAILABLE, "the call takes no request");
}

int ask(struct framed *call, void *request, struct err *err)
{
	if (ask_more(call, request, request, err) != 0)
		return -1;
	framed_end(call);
	return 0;
}
