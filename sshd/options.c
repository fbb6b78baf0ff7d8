#include "sshd/options.h"

#include <stdio.h>
#include <string.h>

#include "base/man.h"
#include "rpc/address.h"
#include "sshd/admission.h"

#define OPTION(n, e, a, p, f, d, h)                                             \
	{                                                                       \
		.name = (n), .env = (e), .arg = (a), .parse = (p),              \
		.offset = offsetof(struct options, f), .dflt = (d), .help = (h) \
	}

/* clang-format off */
static const struct config_key keys[] = {
	OPTION("gateway", "TOWLINE_GATEWAY", "URL", config_string, gateway, NULL,
	    "whose API to use: unix:PATH, http:// or https://"),
	OPTION("endpoint-id", NULL, "ID", config_string, endpoint_id, NULL,
	    "which endpoint this is, as the gateway knows it"),
	OPTION("token-file", NULL, "FILE", config_string, token_file, NULL,
	    "where the endpoint's token is read from, once"),
	OPTION("host-key", NULL, "FILE", config_string, host_key, NULL,
	    "where the Ed25519 host key is read from, once"),
	OPTION("listen", "TOWLINE_SSHD_LISTEN", "ADDR", config_string, listen, NULL,
	    "where clients come from"),
	OPTION("listen-fd", NULL, "N", config_uint, listen_fd, NULL,
	    "instead: a listening socket that is open already"),
	OPTION("parent-fd", NULL, "N", config_uint, parent_fd, NULL,
	    "a pipe: when its other end is closed, this process ends"),
	OPTION("penalties-fd", NULL, "N", config_uint, penalties_fd, NULL,
	    "a memory file, in which processes share what they know of sources that failed"),
	OPTION("ca-file", NULL, "FILE", config_string, ca_file, NULL,
	    "whose certificates to trust, for https"),
	OPTION("startups", "TOWLINE_SSHD_STARTUPS", "START:RATE:FULL", config_string, startups,
	    "512:30:1024",
	    "from START connections that have not logged in, RATE of a hundred make way for a "
	    "new one or the new one goes; from FULL all"),
	OPTION("max-connections", "TOWLINE_SSHD_MAX_CONNECTIONS", "N", config_uint,
	    limits.connections, "2048", "in this process"),
	OPTION("login-grace", "TOWLINE_SSHD_LOGIN_GRACE", "TIME", config_duration,
	    limits.login_grace_ms, "30s", "for a client to log in"),
	OPTION("auth-tries", "TOWLINE_SSHD_AUTH_TRIES", "N", config_uint, limits.auth_tries, "6",
	    "how many keys may be refused before the connection ends"),
	OPTION("keepalive", "TOWLINE_SSHD_KEEPALIVE", "TIME", config_duration, limits.keepalive_ms,
	    "30s", "a client that was quiet so long is asked whether it lives; 0: never"),
	OPTION("idle-timeout", "TOWLINE_SSHD_IDLE_TIMEOUT", "TIME", config_duration,
	    limits.idle_ms, "1h", "a connection that has no channel so long ends; 0: never"),
	OPTION("rekey-limit", "TOWLINE_SSHD_REKEY_LIMIT", "SIZE", config_size, rekey_bytes, "1G",
	    "keys are changed after so many bytes, and after an hour"),
	OPTION("penalty-exempt", "TOWLINE_SSHD_PENALTY_EXEMPT", "NETWORK", config_list, exempt,
	    NULL, "whose failures are forgiven, again for more; else this machine's own"),
	OPTION("log-level", "TOWLINE_LOG_LEVEL", "LEVEL", config_string, log_level_text, "info",
	    "error, warn, info, debug or trace"),
	OPTION("log-format", "TOWLINE_LOG_FORMAT", "FORMAT", config_string, log_format_text,
	    "logfmt", "logfmt or json"),
	{ .name = "help", .letter = 'h', .parse = config_bool,
	    .offset = offsetof(struct options, help), .help = "print this and exit",
	    .flag_only = true },
	{ .name = "version", .parse = config_bool, .offset = offsetof(struct options, version),
	    .help = "print the version and exit", .flag_only = true },
	{ .name = "man", .parse = config_bool, .offset = offsetof(struct options, man),
	    .help = "print the manual page and exit", .flag_only = true },
	{ 0 },
};
/* clang-format on */

