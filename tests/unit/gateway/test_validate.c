/* CreateSandbox requests: what is wrong with them, and what is not served. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/validate.h"

typedef Openshell__V1__CreateSandboxRequest__LabelsEntry label;
typedef Openshell__V1__SandboxSpec__EnvironmentEntry variable;

struct request {
	Openshell__V1__CreateSandboxRequest r;
	Openshell__V1__SandboxSpec spec;
	Openshell__V1__SandboxTemplate template;
	Google__Protobuf__Struct structure;
	Google__Protobuf__Struct__FieldsEntry field;
	Google__Protobuf__Struct__FieldsEntry *fields[1];
	Openshell__Sandbox__V1__SandboxPolicy policy;
	Openshell__V1__ResourceRequirements resources;
	Openshell__V1__GpuResourceRequirements gpu;
	Openshell__V1__SandboxServiceExposure exposure;
	Openshell__V1__SandboxServiceExposure *exposures[1];
	char *words[1];
};

static void init(struct request *q)
{
	openshell__v1__create_sandbox_request__init(&q->r);
	openshell__v1__sandbox_spec__init(&q->spec);
	openshell__v1__sandbox_template__init(&q->template);
	google__protobuf__struct__init(&q->structure);
	google__protobuf__struct__fields_entry__init(&q->field);
	openshell__sandbox__v1__sandbox_policy__init(&q->policy);
	openshell__v1__resource_requirements__init(&q->resources);
	openshell__v1__gpu_resource_requirements__init(&q->gpu);
	openshell__v1__sandbox_service_exposure__init(&q->exposure);
	q->words[0] = (char *)"word";
	q->fields[0] = &q->field;
	q->exposures[0] = &q->exposure;
	q->r.spec = &q->spec;
	q->spec.template_ = &q->template;
}

static void refused(const struct request *q, enum grpc_code code, const char *word)
{
	struct err err = { 0 };

	assert_int_equal(validate_create(&q->r, &err), -1);
	if (err.code != code || strstr(err.text, word) == NULL)
		fail_msg("expected %s about %s, got %s: %s", err_code_name(code), word,
		    err_code_name(err.code), err.text);
}

static void accepted(const struct request *q)
{
	struct err err;

	if (validate_create(&q->r, &err) != 0)
		fail_msg("%s", err.text);
}

static void test_plain(void **state)
{
	struct request q;

	(void)state;
	init(&q);
	accepted(&q);
	q.r.spec = NULL;
	accepted(&q);
	q.r.name = (char *)"Bad";
	refused(&q, GRPC_INVALID_ARGUMENT, "Bad");
}

/* Each field alone, and nothing is left out in silence. */
#define UNSERVED(change, word)                         \
	do {                                           \
		struct request q;                      \
		init(&q);                              \
		change;                                \
		refused(&q, GRPC_UNIMPLEMENTED, word); \
	} while (0)

static void test_unserved(void **state)
{
	(void)state;
	UNSERVED(q.r.workload_template = q.words[0], "workload_template");
	UNSERVED(q.r.await_main_process_attachment = 1, "await_main_process_attachment");
	UNSERVED(q.r.n_service_exposures = 1;
		 q.r.service_exposures = q.exposures, "service_exposures");
	UNSERVED(q.spec.policy = &q.policy, "spec.policy");
	UNSERVED(q.spec.n_providers = 1; q.spec.providers = q.words, "spec.providers");
	UNSERVED(q.spec.n_command = 1; q.spec.command = q.words, "spec.command");
	UNSERVED(q.spec.resource_requirements = &q.resources; q.resources.gpu = &q.gpu, "gpu");
	UNSERVED(q.spec.restart_policy = 2, "spec.restart_policy");
	UNSERVED(q.spec.restart_policy = 3, "spec.restart_policy");
	UNSERVED(q.template.image = q.words[0], "spec.template.image");
	UNSERVED(q.template.runtime_class_name = q.words[0], "runtime_class_name");
	UNSERVED(q.template.agent_socket = q.words[0], "agent_socket");
	UNSERVED(q.template.resources = &q.structure; q.structure.n_fields = 1;
		 q.structure.fields = q.fields, "spec.template.resources");
	UNSERVED(q.template.driver_config = &q.structure; q.structure.n_fields = 1;
		 q.structure.fields = q.fields, "spec.template.driver_config");
	UNSERVED(q.template._user_namespaces_case =
		     OPENSHELL__V1__SANDBOX_TEMPLATE___USER_NAMESPACES_USER_NAMESPACES,
	    "user_namespaces");
}

