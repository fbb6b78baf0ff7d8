/* A download whose disk is slow: what waits for it has an end. */
#include <fcntl.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/digest.h"
#include "openshell/v1/openshell.pb-c.h"
#include "proto/codec.h"
#include "served/served.h"
#include "support/leak.h"
#include "transfer/client.h"
#include "transfer/fetch_stream.h"

#define MIB     ((size_t)1 << 20)
#define FRAMES  ((size_t)64 << 10)
#define REST_US 100000

struct fixture {
	struct leak *leak;
	struct served served;
	struct workers *workers; /* one */
	struct job busy;
	sem_t go;
	struct framed *call; /* the serving end; NULL: over */
	size_t chunk, count; /* what it sends */
	size_t calls;
	size_t sent; /* bytes of it */
	uint64_t rests_us;
	struct transfer_result result;
	struct err err;
	bool is_over;
};

/* Its one worker is the disk. */

static void run_busy(struct job *job)
{
	struct fixture *f = (struct fixture *)((char *)job - offsetof(struct fixture, busy));

	while (sem_wait(&f->go) != 0)
		;
}

static void after_busy(struct job *job)
{
	(void)job;
}

/* Who serves it. */

static void say(struct fixture *f, const Openshell__V1__DownloadFileResponse *r)
{
	size_t len;
	uint8_t *packed = codec_pack_new(&r->base, &len);

	assert_int_equal(framed_send(f->call, packed, len), 0);
	free(packed);
}

static void say_header(struct fixture *f)
{
	Openshell__V1__DownloadFileResponse r = OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__INIT;
	Openshell__V1__DownloadFileHeader h = OPENSHELL__V1__DOWNLOAD_FILE_HEADER__INIT;

	h.size_bytes = f->chunk * f->count;
	h.mode = 0644;
	h.etag = (char *)"etag";
	r.payload_case = OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__PAYLOAD_HEADER;
	r.header = &h;
	say(f, &r);
}

static void say_trailer(struct fixture *f, struct digest *digest)
{
	Openshell__V1__DownloadFileResponse r = OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__INIT;
	Openshell__V1__DownloadFileTrailer t = OPENSHELL__V1__DOWNLOAD_FILE_TRAILER__INIT;
	Towline__V1__Digest d = TOWLINE__V1__DIGEST__INIT;
	uint8_t value[DIGEST_SIZE];

	digest_value(digest, value);
	d.algorithm = TOWLINE__V1__DIGEST_ALGORITHM__DIGEST_ALGORITHM_XXH3_128;
	d.value = (ProtobufCBinaryData){ sizeof(value), value };
	t.bytes = f->chunk * f->count;
	t.digest = &d;
	r.payload_case = OPENSHELL__V1__DOWNLOAD_FILE_RESPONSE__PAYLOAD_TRAILER;
	r.trailer = &t;
	say(f, &r);
}

static void served_message(void *cookie, const uint8_t *message, size_t len)
{
	struct fixture *f = cookie;
	struct digest *digest = digest_create();
	uint8_t *bytes = calloc(1, f->chunk);

	(void)message;
	(void)len;
	assert_int_equal(workers_submit(f->workers, f->served.loop, &f->busy), 0);
	say_header(f);
	for (size_t i = 0; i < f->count; i++) {
		digest_update(digest, bytes, f->chunk);
		assert_int_equal(
		    framed_write(f->call, FRAMED_BYTES, slice_copy(bytes, f->chunk)), 0);
	}
	say_trailer(f, digest);
	framed_finish(f->call, NULL);
	f->sent = f->chunk * f->count;
	digest_free(digest);
	free(bytes);
}

static void served_closed(void *cookie, const struct err *why)
{
	(void)why;
	((struct fixture *)cookie)->call = NULL;
}

static const struct framed_ops served_ops = { .message = served_message, .closed = served_closed };

static void serve(struct framed *call, const struct channel_request *r, void *app)
{
	struct fixture *f = app;

	(void)r;
	f->call = call;
	f->calls++;
	framed_bind(call, &served_ops, f);
}

static const struct channel_method method = {
	.path = "/openshell.v1.OpenShell/DownloadFile", .open = serve, .whole = true
};

static int setup(void **state)
{
	const struct workers_options one = { .threads = 1, .max_queued = 8 };
	struct fixture *f = calloc(1, sizeof(*f));
	struct err err;

	loop_free(loop_create(0, NULL)); /* the first opens what all of them share */
	f->leak = leak_begin();
	served_open(&f->served, &method, f);
	f->workers = workers_create(&one, &err);
	f->busy = (struct job){ .run = run_busy, .done = after_busy };
	sem_init(&f->go, 0, 0);
	*state = f;
	return f->workers != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	served_close(&f->served);
	workers_free(f->workers);
	sem_destroy(&f->go);
	int r = leak_end(f->leak);
	free(f);
	return r;
}

/* Who downloads. */

static struct rpc_client *again(void *cookie, struct err *err)
{
	(void)err;
	return ((struct fixture *)cookie)->served.client;
}

static void on_done(void *cookie, const struct transfer_result *result, const struct err *err)
{
	struct fixture *f = cookie;

	f->is_over = true;
	f->result = *result;
	f->err = *err;
}

static const struct transfer_ops ops = { .again = again, .done = on_done };

static void download(struct fixture *f, size_t chunk, size_t count)
{
	struct transfer_request r = { .client = f->served.client,
		.workers = f->workers,
		.sandbox = "box",
		.local = leak_path(f->leak, "to"),
		.remote = "from",
		.fd = -1,
		.ops = &ops,
		.cookie = f };
	struct err err;

	f->chunk = chunk;
	f->count = count;
	assert_non_null(transfer_download(f->served.loop, &r, &err));
}

static struct fixture *fixture_of(struct served *s)
{
	return s->app;
}

/* What is credited without being written has left, and nothing more for a while. */
static bool has_rested(struct served *s)
{
	struct fixture *f = fixture_of(s);

	if (f->call == NULL || framed_queued(f->call) + FETCH_AHEAD > f->sent)
		f->rests_us = loop_now_us();
	return loop_now_us() - f->rests_us > REST_US;
}

static bool is_given_up(struct served *s)
{
	return fixture_of(s)->sent != 0 && fixture_of(s)->call == NULL;
}

static bool is_over(struct served *s)
{
	return fixture_of(s)->is_over;
}

static void it_asks_for_no_more_than_it_can_write(void **state)
{
	struct fixture *f = *state;

	download(f, MIB, 16);
	served_until(&f->served, has_rested);
	assert_in_range(
	    f->sent - framed_queued(f->call), FETCH_AHEAD, FETCH_AHEAD + RPC_WINDOW + FRAMES);
	sem_post(&f->go);
	served_until(&f->served, is_over);
	assert_string_equal(f->err.text, "");
	assert_int_equal(f->result.bytes, 16 * MIB);
	assert_int_equal(unlink(leak_path(f->leak, "to")), 0);
}

/* More of them than a window takes, so that none of it ends before it is given up. */
static void small_chunks_are_counted(void **state)
{
	struct fixture *f = *state;

	download(f, 1, 4 * FETCH_SLICES_MAX);
	served_until(&f->served, is_given_up);
	sem_post(&f->go);
	served_until(&f->served, is_over);
	assert_int_equal(f->err.code, GRPC_RESOURCE_EXHAUSTED);
	assert_non_null(strstr(f->err.text, "the chunks are too small and too many"));
	assert_int_equal(f->calls, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    it_asks_for_no_more_than_it_can_write, setup, teardown),
		cmocka_unit_test_setup_teardown(small_chunks_are_counted, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
