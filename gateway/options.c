#include "gateway/options.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/man.h"
#include "base/text.h"
#include "drivers/driver.h"
#include "rpc/address.h"

#define LOOPS_MAX          64
#define SSH_WORKERS_MAX    64
#define SSH_WORKERS_AUTO   4 /* at most, unless told otherwise */
#define SSH_LISTEN_DEFAULT "127.0.0.1:2222"

#define FIELD(name) offsetof(struct options, name)

static const struct config_key keys[] = {
	{ "data-dir", 'd', "TOWLINE_DATA_DIR", "DIR", config_string, FIELD(data_dir),
	    CONFIG_REQUIRED, "where state is kept; one gateway a directory", false },
	{ "listen", 'l', "TOWLINE_LISTEN", "ADDR", config_list, FIELD(listen), "127.0.0.1:8080",
	    "address to serve on, may be given again: 127.0.0.1:PORT, [::1]:PORT or unix:PATH; port 0 "
	    "takes the one of the last start, or any",
	    false },
	{ "driver", 0, "TOWLINE_DRIVER", "NAME", config_string, FIELD(driver), "local",
	    "what makes sandboxes", false },
	{ "supervisor", 0, "TOWLINE_SUPERVISOR", "PATH", config_string, FIELD(supervisor), NULL,
	    "the supervisor's program (default: towline-supervisor beside this one)", false },
	{ "ready-file", 0, NULL, "FILE", config_string, FIELD(ready_file), NULL,
	    "written when the gateway serves, removed when it ends: {\"endpoint\", \"pid\", \"version\"}",
	    true },
	{ "loops", 0, "TOWLINE_LOOPS", "N", config_uint, FIELD(loops), NULL,
	    "event loops (default: half as many as processors, 1 to 8)", false },
	{ "provision-timeout", 0, "TOWLINE_PROVISION_TIMEOUT", "TIME", config_duration,
	    FIELD(provision_ms), "120s", "for a new sandbox's supervisor to connect", false },
	{ "ssh-workers", 0, "TOWLINE_SSH_WORKERS", "N", config_string, FIELD(ssh.workers_text),
	    NULL, "processes that serve SSH (default: as many as processors, at most 4; 0: none)",
	    false },
	{ "ssh-listen", 0, "TOWLINE_SSH_LISTEN", "ADDR", config_string, FIELD(ssh.listen), NULL,
	    "address that they serve on (default: " SSH_LISTEN_DEFAULT
	    "); any, since who comes needs "
	    "a key; port 0 takes the one of the last start, or any",
	    false },
	{ "ssh-host", 0, "TOWLINE_SSH_HOST", "HOST", config_string, FIELD(ssh.host), NULL,
	    "what SSH clients are told to dial (default: the address of --ssh-listen)", false },
	{ "ssh-port", 0, "TOWLINE_SSH_PORT", "PORT", config_uint, FIELD(ssh.port), NULL,
	    "and the port (default: that of --ssh-listen)", false },
	{ "ssh-host-key", 0, "TOWLINE_SSH_HOST_KEY", "FILE", config_string, FIELD(ssh.host_key),
	    NULL,
	    "an Ed25519 key in OpenSSH's format, made if missing (default: ssh_host_ed25519_key in "
	    "the data directory)",
	    false },
	{ "ssh-endpoints", 0, "TOWLINE_SSH_ENDPOINTS", "FILE", config_string, FIELD(ssh.endpoints),
	    NULL,
	    "tokens of towline-sshd processes that others start, one \"sshd-NAME.HEX\" a line",
	    false },
	{ "ssh-session-connections", 0, "TOWLINE_SSH_SESSION_CONNECTIONS", "N", config_uint,
	    FIELD(ssh.session_connections), "32", "SSH connections by one session at once", false },
	{ "ssh-sandbox-connections", 0, "TOWLINE_SSH_SANDBOX_CONNECTIONS", "N", config_uint,
	    FIELD(ssh.sandbox_connections), "256", "SSH connections to one sandbox at once",
	    false },
	{ "sshd", 0, "TOWLINE_SSHD", "PATH", config_string, FIELD(ssh.program), NULL,
	    "the SSH endpoint's program (default: towline-sshd beside this one)", false },
	{ "log-level", 0, "TOWLINE_LOG_LEVEL", "LEVEL", config_string, FIELD(log_level_text),
	    "info", "error, warn, info, debug or trace", false },
	{ "log-format", 0, "TOWLINE_LOG_FORMAT", "FORMAT", config_string, FIELD(log_format_text),
	    "logfmt", "logfmt or json", false },
	{ "config", 'c', "TOWLINE_GATEWAY_CONFIG", "FILE", config_string, FIELD(config_file), NULL,
	    "a file of these options, one \"name = value\" a line", true },
	{ "help", 'h', NULL, NULL, config_bool, FIELD(help), NULL, "print this", true },
	{ "version", 'V', NULL, NULL, config_bool, FIELD(version), NULL, "print the version",
	    true },
	{ "man", 0, NULL, NULL, config_bool, FIELD(man), NULL, "print the manual page", true },
	{ 0 },
};

