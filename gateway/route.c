#include "gateway/route.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/admit.h"
#include "gateway/control.h"
#include "gateway/gateway.h"
#include "gateway/message.h"
#include "openshell/v1/openshell.pb-c.h"
#include "towline/v1/files.pb-c.h"
#include "towline/v1/ssh.pb-c.h"
#include "towline/v1/ssh.pb-c.h"
#include "proto/codec.h"
#include "proto/methods.h"
#include "rpc/reader.h"

#define SERVICE "/openshell.v1.OpenShell/"
#define FILES   "/towline.v1.Files/"
#define PORTS   "/towline.v1.Ports/"

/* The first message of a stream that carries bytes: names and numbers only. */
#define FIRST_SMALL ((size_t)64 << 10)

/* What SSH sessions may be good for. */
#define EXEC    SSH_ACCESS_BIT(TOWLINE__V1__SSH_PERMISSION__SSH_PERMISSION_EXEC)
#define PTY     SSH_ACCESS_BIT(TOWLINE__V1__SSH_PERMISSION__SSH_PERMISSION_PTY)
#define SFTP    SSH_ACCESS_BIT(TOWLINE__V1__SSH_PERMISSION__SSH_PERMISSION_SFTP)
#define FORWARD SSH_ACCESS_BIT(TOWLINE__V1__SSH_PERMISSION__SSH_PERMISSION_FORWARD)

/* What arrived behind the first message lies in the slice that completed it. */
#define REST_SLICES_MAX 4

/* First messages, one function a type. */

static int expected(const char *what, struct err *err)
{
	return err_set(err, GRPC_INVALID_ARGUMENT, "the first message must be \"%s\"", what);
}

static int scope_of(struct route_target *t,
    const Openshell__Datamodel__V1__WorkspaceSelector *scope, struct err *err)
{
	return control_workspace_of(scope, &t->workspace, err);
}

static int target_exec(void *message, struct route_target *t, struct err *err)
{
	Openshell__V1__ExecSandboxRequest *r = message;

	t->sandbox = &r->sandbox;
	return scope_of(t, r->workspace_scope, err);
}

static int target_interactive(void *message, struct route_target *t, struct err *err)
{
	Openshell__V1__ExecSandboxInput *m = message;

	if (m->payload_case != OPENSHELL__V1__EXEC_SANDBOX_INPUT__PAYLOAD_START)
		return expected("start", err);
	t->permissions = m->start->tty ? PTY : EXEC;
	return target_exec(m->start, t, err);
}

static int target_upload(void *message, struct route_target *t, struct err *err)
{
	Openshell__V1__UploadFileRequest *m = message;

	if (m->payload_case != OPENSHELL__V1__UPLOAD_FILE_REQUEST__PAYLOAD_METADATA)
		return expected("metadata", err);
	t->sandbox = &m->metadata->sandbox;
	return scope_of(t, m->metadata->workspace_scope, err);
}

static int target_download(void *message, struct route_target *t, struct err *err)
{
	Openshell__V1__DownloadFileRequest *r = message;

	t->sandbox = &r->sandbox;
	return scope_of(t, r->workspace_scope, err);
}

static int target_forward(void *message, struct route_target *t, struct err *err)
{
	Openshell__V1__TcpForwardFrame *m = message;
	Openshell__V1__TcpForwardInit *init = m->init;

	if (m->payload_case != OPENSHELL__V1__TCP_FORWARD_FRAME__PAYLOAD_INIT)
		return expected("init", err);
	t->sandbox = &init->sandbox;
	t->workspace = init->workspace[0] != '\0' ? init->workspace : NULL;
	switch (init->target_case) {
	case OPENSHELL__V1__TCP_FORWARD_INIT__TARGET_TCP:
		t->tcp_host = init->tcp->host;
		t->tcp_port = init->tcp->port;
		return 0;
	case OPENSHELL__V1__TCP_FORWARD_INIT__TARGET_SSH:
		t->ssh_token = &init->authorization_token;
		return 0;
	default:
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "init: the target is missing; it is \"tcp\" or \"ssh\"");
	}
}

