/* Commands and shells: pty-req, env, exec, shell, window-change, signal. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/signame.h"
#include "base/text.h"
#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "sshd/channel_parts.h"
#include "sshd/peek.h"

static const struct log_area area = { "channel" };

typedef Openshell__V1__ExecSandboxRequest__EnvironmentEntry variable;

struct channel_setup {
	char *term; /* NULL: no terminal */
	uint32_t cols, rows, width, height;
	uint8_t *modes;
	size_t modes_len;
	variable *variables[CHANNEL_ENV_MAX];
	size_t count;
};

static void variable_free(variable *v)
{
	if (v == NULL)
		return;
	free(v->key);
	free(v->value);
	free(v);
}

void channel_setup_free(struct channel_setup *s)
{
	if (s == NULL)
		return;
	for (size_t i = 0; i < s->count; i++)
		variable_free(s->variables[i]);
	free(s->term);
	free(s->modes);
	free(s);
}

static struct channel_setup *setup_of(struct channel *c)
{
	if (c->setup == NULL)
		c->setup = calloc(1, sizeof(*c->setup));
	return c->setup;
}

static bool is_printable(const char *text, size_t max)
{
	size_t len = strnlen(text, max + 1), n;

	if (len > max)
		return false;
	for (size_t at = 0; at < len; at += n)
		if ((n = text_printable(text + at, len - at)) == 0)
			return false;
	return true;
}

bool channel_exec_pty(struct channel *c, ssh_message m)
{
	struct channel_setup *s = setup_of(c);
	struct peek_pty p;

	peek_pty(m, &p);
	if (s == NULL || s->term != NULL || p.term == NULL ||
	    !is_printable(p.term, CHANNEL_VALUE_MAX) ||
	    !client_permits(c->all->client, CLIENT_PERMISSION_PTY))
		return false;
	if (p.modes_len > 0 && (s->modes = malloc(p.modes_len)) != NULL) {
		memcpy(s->modes, p.modes, p.modes_len);
		s->modes_len = p.modes_len;
	}
	s->cols = p.cols;
	s->rows = p.rows;
	s->width = p.width;
	s->height = p.height;
	return (s->term = strdup(p.term)) != NULL;
}