static const char usage[] =
    "usage: towline-gateway --data-dir DIR [--listen ADDR]... [option]...\n"
    "\n"
    "Makes sandboxes, and joins clients to them: their supervisors dial it, and so do clients.\n"
    "On SIGTERM and SIGINT it lets calls end for some seconds; sandboxes stay.\n"
    "\n";

static const char epilogue[] =
    "\n"
    "SIGUSR1 writes a line of counters to the log.\n"
    "\n"
    "exit status:\n"
    "  0   ended by SIGTERM or SIGINT, or by --help, --version or --man\n"
    "  1   something failed; standard error says what\n"
    "  2   the command line, the environment or the file of options is not understood\n";

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
		.name = "towline-gateway",
		.section = "8",
		.summary = "joins clients to sandboxes that nobody can dial",
		.usage = usage,
		.keys = keys,
		.epilogue = epilogue,
		.see_also = "towline(1), towline-supervisor(8)",
	    },
	    stdout);
}

static int check_logging(struct options *o, struct err *err)
{
	if (log_level_parse(o->log_level_text, &o->log_level, err) != 0)
		return err_wrap(err, "--log-level");
	if (strcmp(o->log_format_text, "logfmt") == 0)
		o->log_format = LOG_FORMAT_LOGFMT;
	else if (strcmp(o->log_format_text, "json") == 0)
		o->log_format = LOG_FORMAT_JSON;
	else
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "--log-format: \"%s\" is neither logfmt nor json", o->log_format_text);
	return 0;
}

/* Until users can authenticate, whoever reaches the gateway may do everything. */
static int check_listen(const char *text, struct err *err)
{
	struct address a;

	if (address_parse(text, &a, err) != 0)
		return err_wrap(err, "--listen");
	if (!a.is_unix && !a.is_numeric && strcmp(a.host, "localhost") == 0)
		return 0; /* looked up, and checked again, before it is listened on */
	if (a.tls)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "--listen %s: TLS is not served yet", text);
	if (!a.is_unix && (!a.is_numeric || !address_is_loopback(&a)))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "--listen %s: only loopback addresses (127.0.0.1, ::1) and unix:PATH are allowed, "
		    "since users cannot authenticate yet",
		    text);
	return 0;
}

static int check_loops(struct options *o, struct err *err)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);

	if (o->loops == 0)
		o->loops = processors < 4 ? 1 : processors > 16 ? 8 : (unsigned)processors / 2;
	if (o->loops > LOOPS_MAX)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "--loops: %u is more than %d", o->loops, LOOPS_MAX);
	return 0;
}

static char *beside_this_program(const char *name)
{
	char path[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);
	char *slash, *out;

	if (len < 0)
		return NULL;
	path[len] = '\0';
	if ((slash = strrchr(path, '/')) == NULL)
		return NULL;
	*slash = '\0';
	return asprintf(&out, "%s/%s", path, name) < 0 ? NULL : out;
}

/* Made absolute: what the driver is lent must not depend on a directory. */
static int check_supervisor(struct options *o, struct err *err)
{
	char *named =
	    o->supervisor != NULL ? o->supervisor : beside_this_program("towline-supervisor");
	char *absolute;

	if (named == NULL)
		return err_set(err, GRPC_INVALID_ARGUMENT, "--supervisor is needed");
	absolute = realpath(named, NULL);
	if (absolute == NULL || access(absolute, X_OK) != 0) {
		err_sys(err, errno, "--supervisor %s", named);
		free(absolute);
		if (named != o->supervisor)
			free(named);
		return -1;
	}
	free(named);
	o->supervisor = absolute;
	return 0;
}

