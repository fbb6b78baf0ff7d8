#include "gateway/service.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/admit.h"
#include "gateway/control.h"
#include "gateway/gateway.h"
#include "gateway/health.h"
#include "gateway/reflection.h"
#include "gateway/route.h"
#include "gateway/watch.h"
#include "proto/methods.h"

#define OPENSHELL "/openshell.v1.OpenShell/"
#define FILES     "/towline.v1.Files/"
#define PORTS     "/towline.v1.Ports/"
#define SSH       "/towline.v1.SshSessions/"
#define ENDPOINT  "/towline.v1.SshEndpoint/"

/* A control message holds names, labels, an environment: see validate.h. */
#define CONTROL_MAX ((uint32_t)1 << 20)
#define SMALL_MAX   ((uint32_t)64 << 10)

/* For calls that are answered at once, or after a wait of our own. */
#define CONTROL_MS 60000

struct row {
	const char *path;
	uint32_t max_message;
	control_handler *control; /* answered on the first loop; or one of rpc_method's: */
	void (*request)(struct rpc_call *, void *gateway, const uint8_t *message, size_t len);
	void (*open)(struct rpc_call *, void *gateway);
};

static void watch(struct rpc_call *call, void *gateway, const uint8_t *message, size_t len)
{
	watch_call(call, gateway, message, len);
}

static void connect_supervisor(struct rpc_call *call, void *gateway)
{
	struct gateway *g = gateway;
	char sandbox_id[NAMES_ID_MAX + 1];
	struct err err;

	if (admit_supervisor(call, g, sandbox_id, &err) != 0)
		rpc_call_finish(call, &err);
	else
		tunnels_connect(g->tunnels, call, sandbox_id);
}

static void attend(struct rpc_call *call, void *gateway)
{
	struct gateway *g = gateway;
	char id[NAMES_ID_MAX + 1];
	struct err err;

	if (admit_endpoint(call, g, id, &err) != 0)
		rpc_call_finish(call, &err);
	else
		ssh_attend(g->ssh.attends, call, id);
}

static void relay_stream(struct rpc_call *call, void *gateway)
{
	struct gateway *g = gateway;
	char sandbox_id[NAMES_ID_MAX + 1];
	struct err err;

	if (admit_supervisor(call, g, sandbox_id, &err) != 0)
		rpc_call_finish(call, &err);
	else
		tunnels_relay(g->tunnels, call, sandbox_id);
}

#define CONTROL(name, handler)                                   \
	{                                                        \
		OPENSHELL name, CONTROL_MAX, handler, NULL, NULL \
	}

