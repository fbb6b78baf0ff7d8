/*
 * transfer/client_files.h: calls of towline.v1.Files, for a client.
 *
 * Those with one answer and those with many alike: each message comes whole, then the
 * end. What is not taken fast enough waits at the other side.
 */
#ifndef TRANSFER_CLIENT_FILES_H
#define TRANSFER_CLIENT_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "rpc/client.h"

struct client_files;

struct client_files_ops {
	/* A packed message; borrowed. */
	void (*message)(void *cookie, const uint8_t *message, size_t len);
	/* Once, last; the handle is dead. code GRPC_OK: that was all. */
	void (*done)(void *cookie, const struct err *);
};

/* ${method} is "StatFile"; ${request} is a struct of the generated type of its requests. Its
 * paths may be of any bytes; it is as before then. NULL: no memory, or no connection. */
struct client_files *client_files_start(struct rpc_client *, const char *method, void *request,
    const struct client_files_ops *, void *cookie, struct err *);

/* No callback after. */
void client_files_cancel(struct client_files *);

#endif
