/* Reports to a gateway that does not read them. */
#include "sshd/gate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "rpc/server.h"
#include "support/leak.h"

#define WAIT_MS     10000
#define REPORT_SIZE 18 /* bytes of the end of a connection of a large number, prefix and all */

struct rig {
	struct loop *loop;
	struct rpc_server *server;
	struct gate *gate;
	char address[128], url[160];
	unsigned attends; /* streams begun */
	unsigned ups;     /* times that the gate was up */
	size_t unread;    /* bytes of the stream that is open */
	bool is_closed;
};

/* The gateway: takes streams, and gives no credit. */

static void on_data(void *cookie, struct slice s)
{
	((struct rig *)cookie)->unread += s.len;
	slice_release(&s);
}

static void on_end(void *cookie, const struct err *status, const struct rpc_meta *trailers)
{
	(void)cookie;
	(void)status;
	(void)trailers;
}

static void on_closed(void *cookie, const struct err *why)
{
	(void)cookie;
	(void)why;
}

static void attend(struct rpc_call *call, void *app)
{
	static const struct rpc_call_ops ops = {
		.data = on_data, .end = on_end, .closed = on_closed
	};
	struct rig *r = app;

	r->attends++;
	r->unread = 0;
	rpc_call_bind(call, &ops, r);
}

/* The endpoint. */

static void on_up(void *app)
{
	((struct rig *)app)->ups++;
}

static void on_ended(void *app, const char *session_id, const char *reason)
{
	(void)app;
	fail_msg("%s: %s", session_id, reason);
}

static void on_lost(void *app)
{
	(void)app;
	fail_msg("the gateway is lost");
}

static void on_rejected(void *app, const struct err *why)
{
	(void)app;
	fail_msg("%s", why->text);
}

/* The loop runs for a while. */
static void stop(void *cookie)
{
	loop_stop(cookie);
}

static void run(struct rig *r, uint64_t ms)
{
	struct timer *timer = timer_create_on(r->loop, stop, r->loop);

	timer_start(timer, ms);
	loop_run(r->loop);
	timer_free(timer);
}

static void wait_for(struct rig *r, const unsigned *count, unsigned least)
{
	for (unsigned waited = 0; *count < least; waited += 5) {
		assert_in_range(waited, 0, WAIT_MS);
		run(r, 5);
	}
}

static int setup(void **state)
{
	static const struct rpc_method methods[] = {
		{ .path = "/towline.v1.SshEndpoint/Attend", .open = attend },
	};
	struct rig *r = calloc(1, sizeof(*r));
	struct err err;

	r->loop = loop_create(0, &err);
	const struct rpc_server_options server = {
		.loops = &r->loop, .loop_count = 1, .methods = methods, .method_count = 1, .app = r
	};
	r->server = rpc_server_create(&server, &err);
	assert_int_equal(
	    rpc_server_listen(r->server, "127.0.0.1:0", NULL, r->address, sizeof(r->address), &err),
	    0);
	snprintf(r->url, sizeof(r->url), "http://%s", r->address);
	const struct gate_options gate = {
		.url = r->url,
		.endpoint_id = "sshd-1",
		.token = "sshd-1.SECRET",
		.instance_id = "i",
		.app = r,
		.up = on_up,
		.ended = on_ended,
		.lost = on_lost,
		.rejected = on_rejected,
	};
	r->gate = gate_create(r->loop, &gate, &err);
	wait_for(r, &r->ups, 1);
	wait_for(r, &r->attends, 1);
	*state = r;
	return 0;
}

static void on_done(void *cookie)
{
	struct rig *r = cookie;

	r->is_closed = true;
	loop_stop(r->loop);
}

static void run_until_closed(struct rig *r)
{
	while (!r->is_closed)
		loop_run(r->loop);
	r->is_closed = false;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	gate_close(r->gate, on_done, r);
	run_until_closed(r);
	rpc_server_drain(r->server, 1000, on_done, r);
	run_until_closed(r);
	rpc_server_free(r->server);
	loop_free(r->loop);
	free(r);
	return 0;
}

/* More than waits. */
static void tell_usage(struct rig *r)
{
	for (int i = 0; i < 50000; i++)
		gate_usage(r->gate, UINT64_MAX, UINT64_MAX, UINT64_MAX);
}

/* Until the gateway takes no more and GATE_REPORTS_HIGH of them wait. */
static void fill(struct rig *r)
{
	size_t before;

	do {
		before = r->unread;
		tell_usage(r);
		run(r, 20);
	} while (r->unread > before);
	tell_usage(r);
}

/* Of usage nothing is said that would not be read; who has come and gone is, until there is
 * too much of it: then the stream is begun anew, and everything told again. */
static void test_reports_that_are_not_read(void **state)
{
	struct rig *r = *state;
	size_t told = 0;

	fill(r);
	assert_int_equal(r->ups, 1);
	assert_true(gate_is_up(r->gate));
	for (; gate_is_up(r->gate); told++)
		gate_closed(r->gate, UINT64_MAX);
	assert_in_range(told * REPORT_SIZE, GATE_REPORTS_MAX - GATE_REPORTS_HIGH - 100,
	    GATE_REPORTS_MAX - GATE_REPORTS_HIGH + REPORT_SIZE);
	wait_for(r, &r->ups, 2);
	wait_for(r, &r->attends, 2);
	gate_closed(r->gate, 1);
	run(r, 20);
	assert_true(gate_is_up(r->gate));
}

/* The first loop of a program makes a pipe that is kept to its end. */
static int setup_group(void **state)
{
	log_setup(STDERR_FILENO, LOG_FORMAT_LOGFMT, LOG_LEVEL_ERROR);
	loop_free(loop_create(0, NULL));
	*state = leak_begin();
	return 0;
}

static int teardown_group(void **state)
{
	return leak_end(*state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_reports_that_are_not_read, setup, teardown),
	};

	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