static const struct row rows[] = {
	CONTROL("Health", control_info_health),
	CONTROL("GetCurrentUser", control_info_user),
	CONTROL("GetGatewayInfo", control_info_gateway),

	CONTROL("CreateSandbox", control_sandbox_create),
	CONTROL("GetSandbox", control_sandbox_get),
	CONTROL("ListSandboxes", control_sandbox_list),
	CONTROL("DeleteSandbox", control_sandbox_delete),
	CONTROL("StopSandbox", control_sandbox_stop),
	CONTROL("StartSandbox", control_sandbox_start),
	{ OPENSHELL "WatchSandbox", SMALL_MAX, NULL, watch, NULL },

	CONTROL("CreateWorkspace", control_workspace_create),
	CONTROL("GetWorkspace", control_workspace_get),
	CONTROL("ListWorkspaces", control_workspace_list),
	CONTROL("DeleteWorkspace", control_workspace_delete),

	CONTROL("CreateSshSession", control_ssh_create),
	CONTROL("RevokeSshSession", control_ssh_revoke),
	{ SSH "ListSshSessions", SMALL_MAX, control_ssh_list, NULL, NULL },
	{ ENDPOINT "Authenticate", SMALL_MAX, control_ssh_authenticate, NULL, NULL },
	{ ENDPOINT "Attend", 0, NULL, NULL, attend },

	{ OPENSHELL "ExecSandbox", RPC_MESSAGE_MAX, NULL, route_request, NULL },
	{ OPENSHELL "ExecSandboxInteractive", 0, NULL, NULL, route_open },
	{ OPENSHELL "ForwardTcp", 0, NULL, NULL, route_open },
	{ OPENSHELL "UploadFile", 0, NULL, NULL, route_open },
	{ OPENSHELL "DownloadFile", SMALL_MAX, NULL, route_request, NULL },

	{ FILES "StatFile", SMALL_MAX, NULL, route_request, NULL },
	{ FILES "ListDirectory", SMALL_MAX, NULL, route_request, NULL },
	{ FILES "MakeDirectory", SMALL_MAX, NULL, route_request, NULL },
	{ FILES "MoveFile", SMALL_MAX, NULL, route_request, NULL },
	{ FILES "RemoveFile", SMALL_MAX, NULL, route_request, NULL },
	{ FILES "WatchFiles", SMALL_MAX, NULL, route_request, NULL },
	{ FILES "SyncTree", 0, NULL, NULL, route_open },
	{ FILES "QueryUpload", SMALL_MAX, NULL, route_request, NULL },
	{ FILES "AbortUpload", SMALL_MAX, NULL, route_request, NULL },

	{ FILES "Sftp", 0, NULL, NULL, route_open },
	{ FILES "Scp", 0, NULL, NULL, route_open },
	{ PORTS "ListenTcp", SMALL_MAX, NULL, route_request, NULL },
	{ PORTS "AcceptTcp", 0, NULL, NULL, route_open },

	{ OPENSHELL "ConnectSupervisor", 0, NULL, NULL, connect_supervisor },
	{ OPENSHELL "RelayStream", 0, NULL, NULL, relay_stream },

	{ "/grpc.health.v1.Health/Check", SMALL_MAX, NULL, health_check, NULL },
	{ "/grpc.health.v1.Health/Watch", SMALL_MAX, NULL, health_watch, NULL },
	{ "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", 0, NULL, NULL,
	    reflection_open },
	{ "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", 0, NULL, NULL,
	    reflection_open },
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* Whose other methods are known by name. The rest of the .proto files is of services
 * that others serve. */
static const char *const services[] = {
	"openshell.v1.OpenShell",
	"openshell.inference.v1.Inference",
	"towline.v1.Files",
	"towline.v1.Ports",
	"towline.v1.SshSessions",
	"towline.v1.SshEndpoint",
	"grpc.health.v1.Health",
	"grpc.reflection.v1.ServerReflection",
};

static const struct row *find(const char *path)
{
	for (size_t i = 0; i < ROWS; i++)
		if (strcmp(rows[i].path, path) == 0)
			return &rows[i];
	return NULL;
}

bool service_is_served(const char *path)
{
	return find(path) != NULL;
}

bool service_is_service(const char *name)
{
	for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++)
		if (strcmp(services[i], name) == 0)
			return true;
	return false;
}

static void run_control(struct rpc_call *call, void *gateway, const uint8_t *message, size_t len)
{
	control_call(call, gateway, find(rpc_call_path(call))->control, message, len);
}

static void unimplemented(struct rpc_call *call, void *gateway)
{
	struct err err;

	(void)gateway;
	err_set(
	    &err, GRPC_UNIMPLEMENTED, "%s is not served by this gateway", rpc_call_path(call) + 1);
	rpc_call_finish(call, &err);
}

static struct rpc_method method_of(const struct row *row)
{
	return (struct rpc_method){
		.path = row->path,
		.max_message = row->max_message,
		.time_limit_ms = row->control != NULL ? CONTROL_MS : 0,
		.request = row->control != NULL ? run_control : row->request,
		.open = row->open,
	};
}

struct rpc_method *service_methods(size_t *count, struct err *err)
{
	struct rpc_method *methods = calloc(ROWS + methods_count(), sizeof(*methods));
	size_t n = 0;

	if (methods == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	for (size_t i = 0; i < ROWS; i++)
		methods[n++] = method_of(&rows[i]);
	for (size_t i = 0; i < methods_count(); i++) {
		const struct method_info *m = methods_at(i);

		if (service_is_service(m->service) && find(m->path) == NULL)
			methods[n++] =
			    (struct rpc_method){ .path = m->path, .open = unimplemented };
	}
	*count = n;
	return methods;
}
