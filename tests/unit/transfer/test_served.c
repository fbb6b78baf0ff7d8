/* What is served while the workers are busy, or to a client that does not read. */
#include <fcntl.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "openshell/v1/openshell.pb-c.h"
#include "served/served.h"
#include "support/leak.h"
#include "towline/v1/files.pb-c.h"
#include "transfer/files/files.h"
#include "transfer/flow.h"

#define QUEUED     2 /* jobs that may wait for the one worker */
#define BUSY       (QUEUED + 1)
#define FILE_BYTES ((size_t)16 << 20)
#define HEADERS    ((size_t)1 << 10) /* of a few messages */

/* A job that is with the worker until it is told to go. */
struct busy {
	struct job job;
	sem_t running, go;
};

static struct fixture {
	struct leak *leak;
	struct served served;
	struct workers *workers;
	struct transfers *transfers;
	struct busy busy[BUSY];
	size_t ended;
	atomic_uint turns;   /* of the operation */
	sem_t go;            /* its first one */
	struct framed *call; /* the serving end */
	uint64_t since_us;
} * fixture;

static void wait_for(sem_t *s)
{
	while (sem_wait(s) != 0)
		;
}

static void run_busy(struct job *job)
{
	struct busy *b = (struct busy *)job;

	sem_post(&b->running);
	wait_for(&b->go);
}

static void after_busy(struct job *job)
{
	(void)job;
	fixture->ended++;
}

static int submit_busy(size_t i)
{
	return workers_submit(fixture->workers, fixture->served.loop, &fixture->busy[i].job);
}

/* An operation of two turns. */

static enum files_result turn(struct files_call *c, struct err *err)
{
	(void)c;
	(void)err;
	if (atomic_fetch_add(&fixture->turns, 1) > 0)
		return FILES_DONE;
	wait_for(&fixture->go);
	return FILES_MORE;
}

static const struct files_op of_turns = { .request = &towline__v1__stat_file_request__descriptor,
	.run = turn };

static void serve_turns(struct framed *call, const struct channel_request *r, void *app)
{
	files_serve(((struct fixture *)app)->transfers, call, r, &of_turns);
}

static void serve_download(struct framed *call, const struct channel_request *r, void *app)
{
	struct fixture *f = app;

	f->call = call;
	transfer_serve_download(f->transfers, call, r);
}

static const struct channel_method turns = { .path = "/towline.v1.Files/StatFile",
	.open = serve_turns };
static const struct channel_method download = { .path = "/openshell.v1.OpenShell/DownloadFile",
	.open = serve_download };

static int setup(void **state)
{
	const struct workers_options one = { .threads = 1, .max_queued = QUEUED };
	struct fixture *f = calloc(1, sizeof(*f));
	struct err err;

	loop_free(loop_create(0, NULL)); /* the first opens what all of them share */
	f->leak = leak_begin();
	fixture = f;
	for (size_t i = 0; i < BUSY; i++) {
		sem_init(&f->busy[i].running, 0, 0);
		sem_init(&f->busy[i].go, 0, 0);
		f->busy[i].job = (struct job){ .run = run_busy, .done = after_busy };
	}
	sem_init(&f->go, 0, 0);
	f->workers = workers_create(&one, &err);
	*state = f;
	return f->workers != NULL ? 0 : -1;
}

static void open_with(struct fixture *f, const struct channel_method *method)
{
	struct transfer_options t = { .workers = f->workers, .slash = -1 };
	struct err err;

	served_open(&f->served, method, f);
	t.loop = f->served.loop;
	t.workdir = open(leak_folder(f->leak), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->transfers = transfers_create(&t, &err);
	assert_non_null(f->transfers);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int workdir = f->transfers->workdir;

	workers_free(f->workers);
	transfers_free(f->transfers);
	served_close(&f->served);
	close(workdir);
	int r = leak_end(f->leak);
	free(f);
	return r;
}

static bool is_in_its_turn(struct served *s)
{
	(void)s;
	return atomic_load(&fixture->turns) == 1;
}

/* Some attempts later. */
static bool is_later(struct served *s)
{
	(void)s;
	return loop_now_us() - fixture->since_us > (uint64_t)5 * FILES_RETRY_MS * 1000;
}

static bool all_have_ended(struct served *s)
{
	(void)s;
	return fixture->ended == BUSY;
}

static void call_turns(struct fixture *f)
{
	Towline__V1__StatFileRequest q = TOWLINE__V1__STAT_FILE_REQUEST__INIT;

	q.path = (char *)".";
	served_call(&f->served, &q.base);
}

static void let_go(struct fixture *f)
{
	for (size_t i = 0; i < BUSY; i++)
		sem_post(&f->busy[i].go);
	served_until(&f->served, all_have_ended);
}

/* The queue is full when its first turn has ended. */
static void what_has_begun_is_tried_again(void **state)
{
	struct fixture *f = *state;

	open_with(f, &turns);
	call_turns(f);
	served_until(&f->served, is_in_its_turn);
	assert_int_equal(submit_busy(0), 0);
	sem_post(&f->go);
	wait_for(&f->busy[0].running);
	for (size_t i = 1; i < BUSY; i++)
		assert_int_equal(submit_busy(i), 0);
	f->since_us = loop_now_us();
	served_until(&f->served, is_later);
	assert_int_equal(f->turns, 1);
	assert_non_null(f->served.call);
	let_go(f);
	served_until(&f->served, served_is_over);
	assert_int_equal(f->served.status.code, GRPC_OK);
	assert_int_equal(f->turns, 2);
}

static void what_has_not_is_refused(void **state)
{
	struct fixture *f = *state;

	open_with(f, &turns);
	assert_int_equal(submit_busy(0), 0);
	wait_for(&f->busy[0].running);
	for (size_t i = 1; i < BUSY; i++)
		assert_int_equal(submit_busy(i), 0);
	call_turns(f);
	served_until(&f->served, served_is_over);
	assert_int_equal(f->served.status.code, GRPC_RESOURCE_EXHAUSTED);
	assert_string_equal(
	    f->served.status.text, "too many file operations are waiting; try again");
	assert_int_equal(f->turns, 0);
	let_go(f);
}

/* A download. */

static bool window_is_full(struct served *s)
{
	return s->received >= RPC_WINDOW - HEADERS &&
	    framed_queued(fixture->call) > FLOW_WINDOW - FLOW_CHUNK;
}

static void a_client_that_does_not_read(void **state)
{
	struct fixture *f = *state;
	Openshell__V1__DownloadFileRequest q = OPENSHELL__V1__DOWNLOAD_FILE_REQUEST__INIT;
	int fd = open(leak_path(f->leak, "f"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(ftruncate(fd, FILE_BYTES), 0);
	close(fd);
	open_with(f, &download);
	q.remote_path = (char *)"f";
	f->served.hold = true;
	served_call(&f->served, &q.base);
	served_until(&f->served, window_is_full);
	f->since_us = loop_now_us();
	served_until(&f->served, is_later);
	assert_true(framed_queued(f->call) <= FLOW_WINDOW + HEADERS);
	served_take(&f->served);
	served_until(&f->served, served_is_over);
	assert_int_equal(f->served.status.code, GRPC_OK);
	assert_int_equal(f->served.received, FILE_BYTES);
	assert_int_equal(unlink(leak_path(f->leak, "f")), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_has_begun_is_tried_again, setup, teardown),
		cmocka_unit_test_setup_teardown(what_has_not_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(a_client_that_does_not_read, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
