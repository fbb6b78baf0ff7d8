/* A file's download from its beginning to its end, both sides in one program: in parts, from
 * where another one stopped, and with memory failing anywhere. */
#include "transfer/fetch.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "rpc/server.h"
#include "support/alloc.h"
#include "support/leak.h"
#include "transfer/client.h"
#include "transfer/serve.h"
#include "transfer/stash.h"

#define DOWNLOAD   "/openshell.v1.OpenShell/DownloadFile"
#define WAIT_MS    30000
#define SHORT_MS   300 /* without memory; then it is back */
#define SERVED_MAX 16
#define SIZE_BYTES ((size_t)3 << 20)

/* A call that has not said yet what it is about. */
struct served {
	struct fixture *fixture;
	struct framed *framed;
};

struct fixture {
	struct leak *leak;
	int slash, workdir;
	struct loop *loop;
	struct workers *workers;
	struct transfers *transfers;
	struct rpc_server *server;
	char url[256];
	struct rpc_client *client; /* NULL: lost */
	size_t calls;
	struct served served[SERVED_MAX];

	bool is_over, is_late, is_drained;
	struct transfer_result result;
	struct err err;
};

/* The server. */

static void served_message(void *cookie, const uint8_t *message, size_t len)
{
	struct served *s = cookie;
	struct channel_request r = { .method = DOWNLOAD,
		.first_message = message,
		.first_len = len,
		.timeout_ms = RPC_DEADLINE_NONE };

	transfer_serve_download(s->fixture->transfers, s->framed, &r);
}

static void served_closed(void *cookie, const struct err *why)
{
	(void)cookie;
	(void)why;
}

static const struct framed_ops served_ops = { .message = served_message, .closed = served_closed };

static void open_call(struct rpc_call *call, void *app)
{
	const struct framed_options whole = { .whole = true };
	struct fixture *f = app;
	struct served *s = &f->served[f->calls++ % SERVED_MAX];

	s->fixture = f;
	s->framed = framed_serve(call, &whole, &served_ops, s);
}

static const struct rpc_method methods[] = { { .path = DOWNLOAD, .open = open_call } };

/* The rig. */

static void on_lost(void *cookie, const struct err *why)
{
	struct fixture *f = cookie;

	(void)why;
	f->client = NULL;
}

static struct rpc_client *again(void *cookie, struct err *err)
{
	struct fixture *f = cookie;
	struct rpc_client_options o = { .closed = on_lost, .cookie = f };

	if (f->client == NULL)
		f->client = rpc_client_connect(f->loop, f->url, &o, err);
	return f->client;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct workers_options w = { .threads = 2, .max_queued = 64 };
	struct err err;
	char address[128];

	loop_free(loop_create(0, &err)); /* what the first one opens for the whole program */
	f->leak = leak_begin();
	f->slash = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	f->workdir = open(leak_folder(f->leak), O_PATH | O_DIRECTORY | O_CLOEXEC);
	f->loop = loop_create(0, &err);
	f->workers = workers_create(&w, &err);
	struct transfer_options t = {
		.loop = f->loop, .workers = f->workers, .workdir = f->workdir, .slash = f->slash
	};
	f->transfers = transfers_create(&t, &err);
	struct rpc_server_options s = {
		.loops = &f->loop, .loop_count = 1, .methods = methods, .method_count = 1, .app = f
	};
	f->server = rpc_server_create(&s, &err);
	if (f->server == NULL || f->transfers == NULL ||
	    rpc_server_listen(f->server, "127.0.0.1:0", NULL, address, sizeof(address), &err) != 0)
		return -1;
	snprintf(f->url, sizeof(f->url), "http://%s", address);
	*state = f;
	return 0;
}

static void on_drained(void *cookie)
{
	struct fixture *f = cookie;

	f->is_drained = true;
	loop_stop(f->loop);
}

static void on_timer(void *cookie)
{
	struct fixture *f = cookie;

	f->is_late = true;
	loop_stop(f->loop);
}

/* Runs the loop until ${flag}, at most so long. */
static bool run_until(struct fixture *f, const bool *flag, uint64_t ms)
{
	struct timer *timer;

	alloc_hold();
	timer = timer_create_on(f->loop, on_timer, f);
	timer_start(timer, ms);
	alloc_release();
	for (f->is_late = false; !*flag && !f->is_late;)
		loop_run(f->loop);
	timer_free(timer);
	return *flag;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int r;

	if (f->client != NULL)
		rpc_client_close(f->client);
	rpc_server_drain(f->server, 1000, on_drained, f);
	assert_true(run_until(f, &f->is_drained, WAIT_MS));
	rpc_server_free(f->server);
	transfers_free(f->transfers);
	workers_free(f->workers);
	loop_free(f->loop);
	close(f->slash);
	close(f->workdir);
	r = leak_end(f->leak);
	free(f);
	return r;
}

/* Downloads. */

static void on_done(void *cookie, const struct transfer_result *result, const struct err *err)
{
	struct fixture *f = cookie;

	f->is_over = true;
	f->result = *result;
	f->err = *err;
	loop_stop(f->loop);
}

static const struct transfer_ops ops = { .again = again, .done = on_done };

static struct transfer *start(struct fixture *f, size_t streams)
{
	struct transfer_request r = { .workers = f->workers,
		.sandbox = "box",
		.local = leak_path(f->leak, "to"),
		.remote = "from",
		.fd = -1,
		.streams = streams,
		.ops = &ops,
		.cookie = f };

