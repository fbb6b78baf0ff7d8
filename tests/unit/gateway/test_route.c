/* First messages of routed calls: where they lead, and which are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/route.h"
#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "proto/methods.h"

#define SERVICE "/openshell.v1.OpenShell/"
#define FILES   "/towline.v1.Files/"

static const char *const paths[] = {
	SERVICE "ExecSandbox",
	SERVICE "ExecSandboxInteractive",
	SERVICE "ForwardTcp",
	SERVICE "UploadFile",
	SERVICE "DownloadFile",
	FILES "StatFile",
	FILES "ListDirectory",
	FILES "MakeDirectory",
	FILES "MoveFile",
	FILES "RemoveFile",
	FILES "WatchFiles",
	FILES "QueryUpload",
	FILES "AbortUpload",
};

/* Decodes what ${m} packs to; the caller frees ${message}. */
static int decode(const char *method, const ProtobufCMessage *m, void **message,
    struct route_target *t, struct err *err)
{
	char path[128];
	size_t len;
	uint8_t *packed = codec_pack_new(m, &len);
	int result;

	snprintf(path, sizeof(path), SERVICE "%s", method);
	*err = (struct err){ 0 };
	result = route_decode(route_find(path), packed, len, message, t, err);
	free(packed);
	return result;
}

static void leads_to(
    const char *method, const ProtobufCMessage *m, const char *sandbox, const char *workspace)
{
	struct route_target t;
	struct err err;
	void *message;

	if (decode(method, m, &message, &t, &err) != 0)
		fail_msg("%s: %s", method, err.text);
	assert_string_equal(*t.sandbox, sandbox);
	if (workspace == NULL)
		assert_null(t.workspace);
	else
		assert_string_equal(t.workspace, workspace);
	codec_free(message);
}

static void is_refused(
    const char *method, const ProtobufCMessage *m, enum grpc_code code, const char *word)
{
	struct route_target t;
	struct err err;
	void *message;

	assert_int_equal(decode(method, m, &message, &t, &err), -1);
	assert_null(message);
	if (err.code != code || strstr(err.text, word) == NULL)
		fail_msg("%s: expected %s about %s, got %s: %s", method, err_code_name(code), word,
		    err_code_name(err.code), err.text);
}

/* The table and the .proto files agree. */
static void test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		const struct route *route = route_find(paths[i]);
		const struct method_info *method = methods_find(paths[i]);

		assert_non_null(route);
		assert_non_null(method);
		assert_int_equal(route->first != NULL, method->client_streaming);
		if (route->first != NULL)
			assert_non_null(protobuf_c_message_descriptor_get_field_by_name(
			    method->request, route->first));
	}
	assert_null(route_find(SERVICE "GetSandbox"));
	assert_null(route_find("ExecSandbox"));
}

static void test_single_messages(void **state)
{
	Openshell__V1__ExecSandboxRequest exec = OPENSHELL__V1__EXEC_SANDBOX_REQUEST__INIT;
	Openshell__V1__DownloadFileRequest download = OPENSHELL__V1__DOWNLOAD_FILE_REQUEST__INIT;
	Openshell__Datamodel__V1__WorkspaceSelector scope =
	    OPENSHELL__DATAMODEL__V1__WORKSPACE_SELECTOR__INIT;
	Openshell__Datamodel__V1__AllWorkspaces everything =
	    OPENSHELL__DATAMODEL__V1__ALL_WORKSPACES__INIT;

	(void)state;
	exec.sandbox = (char *)"web";
	leads_to("ExecSandbox", &exec.base, "web", NULL);
	exec.workspace_scope = &scope;
	leads_to("ExecSandbox", &exec.base, "web", NULL);
	scope.selection_case = OPENSHELL__DATAMODEL__V1__WORKSPACE_SELECTOR__SELECTION_WORKSPACE;
	scope.workspace = (char *)"";
	leads_to("ExecSandbox", &exec.base, "web", NULL);
	scope.workspace = (char *)"team";
	leads_to("ExecSandbox", &exec.base, "web", "team");
	download.sandbox = (char *)"web";
	download.workspace_scope = &scope;
	leads_to("DownloadFile", &download.base, "web", "team");
	scope.selection_case =
	    OPENSHELL__DATAMODEL__V1__WORKSPACE_SELECTOR__SELECTION_ALL_WORKSPACES;
	scope.all_workspaces = &everything;
	is_refused("ExecSandbox", &exec.base, GRPC_INVALID_ARGUMENT, "all_workspaces");
}

