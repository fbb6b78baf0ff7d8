/*
 * transfer/files.h: operations on files that have one answer. Private to the room.
 *
 * Such an operation is a function that runs on a worker, again and again while it says
 * that there is more to do: so one that takes long lets others have the worker in
 * between, and ends when its caller is gone.
 */
#ifndef TRANSFER_FILES_H
#define TRANSFER_FILES_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "base/beneath.h"
#include "transfer/file_info.h"
#include "transfer/transfers.h"

#define FILES_SLICE_MS 20 /* on a worker, until others have a turn */

/* Where a path is looked up. */
struct files_place {
	int root; /* borrowed */
	const char *rest;
	enum beneath_links links;
};

/* INVALID_ARGUMENT: it is empty, which ${field} names. */
int files_place(const struct transfers *, const char *path, const char *field, struct files_place *,
    struct err *);

/* One call, as its operation sees it. */
struct files_call {
	const struct transfers *transfers;
	const void *request;
	void *state;           /* files_op.state bytes, zeroed at first */
	struct file_info info; /* to fill and point to in the reply */
	uint8_t *reply;        /* packed; files_reply() sets it */
	size_t reply_len;
};

enum files_result { FILES_FAILED = -1, FILES_DONE, FILES_MORE };

struct files_op {
	const ProtobufCMessageDescriptor *request;
	size_t state;
	enum files_result (*run)(struct files_call *, struct err *); /* on a worker */
	void (*end)(void *state); /* once, whatever happened; on a worker or the loop; or NULL */
};

/* Sets the answer. FILES_DONE, or FILES_FAILED without memory. */
enum files_result files_reply(struct files_call *, const ProtobufCMessage *, struct err *);

/* Serves one. */
void files_serve(
    struct transfers *, struct framed *, const struct channel_request *, const struct files_op *);

/* The operations, each in a file of its own. */
extern const struct files_op files_stat, files_mkdir, files_move, files_remove;

#endif
