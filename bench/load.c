/*
 * The load: streams to the service of bench/plain.c, over TCP or through ForwardTcp.
 * Both are the same to what is measured: a line of a few functions.
 */
#include <endian.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "relay/fdio.h"
#include "relay/framed.h"
#include "rpc/client.h"

#define SEND_CHUNK  ((size_t)256 << 10)
#define SEND_WINDOW ((size_t)1 << 20) /* bytes a stream has on the way */
#define OPENING_MAX 16                /* calls that wait for their sandbox: it lets 32 wait */

enum mode { MODE_UP, MODE_DOWN, MODE_PING, MODE_IDLE };

/* One stream, whichever way it goes. */
struct line {
	struct run *run;
	struct fdio *tcp; /* or */
	struct framed *framed;
	bool over, stalled;
	uint64_t to_send, received;
	size_t under_way;
	uint8_t reply[8];
	uint64_t asked_us; /* of a ping */
};

struct run {
	struct loop *loop;
	struct rpc_client *client; /* NULL: plain TCP */
	enum mode mode;
	size_t streams, left;
	size_t begun, opened; /* of the streams */
	uint64_t amount;      /* bytes a stream, or pings */
	bool stall_first;
	const char *sandbox;
	uint16_t port;
	struct line *lines;
	uint64_t start_us, end_us;
	double *times; /* of pings, in microseconds */
	size_t pings;
	int failed;
};

static uint8_t *payload; /* SEND_CHUNK bytes, page-aligned, never freed */

static void line_write(struct line *l, const void *bytes, size_t len)
{
	struct slice s = { .data = bytes, .len = len };
	int r = l->tcp != NULL ? fdio_write(l->tcp, s) : framed_write(l->framed, FRAMED_BYTES, s);

	if (r != 0) {
		fprintf(stderr, "towline-bench: a stream takes no more\n");
		l->run->failed = 1;
	}
	l->under_way += len;
}

static void line_finish(struct line *l)
{
	if (l->tcp != NULL)
		fdio_finish(l->tcp);
	else
		framed_end(l->framed);
}

static void run_check(struct run *r)
{
	if (r->left > 0)
		return;
	r->end_us = loop_now_us();
	loop_stop(r->loop);
}

static void line_done(struct line *l)
{
	if (l->over)
		return;
	l->over = true;
	l->run->left--;
	run_check(l->run);
}

static void send_more(struct line *l)
{
	while (l->to_send > 0 && l->under_way + SEND_CHUNK <= SEND_WINDOW) {
		size_t n = l->to_send < SEND_CHUNK ? (size_t)l->to_send : SEND_CHUNK;
		l->to_send -= n;
		line_write(l, payload, n);
		if (l->to_send == 0)
			line_finish(l);
	}
}

static void ping(struct line *l)
{
	l->asked_us = loop_now_us();
	line_write(l, payload, 1);
}

/* What comes back. */
static void line_data(struct line *l, struct slice s)
{
	struct run *r = l->run;
	size_t len = s.len;

	if (r->mode == MODE_UP && l->received + len <= sizeof(l->reply))
		memcpy(l->reply + l->received, s.data, len);
	l->received += len;
	slice_release(&s);
	if (l->tcp != NULL)
		fdio_credit(l->tcp, len);
	else
		framed_credit(l->framed, len);
	if (r->mode != MODE_PING)
		return;
	r->times[r->pings++] = (double)(loop_now_us() - l->asked_us);
	if (r->pings < r->amount)
		ping(l);
	else
		line_done(l);
}

/* The service has closed: was it all? */
static void line_eof(struct line *l)
{
	struct run *r = l->run;
	uint64_t count;

	memcpy(&count, l->reply, sizeof(count));
	if ((r->mode == MODE_DOWN && l->received != r->amount) ||
	    (r->mode == MODE_UP && (l->received != sizeof(count) || be64toh(count) != r->amount))) {
		fprintf(stderr, "towline-bench: a stream ended early, %llu bytes\n",
		    (unsigned long long)l->received);
		r->failed = 1;
	}
	line_done(l);
}

static void line_sent(struct line *l, size_t bytes)
{
	l->under_way -= bytes < l->under_way ? bytes : l->under_way;
	send_more(l);
}

static void line_failed(struct line *l, const struct err *err)
{
	if (!l->over)
		l->run->failed = bench_fail(err);
	line_done(l);
}

static int open_line(struct line *, struct err *);
static void line_opened(struct line *);

