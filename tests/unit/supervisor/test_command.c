/* From a request to what a process is started with. */
#include "supervisor/command.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/codec.h"

typedef Openshell__V1__ExecSandboxRequest__EnvironmentEntry entry;

#define NAMES_SIZE 24

/* So many variables; with ${alike} of one name. */
static int parse(size_t count, bool alike, struct command *c, struct err *err)
{
	static char *const environment[] = { (char *)"PATH=/bin", (char *)"A=1", NULL };
	const struct supervisor s = {
		.workdir = "/", .environment = environment, .login_environment = environment
	};
	struct channel_request r = { .method = "/openshell.v1.OpenShell/ExecSandbox" };
	Openshell__V1__ExecSandboxRequest q = OPENSHELL__V1__EXEC_SANDBOX_REQUEST__INIT;
	char *command[] = { (char *)"true" };
	entry *entries = calloc(count, sizeof(*entries)), **list = calloc(count, sizeof(*list));
	char(*names)[NAMES_SIZE] = calloc(count, sizeof(*names));

	for (size_t i = 0; i < count; i++) {
		openshell__v1__exec_sandbox_request__environment_entry__init(&entries[i]);
		snprintf(names[i], sizeof(names[i]), "V%zu", alike ? 0 : i);
		entries[i].key = names[i];
		entries[i].value = (char *)"v";
		list[i] = &entries[i];
	}
	q.command = command;
	q.n_command = 1;
	q.environment = list;
	q.n_environment = count;
	uint8_t *packed = codec_pack_new(&q.base, &r.first_len);
	r.first_message = packed;
	err_clear(err);
	int result = command_parse(&s, &r, c, err);
	free(packed);
	free(names);
	free(entries);
	free(list);
	return result;
}

static size_t count_of(char *const *list)
{
	size_t n = 0;

	while (list[n] != NULL)
		n++;
	return n;
}

/* The sandbox's two count. */
static void variables_are_counted(void **state)
{
	struct command c;
	struct err err;

	(void)state;
	assert_int_equal(parse(COMMAND_ENVIRONMENT_MAX - 2, false, &c, &err), 0);
	assert_int_equal(count_of(c.process.envp), COMMAND_ENVIRONMENT_MAX);
	command_free(&c);
	assert_int_equal(parse(COMMAND_ENVIRONMENT_MAX - 1, false, &c, &err), -1);
	assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
	assert_string_equal(err.text, "environment: more than 4096 variables");
}

/* Each is looked for among those before it. */
static void and_so_if_they_are_one(void **state)
{
	struct command c;
	struct err err;

	(void)state;
	assert_int_equal(parse(COMMAND_ENVIRONMENT_MAX, true, &c, &err), 0);
	assert_int_equal(count_of(c.process.envp), 3);
	command_free(&c);
	assert_int_equal(parse(COMMAND_ENVIRONMENT_MAX + 1, true, &c, &err), -1);
	assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(variables_are_counted),
		cmocka_unit_test(and_so_if_they_are_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
