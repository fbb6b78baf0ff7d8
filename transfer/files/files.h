/*
 * transfer/files/files.h: operations on files. Private to the room.
 *
 * Such an operation is a function that runs on a worker, again and again while it says
 * that there is more to do: so one that takes long lets others have the worker in
 * between, and ends when its caller is gone. Each time it may leave a message to send.
 * While a slow client has not taken what was sent, it is not run.
 */
#ifndef TRANSFER_FILES_FILES_H
#define TRANSFER_FILES_FILES_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "base/beneath.h"
#include "transfer/files/file_info.h"
#include "transfer/transfers.h"

#define FILES_WATCHES_MAX 64                  /* watches last, and must not use TRANSFER_MAX up */
#define FILES_SLICE_MS    20                  /* on a worker, until others have a turn */
#define FILES_BATCH_BYTES ((size_t)32 << 10)  /* of a stream's message, and one entry more */
#define FILES_QUEUE_HIGH  ((size_t)256 << 10) /* bytes under way to a client */
#define FILES_RETRY_MS    20 /* when the workers' queue is full in the middle of a stream */

/* Where a path is looked up. */
struct files_place {
	int root; /* borrowed */
	const char *rest;
	enum beneath_links links;
};

/* INVALID_ARGUMENT: it is empty, which ${field} names. */
int files_place(const struct transfers *, const char *path, const char *field, struct files_place *,
    struct err *);

/* The patterns of a request; NULL if there are none. */
struct ignore;
int files_exclude(char *const *patterns, size_t count, struct ignore **, struct err *);

/* One call, as its operation sees it. */
struct files_call {
	const struct transfers *transfers;
	const void *request;
	void *state;           /* files_op.state bytes, zeroed at first */
	struct file_info info; /* to fill and point to in the reply */
	uint8_t *reply;        /* packed; NULL: none this time */
	size_t reply_len;
	int wait_fd;      /* FILES_WAIT: readable; the same one each time */
	uint64_t wait_ms; /* and at the latest after; 0: no matter how long */
};

enum files_result {
	FILES_FAILED = -1,
	FILES_DONE,
	FILES_MORE, /* run again */
	FILES_WAIT  /* run again when there is something to read */
};

struct files_op {
	const ProtobufCMessageDescriptor *request;
	size_t state;
	bool lasts; /* until its caller ends it: counted by itself as well */
	enum files_result (*run)(struct files_call *, struct err *); /* on a worker */
	void (*end)(
	    void *state); /* once, whatever happened; on a worker if there is room; or NULL */
};

/* Sets the answer. FILES_DONE, or FILES_FAILED without memory. */
enum files_result files_reply(struct files_call *, const ProtobufCMessage *, struct err *);

/* Adds to a message of a stream: packed messages of one type, one behind the other, are one
 * with the lists of all. -1: no memory. */
int files_batch(struct text *, const ProtobufCMessage *, struct err *);

/* Sets the answer to what has been added, if anything has. ${result}, or FILES_FAILED
 * without memory. */
enum files_result files_send(
    struct files_call *, struct text *, enum files_result result, struct err *);

/* Serves one. */
void files_serve(
    struct transfers *, struct framed *, const struct channel_request *, const struct files_op *);

/* The operations, each in a file of its own. */
extern const struct files_op files_stat, files_mkdir, files_move, files_remove, files_list,
    files_watch;

#endif