static void test_interactive(void **state)
{
	Openshell__V1__ExecSandboxInput input = OPENSHELL__V1__EXEC_SANDBOX_INPUT__INIT;
	Openshell__V1__ExecSandboxRequest start = OPENSHELL__V1__EXEC_SANDBOX_REQUEST__INIT;

	(void)state;
	is_refused("ExecSandboxInteractive", &input.base, GRPC_INVALID_ARGUMENT, "\"start\"");
	input.payload_case = OPENSHELL__V1__EXEC_SANDBOX_INPUT__PAYLOAD_STDIN;
	input.stdin = (ProtobufCBinaryData){ 1, (uint8_t *)"x" };
	is_refused("ExecSandboxInteractive", &input.base, GRPC_INVALID_ARGUMENT, "\"start\"");
	input.payload_case = OPENSHELL__V1__EXEC_SANDBOX_INPUT__PAYLOAD_START;
	input.start = &start;
	start.sandbox = (char *)"web";
	leads_to("ExecSandboxInteractive", &input.base, "web", NULL);
}

static void test_upload(void **state)
{
	Openshell__V1__UploadFileRequest request = OPENSHELL__V1__UPLOAD_FILE_REQUEST__INIT;
	Openshell__V1__UploadFileMetadata metadata = OPENSHELL__V1__UPLOAD_FILE_METADATA__INIT;

	(void)state;
	request.payload_case = OPENSHELL__V1__UPLOAD_FILE_REQUEST__PAYLOAD_CHUNK;
	is_refused("UploadFile", &request.base, GRPC_INVALID_ARGUMENT, "\"metadata\"");
	request.payload_case = OPENSHELL__V1__UPLOAD_FILE_REQUEST__PAYLOAD_METADATA;
	request.metadata = &metadata;
	metadata.sandbox = (char *)"web";
	leads_to("UploadFile", &request.base, "web", NULL);
}

static void test_forward(void **state)
{
	Openshell__V1__TcpForwardFrame frame = OPENSHELL__V1__TCP_FORWARD_FRAME__INIT;
	Openshell__V1__TcpForwardInit init = OPENSHELL__V1__TCP_FORWARD_INIT__INIT;
	Openshell__V1__TcpRelayTarget tcp = OPENSHELL__V1__TCP_RELAY_TARGET__INIT;
	Openshell__V1__SshRelayTarget ssh = OPENSHELL__V1__SSH_RELAY_TARGET__INIT;
	struct route_target t;
	struct err err;
	void *message;

	(void)state;
	frame.payload_case = OPENSHELL__V1__TCP_FORWARD_FRAME__PAYLOAD_DATA;
	is_refused("ForwardTcp", &frame.base, GRPC_INVALID_ARGUMENT, "\"init\"");
	frame.payload_case = OPENSHELL__V1__TCP_FORWARD_FRAME__PAYLOAD_INIT;
	frame.init = &init;
	init.sandbox = (char *)"web";
	is_refused("ForwardTcp", &frame.base, GRPC_INVALID_ARGUMENT, "\"tcp\"");
	init.target_case = OPENSHELL__V1__TCP_FORWARD_INIT__TARGET_SSH;
	init.ssh = &ssh;
	leads_to("ForwardTcp", &frame.base, "web", NULL);
	init.target_case = OPENSHELL__V1__TCP_FORWARD_INIT__TARGET_TCP;
	init.tcp = &tcp;
	tcp.host = (char *)"localhost";
	tcp.port = 8080;
	init.workspace = (char *)"team";
	leads_to("ForwardTcp", &frame.base, "web", "team");
	assert_int_equal(decode("ForwardTcp", &frame.base, &message, &t, &err), 0);
	assert_string_equal(t.tcp_host, "localhost");
	assert_int_equal(t.tcp_port, 8080);
	codec_free(message);
}

/* One function reads them all, by the numbers of the fields. */
static void test_files(void **state)
{
	/* sandbox = 1 "web", workspace_scope = 3 { workspace = 1 "team" } */
	static const uint8_t bytes[] = "\x0a\x03web\x1a\x06\x0a\x04team";
	size_t count = 0;

	(void)state;
	for (size_t i = 0; i < methods_count(); i++) {
		const struct method_info *m = methods_at(i);
		struct route_target t;
		struct err err = { 0 };
		void *message;

		if (strcmp(m->service, "towline.v1.Files") != 0 || m->client_streaming)
			continue;
		if (route_decode(
			route_find(m->path), bytes, sizeof(bytes) - 1, &message, &t, &err) != 0)
			fail_msg("%s: %s", m->path, err.text);
		assert_string_equal(*t.sandbox, "web");
		assert_string_equal(t.workspace, "team");
		codec_free(message);
		count++;
	}
	assert_true(count >= 8);
}

static void test_garbage(void **state)
{
	static const uint8_t garbage[] = { 0xff, 0xff, 0xff, 0xff };
	struct route_target t;
	void *message;

	(void)state;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		struct err err = { 0 };

		assert_int_equal(route_decode(route_find(paths[i]), garbage, sizeof(garbage),
				     &message, &t, &err),
		    -1);
		assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
		assert_null(message);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_single_messages),
		cmocka_unit_test(test_interactive),
		cmocka_unit_test(test_upload),
		cmocka_unit_test(test_forward),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_garbage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
