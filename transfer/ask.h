/* transfer/ask.h: requests, packed and sent, with paths of any bytes. Private to the room. */
#ifndef TRANSFER_ASK_H
#define TRANSFER_ASK_H

#include "base/err.h"
#include "relay/framed.h"

/* Sends ${request}, a struct of a generated type, as the only message of ${call}: ends our half of
 * it. Paths go as raw_path.h says. RESOURCE_EXHAUSTED: no memory; UNAVAILABLE: the call is over. */
int ask(struct framed *call, void *request, struct err *err);

/* The same of one behind which more comes; ${named} is the message in it that has the paths. */
int ask_more(struct framed *call, const void *request, void *named, struct err *err);

#endif
