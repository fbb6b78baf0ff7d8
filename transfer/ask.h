/* transfer/ask.h: requests of which a call has only one. Private to the room. */
#ifndef TRANSFER_ASK_H
#define TRANSFER_ASK_H

#include "base/err.h"
#include "relay/framed.h"

/* Sends ${message}, a struct of a generated type, with its paths as raw_path.h says, and ends
 * our half of ${call}. RESOURCE_EXHAUSTED: no memory; UNAVAILABLE: the call is over. */
int ask(struct framed *call, void *message, struct err *err);

#endif