/* Says what it wants and begins. */
static void line_begin(struct line *l)
{
	struct run *r = l->run;
	uint8_t command[9] = { BENCH_SINK };
	uint64_t count = htobe64(r->amount);
	size_t len = 1;

	if (l->stalled) {
		command[0] = BENCH_STALL;
		l->to_send = UINT64_MAX; /* as much as the windows take */
	} else if (r->mode == MODE_UP) {
		l->to_send = r->amount;
	} else if (r->mode == MODE_DOWN) {
		command[0] = BENCH_SOURCE;
		memcpy(command + 1, &count, sizeof(count));
		len = sizeof(command);
	} else {
		command[0] = BENCH_ECHO;
	}
	struct slice s = slice_copy(command, len);
	if ((l->tcp != NULL ? fdio_write(l->tcp, s) : framed_write(l->framed, FRAMED_BYTES, s)) !=
	    0)
		slice_release(&s);
	l->under_way += len;
	if (r->mode == MODE_PING)
		ping(l);
	send_more(l);
}

static int open_more(struct run *r, struct err *err)
{
	while (r->begun < r->streams && r->begun - r->opened < OPENING_MAX) {
		struct line *l = &r->lines[r->begun++];
		if (open_line(l, err) != 0)
			return -1;
		if (r->client == NULL)
			line_opened(l);
	}
	return 0;
}

/* When the last is open all begin. */
static void line_opened(struct line *l)
{
	struct run *r = l->run;
	struct err err;

	r->opened++;
	if (r->client != NULL && open_more(r, &err) != 0)
		line_failed(l, &err);
	if (r->opened < r->streams)
		return;
	if (r->mode == MODE_IDLE) {
		printf("{\"idle\": %zu}\n", r->streams);
		fflush(stdout);
	}
	r->start_us = loop_now_us();
	for (size_t i = 0; i < r->streams; i++)
		line_begin(&r->lines[i]);
}

/* TCP. */

static void tcp_data(void *cookie, struct slice s)
{
	line_data(cookie, s);
}

static void tcp_eof(void *cookie)
{
	line_eof(cookie);
}

static void tcp_sent(void *cookie, size_t bytes)
{
	line_sent(cookie, bytes);
}

static void tcp_failed(void *cookie, bool reading, const struct err *err)
{
	(void)reading;
	line_failed(cookie, err);
}

static const struct fdio_ops tcp_ops = { tcp_data, tcp_eof, tcp_sent, tcp_failed };

/* ForwardTcp. */

static void call_payload(void *cookie, struct slice s)
{
	line_data(cookie, s);
}

static void call_message(void *cookie, const uint8_t *message, size_t len)
{
	(void)cookie;
	(void)message;
	(void)len;
}

static void call_end(void *cookie, const struct err *status)
{
	if (status != NULL && status->code != GRPC_OK)
		line_failed(cookie, status);
	else
		line_eof(cookie);
}

static void call_sent(void *cookie, size_t bytes)
{
	line_sent(cookie, bytes);
}

static void call_closed(void *cookie, const struct err *why)
{
	struct line *l = cookie;

	l->framed = NULL;
	if (!l->over)
		line_failed(l, why);
}

static void call_opened(void *cookie)
{
	line_opened(cookie);
}

static const struct framed_ops call_ops = {
	.payload = call_payload,
	.message = call_message,
	.end = call_end,
	.sent = call_sent,
	.closed = call_closed,
	.opened = call_opened,
};

static int open_forward(struct line *l, struct err *err)
{
	struct rpc_client_call call = { .path = "/openshell.v1.OpenShell/ForwardTcp" };
	Openshell__V1__TcpForwardFrame frame = OPENSHELL__V1__TCP_FORWARD_FRAME__INIT;
	Openshell__V1__TcpForwardInit init = OPENSHELL__V1__TCP_FORWARD_INIT__INIT;
	Openshell__V1__TcpRelayTarget target = OPENSHELL__V1__TCP_RELAY_TARGET__INIT;
	uint8_t packed[512];

	target.host = (char *)"127.0.0.1";
	target.port = l->run->port;
	init.sandbox = (char *)l->run->sandbox;
	init.target_case = OPENSHELL__V1__TCP_FORWARD_INIT__TARGET_TCP;
	init.tcp = &target;
	frame.payload_case = OPENSHELL__V1__TCP_FORWARD_FRAME__PAYLOAD_INIT;
	frame.init = &init;
	if (codec_size(&frame.base) > sizeof(packed))
		return err_set(err, GRPC_INVALID_ARGUMENT, "the sandbox's name is too long");
	if ((l->framed = framed_call(l->run->client, &call, NULL, &call_ops, l, err)) == NULL)
		return -1;
	framed_send(l->framed, packed, codec_pack(&frame.base, packed));
	return 0;
}

