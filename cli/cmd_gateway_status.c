/* towline gateway status */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/local.h"
#include "cli/output.h"
#include "cli/session.h"
#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"

#define STATUS_PREFIX "SERVICE_STATUS_"

/* What is known of it; "" and 0 for what is not. */
struct status {
	const char *name, *endpoint;
	char health[32], api_version[64], version[64], driver[64];
	pid_t pid; /* if it is on this machine */
	struct err err;
};

static const char *health_name(Openshell__V1__ServiceStatus status)
{
	const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(
	    &openshell__v1__service_status__descriptor, (int)status);

	return value != NULL ? value->name + strlen(STATUS_PREFIX) : "UNKNOWN";
}

static int ask_health(struct session *s, struct status *st, struct err *err)
{
	Openshell__V1__HealthRequest request = OPENSHELL__V1__HEALTH_REQUEST__INIT;
	const Openshell__V1__HealthResponse *health;
	void *reply;

	if (session_call(s, "Health", &request.base, &openshell__v1__health_response__descriptor,
		&reply, err) != 0)
		return -1;
	health = reply;
	snprintf(st->health, sizeof(st->health), "%s", health_name(health->status));
	snprintf(st->api_version, sizeof(st->api_version), "%s", health->version);
	codec_free(reply);
	return 0;
}

/* Older gateways do not tell. */
static void ask_info(struct session *s, struct status *st)
{
	Openshell__V1__GetGatewayInfoRequest request =
	    OPENSHELL__V1__GET_GATEWAY_INFO_REQUEST__INIT;
	const Openshell__V1__GetGatewayInfoResponse *info;
	struct err err;
	void *reply;

	if (session_call(s, "GetGatewayInfo", &request.base,
		&openshell__v1__get_gateway_info_response__descriptor, &reply, &err) != 0)
		return;
	info = reply;
	snprintf(st->version, sizeof(st->version), "%s", info->gateway_version);
	if (info->n_compute_drivers > 0)
		snprintf(st->driver, sizeof(st->driver), "%s", info->compute_drivers[0]->name);
	codec_free(reply);
}

static void ask(struct session *s, struct status *st)
{
	struct local_paths paths;
	struct err none;

	st->name = session_gateway(s);
	st->endpoint = session_endpoint(s);
	if (st->name != NULL && local_paths(st->name, &paths, &none) == 0)
		st->pid = local_pid(&paths);
	if (ask_health(s, st, &st->err) == 0)
		ask_info(s, st);
	else
		snprintf(st->health, sizeof(st->health), "UNREACHABLE");
}

static json_t *status_json(const struct status *st)
{
	json_t *json = json_object();

	json_object_set_new(
	    json, "name", st->name != NULL ? output_json_text(st->name) : json_null());
	json_object_set_new(json, "endpoint", output_json_text(st->endpoint));
	json_object_set_new(json, "status", output_json_text(st->health));
	json_object_set_new(json, "version", output_json_text(st->version));
	json_object_set_new(json, "api_version", output_json_text(st->api_version));
	json_object_set_new(json, "driver", output_json_text(st->driver));
	json_object_set_new(json, "pid", st->pid > 0 ? json_integer(st->pid) : json_null());
	return json;
}

static int print(const struct cli *cli, const struct status *st, struct err *err)
{
	struct output_table t;
	char pid[24] = "";
	const char *const lines[][2] = {
		{ "name", st->name },
		{ "endpoint", st->endpoint },
		{ "status", st->health },
		{ "version", st->version },
		{ "api version", st->api_version },
		{ "driver", st->driver },
		{ "process", pid },
	};
	int r;

	if (cli->output == CLI_OUTPUT_JSON)
		return output_json(status_json(st), stdout, err);
	if (st->pid > 0)
		snprintf(pid, sizeof(pid), "%ld", (long)st->pid);
	output_table_init(&t, 2);
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		output_table_add(&t, lines[i][0]);
		output_table_add(&t, lines[i][1]);
	}
	r = output_table_print(&t, stdout, err);
	output_table_free(&t);
	return r;
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	struct status st = { 0 };
	struct err err = { 0 };
	struct session *s = session_open(cli, &err);
	int r = -1;

	(void)options;
	(void)words;
	if (s != NULL) {
		ask(s, &st);
		r = print(cli, &st, &err);
	}
	if (r == 0 && st.err.code != GRPC_OK) {
		err = st.err;
		r = -1;
	}
	session_close(s);
	return r == 0 ? CLI_EXIT_OK : cli_fail(cli, &err);
}

static const char *const examples[] = {
	"towline gateway status",
	"towline -o json --gateway-endpoint http://127.0.0.1:8080 gateway status",
	NULL,
};

const struct cmd cmd_gateway_status = {
	.name = "status",
	.args = "",
	.help = "whether the gateway can be reached, and what it is",
	.more = "Exit code: 0 if it answers, 1 if not.\n",
	.examples = examples,
	.run = run,
};
