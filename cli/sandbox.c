#include "cli/sandbox.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/output.h"
#include "proto/codec.h"

#define PHASE_PREFIX "SANDBOX_PHASE_"
#define LABELS_MAX   ((size_t)64 << 10) /* bytes; a gateway takes a third of it */

char *sandbox_choose(struct session *s, const char *given, struct err *err)
{
	struct names names = session_names(s);
	char *name;

	if (given == NULL)
		return names_last(&names, err);
	if ((name = strdup(given)) == NULL)
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	return name;
}

void sandbox_remember(struct session *s, const char *name)
{
	struct names names = session_names(s);

	names_remember(&names, name);
}

void sandbox_forget(struct session *s, const char *name)
{
	struct names names = session_names(s);

	names_forget(&names, name);
}

int sandbox_get(
    struct session *s, const char *name, Openshell__V1__SandboxResponse **reply, struct err *err)
{
	Openshell__V1__GetSandboxRequest request = OPENSHELL__V1__GET_SANDBOX_REQUEST__INIT;
	void *got;

	request.name = (char *)name;
	request.workspace_scope = session_scope(s);
	if (session_call(s, "GetSandbox", &request.base,
		&openshell__v1__sandbox_response__descriptor, &got, err) != 0)
		return -1;
	*reply = got;
	if ((*reply)->sandbox != NULL && (*reply)->sandbox->metadata != NULL)
		return 0;
	codec_free(got);
	return err_set(err, GRPC_INTERNAL, "the gateway's answer has no sandbox in it");
}

const char *sandbox_phase_name(Openshell__V1__SandboxPhase phase)
{
	const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(
	    &openshell__v1__sandbox_phase__descriptor, (int)phase);

	if (value == NULL || strncmp(value->name, PHASE_PREFIX, strlen(PHASE_PREFIX)) != 0)
		return "UNKNOWN";
	return value->name + strlen(PHASE_PREFIX);
}

const char *sandbox_phase(const Openshell__V1__Sandbox *s)
{
	return s->status != NULL ? sandbox_phase_name(s->status->phase) : "UNKNOWN";
}

void sandbox_created(const Openshell__V1__Sandbox *s, char out[static 21])
{
	const Openshell__Datamodel__V1__ObjectMeta *meta = s->metadata;
	int64_t seconds = 0;

	if (meta != NULL && meta->created_time != NULL)
		seconds = meta->created_time->seconds;
	else if (meta != NULL)
		seconds = meta->created_at_ms / 1000;
	out[0] = '\0';
	if (seconds != 0)
		text_time(seconds, out);
}

/* Print. */

static json_t *labels_json(const Openshell__Datamodel__V1__ObjectMeta *meta)
{
	json_t *json = json_object();

	for (size_t i = 0; i < meta->n_labels; i++)
		json_object_set_new(
		    json, meta->labels[i]->key, output_json_text(meta->labels[i]->value));
	return json;
}

static json_t *conditions_json(const Openshell__V1__SandboxStatus *status)
{
	json_t *json = json_array();

	for (size_t i = 0; status != NULL && i < status->n_conditions; i++) {
		const Openshell__V1__SandboxCondition *c = status->conditions[i];
		json_t *one = json_object();

		json_object_set_new(one, "type", output_json_text(c->type));
		json_object_set_new(one, "status", output_json_text(c->status));
		json_object_set_new(one, "reason", output_json_text(c->reason));
		json_object_set_new(one, "message", output_json_text(c->message));
		json_array_append_new(json, one);
	}
	return json;
}

json_t *sandbox_json(const Openshell__V1__Sandbox *s)
{
	const Openshell__Datamodel__V1__ObjectMeta *meta = s->metadata;
	json_t *json = json_object();
	char created[21];

	sandbox_created(s, created);
	json_object_set_new(json, "name", output_json_text(meta->name));
	json_object_set_new(json, "id", output_json_text(meta->id));
	json_object_set_new(json, "workspace", output_json_text(meta->workspace));
	json_object_set_new(json, "phase", json_string(sandbox_phase(s)));
	json_object_set_new(json, "created_at", json_string(created));
	json_object_set_new(
	    json, "resource_version", json_integer((json_int_t)meta->resource_version));
	json_object_set_new(json, "labels", labels_json(meta));
	json_object_set_new(json, "conditions", conditions_json(s->status));
	return json;
}

static void add_line(struct output_table *t, const char *name, const char *value)
{
	output_table_add(t, name);
	output_table_add(t, value);
}

static void add_condition(struct output_table *t, const Openshell__V1__SandboxCondition *c)
{
	struct text line;

	text_init(&line, 1024);
	text_addf(&line, "%s (%s)%s%s", c->status, c->reason, c->message[0] != '\0' ? ": " : "",
	    c->message);
	add_line(t, c->type, line.failed ? c->status : line.data);
	text_free(&line);
}

static void add_lines(struct output_table *t, const Openshell__V1__Sandbox *s)
{
	const Openshell__Datamodel__V1__ObjectMeta *meta = s->metadata;
	struct text labels;
	char created[21];

	sandbox_created(s, created);
	add_line(t, "name", meta->name);
	add_line(t, "id", meta->id);
	add_line(t, "workspace", meta->workspace);
	add_line(t, "phase", sandbox_phase(s));
	add_line(t, "created", created);
	text_init(&labels, LABELS_MAX);
	for (size_t i = 0; i < meta->n_labels; i++)
		text_addf(&labels, "%s%s=%s", i > 0 ? "," : "", meta->labels[i]->key,
		    meta->labels[i]->value);
	add_line(t, "labels", labels.data);
	text_free(&labels);
	for (size_t i = 0; s->status != NULL && i < s->status->n_conditions; i++)
		add_condition(t, s->status->conditions[i]);
}

int sandbox_print(const struct cli *cli, const Openshell__V1__Sandbox *s, struct err *err)
{
	struct output_table t;

	if (cli->output == CLI_OUTPUT_JSON)
		return output_json(sandbox_json(s), stdout, err);
	output_table_init(&t, 2);
	add_lines(&t, s);
	int r = output_table_print(&t, stdout, err);
	output_table_free(&t);
	return r;
}