static const char usage[] =
    "usage: towline-sshd --gateway URL --endpoint-id ID --token-file FILE --host-key FILE\n"
    "                    (--listen ADDR | --listen-fd N)\n"
    "\n"
    "Lets SSH clients into sandboxes: each channel becomes a call of the gateway's API. A gateway\n"
    "starts its own; by hand it runs on another machine.\n"
    "\n";

static const char epilogue[] =
    "\n"
    "SIGUSR1 writes a line of counters to the log.\n"
    "\n"
    "exit status:\n"
    "  0   ended by a signal, by its parent's end, or by --help, --version or --man\n"
    "  1   could not start; standard error says why\n"
    "  2   the command line is not understood\n"
    "  3   the gateway will not have it: it does not accept the token\n";

void options_help(void)
{
	fputs(usage, stdout);
	config_help(keys, stdout);
	fputs(epilogue, stdout);
}

void options_man(void)
{
	man_page(
	    &(struct man_page){
		.name = "towline-sshd",
		.section = "8",
		.summary = "lets SSH clients into sandboxes",
		.usage = usage,
		.keys = keys,
		.epilogue = epilogue,
		.see_also = "towline(1), towline-gateway(8)",
	    },
	    stdout);
}

static int check_limits(const struct sshd_limits *l, struct err *err)
{
	if (l->login_grace_ms < 1000 || l->login_grace_ms > OPTIONS_GRACE_MAX_MS)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "--login-grace: from 1s to 10m, which is how long a stranger holds a place");
	if (l->connections == 0)
		return err_set(err, GRPC_INVALID_ARGUMENT, "--max-connections: at least 1");
	if (l->auth_tries == 0)
		return err_set(err, GRPC_INVALID_ARGUMENT, "--auth-tries: at least 1");
	return 0;
}

static int check_rekey(uint64_t bytes, struct err *err)
{
	if (bytes >= OPTIONS_REKEY_BYTES && bytes <= LIBRARY_REKEY_BYTES)
		return 0;
	return err_set(err, GRPC_INVALID_ARGUMENT, "--rekey-limit: from 64K to 1G");
}

static int check(struct options *o, struct err *err)
{
	struct address address;

	if (o->gateway == NULL || o->endpoint_id == NULL || o->token_file == NULL ||
	    o->host_key == NULL || (o->listen == NULL) == (o->listen_fd == 0))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "--gateway, --endpoint-id, --token-file, --host-key and one of --listen and "
		    "--listen-fd must be given; see --help");
	if (address_parse(o->gateway, &address, err) != 0)
		return err_wrap(err, "--gateway");
	if (o->listen != NULL && address_parse(o->listen, &address, err) != 0)
		return err_wrap(err, "--listen");
	if (admission_parse_startups(o->startups, &o->limits, err) != 0)
		return err_wrap(err, "--startups");
	if (check_limits(&o->limits, err) != 0 || check_rekey(o->rekey_bytes, err) != 0 ||
	    log_level_parse(o->log_level_text, &o->log_level, err) != 0)
		return -1;
	o->log_format =
	    strcmp(o->log_format_text, "json") == 0 ? LOG_FORMAT_JSON : LOG_FORMAT_LOGFMT;
	if (o->log_format == LOG_FORMAT_LOGFMT && strcmp(o->log_format_text, "logfmt") != 0)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "--log-format: \"%s\" is no format; logfmt and json are", o->log_format_text);
	return 0;
}

int options_parse(struct config *config, int argc, char *argv[], struct options *o, struct err *err)
{
	config_begin(config, keys, o);
	int used = config_flags(config, argc, argv, false, err);

	if (used < 0)
		return -1;
	if (used < argc)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "\"%s\" is not understood; see --help", argv[used]);
	if (config_environment(config, err) != 0 || config_finish(config, err) != 0)
		return -1;
	return o->help || o->version || o->man ? 0 : check(o, err);
}