/* Empty messages ask for nothing. */
static void test_empty(void **state)
{
	struct request q;

	(void)state;
	init(&q);
	q.spec.resource_requirements = &q.resources;
	q.template.resources = &q.structure;
	q.template.driver_config = &q.structure;
	q.spec.restart_policy = 1;
	q.spec.tty = 1;
	accepted(&q);
}

static void with_variable(const char *key, const char *value, const char *word)
{
	variable v = OPENSHELL__V1__SANDBOX_SPEC__ENVIRONMENT_ENTRY__INIT;
	variable *list[] = { &v };
	struct request q;

	init(&q);
	v.key = (char *)key;
	v.value = (char *)value;
	q.spec.n_environment = 1;
	q.spec.environment = list;
	if (word == NULL)
		accepted(&q);
	else
		refused(&q, GRPC_INVALID_ARGUMENT, word);
}

static void test_environment(void **state)
{
	char *big = malloc(VALIDATE_ENVIRONMENT_BYTES + 1);

	(void)state;
	with_variable("PATH", "/bin", NULL);
	with_variable("_a9", "", NULL);
	with_variable("", "x", "spec.environment");
	with_variable("9a", "x", "9a");
	with_variable("a-b", "x", "a-b");
	with_variable("a=b", "x", "a=b");
	with_variable("OPENSHELL_TOKEN", "x", "reserved");
	memset(big, 'a', VALIDATE_ENVIRONMENT_BYTES);
	big[VALIDATE_ENVIRONMENT_BYTES] = '\0';
	with_variable("BIG", big, "bytes");
	free(big);
}

static void test_too_many_variables(void **state)
{
	static variable v[VALIDATE_ENVIRONMENT_MAX + 1];
	static variable *list[VALIDATE_ENVIRONMENT_MAX + 1];
	struct request q;

	(void)state;
	init(&q);
	for (size_t i = 0; i <= VALIDATE_ENVIRONMENT_MAX; i++) {
		openshell__v1__sandbox_spec__environment_entry__init(&v[i]);
		v[i].key = (char *)"A";
		list[i] = &v[i];
	}
	q.spec.environment = list;
	q.spec.n_environment = VALIDATE_ENVIRONMENT_MAX;
	accepted(&q);
	q.spec.n_environment++;
	refused(&q, GRPC_INVALID_ARGUMENT, "257 variables");
}

static void with_label(const char *key, const char *value, bool good)
{
	label l = OPENSHELL__V1__CREATE_SANDBOX_REQUEST__LABELS_ENTRY__INIT;
	label *list[] = { &l };
	struct request q;

	init(&q);
	l.key = (char *)key;
	l.value = (char *)value;
	q.r.n_labels = 1;
	q.r.labels = list;
	if (good)
		accepted(&q);
	else
		refused(&q, GRPC_INVALID_ARGUMENT, "labels");
}

static void test_labels(void **state)
{
	(void)state;
	with_label("tier", "web", true);
	with_label("example.com/tier", "", true);
	with_label("", "x", false);
	with_label("a,b", "x", false);
	with_label("a=b", "x", false);
	with_label("a", "x,y", false);
	with_label("a", " x", false);
	with_label("a", "0123456789012345678901234567890123456789012345678901234567890123", false);
}

static void test_log_level(void **state)
{
	struct request q;

	(void)state;
	init(&q);
	q.spec.log_level = (char *)"debug";
	accepted(&q);
	q.spec.log_level = (char *)"loud";
	refused(&q, GRPC_INVALID_ARGUMENT, "spec.log_level");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_unserved),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_too_many_variables),
		cmocka_unit_test(test_labels),
		cmocka_unit_test(test_log_level),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