static int open_tcp(struct line *l, struct err *err)
{
	int fd = bench_dial(l->run->port);
	struct fdio_options o = { .read_fd = fd, .write_fd = fd, .ops = &tcp_ops, .cookie = l };

	l->tcp = fdio_create(l->run->loop, &o, err);
	return l->tcp != NULL ? 0 : -1;
}

static int open_line(struct line *l, struct err *err)
{
	return l->run->client != NULL ? open_forward(l, err) : open_tcp(l, err);
}

static int begin(struct run *r, struct err *err)
{
	for (size_t i = 0; i < r->streams; i++) {
		r->lines[i].run = r;
		r->lines[i].stalled = r->stall_first && i == 0;
	}
	r->left -= r->stall_first ? 1 : 0;
	return open_more(r, err);
}

/* "tcp:PORT" or "URL,SANDBOX,PORT". */
static int parse_target(struct run *r, char *target, struct err *err)
{
	struct rpc_client_options o = { 0 };
	char *sandbox = strchr(target, ','), *port = sandbox != NULL ? strrchr(target, ',') : NULL;

	if (strncmp(target, "tcp:", 4) == 0) {
		r->port = (uint16_t)bench_number(target + 4, UINT16_MAX);
		return 0;
	}
	if (sandbox == NULL || port == sandbox)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "%s is neither tcp:PORT nor URL,SANDBOX,PORT", target);
	*sandbox = *port = '\0';
	r->sandbox = sandbox + 1;
	r->port = (uint16_t)bench_number(port + 1, UINT16_MAX);
	r->client = rpc_client_connect(r->loop, target, &o, err);
	return r->client != NULL ? 0 : -1;
}

static void report(struct run *r)
{
	double seconds = (double)(r->end_us - r->start_us) / 1e6;
	double bytes = (double)r->amount * (double)(r->streams - (r->stall_first ? 1 : 0));

	if (r->mode == MODE_PING)
		printf("{\"pings\": %zu, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", r->pings,
		    bench_quantile(r->times, r->pings, 0.5),
		    bench_quantile(r->times, r->pings, 0.99));
	else
		printf("{\"bytes\": %.0f, \"seconds\": %.4f, \"mib_s\": %.1f}\n", bytes, seconds,
		    bytes / seconds / (1 << 20));
}

/* Idle streams are held until standard input ends. */
static void on_stdin(void *cookie, unsigned events)
{
	(void)events;
	loop_stop(((struct run *)cookie)->loop);
}

static int hold(struct run *r, struct err *err)
{
	struct watch *w = watch_create(r->loop, STDIN_FILENO, on_stdin, r, err);

	if (w == NULL)
		return -1;
	watch_want(w, WATCH_READ);
	loop_run(r->loop);
	return 0;
}

static int parse_mode(const char *name, struct run *r)
{
	static const char *const names[] = { "up", "down", "ping", "idle", "stall" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(name, names[i]) != 0)
			continue;
		r->stall_first = i == 4;
		r->mode = r->stall_first ? MODE_UP : (enum mode)i;
		return 0;
	}
	return -1;
}

static int run_load(struct run *r, char *target, struct err *err)
{
	memset(payload, 'x', SEND_CHUNK);
	if (parse_target(r, target, err) != 0 || begin(r, err) != 0)
		return bench_fail(err);
	if (r->mode == MODE_IDLE)
		return hold(r, err) == 0 ? 0 : bench_fail(err);
	loop_run(r->loop);
	report(r);
	return r->failed;
}

int bench_load(int argc, char *argv[])
{
	struct run r = { 0 };
	struct err err = { 0 };

	if (argc != 5 || parse_mode(argv[1], &r) != 0) {
		fprintf(stderr,
		    "load up|down|ping|idle|stall STREAMS AMOUNT tcp:PORT|URL,SANDBOX,PORT\n");
		return 2;
	}
	r.streams = r.left = (size_t)bench_number(argv[2], 1000000);
	r.amount = bench_number(argv[3], INT64_MAX);
	r.lines = calloc(r.streams, sizeof(*r.lines));
	r.times = calloc(r.mode == MODE_PING ? (size_t)r.amount : 1, sizeof(*r.times));
	payload = aligned_alloc(4096, SEND_CHUNK);
	if (r.lines != NULL && r.times != NULL && payload != NULL &&
	    (r.loop = loop_create(0, &err)) != NULL)
		r.failed = run_load(&r, argv[4], &err);
	else
		r.failed = 1;
	free(r.times);
	free(r.lines);
	return r.failed;
}
