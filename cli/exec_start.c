#include "cli/exec_start.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/terminal.h"
#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"

typedef Openshell__V1__ExecSandboxRequest__EnvironmentEntry entry;

/* The environment of the request, with one more for the terminal's type. */
struct environment {
	entry entries[CONFIG_LIST_MAX + 1];
	entry *list[CONFIG_LIST_MAX + 1];
	size_t count;
};

static void add(struct environment *e, const char *key, const char *value)
{
	entry *at = &e->entries[e->count];

	openshell__v1__exec_sandbox_request__environment_entry__init(at);
	at->key = (char *)key;
	at->value = (char *)value;
	e->list[e->count++] = at;
}

static bool has_key(const struct environment *e, const char *key)
{
	for (size_t i = 0; i < e->count; i++)
		if (strcmp(e->list[i]->key, key) == 0)
			return true;
	return false;
}

/* The size and type of what the person looks at, if that is a terminal. */
static void describe_terminal(Openshell__V1__ExecSandboxRequest *r, struct environment *e)
{
	const char *term = getenv("TERM");

	r->tty = true;
	terminal_size(STDOUT_FILENO, &r->cols, &r->rows);
	if (r->cols == 0)
		terminal_size(STDIN_FILENO, &r->cols, &r->rows);
	if (term != NULL && term[0] != '\0' && !has_key(e, "TERM"))
		add(e, "TERM", term);
}

static uint8_t *pack(
    struct session *s, const struct exec_options *o, bool tty, struct environment *e, size_t *len)
{
	Openshell__V1__ExecSandboxInput input = OPENSHELL__V1__EXEC_SANDBOX_INPUT__INIT;
	Openshell__V1__ExecSandboxRequest r = OPENSHELL__V1__EXEC_SANDBOX_REQUEST__INIT;
	Google__Protobuf__Duration limit = GOOGLE__PROTOBUF__DURATION__INIT;

	r.sandbox = (char *)o->sandbox;
	r.command = (char **)o->command;
	r.n_command = o->command_count;
	r.no_login_shell = o->no_login_shell;
	r.workspace_scope = session_scope(s);
	if (o->workdir != NULL)
		r.workdir = (char *)o->workdir;
	if (o->timeout_ms > 0) {
		limit.seconds = (int64_t)(o->timeout_ms / 1000);
		limit.nanos = (int32_t)(o->timeout_ms % 1000) * 1000000;
		r.execution_timeout = &limit;
		r.timeout_seconds = (uint32_t)((o->timeout_ms + 999) / 1000);
	}
	if (tty)
		describe_terminal(&r, e);
	r.environment = e->list;
	r.n_environment = e->count;
	input.payload_case = OPENSHELL__V1__EXEC_SANDBOX_INPUT__PAYLOAD_START;
	input.start = &r;
	return codec_pack_new(&input.base, len);
}

uint8_t *exec_start_message(
    struct session *s, const struct exec_options *o, bool tty, size_t *len, struct err *err)
{
	struct environment *e = calloc(1, sizeof(*e));
	const struct pairs *pairs = o->environment;
	uint8_t *packed = NULL;

	for (size_t i = 0; e != NULL && pairs != NULL && i < pairs->count; i++)
		add(e, pairs->key[i], pairs->value[i]);
	if (e == NULL || (packed = pack(s, o, tty, e, len)) == NULL)
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	free(e);
	return packed;
}
