/* transfer/client_transfer.h: a transfer as client.c, put.c and get.c share it. Private
 * to the room. */
#ifndef TRANSFER_CLIENT_TRANSFER_H
#define TRANSFER_CLIENT_TRANSFER_H

#include "towline/v1/files.pb-c.h"
#include "transfer/client.h"
#include "transfer/fetch.h"
#include "transfer/flow.h"

struct transfer {
	struct job job; /* first; opens the local side, while ${working} */
	struct loop *loop;
	struct rpc_client *client;
	struct workers *workers;
	char *sandbox, *workspace, *local, *remote;
	int user_fd; /* borrowed; -1: ${local} */
	int fd;      /* opened here, until a flow takes it */
	bool recursive;
	uint32_t mode;
	bool git_ignore, follow_links, compress;
	struct ignore *exclude; /* of an upload; NULL: none, or the flow has it */
	uint64_t offset, length;
	const struct transfer_ops *ops;
	void *cookie;

	bool working;
	struct framed *call; /* NULL: over */
	struct outflow *out;
	struct inflow *in;
	struct fetch *fetch; /* of a file's download, instead of a call and a flow */
	struct timer *progress;
	uint64_t moved, total;
	uint64_t sent; /* bytes the far end says it has sent, of a download */
	bool answered; /* the message that says all went well has come */
	struct transfer_result result;
	struct err err; /* the first thing that went wrong */
	struct post post;
};

/* The request's strings are copied. */
struct transfer *transfer_create(struct loop *, const struct transfer_request *, struct err *);
void transfer_free_unstarted(struct transfer *);

int transfer_call(struct transfer *, const char *path, const struct framed_ops *, struct err *);

/* Ends everything that still runs; done() comes when it has. */
void transfer_fail(struct transfer *, const struct err *);

/* To be called whenever one of the call, the job and the flows is over. */
void transfer_check_done(struct transfer *);

/* The far end's part of what became of a tree: counted, and told. */
void transfer_take_report(struct transfer *, const Towline__V1__TreeReport *);

/* flow_env.note, with the transfer as cookie. */
void transfer_note(void *cookie, const char *text);

#endif
