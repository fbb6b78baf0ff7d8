/* towline-supervisor: dials out of a sandbox to the gateway and serves what is asked. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/config.h"
#include "base/descriptors.h"
#include "base/log.h"
#include "base/man.h"
#include "base/random.h"
#include "rpc/address.h"
#include "rpc/tls.h"
#include "supervisor/forward.h"
#include "supervisor/login.h"
#include "supervisor/ports.h"
#include "supervisor/supervisor.h"

#define TOKEN_MAX     4096
#define WORKERS       4
#define WORKERS_QUEUE 1024
#define END_KILL_MS   2000 /* for the sandbox's processes to die with us */

static const struct log_area area = { "supervisor" };

struct options {
	char *gateway;
	char *sandbox_id;
	char *token_file;
	char *workdir;
	char *log_level;
	char *log_format;
	char *ca_file;
	uint64_t upload_expiry_ms;
	bool help, version, man;
};

static const struct config_key keys[] = {
	{ .name = "gateway",
	    .env = "TOWLINE_GATEWAY",
	    .arg = "URL",
	    .parse = config_string,
	    .offset = offsetof(struct options, gateway),
	    .help = "where to dial: http://, https:// or unix:PATH" },
	{ .name = "sandbox-id",
	    .env = "OPENSHELL_SANDBOX_ID",
	    .arg = "ID",
	    .parse = config_string,
	    .offset = offsetof(struct options, sandbox_id),
	    .help = "which sandbox this is" },
	{ .name = "token-file",
	    .env = "TOWLINE_TOKEN_FILE",
	    .arg = "FILE",
	    .parse = config_string,
	    .offset = offsetof(struct options, token_file),
	    .help = "where the sandbox's token is read from, once" },
	{ .name = "workdir",
	    .arg = "DIR",
	    .parse = config_string,
	    .dflt = ".",
	    .offset = offsetof(struct options, workdir),
	    .help = "where commands run and relative paths start" },
	{ .name = "upload-expiry",
	    .env = "TOWLINE_UPLOAD_EXPIRY",
	    .arg = "TIME",
	    .parse = config_duration,
	    .dflt = "24h",
	    .offset = offsetof(struct options, upload_expiry_ms),
	    .help = "when an interrupted upload that nobody goes on with is removed" },
	{ .name = "ca-file",
	    .arg = "FILE",
	    .parse = config_string,
	    .offset = offsetof(struct options, ca_file),
	    .help = "whose certificates to trust, for https" },
	{ .name = "log-level",
	    .env = "OPENSHELL_LOG_LEVEL",
	    .arg = "LEVEL",
	    .parse = config_string,
	    .dflt = "info",
	    .offset = offsetof(struct options, log_level),
	    .help = "error, warn, info, debug or trace" },
	{ .name = "log-format",
	    .arg = "FORMAT",
	    .parse = config_string,
	    .dflt = "logfmt",
	    .offset = offsetof(struct options, log_format),
	    .help = "logfmt or json" },
	{ .name = "help",
	    .letter = 'h',
	    .parse = config_bool,
	    .offset = offsetof(struct options, help),
	    .help = "print this and exit",
	    .flag_only = true },
	{ .name = "version",
	    .parse = config_bool,
	    .offset = offsetof(struct options, version),
	    .help = "print the version and exit",
	    .flag_only = true },
	{ .name = "man",
	    .parse = config_bool,
	    .offset = offsetof(struct options, man),
	    .help = "print the manual page and exit",
	    .flag_only = true },
	{ 0 },
};

static const char usage[] =
    "usage: towline-supervisor --gateway URL --sandbox-id ID --token-file FILE [--workdir DIR]\n"
    "\n"
    "Dials out of a sandbox to its gateway, and runs commands, forwards connections and moves\n"
    "files there. It dials again when the gateway goes, and ends on SIGTERM or SIGINT, with all\n"
    "that it has started.\n"
    "\n";

static const char epilogue[] =
    "\n"
    "exit status:\n"
    "  0   ended by a signal, or by --help, --version or --man\n"
    "  1   could not start; standard error says why\n"
    "  2   the command line is not understood\n"
    "  3   the gateway will not have it: it does not accept the token, does not know the\n"
    "      sandbox, or another supervisor serves it now. Do not run it again as it was\n";

enum { EXIT_USAGE = 2, EXIT_REJECTED = 3 };

static const char *const features[] = { "call", "data-connections", NULL };

static void serve_upload(struct framed *call, const struct channel_request *r, void *app)
{
	transfer_serve_upload(((struct supervisor *)app)->transfers, call, r);
}

static void serve_download(struct framed *call, const struct channel_request *r, void *app)
{
	transfer_serve_download(((struct supervisor *)app)->transfers, call, r);
}

static void serve_query_upload(struct framed *call, const struct channel_request *r, void *app)
{
	transfer_serve_query_upload(((struct supervisor *)app)->transfers, call, r);
}

static void serve_abort_upload(struct framed *call, const struct channel_request *r, void *app)
{
	transfer_serve_abort_upload(((struct supervisor *)app)->transfers, call, r);
}

