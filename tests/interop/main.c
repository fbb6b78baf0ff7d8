/* towline-rpc-testserver: the gRPC test service on rpc/. Prints where it listens, ends on SIGTERM. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/config.h"
#include "base/log.h"
#include "base/loop.h"
#include "service.h"
#include "rpc/address.h"
#include "rpc/server.h"
#include "rpc/tls.h"

#define LOOPS_MAX 64
#define DRAIN_MS  1000

struct options {
	char *listen, *tls_cert, *tls_key, *log_level;
	unsigned loops;
	bool help;
};

static const struct config_key keys[] = {
	{ "listen", 0, NULL, "ADDR", config_string, offsetof(struct options, listen), "127.0.0.1:0",
	    "where to listen", true },
	{ "loops", 0, NULL, "N", config_uint, offsetof(struct options, loops), "1",
	    "event loops, each with a thread", true },
	{ "tls-cert", 0, NULL, "FILE", config_string, offsetof(struct options, tls_cert), NULL,
	    "certificate; without one there is no TLS", true },
	{ "tls-key", 0, NULL, "FILE", config_string, offsetof(struct options, tls_key), NULL,
	    "its private key", true },
	{ "log-level", 0, NULL, "LEVEL", config_string, offsetof(struct options, log_level), "warn",
	    "error, warn, info, debug or trace", true },
	{ "help", 'h', NULL, NULL, config_bool, offsetof(struct options, help), NULL,
	    "print this text", true },
	{ .name = NULL },
};

struct program {
	struct options options;
	struct config config;
	struct loop *loops[LOOPS_MAX];
	pthread_t threads[LOOPS_MAX];
	unsigned loop_count, thread_count;
	struct signal_watch *terminate, *interrupt;
	struct rpc_tls *tls;
	struct rpc_server *server;
};

static int parse(struct program *p, int argc, char *argv[], struct err *err)
{
	enum log_level level;

	config_begin(&p->config, keys, &p->options);
	if (config_flags(&p->config, argc, argv, false, err) < 0 ||
	    config_finish(&p->config, err) < 0 ||
	    log_level_parse(p->options.log_level, &level, err) < 0)
		return -1;
	if (p->options.loops < 1 || p->options.loops > LOOPS_MAX)
		return err_set(err, GRPC_INVALID_ARGUMENT, "--loops is 1 to %d", LOOPS_MAX);
	log_setup(STDERR_FILENO, LOG_FORMAT_LOGFMT, level);
	return 0;
}

/* The first loop, which drained the server, is the last to stop. */
static void on_drained(void *cookie)
{
	struct program *p = cookie;

	for (unsigned i = 0; i < p->loop_count; i++)
		loop_stop(p->loops[i]);
}

static void on_signal(void *cookie)
{
	struct program *p = cookie;

	signal_watch_free(p->terminate);
	signal_watch_free(p->interrupt);
	p->terminate = p->interrupt = NULL;
	rpc_server_drain(p->server, DRAIN_MS, on_drained, p);
}

static int start_loops(struct program *p, struct err *err)
{
	for (; p->loop_count < p->options.loops; p->loop_count++) {
		p->loops[p->loop_count] = loop_create(p->loop_count, err);
		if (p->loops[p->loop_count] == NULL)
			return -1;
	}
	p->terminate = signal_watch_create(p->loops[0], SIGTERM, on_signal, p, err);
	if (p->terminate == NULL)
		return -1;
	p->interrupt = signal_watch_create(p->loops[0], SIGINT, on_signal, p, err);
	return p->interrupt != NULL ? 0 : -1;
}

static int start_server(struct program *p, struct err *err)
{
	const struct rpc_server_options server = {
		.loops = p->loops,
		.loop_count = p->loop_count,
		.methods = service_methods,
		.method_count = service_method_count,
	};
	const struct rpc_tls_options tls = {
		.cert_file = p->options.tls_cert,
		.key_file = p->options.tls_key,
	};
	char bound[ADDRESS_TEXT_MAX];

	if (tls.cert_file != NULL && (p->tls = rpc_tls_server(&tls, err)) == NULL)
		return -1;
	p->server = rpc_server_create(&server, err);
	if (p->server == NULL ||
	    rpc_server_listen(p->server, p->options.listen, p->tls, bound, sizeof(bound), err) < 0)
		return -1;
	puts(bound);
	fflush(stdout);
	return 0;
}

static void *run_loop(void *loop)
{
	loop_run(loop);
	return NULL;
}

static int run(struct program *p, struct err *err)
{
	int result = 0;

	for (unsigned i = 1; i < p->loop_count; i++) {
		int sys = pthread_create(&p->threads[i], NULL, run_loop, p->loops[i]);

		if (sys != 0) {
			result = err_sys(err, sys, "start a thread");
			on_signal(p);
			break;
		}
		p->thread_count++;
	}
	loop_run(p->loops[0]);
	for (unsigned i = 1; i <= p->thread_count; i++)
		pthread_join(p->threads[i], NULL);
	return result;
}

static void clean_up(struct program *p)
{
	if (p->server != NULL)
		rpc_server_free(p->server);
	rpc_tls_free(p->tls);
	signal_watch_free(p->terminate);
	signal_watch_free(p->interrupt);
	for (unsigned i = 0; i < p->loop_count; i++)
		loop_free(p->loops[i]);
	config_free(&p->config);
}

static int serve(struct program *p, struct err *err)
{
	int result;

	loop_ignore_sigpipe();
	result = start_loops(p, err);
	if (result == 0)
		result = start_server(p, err);
	if (result == 0)
		result = run(p, err);
	return result;
}

int main(int argc, char *argv[])
{
	static struct program p;
	struct err err = { 0 };

	if (parse(&p, argc, argv, &err) < 0) {
		fprintf(stderr, "towline-rpc-testserver: %s\n", err.text);
		return 2;
	}
	if (p.options.help) {
		puts("towline-rpc-testserver: serves grpc.testing.TestService\n");
		config_help(keys, stdout);
		config_free(&p.config);
		return 0;
	}
	if (serve(&p, &err) < 0) {
		fprintf(stderr, "towline-rpc-testserver: %s\n", err.text);
		return 1; /* of a server half made nothing can be freed */
	}
	clean_up(&p);
	return 0;
}