/* SSH. */

static int check_ssh_workers(struct ssh_options *o, struct err *err)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t count = processors < SSH_WORKERS_AUTO ? (uint64_t)processors : SSH_WORKERS_AUTO;

	if (o->workers_text != NULL &&
	    text_to_u64(o->workers_text, 0, SSH_WORKERS_MAX, &count, err) != 0)
		return err_wrap(err, "--ssh-workers");
	o->workers = (unsigned)count;
	return 0;
}

/* One that was named must be there; one that was not may be missing. */
static int check_ssh_program(struct ssh_options *o, struct err *err)
{
	bool named = o->program != NULL;
	char *path = named ? o->program : beside_this_program("towline-sshd");
	char *absolute = path != NULL ? realpath(path, NULL) : NULL;
	int why = errno;

	o->program = NULL;
	if (absolute != NULL && access(absolute, X_OK) == 0)
		o->program = absolute;
	else if (named && absolute != NULL)
		why = errno;
	if (o->program == NULL)
		free(absolute);
	if (o->program == NULL && named)
		err_sys(err, why, "--sshd %s", path);
	free(path);
	return o->program != NULL || !named ? 0 : -1;
}

static int check_ssh_listen(struct ssh_options *o, struct err *err)
{
	struct address a;

	o->listen_given = o->listen != NULL;
	if (!o->listen_given && (o->listen = strdup(SSH_LISTEN_DEFAULT)) == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	if (address_parse(o->listen, &a, err) != 0)
		return err_wrap(err, "--ssh-listen");
	if (a.is_unix || a.tls || !(a.is_numeric || strcmp(a.host, "localhost") == 0))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "--ssh-listen %s: an address and a port are needed, as 0.0.0.0:2222 or [::]:2222",
		    o->listen);
	return 0;
}

static int check_ssh(struct ssh_options *o, struct err *err)
{
	if (check_ssh_workers(o, err) != 0 || check_ssh_program(o, err) != 0 ||
	    check_ssh_listen(o, err) != 0)
		return -1;
	if (o->port > UINT16_MAX)
		return err_set(err, GRPC_INVALID_ARGUMENT, "--ssh-port: %u is no port", o->port);
	if (o->endpoints != NULL && o->workers == 0 && (o->host == NULL || o->port == 0))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "--ssh-endpoints with --ssh-workers 0: give --ssh-host and --ssh-port, for clients "
		    "to dial");
	if (o->session_connections == 0 || o->sandbox_connections == 0)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "--ssh-session-connections and --ssh-sandbox-connections must be 1 or more");
	return 0;
}

static int check(struct options *o, struct err *err)
{
	if (check_logging(o, err) != 0 || check_loops(o, err) != 0)
		return -1;
	if (driver_find(o->driver) == NULL)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "--driver: there is no driver \"%s\"; there is %s", o->driver, driver_names());
	if (o->listen.count == 0)
		return err_set(err, GRPC_INVALID_ARGUMENT, "--listen: no address is given");
	for (size_t i = 0; i < o->listen.count; i++)
		if (check_listen(o->listen.item[i], err) != 0)
			return -1;
	return check_supervisor(o, err) == 0 ? check_ssh(&o->ssh, err) : -1;
}

int options_read(struct options *o, int argc, char *argv[], struct err *err)
{
	int used;

	memset(o, 0, sizeof(*o));
	config_begin(&o->config, keys, o);
	if ((used = config_flags(&o->config, argc, argv, false, err)) < 0)
		return -1;
	if (o->help || o->version || o->man)
		return 0;
	if (used < argc)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "\"%s\" is not an option; see --help", argv[used]);
	if (config_environment(&o->config, err) != 0)
		return -1;
	if (o->config_file != NULL && config_file(&o->config, o->config_file, err) != 0)
		return -1;
	if (config_finish(&o->config, err) != 0)
		return -1;
	return check(o, err);
}

void options_free(struct options *o)
{
	config_free(&o->config);
}
