/*
 * cli/cli.h: what every verb is given: the options that all verbs have, and how to speak
 * with the person. Results go to standard output; all else to standard error.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>

#include "base/config.h"
#include "base/err.h"

enum cli_output { CLI_OUTPUT_TABLE, CLI_OUTPUT_JSON };
enum cli_when { CLI_WHEN_AUTO, CLI_WHEN_ALWAYS, CLI_WHEN_NEVER };

/* Exit codes; those of a remote command are passed through. docs/cli.md lists them. */
enum cli_exit {
	CLI_EXIT_OK = 0,
	CLI_EXIT_FAILED = 1,
	CLI_EXIT_USAGE = 2,
	CLI_EXIT_SKIPPED = 23,   /* a transfer that left entries out, as rsync's */
	CLI_EXIT_SIGNAL = 128,   /* and the signal's number */
	CLI_EXIT_TRANSPORT = 255 /* exec and connect: it was us and not the command, as ssh's */
};

struct cli {
	char *gateway;   /* a registered one's name; NULL: the active one */
	char *endpoint;  /* its address instead; NULL: from the registration */
	char *workspace; /* NULL: the gateway's default */
	enum cli_output output;
	enum cli_when color;
	unsigned verbose;
	bool quiet, help, version;
	bool prefers_endpoint; /* both are given; the endpoint by the stronger source */
};

/* The options, for the parser and for help texts; end with a NULL name. The first two are
 * the gateway's and the endpoint's. */
extern const struct config_key cli_keys[];
#define CLI_KEY_GATEWAY  0
#define CLI_KEY_ENDPOINT 1

/* Option values of three states: not given, --name, --no-name. */
enum cli_switch { CLI_SWITCH_AUTO, CLI_SWITCH_ON, CLI_SWITCH_OFF };
config_parse cli_parse_switch;

/* A line for the person on standard error; nothing with --quiet. */
void cli_say(const struct cli *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Why it failed; with -o json as {"error": {"code", "message"}}. Returns CLI_EXIT_FAILED. */
int cli_fail(const struct cli *, const struct err *);

/* The command line makes no sense. Returns CLI_EXIT_USAGE. */
int cli_usage(const struct cli *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Whether what goes to ${fd} may be coloured. */
bool cli_has_color(const struct cli *, int fd);

#endif
