#include "gateway/options.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "drivers/driver.h"
#include "rpc/address.h"

#define LOOPS_MAX 64

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
	{ "log-level", 0, "TOWLINE_LOG_LEVEL", "LEVEL", config_string, FIELD(log_level_text),
	    "info", "error, warn, info, debug or trace", false },
	{ "log-format", 0, "TOWLINE_LOG_FORMAT", "FORMAT", config_string, FIELD(log_format_text),
	    "logfmt", "logfmt or json", false },
	{ "config", 'c', "TOWLINE_GATEWAY_CONFIG", "FILE", config_string, FIELD(config_file), NULL,
	    "a file of these options, one \"name = value\" a line", true },
	{ "help", 'h', NULL, NULL, config_bool, FIELD(help), NULL, "print this", true },
	{ "version", 'V', NULL, NULL, config_bool, FIELD(version), NULL, "print the version",
	    true },
	{ 0 },
};

void options_help(void)
{
	printf("usage: towline-gateway --data-dir DIR [--listen ADDR]... [option]...\n\n");
	config_help(keys, stdout);
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

static char *beside_this_program(void)
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
	return asprintf(&out, "%s/towline-supervisor", path) < 0 ? NULL : out;
}

/* Made absolute: what the driver is lent must not depend on a directory. */
static int check_supervisor(struct options *o, struct err *err)
{
	char *named = o->supervisor != NULL ? o->supervisor : beside_this_program();
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
	return check_supervisor(o, err);
}

int options_read(struct options *o, int argc, char *argv[], struct err *err)
{
	int used;

	memset(o, 0, sizeof(*o));
	config_begin(&o->config, keys, o);
	if ((used = config_flags(&o->config, argc, argv, false, err)) < 0)
		return -1;
	if (o->help || o->version)
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
