/* The table of methods: complete, without doubles, and each row does one thing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/service.h"
#include "proto/methods.h"

static const struct rpc_method *find(
    const struct rpc_method *methods, size_t count, const char *path)
{
	const struct rpc_method *found = NULL;

	for (size_t i = 0; i < count; i++) {
		if (strcmp(methods[i].path, path) != 0)
			continue;
		if (found != NULL)
			fail_msg("%s is there twice", path);
		found = &methods[i];
	}
	return found;
}

static void test_complete(void **state)
{
	struct rpc_method *methods;
	size_t count;
	struct err err;

	(void)state;
	methods = service_methods(&count, &err);
	assert_non_null(methods);
	for (size_t i = 0; i < count; i++) {
		assert_true((methods[i].request == NULL) != (methods[i].open == NULL));
		assert_ptr_equal(find(methods, count, methods[i].path), &methods[i]);
	}
	for (size_t i = 0; i < methods_count(); i++) {
		const struct method_info *m = methods_at(i);

		if (service_is_service(m->service) && find(methods, count, m->path) == NULL)
			fail_msg("%s is missing", m->path);
	}
	free(methods);
}

/* A method that takes one message gets one. */
static void test_shapes(void **state)
{
	struct rpc_method *methods;
	size_t count;
	struct err err;

	(void)state;
	methods = service_methods(&count, &err);
	for (size_t i = 0; i < methods_count(); i++) {
		const struct method_info *m = methods_at(i);

		if (service_is_served(m->path))
			assert_int_equal(
			    find(methods, count, m->path)->open != NULL, m->client_streaming);
	}
	free(methods);
}

static void test_served(void **state)
{
	static const char *const served[] = { "Health", "GetCurrentUser", "GetGatewayInfo",
		"CreateSandbox", "GetSandbox", "ListSandboxes", "DeleteSandbox", "StopSandbox",
		"StartSandbox", "WatchSandbox", "CreateWorkspace", "GetWorkspace", "ListWorkspaces",
		"DeleteWorkspace", "ExecSandbox", "ExecSandboxInteractive", "ForwardTcp",
		"UploadFile", "DownloadFile", "ConnectSupervisor", "RelayStream",
		"CreateSshSession", "RevokeSshSession" };
	char path[128];

	(void)state;
	for (size_t i = 0; i < sizeof(served) / sizeof(served[0]); i++) {
		snprintf(path, sizeof(path), "/openshell.v1.OpenShell/%s", served[i]);
		assert_true(service_is_served(path));
	}
	assert_false(service_is_served("/openshell.v1.OpenShell/PeerRelay"));
	assert_false(service_is_served("/openshell.v1.OpenShell/ExposeService"));
	assert_true(service_is_service("openshell.v1.OpenShell"));
	assert_false(service_is_service("openshell.compute.v1.ComputeDriver"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_complete),
		cmocka_unit_test(test_shapes),
		cmocka_unit_test(test_served),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
