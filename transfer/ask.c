#include "transfer/ask.h"

#include <stdlib.h>

#include "transfer/raw_path.h"

int ask(struct framed *call, void *message, struct err *err)
{
	size_t len;
	uint8_t *packed = raw_path_pack(message, message, &len);

	if (packed == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	int r = framed_send(call, packed, len);
	free(packed);
	if (r != 0)
		return err_set(err, GRPC_UNAVAILABLE, "the call takes no request");
	framed_end(call);
	return 0;
}
