#include "cli/cli.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"

#define MESSAGE_MAX ((size_t)16 << 10)

static int parse_output(void *field, const char *value, struct err *err)
{
	if (strcmp(value, "table") == 0)
		*(enum cli_output *)field = CLI_OUTPUT_TABLE;
	else if (strcmp(value, "json") == 0)
		*(enum cli_output *)field = CLI_OUTPUT_JSON;
	else
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "\"%s\" is neither table nor json", value);
	return 0;
}

static int parse_when(void *field, const char *value, struct err *err)
{
	static const char *const names[] = { "auto", "always", "never" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(value, names[i]) == 0) {
			*(enum cli_when *)field = (enum cli_when)i;
			return 0;
		}
	}
	return err_set(
	    err, GRPC_INVALID_ARGUMENT, "\"%s\" is none of auto, always and never", value);
}

/* -v, -v -v and -vvv: the parser hands the rest of the word over as the value. */
static int parse_count(void *field, const char *value, struct err *err)
{
	unsigned *count = field;

	if (strcmp(value, "true") == 0)
		*count += 1;
	else if (strcmp(value, "false") == 0)
		*count = 0;
	else if (value[strspn(value, "v")] == '\0')
		*count += (unsigned)strlen(value) + 1;
	else
		return err_set(err, GRPC_INVALID_ARGUMENT, "\"%s\" is not understood", value);
	return 0;
}

int cli_parse_switch(void *field, const char *value, struct err *err)
{
	bool on;

	if (config_bool(&on, value, err) != 0)
		return -1;
	*(enum cli_switch *)field = on ? CLI_SWITCH_ON : CLI_SWITCH_OFF;
	return 0;
}

#define FIELD(name) offsetof(struct cli, name)

const struct config_key cli_keys[] = {
	[CLI_KEY_GATEWAY] = { "gateway", 'g', "OPENSHELL_GATEWAY", "NAME", config_string,
	    FIELD(gateway), NULL, "a registered gateway, instead of the active one", false },
	[CLI_KEY_ENDPOINT] = { "gateway-endpoint", 0, "OPENSHELL_GATEWAY_ENDPOINT", "URL",
	    config_string, FIELD(endpoint), NULL,
	    "a gateway's address: http://HOST:PORT, https://HOST:PORT or unix:PATH", false },
	{ "workspace", 0, "OPENSHELL_WORKSPACE", "NAME", config_string, FIELD(workspace), NULL,
	    "the workspace that sandbox names belong to", false },
	{ "output", 'o', NULL, "FORMAT", parse_output, FIELD(output), "table", "table or json",
	    false },
	{ "color", 0, NULL, "WHEN", parse_when, FIELD(color), "auto",
	    "auto, always or never; auto also heeds NO_COLOR", false },
	{ "verbose", 'v', NULL, NULL, parse_count, FIELD(verbose), NULL,
	    "say more: -v info, -vv debug, -vvv trace", true },
	{ "quiet", 'q', NULL, NULL, config_bool, FIELD(quiet), NULL,
	    "no progress and no summary, only results and errors", true },
	{ "help", 'h', NULL, NULL, config_bool, FIELD(help), NULL, "print this", true },
	{ "version", 'V', NULL, NULL, config_bool, FIELD(version), NULL, "print the version",
	    true },
	{ 0 },
};

void cli_say(const struct cli *cli, const char *fmt, ...)
{
	va_list args;

	if (cli->quiet)
		return;
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
}

static void complain(const struct cli *cli, enum grpc_code code, const char *message)
{
	struct text t;

	text_init(&t, MESSAGE_MAX);
	if (cli->output == CLI_OUTPUT_JSON) {
		text_addf(&t, "{\"error\":{\"code\":\"%s\",\"message\":", err_code_name(code));
		text_add_json(&t, message, strlen(message));
		text_addf(&t, "}}");
	} else {
		text_addf(&t, "towline: ");
		text_add_plain(&t, message, strlen(message));
	}
	fprintf(stderr, "%s\n", t.failed ? "towline: out of memory" : t.data);
	text_free(&t);
}

int cli_fail(const struct cli *cli, const struct err *err)
{
	complain(cli, err->code, err->text);
	return CLI_EXIT_FAILED;
}

int cli_usage(const struct cli *cli, const char *fmt, ...)
{
	struct text t;
	va_list args;

	text_init(&t, MESSAGE_MAX);
	va_start(args, fmt);
	text_vaddf(&t, fmt, args);
	va_end(args);
	complain(cli, GRPC_INVALID_ARGUMENT, t.failed ? "usage" : t.data);
	text_free(&t);
	return CLI_EXIT_USAGE;
}

bool cli_has_color(const struct cli *cli, int fd)
{
	const char *no = getenv("NO_COLOR");

	if (cli->color != CLI_WHEN_AUTO)
		return cli->color == CLI_WHEN_ALWAYS;
	return (no == NULL || no[0] == '\0') && isatty(fd);
}