static void serve_files(struct framed *call, const struct channel_request *r, void *app)
{
	transfer_serve_files(((struct supervisor *)app)->transfers, call, r);
}

static void serve_sync(struct framed *call, const struct channel_request *r, void *app)
{
	transfer_serve_sync(((struct supervisor *)app)->transfers, call, r);
}

static void serve_sftp(struct framed *call, const struct channel_request *r, void *app)
{
	transfer_serve_sftp(((struct supervisor *)app)->transfers, call, r);
}

static void serve_scp(struct framed *call, const struct channel_request *r, void *app)
{
	transfer_serve_scp(((struct supervisor *)app)->transfers, call, r);
}

static const struct channel_method methods[] = {
	{ .path = "/openshell.v1.OpenShell/ExecSandbox", .open = exec_open },
	{ .path = "/openshell.v1.OpenShell/ExecSandboxInteractive", .open = exec_open },
	{ .path = "/openshell.v1.OpenShell/ForwardTcp", .open = forward_open },
	{ .path = "/openshell.v1.OpenShell/UploadFile", .open = serve_upload },
	{ .path = "/openshell.v1.OpenShell/DownloadFile", .open = serve_download },
	{ .path = "/towline.v1.Files/QueryUpload", .open = serve_query_upload },
	{ .path = "/towline.v1.Files/AbortUpload", .open = serve_abort_upload },
	{ .path = "/towline.v1.Files/StatFile", .open = serve_files },
	{ .path = "/towline.v1.Files/ListDirectory", .open = serve_files },
	{ .path = "/towline.v1.Files/MakeDirectory", .open = serve_files },
	{ .path = "/towline.v1.Files/MoveFile", .open = serve_files },
	{ .path = "/towline.v1.Files/RemoveFile", .open = serve_files },
	{ .path = "/towline.v1.Files/WatchFiles", .open = serve_files },
	{ .path = "/towline.v1.Files/SyncTree", .open = serve_sync },
	{ .path = "/towline.v1.Ports/ListenTcp", .open = ports_listen },
	{ .path = "/towline.v1.Ports/AcceptTcp", .open = ports_accept },
	{ .path = "/towline.v1.Files/Sftp", .open = serve_sftp },
	{ .path = "/towline.v1.Files/Scp", .open = serve_scp },
	{ 0 },
};

/* The token is read once and the file closed; ${out} is wiped by the caller. */
static int read_token(const char *path, char out[static TOKEN_MAX], struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_sys(err, errno, "the token file %s", path);
	ssize_t n = read(fd, out, TOKEN_MAX - 1);
	int saved = errno;
	close(fd);
	if (n < 0)
		return err_sys(err, saved, "the token file %s", path);
	if (n == TOKEN_MAX - 1)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "the token file %s holds more than a token of %d bytes", path, TOKEN_MAX - 2);
	out[n] = '\0';
	out[strcspn(out, "\r\n")] = '\0';
	if (out[0] == '\0')
		return err_set(err, GRPC_INVALID_ARGUMENT, "the token file %s is empty", path);
	return 0;
}

/* Nobody in the sandbox may look into us, orphans come to us, nothing is inherited. */
static void harden(void)
{
	const struct rlimit no_core = { 0, 0 };

	prctl(PR_SET_DUMPABLE, 0);
	/* The sandbox's root could still; its commands do not get this one. It fails for
	 * who has no capabilities, and whose commands get none. */
	prctl(PR_CAPBSET_DROP, CAP_SYS_PTRACE);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	setrlimit(RLIMIT_CORE, &no_core);
	close_range(3, ~0U, 0);
	loop_ignore_sigpipe();
}

/* Our own environment, less what is the supervisor's business alone. */
static char **command_environment(void)
{
	extern char **environ;
	size_t n = 0, count = 0;

	while (environ[n] != NULL)
		n++;
	char **list = calloc(n + 1, sizeof(*list));
	for (size_t i = 0; list != NULL && i < n; i++)
		if (strncmp(environ[i], "TOWLINE_", 8) != 0)
			list[count++] = environ[i];
	return list;
}

/* The end of the process. */

static void closed(void *cookie)
{
	loop_stop(((struct supervisor *)cookie)->loop);
}

static void shut_down(struct supervisor *s)
{
	exec_end_all(s);
	if (s->dialer != NULL)
		dialer_close(s->dialer, closed, s);
	s->dialer = NULL;
}

static void on_signal(void *cookie)
{
	shut_down(cookie);
}

/* Said by the dialer; trying again would not help. */
static void on_rejected(void *app, const struct err *why)
{
	struct supervisor *s = app;

	(void)why;
	s->rejected = true;
	shut_down(s);
}

/* The beginning. */