/* What a client may set: how people read and write, and what git says by it. */
static bool is_allowed(const char *name)
{
	static const char *const names[] = { "LANG", "LANGUAGE", "COLORTERM", "NO_COLOR", "TZ",
		"GIT_PROTOCOL" };

	if (strncmp(name, "LC_", 3) == 0)
		return strlen(name) < 32 &&
		    strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") == strlen(name);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

static variable *variable_create(const char *key, const char *value)
{
	variable *v = calloc(1, sizeof(*v));

	if (v == NULL)
		return NULL;
	openshell__v1__exec_sandbox_request__environment_entry__init(v);
	v->key = strdup(key);
	v->value = strdup(value);
	if (v->key != NULL && v->value != NULL)
		return v;
	variable_free(v);
	return NULL;
}

static bool set_variable(struct channel_setup *s, const char *key, const char *value)
{
	variable *v;
	size_t at = 0;

	while (at < s->count && strcmp(s->variables[at]->key, key) != 0)
		at++;
	if (at == CHANNEL_ENV_MAX || (v = variable_create(key, value)) == NULL)
		return false;
	if (at == s->count)
		s->count++;
	else
		variable_free(s->variables[at]);
	s->variables[at] = v;
	return true;
}

bool channel_exec_env(struct channel *c, ssh_message m)
{
	const char *name = ssh_message_channel_request_env_name(m);
	const char *value = ssh_message_channel_request_env_value(m);

	return name != NULL && value != NULL && is_allowed(name) &&
	    is_printable(value, CHANNEL_VALUE_MAX) && setup_of(c) != NULL &&
	    set_variable(c->setup, name, value);
}

/* The call. */

static void exec_message(struct channel *c, const uint8_t *message, size_t len)
{
	Openshell__V1__ExecSandboxEvent *event =
	    codec_unpack(&openshell__v1__exec_sandbox_event__descriptor, message, len, NULL);

	if (event != NULL &&
	    event->payload_case == OPENSHELL__V1__EXEC_SANDBOX_EVENT__PAYLOAD_EXIT) {
		c->has_exit = true;
		c->exit_code = event->exit->exit_code;
		c->core_dumped = event->exit->core_dumped;
		snprintf(c->signal, sizeof(c->signal), "%s", event->exit->signal);
		log_debug(&area, "exit", LOG_U64("connection", client_id(c->all->client)),
		    LOG_U64("channel", c->number), LOG_I64("code", c->exit_code),
		    LOG_STR("signal", c->signal));
	}
	codec_free(event);
}

static const struct channel_kind exec_kind = {
	.name = "exec",
	.path = "/openshell.v1.OpenShell/ExecSandboxInteractive",
	.is_session = true,
	.outlives = true,
	.event = true,
	.message = exec_message,
};

static void describe(
    struct channel *c, const char *command, Openshell__V1__ExecSandboxRequest *request)
{
	struct channel_setup *s = c->setup;

	request->sandbox = client_session(c->all->client)->sandbox_id;
	request->shell->command.data = (uint8_t *)command;
	request->shell->command.len = strlen(command);
	if (s->term != NULL) {
		set_variable(s, "TERM", s->term[0] != '\0' ? s->term : "dumb");
		request->tty = true;
		request->cols = s->cols;
		request->rows = s->rows;
		request->width_pixels = s->width;
		request->height_pixels = s->height;
		request->terminal_modes.data = s->modes;
		request->terminal_modes.len = s->modes_len;
	}
	request->environment = s->variables;
	request->n_environment = s->count;
}

static int start(struct channel *c, const char *command, struct err *err)
{
	Towline__V1__ExecShell shell = TOWLINE__V1__EXEC_SHELL__INIT;
	Openshell__V1__ExecSandboxRequest request = OPENSHELL__V1__EXEC_SANDBOX_REQUEST__INIT;
	Openshell__V1__ExecSandboxInput input = OPENSHELL__V1__EXEC_SANDBOX_INPUT__INIT;
	uint8_t *packed = NULL;
	size_t len;
	int r;

	request.shell = &shell;
	if (setup_of(c) == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	describe(c, command, &request);
	input.payload_case = OPENSHELL__V1__EXEC_SANDBOX_INPUT__PAYLOAD_START;
	input.start = &request;
	if ((packed = codec_pack_new(&input.base, &len)) == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	c->tty = request.tty;
	r = channel_start(c, &exec_kind, packed, len, err);
	free(packed);
	return r;
}

/* Those that may have a terminal are not those that may go without. */
static bool is_permitted(const struct channel *c)
{
	bool tty = c->setup != NULL && c->setup->term != NULL;

	return client_permits(c->all->client, tty ? CLIENT_PERMISSION_PTY : CLIENT_PERMISSION_EXEC);
}

void channel_exec_run(struct channel *c, const char *command)
{
	struct err err;

	if (!is_permitted(c))
		channel_refuse(c, GRPC_PERMISSION_DENIED, "this session does not permit commands");
	else if (start(c, command, &err) != 0)
		channel_refuse(c, err.code, err.text);
	channel_setup_free(c->setup);
	c->setup = NULL;
	channels_say_notice(c);
}

/* While it runs. */

static bool send_input(struct channel *c, const Openshell__V1__ExecSandboxInput *input)
{
	uint8_t packed[128];

	return c->call != NULL && c->kind == &exec_kind &&
	    codec_size(&input->base) <= sizeof(packed) &&
	    framed_send(c->call, packed, codec_pack(&input->base, packed)) == 0;
}

/* It goes with what was sent, or not at all when that is stuck: a client that sends nothing
 * but sizes must not fill a queue. */
static void send_if_moving(struct channel *c, const Openshell__V1__ExecSandboxInput *input)
{
	if (c->call != NULL && framed_queued(c->call) < CHANNEL_UP_MAX * 2)
		send_input(c, input);
}

bool channel_exec_resize(struct channel *c, ssh_message m)
{
	Openshell__V1__ExecSandboxWindowResize size =
	    OPENSHELL__V1__EXEC_SANDBOX_WINDOW_RESIZE__INIT;
	Openshell__V1__ExecSandboxInput input = OPENSHELL__V1__EXEC_SANDBOX_INPUT__INIT;

	struct peek_pty p;

	if (!c->tty)
		return false;
	peek_pty(m, &p);
	size.cols = p.cols;
	size.rows = p.rows;
	size.width_pixels = p.width;
	size.height_pixels = p.height;
	input.payload_case = OPENSHELL__V1__EXEC_SANDBOX_INPUT__PAYLOAD_RESIZE;
	input.resize = &size;
	send_if_moving(c, &input);
	return true;
}

void channel_exec_signal(struct channel *c, const char *name)
{
	Towline__V1__ExecSignal body = TOWLINE__V1__EXEC_SIGNAL__INIT;
	Openshell__V1__ExecSandboxInput input = OPENSHELL__V1__EXEC_SANDBOX_INPUT__INIT;

	if (c->state != CHANNEL_STATE_RUNNING || signame_number(name) < 0)
		return;
	body.name = (char *)name;
	input.payload_case = OPENSHELL__V1__EXEC_SANDBOX_INPUT__PAYLOAD_SIGNAL;
	input.signal = &body;
	send_if_moving(c, &input);
}

bool channel_exec_close_input(struct channel *c)
{
	Towline__V1__ExecCloseInput body = TOWLINE__V1__EXEC_CLOSE_INPUT__INIT;
	Openshell__V1__ExecSandboxInput input = OPENSHELL__V1__EXEC_SANDBOX_INPUT__INIT;

	input.payload_case = OPENSHELL__V1__EXEC_SANDBOX_INPUT__PAYLOAD_CLOSE_INPUT;
	input.close_input = &body;
	return send_input(c, &input);
}

bool channel_exec_close_output(struct channel *c)
{
	Towline__V1__ExecCloseOutput body = TOWLINE__V1__EXEC_CLOSE_OUTPUT__INIT;
	Openshell__V1__ExecSandboxInput input = OPENSHELL__V1__EXEC_SANDBOX_INPUT__INIT;

	input.payload_case = OPENSHELL__V1__EXEC_SANDBOX_INPUT__PAYLOAD_CLOSE_OUTPUT;
	input.close_output = &body;
	return send_input(c, &input);
}
