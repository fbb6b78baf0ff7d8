/* interop/input.h: StreamingInputCall, which adds up the payload sent to it. */
#ifndef INTEROP_INPUT_H
#define INTEROP_INPUT_H

#include "rpc/call.h"

void input_open(struct rpc_call *, void *app);

#endif
