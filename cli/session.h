/*
 * cli/session.h: one loop and one connection to the gateway, for the life of a verb; or
 * several, where one file goes in several streams.
 *
 * A verb is told from top to bottom: it starts something, waits for it with
 * session_wait(), and goes on. While it waits the loop runs; nothing else does.
 */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/worker.h"
#include "cli/cli.h"
#include "cli/names.h"
#include "openshell/datamodel/v1/datamodel.pb-c.h"
#include "rpc/client.h"

struct session;

#define SESSION_CALL_MS 30000 /* a control call */
#define SESSION_FOREVER UINT64_MAX

#define SESSION_LIST_MAX    100000 /* of one list, from page to page */
#define SESSION_CLIENTS_MAX 16     /* connections; as many as a file may have streams */

/* Finds out which gateway is meant and connects to it; that it cannot be reached is told
 * by the first call. ${cli} is lent. */
struct session *session_open(const struct cli *, struct err *);
void session_close(struct session *); /* NULL is legal */

struct loop *session_loop(struct session *);
const struct cli *session_cli(const struct session *);
const char *session_endpoint(const struct session *);
const char *session_gateway(const struct session *); /* its name; NULL: known by its address only */
struct names session_names(const struct session *);

/* The connection; a new one if the last has ended. NULL: no memory. */
struct rpc_client *session_client(struct session *, struct err *);

/* Likewise, one of SESSION_CLIENTS_MAX; number 0 is that one. */
struct rpc_client *session_client_at(struct session *, size_t number, struct err *);

/* Threads for what blocks, made when first asked for. */
struct workers *session_workers(struct session *, struct err *);

/* Something to wait for. session_done() ends the waiting, from a callback, once. */
struct session_wait {
	struct session *session;
	bool done;
	struct err err;
};
void session_done(struct session_wait *, const struct err *); /* NULL: all is well */

/* Runs the loop until it is done. Its error, or DEADLINE_EXCEEDED after ${ms}. */
int session_wait(struct session *, struct session_wait *, uint64_t ms, struct err *);

/* A call with one message each way; ${reply} is freed with codec_free(). ${method} is of
 * openshell.v1.OpenShell, or a whole path: "/towline.v1.Files/StatFile". */
int session_call(struct session *, const char *method, const ProtobufCMessage *request,
    const ProtobufCMessageDescriptor *reply_type, void **reply, struct err *);

/* Whether a list goes on behind a page of ${entries}, to which ${token} is its own: 1, 0 at its
 * end. -1: it has too many, or no end; ${count} is of all so far, at first 0. */
int session_list_goes_on(const char *token, size_t entries, size_t *count, struct err *);

/* The workspace as requests name it, in memory of the session's; NULL: the default. */
Openshell__Datamodel__V1__WorkspaceSelector *session_scope(struct session *);

#endif