/* Every request of towline.v1.Files has these two, as its fields 1 and 3; and ListenTcp. */
static int target_files(void *message, struct route_target *t, struct err *err)
{
	const ProtobufCMessageDescriptor *d = ((const ProtobufCMessage *)message)->descriptor;
	const ProtobufCFieldDescriptor *scope = protobuf_c_message_descriptor_get_field(d, 3);
	const ProtobufCFieldDescriptor *sandbox = protobuf_c_message_descriptor_get_field(d, 1);

	t->sandbox = (char **)((uint8_t *)message + sandbox->offset);
	return scope_of(t,
	    *(Openshell__Datamodel__V1__WorkspaceSelector **)((uint8_t *)message + scope->offset),
	    err);
}

static int target_sync(void *message, struct route_target *t, struct err *err)
{
	Towline__V1__SyncTreeRequest *m = message;

	if (m->payload_case != TOWLINE__V1__SYNC_TREE_REQUEST__PAYLOAD_INIT)
		return expected("init", err);
	t->sandbox = &m->init->sandbox;
	return scope_of(t, m->init->workspace_scope, err);
}

static int target_sftp(void *message, struct route_target *t, struct err *err)
{
	Towline__V1__SftpRequest *m = message;

	if (m->payload_case != TOWLINE__V1__SFTP_REQUEST__PAYLOAD_INIT)
		return expected("init", err);
	t->sandbox = &m->init->sandbox;
	return scope_of(t, m->init->workspace_scope, err);
}

static int target_scp(void *message, struct route_target *t, struct err *err)
{
	Towline__V1__ScpRequest *m = message;

	if (m->payload_case != TOWLINE__V1__SCP_REQUEST__PAYLOAD_INIT)
		return expected("init", err);
	t->sandbox = &m->init->sandbox;
	return scope_of(t, m->init->workspace_scope, err);
}

static int target_accept(void *message, struct route_target *t, struct err *err)
{
	Towline__V1__AcceptTcpRequest *m = message;

	if (m->payload_case != TOWLINE__V1__ACCEPT_TCP_REQUEST__PAYLOAD_INIT)
		return expected("init", err);
	t->sandbox = &m->init->sandbox;
	return scope_of(t, m->init->workspace_scope, err);
}

static const struct route routes[] = {
	{ SERVICE "ExecSandbox", NULL, RPC_MESSAGE_MAX, target_exec, 0 },
	{ SERVICE "ExecSandboxInteractive", "start", RPC_MESSAGE_MAX, target_interactive,
	    EXEC | PTY },
	{ SERVICE "ForwardTcp", "init", FIRST_SMALL, target_forward, FORWARD },
	{ SERVICE "UploadFile", "metadata", FIRST_SMALL, target_upload, 0 },
	{ SERVICE "DownloadFile", NULL, FIRST_SMALL, target_download, 0 },
	{ FILES "StatFile", NULL, FIRST_SMALL, target_files, 0 },
	{ FILES "ListDirectory", NULL, FIRST_SMALL, target_files, 0 },
	{ FILES "MakeDirectory", NULL, FIRST_SMALL, target_files, 0 },
	{ FILES "MoveFile", NULL, FIRST_SMALL, target_files, 0 },
	{ FILES "RemoveFile", NULL, FIRST_SMALL, target_files, 0 },
	{ FILES "WatchFiles", NULL, FIRST_SMALL, target_files, 0 },
	{ FILES "QueryUpload", NULL, FIRST_SMALL, target_files, 0 },
	{ FILES "AbortUpload", NULL, FIRST_SMALL, target_files, 0 },
	{ FILES "SyncTree", "init", FIRST_SMALL, target_sync, 0 },
	{ FILES "Sftp", "init", FIRST_SMALL, target_sftp, SFTP },
	{ FILES "Scp", "init", FIRST_SMALL, target_scp, SFTP },
	{ PORTS "ListenTcp", NULL, FIRST_SMALL, target_files, FORWARD },
	{ PORTS "AcceptTcp", "init", FIRST_SMALL, target_accept, FORWARD },
};

const struct route *route_find(const char *path)
{
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
		if (strcmp(routes[i].path, path) == 0)
			return &routes[i];
	return NULL;
}

