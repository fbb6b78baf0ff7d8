/* What is written is made durable by another thread, and asked about by a third. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/digest.h"
#include "support/leak.h"
#include "transfer/place.h"

#define SIZE  ((size_t)6 << 20)
#define CHUNK ((size_t)24 << 10)
#define HALF  (SIZE / 2 / CHUNK * CHUNK)

struct fixture {
	struct leak *leak;
	struct place_options options;
	uint8_t *content;
	struct place *place;
	size_t end;             /* to be written now */
	atomic_size_t written;  /* of the file; CHUNK at a time */
	atomic_size_t promised; /* a sync that has ended was asked for so much */
	atomic_bool over;       /* no more is written */
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->leak = leak_begin();
	f->content = malloc(SIZE);
	for (size_t i = 0; i < SIZE; i++)
		f->content[i] = (uint8_t)(i * 2654435761U >> 24);
	f->options = (struct place_options){
		.workdir = open(leak_folder(f->leak), O_PATH | O_DIRECTORY | O_CLOEXEC),
		.slash = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC),
		.path = "f",
		.size_known = true,
		.size = SIZE,
		.id = "id",
		.expiry_ms = 1000000,
		.claims = claims_create(),
	};
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int r;

	close(f->options.workdir);
	close(f->options.slash);
	claims_free(f->options.claims);
	free(f->content);
	r = leak_end(f->leak);
	free(f);
	return r;
}

/* cmocka's asserts are for the first thread: the others tell it, by a text or NULL. */

static void *write_all(void *arg)
{
	struct fixture *f = arg;
	struct err err;
	int r = 0;

	for (size_t at = atomic_load(&f->written), n; r == 0 && at < f->end; at += n) {
		n = f->end - at < CHUNK ? f->end - at : CHUNK;
		r = place_write(f->place, f->content + at, n, &err);
		atomic_store(&f->written, at + n);
	}
	atomic_store(&f->over, true);
	return r == 0 ? NULL : "place_write() failed";
}

static void *sync_all(void *arg)
{
	struct fixture *f = arg;
	struct err err;

	for (bool last = false; !last;) {
		last = atomic_load(&f->over);
		size_t upto = atomic_load(&f->written);

		if (place_sync(f->place, upto, &err) != 0)
			return "place_sync() failed";
		atomic_store(&f->promised, upto);
	}
	return NULL;
}

/* Each answer is true, and none takes back what an earlier one has said. */
static void *ask(void *arg)
{
	struct fixture *f = arg;
	struct place_state s;
	struct err err;
	uint64_t last = 0;

	while (!atomic_load(&f->over)) {
		uint64_t least = atomic_load(&f->promised);
		int r = place_query(&f->options, &s, &err);

		if (r != 0 && (least > 0 || err.code != GRPC_NOT_FOUND))
			return "place_query() failed";
		if (r != 0)
			continue;
		if (s.durable < least || s.durable < last || s.durable > atomic_load(&f->written))
			return "what is durable was not told right";
		last = s.durable;
	}
	return NULL;
}

static void run_all(struct fixture *f, size_t end)
{
	void *(*const parts[])(void *) = { write_all, sync_all, ask };
	pthread_t threads[3];
	void *failed;

	f->end = end;
	atomic_store(&f->over, false);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, parts[i], f), 0);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(pthread_join(threads[i], &failed), 0);
		if (failed != NULL)
			fail_msg("%s", (const char *)failed);
	}
}

static void open_at(struct fixture *f, size_t offset)
{
	struct err err;

	f->options.offset = offset;
	f->place = place_open(&f->options, &err);
	assert_non_null(f->place);
	while (!place_is_ready(f->place))
		assert_int_equal(place_prepare(f->place, &err), 0);
}

static void assert_content(struct fixture *f, const uint8_t digest[static DIGEST_SIZE])
{
	uint8_t wanted[DIGEST_SIZE], *got = malloc(SIZE);
	struct digest *d = digest_create();
	int fd = open(leak_path(f->leak, "f"), O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(read(fd, got, SIZE), SIZE);
	assert_memory_equal(got, f->content, SIZE);
	digest_update(d, f->content, SIZE);
	digest_value(d, wanted);
	assert_memory_equal(digest, wanted, DIGEST_SIZE);
	digest_free(d);
	close(fd);
	free(got);
}

static void test_written_and_synced(void **state)
{
	struct fixture *f = *state;
	struct place_state s;
	struct err err;
	uint8_t digest[DIGEST_SIZE];
	uint64_t bytes;

	open_at(f, 0);
	run_all(f, HALF);
	place_suspend(f->place);
	assert_int_equal(place_query(&f->options, &s, &err), 0);
	assert_int_equal(s.durable, HALF);

	open_at(f, HALF);
	run_all(f, SIZE);
	assert_int_equal(place_commit(f->place, &bytes, digest, &err), 0);
	assert_int_equal(bytes, SIZE);
	assert_content(f, digest);
	assert_int_equal(unlink(leak_path(f->leak, "f")), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_written_and_synced, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
