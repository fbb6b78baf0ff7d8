/* transfer/put_state.h: what QueryUpload says of an upload. Private to the room. */
#ifndef TRANSFER_PUT_STATE_H
#define TRANSFER_PUT_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transfer/ranges.h"

struct put_state {
	struct ranges durable;
	/* Whether that shows that the supervisor knows pieces, or that it does not. */
	bool knows_pieces, knows_none;
};

/* False: it says nothing of a file of ${size} bytes; ${durable} is none then. ${finished}: the
 * file may be in its place by an earlier attempt of ours. */
bool put_state_read(
    struct put_state *, const uint8_t *reply, size_t len, uint64_t size, bool finished);

#endif
