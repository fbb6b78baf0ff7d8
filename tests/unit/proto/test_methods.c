/* The method table against tables/methods.tsv: paths, types, streaming and who may call. */
#include "proto/methods.h"
#include "tsv.h"

enum {
	METHOD_API,
	METHOD_SERVICE,
	METHOD_NAME,
	METHOD_CLIENT,
	METHOD_INPUT,
	METHOD_SERVER,
	METHOD_OUTPUT,
	METHOD_AUTH,
	METHOD_SCOPE,
	METHOD_WORKSPACE_ROLE,
	METHOD_GLOBAL_ROLE
};

static const char *role_name(enum methods_role role)
{
	switch (role) {
	case METHODS_ROLE_NONE:
		return "";
	case METHODS_ROLE_USER:
		return "user";
	case METHODS_ROLE_ADMIN:
		return "admin";
	}
	return "?";
}

static void check_method(const struct tsv *t)
{
	const struct method_info *m;
	char path[256];

	snprintf(path, sizeof(path), "/%s/%s", tsv_column(t, METHOD_SERVICE),
	    tsv_column(t, METHOD_NAME));
	m = methods_find(path);
	if (m == NULL)
		fail_msg("line %u: %s is not declared", t->number, path);
	assert_string_equal(m->service, tsv_column(t, METHOD_SERVICE));
	assert_string_equal(m->name, tsv_column(t, METHOD_NAME));
	assert_string_equal(m->request->name, tsv_column(t, METHOD_INPUT));
	assert_string_equal(m->reply->name, tsv_column(t, METHOD_OUTPUT));
	assert_string_equal(m->client_streaming ? "stream" : "unary", tsv_column(t, METHOD_CLIENT));
	assert_string_equal(m->server_streaming ? "stream" : "unary", tsv_column(t, METHOD_SERVER));
	assert_string_equal(methods_auth_name(m->auth), tsv_column(t, METHOD_AUTH));
	assert_string_equal(m->scope, tsv_column(t, METHOD_SCOPE));
	assert_string_equal(role_name(m->workspace_role), tsv_column(t, METHOD_WORKSPACE_ROLE));
	assert_string_equal(
	    m->platform_admin ? "platform_admin" : "", tsv_column(t, METHOD_GLOBAL_ROLE));
}

static void test_methods_are_those_of_the_table(void **state)
{
	struct tsv t;
	size_t rows = 0;

	(void)state;
	tsv_open(&t, "methods.tsv");
	for (; tsv_next(&t); rows++) {
		assert_true(tsv_is_declared(tsv_column(&t, METHOD_API)));
		check_method(&t);
	}
	tsv_close(&t);
	assert_true(rows > 100);
}

static bool table_has(const struct method_info *m)
{
	struct tsv t;
	bool found = false;

	tsv_open(&t, "methods.tsv");
	while (!found && tsv_next(&t))
		found = strcmp(tsv_column(&t, METHOD_SERVICE), m->service) == 0 &&
		    strcmp(tsv_column(&t, METHOD_NAME), m->name) == 0;
	tsv_close(&t);
	return found;
}

static void test_ours_are_the_only_others(void **state)
{
	(void)state;
	for (size_t i = 0; i < methods_count(); i++) {
		const struct method_info *m = methods_at(i);

		if (strncmp(m->service, "openshell.", 10) == 0 && !table_has(m) &&
		    strcmp(m->name, "UploadFile") != 0 && strcmp(m->name, "DownloadFile") != 0)
			fail_msg("%s is not in the table", m->path);
	}
}

static void test_file_calls(void **state)
{
	const struct method_info *up = methods_find("/openshell.v1.OpenShell/UploadFile");
	const struct method_info *down = methods_find("/openshell.v1.OpenShell/DownloadFile");

	(void)state;
	assert_non_null(up);
	assert_true(up->client_streaming);
	assert_false(up->server_streaming);
	assert_string_equal(up->scope, "sandbox:write");
	assert_int_equal(up->workspace_role, METHODS_ROLE_USER);
	assert_non_null(down);
	assert_false(down->client_streaming);
	assert_true(down->server_streaming);
	assert_string_equal(down->scope, "sandbox:read");
	assert_int_equal(down->auth, METHODS_AUTH_BEARER);
}

/* A method that changes or reads a sandbox's files must never be open to anybody. */
static void test_every_call_on_the_gateway_states_its_rule(void **state)
{
	(void)state;
	for (size_t i = 0; i < methods_count(); i++) {
		const struct method_info *m = methods_at(i);

		if (strcmp(m->service, "openshell.v1.OpenShell") != 0 &&
		    strcmp(m->service, "openshell.inference.v1.Inference") != 0 &&
		    strcmp(m->service, "towline.v1.Files") != 0)
			continue;
		if (m->auth == METHODS_AUTH_UNSTATED)
			fail_msg("%s has no authorization option", m->path);
		if (m->auth == METHODS_AUTH_NONE)
			assert_string_equal(m->name, "Health");
	}
}

static void test_table_is_sorted_and_found(void **state)
{
	(void)state;
	assert_true(methods_count() > 100);
	for (size_t i = 0; i < methods_count(); i++) {
		assert_ptr_equal(methods_find(methods_at(i)->path), methods_at(i));
		if (i > 0)
			assert_true(strcmp(methods_at(i - 1)->path, methods_at(i)->path) < 0);
	}
	assert_null(methods_find(""));
	assert_null(methods_find("/openshell.v1.OpenShell/"));
	assert_null(methods_find("/openshell.v1.OpenShell/getsandbox"));
	assert_null(methods_find("openshell.v1.OpenShell/GetSandbox"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_methods_are_those_of_the_table),
		cmocka_unit_test(test_ours_are_the_only_others),
		cmocka_unit_test(test_file_calls),
		cmocka_unit_test(test_every_call_on_the_gateway_states_its_rule),
		cmocka_unit_test(test_table_is_sorted_and_found),
	};

	return cmocka_run_group_tests(tests, tsv_setup, tsv_teardown);
}