	f->is_over = false;
	err_clear(&f->err);
	return transfer_download(f->loop, &r, &f->err);
}

static void make_source(struct fixture *f, size_t size)
{
	int fd = open(leak_path(f->leak, "from"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	uint8_t block[4096];

	for (size_t at = 0; at < size; at += sizeof(block)) {
		memset(block, (int)(at / sizeof(block) * 7), sizeof(block));
		assert_int_equal(write(fd, block, sizeof(block)), sizeof(block));
	}
	close(fd);
}

static bool is_there(struct fixture *f, const char *name)
{
	return access(leak_path(f->leak, name), F_OK) == 0;
}

/* ${to} is ${from}; and is gone after that. */
static void assert_copied(struct fixture *f)
{
	int a = open(leak_path(f->leak, "from"), O_RDONLY | O_CLOEXEC);
	int b = open(leak_path(f->leak, "to"), O_RDONLY | O_CLOEXEC);
	uint8_t x[4096], y[4096];
	ssize_t n;

	assert_true(a >= 0 && b >= 0);
	while ((n = read(a, x, sizeof(x))) > 0) {
		assert_int_equal(read(b, y, sizeof(y)), n);
		assert_memory_equal(x, y, (size_t)n);
	}
	assert_int_equal(read(b, y, sizeof(y)), 0);
	close(a);
	close(b);
	assert_int_equal(unlink(leak_path(f->leak, "to")), 0);
	assert_false(is_there(f, ".to.towline-get"));
}

static void download(struct fixture *f, size_t streams)
{
	assert_non_null(start(f, streams));
	assert_true(run_until(f, &f->is_over, WAIT_MS));
	assert_string_equal(f->err.text, "");
	assert_int_equal(f->err.code, GRPC_OK);
	assert_copied(f);
}

static void end_source(struct fixture *f)
{
	assert_int_equal(unlink(leak_path(f->leak, "from")), 0);
}

static void test_sizes(void **state)
{
	static const size_t sizes[] = { 0, 4096, 65536, SIZE_BYTES };
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		make_source(f, sizes[i]);
		download(f, 4);
		assert_int_equal(f->result.bytes, sizes[i]);
		assert_true(f->result.has_digest);
	}
	end_source(f);
}

static void test_ranges(void **state)
{
	struct fixture *f = *state;

	make_source(f, 2 * FETCH_RANGE_MIN + 4096);
	download(f, 1);
	assert_int_equal(f->calls, 1);
	download(f, 4);
	assert_int_equal(f->calls, 1 + 1 + 2); /* what is there? and two ranges */
	assert_int_equal(f->result.wire_bytes / 4096, f->result.bytes / 4096);
	end_source(f);
}

static void test_stopped_and_gone_on_with(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	uint64_t moved = 0;

	make_source(f, 2 * FETCH_RANGE_MIN);
	for (size_t streams = 1; streams <= 2; streams++) {
		const bool never = false;
		struct transfer *t = start(f, streams);

		while (stat(leak_path(f->leak, ".to.towline-get"), &st) != 0 || st.st_blocks == 0)
			run_until(f, &never, 1);
		run_until(f, &never, 20);
		if (f->is_over) { /* a fast machine */
			assert_copied(f);
			continue;
		}
		transfer_cancel(t);
		assert_true(run_until(f, &f->is_over, WAIT_MS));
		assert_int_equal(f->err.code, GRPC_CANCELLED);
		assert_int_equal(f->result.kept > 0, is_there(f, ".to.towline-get"));
		assert_false(is_there(f, "to"));
		moved = f->result.kept;
		download(f, streams);
		assert_true(f->result.wire_bytes <= 2 * FETCH_RANGE_MIN - moved + 2);
	}
	end_source(f);
}

static void test_stopped_at_once(void **state)
{
	struct fixture *f = *state;

	make_source(f, SIZE_BYTES);
	transfer_cancel(start(f, 1));
	assert_true(run_until(f, &f->is_over, WAIT_MS));
	assert_int_equal(f->err.code, GRPC_CANCELLED);
	assert_false(is_there(f, "to"));
	assert_false(is_there(f, ".to.towline-get"));
	end_source(f);
}

static void test_no_such_file(void **state)
{
	struct fixture *f = *state;

	assert_non_null(start(f, 1));
	assert_true(run_until(f, &f->is_over, WAIT_MS));
	assert_int_equal(f->err.code, GRPC_NOT_FOUND);
}

static void once(void *cookie)
{
	struct fixture *f = cookie;

	if (start(f, 1) == NULL) {
		assert_int_not_equal(f->err.code, GRPC_OK);
		return;
	}
	if (!run_until(f, &f->is_over, SHORT_MS)) {
		alloc_relent();
		assert_true(run_until(f, &f->is_over, WAIT_MS));
	}
	alloc_hold();
	if (f->err.code == GRPC_OK)
		assert_copied(f);
	assert_false(is_there(f, "to"));
	unlink(leak_path(f->leak, ".to.towline-get"));
	alloc_release();
}

static void test_without_memory(void **state)
{
	struct fixture *f = *state;

	make_source(f, SIZE_BYTES);
	alloc_torture(once, f);
	end_source(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_ranges, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stopped_and_gone_on_with, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stopped_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_such_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_without_memory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
