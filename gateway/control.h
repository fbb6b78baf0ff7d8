/*
 * gateway/control.h: calls that are answered from the gateway's own state, which is the
 * first loop's.
 *
 * A call may come in on any loop. There its message is decoded; then it is carried to
 * the first loop, where its handler sees a request and gives back a reply or an error,
 * at once or later; that is packed and carried home. When the client is gone by then,
 * the answer is dropped.
 */
#ifndef GATEWAY_CONTROL_H
#define GATEWAY_CONTROL_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "gateway/store.h"
#include "openshell/datamodel/v1/datamodel.pb-c.h"
#include "rpc/call.h"

struct gateway;

/* One call of a client. */
struct control;

/* Answers with control_reply() or control_fail(), exactly once, now or later. The
 * request is the handler's to read until it has answered. First loop. */
typedef void control_handler(struct control *, const void *request);

/* A call of ${handler}'s method with its one message; for rpc_method.request. */
void control_call(struct rpc_call *, struct gateway *, control_handler *handler,
    const uint8_t *message, size_t len);

struct gateway *control_gateway(const struct control *);

/* All three end the control. What is packed of a secret reply is wiped when it is sent. */
void control_reply(struct control *, const ProtobufCMessage *);
void control_reply_secret(struct control *, const ProtobufCMessage *);
void control_fail(struct control *, const struct err *);

/* What many requests have in common. */

/* The workspace a request is about, or NULL when it names none, which for most means
 * "default"; INVALID_ARGUMENT when it chooses all, which only lists may. */
int control_workspace_of(
    const Openshell__Datamodel__V1__WorkspaceSelector *, const char **workspace, struct err *);

/* Fills ${request} and returns it, or NULL when ${request_id} is empty. */
const struct store_request *control_request(struct store_request *request, const char *method,
    const char *workspace, const char *request_id, const char *subject);

/* The handlers, by the file they are in. */
control_handler control_info_health, control_info_user, control_info_gateway;
control_handler control_sandbox_create, control_sandbox_get, control_sandbox_list,
    control_sandbox_delete, control_sandbox_stop, control_sandbox_start;
control_handler control_ssh_create, control_ssh_revoke, control_ssh_list, control_ssh_authenticate;
control_handler control_workspace_create, control_workspace_get, control_workspace_list,
    control_workspace_delete;

#endif