int route_decode(const struct route *route, const uint8_t *data, size_t len, void **message,
    struct route_target *target, struct err *err)
{
	*target = (struct route_target){ 0 };
	*message = message_unpack(methods_find(route->path)->request, data, len, err);
	if (*message == NULL)
		return -1;
	if (route->target(*message, target, err) == 0)
		return 0;
	codec_free(*message);
	*message = NULL;
	return -1;
}

/* Replaces a text of an unpacked message, which codec_free() frees. */
static int replace(char **field, const char *text, struct err *err)
{
	char *copy = strdup(text);

	if (copy == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	if (*field != protobuf_c_empty_string)
		free(*field);
	*field = copy;
	return 0;
}

/* An SSH session may use its own sandbox, as far as it permits. */
static int check_session(const struct admit_user *user, const char *id,
    const struct route_target *target, struct err *err)
{
	if (!user->is_session)
		return 0;
	if (strcmp(user->session.sandbox_id, id) != 0)
		return err_set(err, GRPC_PERMISSION_DENIED, "SSH session %s is of another sandbox",
		    user->session.id);
	if (target->ssh_token != NULL)
		return err_set(err, GRPC_PERMISSION_DENIED,
		    "ForwardTcp: the target \"ssh\" is nothing that an SSH session may use");
	if (target->permissions != 0 && (target->permissions & user->session.permissions) == 0)
		return err_set(err, GRPC_PERMISSION_DENIED, "the SSH session does not permit %s",
		    (target->permissions & PTY) != 0 ? "a terminal"
						     : "commands without a terminal");
	return 0;
}

/* The endpoint that a connection to a sandbox's SSH goes to, in ${id}. It gets to know which
 * session the token is of, and never the token. */
static int choose_endpoint(struct gateway *g, const struct route_target *target,
    const char *sandbox_id, char id[static NAMES_ID_MAX + 1], struct err *err)
{
	struct ssh_grant grant;

	if (g->ssh.off.code != GRPC_OK) {
		*err = g->ssh.off;
		return err_wrap(err, "SSH is not served by this gateway");
	}
	if (ssh_access_token(g->ssh.sessions, *target->ssh_token, &grant, err) != 0)
		return -1;
	if (strcmp(grant.sandbox_id, sandbox_id) != 0)
		return err_set(err, GRPC_PERMISSION_DENIED,
		    "the authorization_token is of another sandbox's SSH session");
	explicit_bzero(*target->ssh_token, strlen(*target->ssh_token));
	if (replace(target->ssh_token, grant.id, err) != 0)
		return -1;
	return ssh_endpoints_choose(g->ssh.endpoints, id, err);
}

/* Hands the call over; -1 if it is still the caller's. */
static int hand_over(struct rpc_call *call, struct gateway *g, const struct route *route,
    void *message, const struct route_target *target, struct bufq *rest, struct err *err)
{
	char id[NAMES_ID_MAX + 1];
	struct admit_user user;
	struct tunnel_request request = {
		.sandbox_id = id,
		.method = route->path,
		.subject = user.subject,
		.half_closed = route->first == NULL,
		.tcp_host = target->tcp_host,
		.tcp_port = target->tcp_port,
	};
	uint8_t *first;

	if (admit_user(call, g, &user, err) != 0 ||
	    directory_admit(g->directory, *target->sandbox, target->workspace, id, err) != 0 ||
	    check_session(&user, id, target, err) != 0 || replace(target->sandbox, id, err) != 0)
		return -1;
	if (target->ssh_token != NULL && choose_endpoint(g, target, *target->sandbox, id, err) != 0)
		return -1;
	if ((first = codec_pack_new(message, &request.first_len)) == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	request.first_message = first;
	tunnels_route(g->tunnels, call, &request, rest);
	free(first);
	return 0;
}

static int route_first(struct rpc_call *call, struct gateway *g, const struct route *route,
    const uint8_t *data, size_t len, struct bufq *rest, struct err *err)
{
	struct route_target target;
	void *message = NULL;
	int result;

	if (route_decode(route, data, len, &message, &target, err) != 0)
		return -1;
	result = hand_over(call, g, route, message, &target, rest, err);
	codec_free(message);
	return result;
}

void route_request(struct rpc_call *call, void *gateway, const uint8_t *message, size_t len)
{
	struct err err;

	if (route_first(call, gateway, route_find(rpc_call_path(call)), message, len, NULL, &err) !=
	    0)
		rpc_call_finish(call, &err);
}

/* A stream whose first message has not come whole. */
struct gathering {
	struct rpc_call *call;
	struct gateway *gateway;
	const struct route *route;
	struct rpc_reader reader;
	struct timer *timer; /* for the first message */
	bool finished;       /* the client has been told; closed() frees */
};

static void gathering_free(struct gathering *g)
{
	timer_free(g->timer);
	rpc_reader_free(&g->reader);
	free(g);
}

static void refuse(struct gathering *g, const struct err *err)
{
	g->finished = true;
	timer_stop(g->timer);
	rpc_call_finish(g->call, err);
}

/* The first message is whole; ${arrived} bytes came last, some of them behind it. Those
 * are the tunnel's, and so is their credit. */
static void on_first(struct gathering *g, const uint8_t *data, size_t len, size_t arrived)
{
	struct route_target target;
	struct bufq rest;
	struct err err;
	void *message = NULL;

	if (route_decode(g->route, data, len, &message, &target, &err) != 0) {
		refuse(g, &err);
		return;
	}
	bufq_init(&rest, REST_SLICES_MAX, LOOP_BLOCK_SIZE);
	if (rpc_reader_rest(&g->reader, &rest) != 0) {
		err_set(&err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		refuse(g, &err);
	} else {
		rpc_call_credit(g->call, arrived - rest.bytes);
		if (hand_over(g->call, g->gateway, g->route, message, &target, &rest, &err) == 0)
			gathering_free(g);
		else
			refuse(g, &err);
	}
	bufq_free(&rest);
	codec_free(message);
}

static void on_data(void *cookie, struct slice slice)
{
	struct gathering *g = cookie;
	const uint8_t *message = NULL;
	size_t len = 0, bytes = slice.len;
	struct err err;
	int got = rpc_reader_push(&g->reader, slice, &err);

	if (got == 0)
		got = rpc_reader_next(&g->reader, &message, &len, &err);
	if (got < 0)
		refuse(g, &err);
	else if (got == 0)
		rpc_call_credit(g->call, bytes); /* a first message may be larger than the window */
	else
		on_first(g, message, len, bytes);
}

static void on_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	struct gathering *g = cookie;
	struct err err;

	(void)status;
	(void)trailers;
	if (g->finished)
		return;
	if (rpc_reader_is_partial(&g->reader))
		err_set(&err, GRPC_INVALID_ARGUMENT, "the stream ended within its first message");
	else
		err_set(&err, GRPC_INVALID_ARGUMENT,
		    "the stream ended before its first message, \"%s\"", g->route->first);
	refuse(g, &err);
}

static void on_closed(void *cookie, const struct err *why)
{
	(void)why;
	gathering_free(cookie);
}

static void on_late(void *cookie)
{
	struct gathering *g = cookie;
	struct err err;

	err_set(&err, GRPC_DEADLINE_EXCEEDED, "the first message, \"%s\", did not come within %d s",
	    g->route->first, ROUTE_FIRST_MS / 1000);
	refuse(g, &err);
}

static const struct rpc_call_ops gathering_ops = {
	.data = on_data,
	.end = on_end,
	.closed = on_closed,
};

void route_open(struct rpc_call *call, void *gateway)
{
	struct gathering *g = calloc(1, sizeof(*g));
	struct err err;

	if (g != NULL)
		g->timer = timer_create_on(rpc_call_loop(call), on_late, g);
	if (g == NULL || g->timer == NULL) {
		free(g);
		err_set(&err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		rpc_call_finish(call, &err);
		return;
	}
	g->call = call;
	g->gateway = gateway;
	g->route = route_find(rpc_call_path(call));
	rpc_reader_init(&g->reader, g->route->first_max);
	timer_start(g->timer, ROUTE_FIRST_MS);
	rpc_call_bind(call, &gathering_ops, g);
}
