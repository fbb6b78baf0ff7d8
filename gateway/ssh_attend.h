/*
 * gateway/ssh_attend.h: towline.v1.SshEndpoint/Attend: which connections an endpoint has,
 * and which sessions have ended.
 *
 * A stream counts the connections that it reports for as long as it lasts. An endpoint whose
 * stream broke opens another and reports what it has; of sessions that ended meanwhile it
 * hears then. Nothing is queued without an end: a stream that is behind is ended.
 */
#ifndef GATEWAY_SSH_ATTEND_H
#define GATEWAY_SSH_ATTEND_H

#include "base/err.h"
#include "gateway/ssh_endpoints.h"
#include "gateway/ssh_sessions.h"
#include "rpc/call.h"

#define SSH_ATTEND_STREAMS_MAX     256   /* at once; of an endpoint the newest counts */
#define SSH_ATTEND_CONNECTIONS_MAX 16384 /* of one stream */
#define SSH_ATTEND_EVENTS_MAX      4096  /* not yet taken by the stream's loop */
#define SSH_ATTEND_QUEUE_MAX       ((size_t)256 << 10) /* bytes not yet taken by the endpoint */
#define SSH_ATTEND_MESSAGE_MAX     ((size_t)16 << 10)  /* of one report */
#define SSH_ATTEND_HELLO_MS        10000               /* for the first report */

struct ssh_attends;

struct ssh_attends *ssh_attends_create(struct ssh_sessions *, struct ssh_endpoints *, struct err *);
void ssh_attends_free(struct ssh_attends *); /* asserts that no stream is left */

/* Serves a stream of the endpoint ${id}; takes the call. Any loop. */
void ssh_attend(struct ssh_attends *, struct rpc_call *, const char *id);

/* A session has ended: all endpoints are told. Any thread. */
void ssh_attends_tell(struct ssh_attends *, const char *session_id, enum ssh_end);

/* The gateway ends: so do the streams, and no more are taken. Any thread. */
void ssh_attends_end(struct ssh_attends *, const struct err *why);

#endif
