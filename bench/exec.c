/* ExecSandbox of /bin/true, so many times, so many at once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "relay/framed.h"
#include "rpc/client.h"

struct execs {
	struct loop *loop;
	struct rpc_client *client;
	uint8_t *request;
	size_t request_len;
	size_t to_start, running, done;
	double *times;
	int failed;
};

struct one {
	struct execs *all;
	struct framed *call;
	uint64_t started_us;
	bool exited;
};

static void start_one(struct execs *);

static void on_message(void *cookie, const uint8_t *message, size_t len)
{
	struct one *o = cookie;
	Openshell__V1__ExecSandboxEvent *event =
	    codec_unpack(&openshell__v1__exec_sandbox_event__descriptor, message, len, NULL);

	if (event != NULL && event->payload_case == OPENSHELL__V1__EXEC_SANDBOX_EVENT__PAYLOAD_EXIT)
		o->exited = event->exit->exit_code == 0;
	codec_free(event);
}

static void on_end(void *cookie, const struct err *status)
{
	struct one *o = cookie;

	if (status != NULL && status->code != GRPC_OK)
		o->all->failed = bench_fail(status);
}

static void on_closed(void *cookie, const struct err *why)
{
	struct one *o = cookie;
	struct execs *all = o->all;

	if (!o->exited) {
		fprintf(stderr, "towline-bench: no exit event (%s)\n", why->text);
		all->failed = 1;
	}
	all->times[all->done++] = (double)(loop_now_us() - o->started_us) / 1000;
	all->running--;
	free(o);
	if (all->to_start > 0)
		start_one(all);
	else if (all->running == 0)
		loop_stop(all->loop);
}

static const struct framed_ops ops = { .message = on_message, .end = on_end, .closed = on_closed };

static void start_one(struct execs *all)
{
	struct rpc_client_call call = { .path = "/openshell.v1.OpenShell/ExecSandbox" };
	struct framed_options whole = { .whole = true };
	struct one *o = calloc(1, sizeof(*o));
	struct err err = { 0 };

	o->all = all;
	o->started_us = loop_now_us();
	all->to_start--;
	all->running++;
	if ((o->call = framed_call(all->client, &call, &whole, &ops, o, &err)) == NULL)
		exit(bench_fail(&err));
	framed_send(o->call, all->request, all->request_len);
	framed_end(o->call);
}

static uint8_t *make_request(char *sandbox, size_t *len)
{
	Openshell__V1__ExecSandboxRequest r = OPENSHELL__V1__EXEC_SANDBOX_REQUEST__INIT;
	char *argv[] = { (char *)"/bin/true" };

	r.sandbox = sandbox;
	r.command = argv;
	r.n_command = 1;
	return codec_pack_new(&r.base, len);
}

int bench_exec(int argc, char *argv[])
{
	struct execs all = { 0 };
	struct rpc_client_options o = { 0 };
	struct err err = { 0 };

	if (argc != 5) {
		fprintf(stderr, "exec COUNT PARALLEL URL SANDBOX\n");
		return 2;
	}
	size_t count = (size_t)bench_number(argv[1], 1000000),
	       parallel = (size_t)bench_number(argv[2], 1000000);
	all.to_start = count;
	all.times = calloc(count, sizeof(*all.times));
	all.request = make_request(argv[4], &all.request_len);
	if ((all.loop = loop_create(0, &err)) == NULL ||
	    (all.client = rpc_client_connect(all.loop, argv[3], &o, &err)) == NULL)
		return bench_fail(&err);
	uint64_t start = loop_now_us();
	for (size_t i = 0; i < parallel && all.to_start > 0; i++)
		start_one(&all);
	loop_run(all.loop);
	double seconds = (double)(loop_now_us() - start) / 1e6;
	printf("{\"execs\": %zu, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"per_s\": %.1f}\n", all.done,
	    bench_quantile(all.times, all.done, 0.5), bench_quantile(all.times, all.done, 0.99),
	    (double)all.done / seconds);
	return all.failed;
}
