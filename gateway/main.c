/*
 * towline-gateway: starts the gateway, tells when it serves, and ends it on a signal.
 *
 * Exit status: 0 after SIGTERM or SIGINT, 1 when something failed, 2 when it was called
 * in a way it cannot work.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/descriptors.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/text.h"
#include "gateway/datadir.h"
#include "gateway/gateway.h"
#include "gateway/options.h"

#define EXIT_USAGE 2

static const struct log_area area = { "gateway" };

struct program {
	struct options options;
	struct datadir *dir;
	struct gateway *gateway;
	bool ready_written;
	bool failed;
};

static int complain(const struct err *err)
{
	fprintf(stderr, "towline-gateway: %s\n", err->text);
	return -1;
}

static int write_ready_file(const struct program *p, struct err *err)
{
	struct text json;
	int result;

	text_init(&json, 4096);
	text_addf(&json, "{\"endpoint\":");
	text_add_json(&json, p->gateway->endpoint, strlen(p->gateway->endpoint));
	text_addf(&json, ",\"pid\":%ld,\"version\":\"%s\"}\n", (long)getpid(), GATEWAY_VERSION);
	result = json.failed ? err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory")
			     : datadir_write_file(p->options.ready_file, json.data, err);
	text_free(&json);
	return result;
}

static void on_ready(void *cookie)
{
	struct program *p = cookie;
	struct err err;

	log_info(&area, "serving", LOG_STR("endpoint", p->gateway->endpoint),
	    LOG_STR("version", GATEWAY_VERSION), LOG_U64("loops", p->gateway->loop_count));
	if (p->options.ready_file == NULL)
		return;
	p->ready_written = write_ready_file(p, &err) == 0;
	if (!p->ready_written) {
		complain(&err);
		p->failed = true;
		gateway_stop(p->gateway);
	}
}

static void on_signal(void *cookie)
{
	gateway_stop(((struct program *)cookie)->gateway);
}

static void on_question(void *cookie)
{
	gateway_log_counters(((struct program *)cookie)->gateway);
}

static int run_with_signals(struct program *p, struct err *err)
{
	static const struct {
		int number;
		void (*run)(void *cookie);
	} signals[] = { { SIGTERM, on_signal }, { SIGINT, on_signal }, { SIGUSR1, on_question } };
	struct signal_watch *watches[sizeof(signals) / sizeof(signals[0])] = { NULL };
	size_t n = 0;
	int result = -1;

	while (n < sizeof(signals) / sizeof(signals[0]) &&
	    (watches[n] = signal_watch_create(
		 p->gateway->loops[0], signals[n].number, signals[n].run, p, err)) != NULL)
		n++;
	if (n == sizeof(signals) / sizeof(signals[0]))
		result = gateway_run(p->gateway, on_ready, p, err);
	while (n > 0)
		signal_watch_free(watches[--n]);
	return result;
}

static int run(struct program *p)
{
	struct err err;
	int result = -1;

	if (p->options.ready_file != NULL)
		unlink(p->options.ready_file); /* of an earlier run that was killed */
	p->gateway = gateway_create(&p->options, datadir_path(p->dir), &err);
	if (p->gateway != NULL)
		result = run_with_signals(p, &err);
	if (result != 0)
		complain(&err);
	if (p->options.ready_file != NULL && p->ready_written)
		unlink(p->options.ready_file);
	gateway_free(p->gateway);
	return result == 0 && !p->failed ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int open_and_run(struct program *p)
{
	struct err err;
	int status;

	if ((p->dir = datadir_open(p->options.data_dir, &err)) == NULL) {
		complain(&err);
		return EXIT_FAILURE;
	}
	status = run(p);
	datadir_close(p->dir);
	return status;
}

int main(int argc, char *argv[])
{
	struct program p = { 0 };
	struct err err;
	int status = EXIT_SUCCESS;

	if (options_read(&p.options, argc, argv, &err) != 0) {
		complain(&err);
		status = EXIT_USAGE;
	} else if (p.options.help) {
		options_help();
	} else if (p.options.man) {
		options_man();
	} else if (p.options.version) {
		printf("towline-gateway %s (OpenShell API %s)\n", GATEWAY_VERSION,
		    GATEWAY_API_VERSION);
	} else {
		log_setup(STDERR_FILENO, p.options.log_format, p.options.log_level);
		loop_ignore_sigpipe();
		descriptors_allow(); /* each call and each sandbox needs some */
		status = open_and_run(&p);
	}
	options_free(&p.options);
	return status;
}