static int start(struct supervisor *s, const struct options *o, const char *token, struct err *err)
{
	char instance[37];
	struct rpc_tls_options tls = { .ca_file = o->ca_file };
	struct dialer_options d = {
		.url = o->gateway,
		.sandbox_id = o->sandbox_id,
		.token = token,
		.instance_id = instance,
		.methods = methods,
		.features = features,
		.app = s,
		.rejected = on_rejected,
	};
	struct transfer_options t = { .loop = s->loop,
		.upload_expiry_ms = o->upload_expiry_ms,
		.workdir = open(s->workdir, O_PATH | O_DIRECTORY | O_CLOEXEC),
		.slash = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC),
		.workdir_path = s->workdir };
	struct workers_options w = { .threads = WORKERS, .max_queued = WORKERS_QUEUE };

	random_uuid(instance);
	if (t.workdir < 0 || t.slash < 0)
		return err_sys(err, errno, "the working directory %s", s->workdir);
	if (strncmp(o->gateway, "https:", 6) == 0 && (d.tls = rpc_tls_client(&tls, err)) == NULL)
		return -1;
	if ((s->workers = workers_create(&w, err)) == NULL)
		return -1;
	if ((s->ports = ports_create()) == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	t.workers = s->workers;
	if ((s->transfers = transfers_create(&t, err)) == NULL ||
	    (s->reaper = reaper_create(s->loop, err)) == NULL)
		return -1;
	s->dialer = dialer_create(s->loop, &d, err);
	return s->dialer != NULL ? 0 : -1;
}

/* What commands get: asked once, after which the loop may run. */
static int make_environments(struct supervisor *s, struct err *err)
{
	char **own = command_environment();
	char **login = own != NULL ? login_environment(own, s->workdir) : NULL;

	if (login == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	s->environment = own;
	s->login_environment = login;
	return 0;
}

static int run(struct supervisor *s, const struct options *o, const char *token, struct err *err)
{
	int r = -1;

	/* Signals first: process 1 of a namespace does not get what it has no handler for. */
	if ((s->loop = loop_create(0, err)) != NULL &&
	    signal_watch_create(s->loop, SIGTERM, on_signal, s, err) != NULL &&
	    signal_watch_create(s->loop, SIGINT, on_signal, s, err) != NULL &&
	    make_environments(s, err) == 0 && start(s, o, token, err) == 0) {
		loop_run(s->loop);
		r = 0;
	}
	/* What still runs in the sandbox ends with its supervisor; the rest of our own
	 * memory goes with the process. */
	reaper_kill_all(END_KILL_MS);
	return r;
}

static int check_options(const struct options *o, struct err *err)
{
	struct address gateway;

	if (o->gateway == NULL || o->sandbox_id == NULL || o->token_file == NULL)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "--gateway, --sandbox-id and --token-file must be given; see --help");
	if (strcmp(o->log_format, "logfmt") != 0 && strcmp(o->log_format, "json") != 0)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "--log-format: \"%s\" is no format; logfmt and json are", o->log_format);
	if (address_parse(o->gateway, &gateway, err) != 0)
		return err_wrap(err, "--gateway");
	return 0;
}

static int parse_options(
    struct config *config, int argc, char *argv[], struct options *o, struct err *err)
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
	return o->help || o->version || o->man ? 0 : check_options(o, err);
}

static int supervise(const struct options *o, enum log_level level)
{
	/* Static: what is not freed at the end stays reachable for a leak checker. */
	static struct supervisor s = {
		.forward_connect_ms = FORWARD_CONNECT_MS,
		.forward_drain_ms = FORWARD_DRAIN_MS,
	};
	struct err err = { 0 };
	char token[TOKEN_MAX];

	log_setup(
	    2, strcmp(o->log_format, "json") == 0 ? LOG_FORMAT_JSON : LOG_FORMAT_LOGFMT, level);
	if ((s.workdir = realpath(o->workdir, NULL)) == NULL) {
		err_sys(&err, errno, "the working directory %s", o->workdir);
	} else if (read_token(o->token_file, token, &err) == 0) {
		harden();
		descriptors_allow();
		run(&s, o, token, &err);
	}
	explicit_bzero(token, sizeof(token));
	if (err.code != GRPC_OK)
		log_fail(&area, "failed", LOG_ERR(&err));
	if (s.rejected)
		return EXIT_REJECTED;
	return err.code == GRPC_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void print_man(void)
{
	man_page(
	    &(struct man_page){
		.name = "towline-supervisor",
		.section = "8",
		.summary = "serves a sandbox from inside",
		.usage = usage,
		.keys = keys,
		.epilogue = epilogue,
		.see_also = "towline(1), towline-gateway(8)",
	    },
	    stdout);
}

int main(int argc, char *argv[])
{
	struct options o = { 0 };
	struct config config;
	struct err err = { 0 };
	enum log_level level;
	int code = EXIT_SUCCESS;

	if (parse_options(&config, argc, argv, &o, &err) != 0 ||
	    (!o.help && !o.version && !o.man && log_level_parse(o.log_level, &level, &err) != 0)) {
		fprintf(stderr, "towline-supervisor: %s\n", err.text);
		code = EXIT_USAGE;
	} else if (o.help) {
		fputs(usage, stdout);
		config_help(keys, stdout);
		fputs(epilogue, stdout);
	} else if (o.version) {
		printf("towline-supervisor " TOWLINE_VERSION "\n");
	} else if (o.man) {
		print_man();
	} else {
		code = supervise(&o, level);
	}
	config_free(&config);
	return code;
}
