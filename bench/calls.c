/* One call, so many times, so many at once. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "relay/framed.h"
#include "rpc/client.h"

/* What is called, and which message says that it went well. */
struct kind {
	const char *path;
	uint8_t *(*request)(char *sandbox, size_t *len);
	bool (*is_good)(const uint8_t *message, size_t len);
};

struct calls {
	const struct kind *kind;
	struct loop *loop;
	struct rpc_client *client;
	uint8_t *request;
	size_t request_len;
	size_t to_start, running, done;
	double *times;
	int failed;
};

struct one {
	struct calls *all;
	struct framed *call;
	uint64_t started_us;
	bool good;
};

static void start_one(struct calls *);

static void on_message(void *cookie, const uint8_t *message, size_t len)
{
	struct one *o = cookie;

	if (len > 0 && o->all->kind->is_good(message, len))
		o->good = true;
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
	struct calls *all = o->all;

	if (!o->good) {
		fprintf(stderr, "towline-bench: no good answer (%s)\n", why->text);
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

static void start_one(struct calls *all)
{
	struct rpc_client_call call = { .path = all->kind->path };
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

static int run(const struct kind *kind, int argc, char *argv[])
{
	struct calls all = { .kind = kind };
	struct rpc_client_options o = { 0 };
	struct err err = { 0 };

	if (argc != 5) {
		fprintf(stderr, "%s COUNT PARALLEL URL SANDBOX\n", argv[0]);
		return 2;
	}
	size_t count = (size_t)bench_number(argv[1], 1000000),
	       parallel = (size_t)bench_number(argv[2], 1000000);
	all.to_start = count;
	all.times = calloc(count, sizeof(*all.times));
	all.request = kind->request(argv[4], &all.request_len);
	if ((all.loop = loop_create(0, &err)) == NULL ||
	    (all.client = rpc_client_connect(all.loop, argv[3], &o, &err)) == NULL)
		return bench_fail(&err);
	uint64_t start = loop_now_us();
	for (size_t i = 0; i < parallel && all.to_start > 0; i++)
		start_one(&all);
	loop_run(all.loop);
	double seconds = (double)(loop_now_us() - start) / 1e6;
	printf("{\"calls\": %zu, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"per_s\": %.1f}\n", all.done,
	    bench_quantile(all.times, all.done, 0.5), bench_quantile(all.times, all.done, 0.99),
	    (double)all.done / seconds);
	return all.failed;
}

/* ExecSandbox of /bin/true. */

static uint8_t *exec_request(char *sandbox, size_t *len)
{
	Openshell__V1__ExecSandboxRequest r = OPENSHELL__V1__EXEC_SANDBOX_REQUEST__INIT;
	char *argv[] = { (char *)"/bin/true" };

	r.sandbox = sandbox;
	r.command = argv;
	r.n_command = 1;
	return codec_pack_new(&r.base, len);
}

static bool exec_is_good(const uint8_t *message, size_t len)
{
	Openshell__V1__ExecSandboxEvent *event =
	    codec_unpack(&openshell__v1__exec_sandbox_event__descriptor, message, len, NULL);
	bool good = event != NULL &&
	    event->payload_case == OPENSHELL__V1__EXEC_SANDBOX_EVENT__PAYLOAD_EXIT &&
	    event->exit->exit_code == 0;

	codec_free(event);
	return good;
}

int bench_exec(int argc, char *argv[])
{
	const struct kind kind = { "/openshell.v1.OpenShell/ExecSandbox", exec_request,
		exec_is_good };

	return run(&kind, argc, argv);
}

/* CreateSshSession, of a second's life. */

static uint8_t *session_request(char *sandbox, size_t *len)
{
	Openshell__V1__CreateSshSessionRequest r = OPENSHELL__V1__CREATE_SSH_SESSION_REQUEST__INIT;

	r.sandbox = sandbox;
	r.ttl_seconds = 1;
	return codec_pack_new(&r.base, len);
}

static bool session_is_good(const uint8_t *message, size_t len)
{
	Openshell__V1__CreateSshSessionResponse *r = codec_unpack(
	    &openshell__v1__create_ssh_session_response__descriptor, message, len, NULL);
	bool good = r != NULL && r->private_key[0] != '\0' && r->username[0] != '\0';

	codec_free(r);
	return good;
}

int bench_sessions(int argc, char *argv[])
{
	const struct kind kind = { "/openshell.v1.OpenShell/CreateSshSession", session_request,
		session_is_good };

	return run(&kind, argc, argv);
}
