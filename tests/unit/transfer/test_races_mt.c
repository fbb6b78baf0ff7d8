/*
 * Everything that works on paths, while somebody exchanges directories and files on them for
 * links that lead out (maze.h). Whatever an operation answers, nothing outside is changed, and
 * nothing of it is told.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/digest.h"
#include "maze.h"
#include "proto/codec.h"
#include "tar.h"
#include "transfer/files/files.h"
#include "transfer/place.h"
#include "transfer/sync/sync_apply.h"
#include "transfer/sync/sync_joint.h"
#include "transfer/tree/tree.h"

#define OPERATIONS  50000
#define LONG        20 /* times, with $TOWLINE_LONG: a million */
#define BATCH       200
#define TRY_MS      12000 /* the most that it takes, and so many times that with $TOWLINE_LONG */
#define EXPIRY_MS   3600000
#define CONTENT     "inside"
#define CONTENT_LEN (sizeof(CONTENT) - 1)

/* What became of the operations of a kind; the test wants to have seen both. */
struct outcomes {
	unsigned long well, badly;
	unsigned long met; /* of the latter, because of a link that was in the way */
};

struct race {
	struct maze maze;
	struct transfers transfers; /* in/ is both the working directory and "/" */
	struct sync_apply *apply;
	struct sync_dirs *dirs;
	struct sync_joint *joint;
	struct sync_link link; /* nothing comes over it */
	struct tar archive, packed;
	size_t pulled;
	uint32_t random;
	uint8_t digest[DIGEST_SIZE]; /* of CONTENT */
};

static uint32_t draw(struct race *r, uint32_t below)
{
	r->random = r->random * 1664525 + 1013904223;
	return (r->random >> 8) % below;
}

/* Paths: relative ones may not leave in/, and for absolute ones it is "/". */

static const char *const files[] = { "d/f0", "d/f1", "d/sub/f0", "d/sub/f1", "d/new/f0",
	"d/sub/sub/f0", "d/sub/../f1", "d/l/f0", "d/moved", "d/sub/moved", "/d/f0", "/d/sub/f0",
	"/d/sub/../sub/f1", "/d/new/f0", "/d/l/f1" };
static const char *const directories[] = { "d/sub", "d/t", "d/t", "d/t", "d/sub/t", "d/sub/sub",
	"d/t/u", "d/new", "d/sub/../t", "d/l", "/d/sub", "/d/t/u", "/d/l/t" };

static char *one_of(struct race *r, const char *const *paths, size_t count)
{
	return (char *)paths[draw(r, (uint32_t)count)];
}

#define ONE_OF(r, paths) one_of(r, paths, sizeof(paths) / sizeof((paths)[0]))

static char *any_path(struct race *r)
{
	return draw(r, 2) == 0 ? ONE_OF(r, files) : ONE_OF(r, directories);
}

/* Uploads of a file. */

static struct place_options options(struct race *r)
{
	struct place_options o = {
		.workdir = r->transfers.workdir,
		.slash = r->transfers.slash,
		.path = ONE_OF(r, files),
		.make_parents = draw(r, 2) == 0,
		.size_known = true,
		.size = CONTENT_LEN,
		.mode = draw(r, 2) == 0 ? 0600 : 0,
		.has_mtime = true,
		.mtime = { .tv_sec = 1234567890 },
		.digest = PLACE_DIGEST_XXH3_128,
		.exists = (enum place_exists)draw(r, 3),
		.id = draw(r, 3) == 0 ? "race" : NULL,
		.expiry_ms = EXPIRY_MS,
		.claims = r->transfers.claims,
	};

	memcpy(o.expected, r->digest, sizeof(r->digest));
	return o;
}

static int fill(struct place *p, struct err *err)
{
	while (!place_is_ready(p))
		if (place_prepare(p, err) != 0)
			return -1;
	if (place_is_same(p))
		return 0;
	return place_write(p, CONTENT, CONTENT_LEN, err) != 0 ||
		place_sync(p, CONTENT_LEN, err) != 0
	    ? -1
	    : 0;
}

static int leave(const struct place_options *o, struct place *p, struct err *err)
{
	struct place_state state;

	place_suspend(p);
	if (o->id == NULL)
		return 0;
	if (place_query(o, &state, err) != 0)
		return -1;
	return state.complete ? 0 : place_forget(o, err);
}

static int put(struct race *r, struct err *err)
{
	struct place_options o = options(r);
	struct place *p = place_open(&o, err);
	uint8_t digest[16];
	uint64_t bytes;

	if (p == NULL)
		return -1;
	if (fill(p, err) != 0) {
		place_abort(p);
		return -1;
	}
	return draw(r, 4) == 0 ? leave(&o, p, err) : place_commit(p, &bytes, digest, err);
}

/* Trees. */

static void make_archive(struct tar *t)
{
	const unsigned size = CONTENT_LEN;

	tar_add(t, '5', "d/", "", 0750, 0, NULL, 0);
	tar_add(t, '0', "d/f0", "", 0604, size, CONTENT, size);
	tar_add(t, '5', "d/sub/", "", 0700, 0, NULL, 0);
	tar_add(t, '0', "d/sub/f0", "", 0640, size, CONTENT, size);
	tar_add(t, '1', "d/sub/f1", "d/sub/f0", 0, 0, NULL, 0);
	tar_add(t, '1', "d/moved", "d/f0", 0, 0, NULL, 0);
	tar_add(t, '2', "d/sub/l", "../f1", 0777, 0, NULL, 0);
	tar_add(t, '0', "d/new/f0", "", 0600, size, CONTENT, size);
	tar_add(t, '5', "d/sub/sub/", "", 0711, 0, NULL, 0);
	tar_add(t, '5', "d/t/u/", "", 0701, 0, NULL, 0);
	tar_end(t);
}

static ssize_t pull(void *cookie, const void **bytes, struct err *err)
{
	struct race *r = cookie;
	size_t left = r->archive.len - r->pulled, n = left < 1000 ? left : 1000;

	(void)err;
	*bytes = r->archive.bytes + r->pulled;
	r->pulled += n;
	return (ssize_t)n;
}

static int unpack(struct race *r, struct err *err)
{
	struct tree_unpack u = { .root = r->maze.root, .pull = pull, .cookie = r, .links = true };
	struct tree_result result;

	r->pulled = 0;
	return tree_unpack(&u, &result, err);
}

static int push(void *cookie, const void *bytes, size_t len, struct err *err)
{
	struct race *r = cookie;

	if (len > sizeof(r->packed.bytes) - r->packed.len)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "the test's buffer");
	memcpy(r->packed.bytes + r->packed.len, bytes, len);
	r->packed.len += len;
	return 0;
}

static int pack(struct race *r, struct err *err)
{
	struct tree_pack p = { .root = r->maze.root,
		.name = draw(r, 2) == 0 ? "d/sub" : "d",
		.push = push,
		.cookie = r };
	struct tree_result result;

	r->packed.len = 0;
	int failed = tree_pack(&p, &result, err);
	assert_null(memmem(r->packed.bytes, r->packed.len, MAZE_MARK, sizeof(MAZE_MARK) - 1));
	assert_null(memmem(r->packed.bytes, r->packed.len, MAZE_SECRET, sizeof(MAZE_SECRET) - 1));
	return failed;
}

/* Operations on files, turn after turn as a worker runs them. */

static void look_at_reply(struct files_call *c, const ProtobufCMessageDescriptor *type)
{
	if (c->reply == NULL)
		return;
	assert_null(memmem(c->reply, c->reply_len, MAZE_SECRET, sizeof(MAZE_SECRET) - 1));
	if (type != NULL) {
		Towline__V1__StatFileResponse *m = codec_unpack(type, c->reply, c->reply_len, NULL);
		assert_non_null(m);
		assert_true(m->file->size_bytes != MAZE_SIZE);
		codec_free(m);
	}
	free(c->reply);
	c->reply = NULL;
}

/* ${type} is NULL, or that of an answer that is told of one file. */
static int perform(struct race *r, const struct files_op *op, const ProtobufCMessage *request,
    const ProtobufCMessageDescriptor *type, struct err *err)
{
	struct files_call c = { .transfers = &r->transfers, .request = request };
	enum files_result result;

	file_info_init(&c.info, r->transfers.slash);
	c.state = calloc(1, op->state + 1);
	do {
		result = op->run(&c, err);
		look_at_reply(&c, type);
	} while (result == FILES_MORE);
	if (op->end != NULL)
		op->end(c.state);
	free(c.state);
	file_info_free(&c.info);
	return result == FILES_DONE ? 0 : -1;
}

static int make_directory(struct race *r, struct err *err)
{
	Towline__V1__MakeDirectoryRequest q = TOWLINE__V1__MAKE_DIRECTORY_REQUEST__INIT;

	q.path = ONE_OF(r, directories);
	q.parents = draw(r, 4) != 0;
	q.mode = draw(r, 2) == 0 ? 0705 : 0;
	return perform(
	    r, &files_mkdir, &q.base, &towline__v1__make_directory_response__descriptor, err);
}

static int move(struct race *r, struct err *err)
{
	Towline__V1__MoveFileRequest q = TOWLINE__V1__MOVE_FILE_REQUEST__INIT;

	q.path = any_path(r);
	q.new_path = any_path(r);
	q.if_exists = draw(r, 2) == 0 ? TOWLINE__V1__IF_EXISTS__IF_EXISTS_REPLACE
				      : TOWLINE__V1__IF_EXISTS__IF_EXISTS_FAIL;
	return perform(r, &files_move, &q.base, NULL, err);
}

static int remove_all(struct race *r, struct err *err)
{
	Towline__V1__RemoveFileRequest q = TOWLINE__V1__REMOVE_FILE_REQUEST__INIT;

	q.path = any_path(r);
	q.recursive = draw(r, 4) != 0;
	return perform(r, &files_remove, &q.base, NULL, err);
}

static int stat_file(struct race *r, struct err *err)
{
	Towline__V1__StatFileRequest q = TOWLINE__V1__STAT_FILE_REQUEST__INIT;

	q.path = any_path(r);
	q.no_follow = draw(r, 2) == 0;
	return perform(r, &files_stat, &q.base, &towline__v1__stat_file_response__descriptor, err);
}

static int list(struct race *r, struct err *err)
{
	Towline__V1__ListDirectoryRequest q = TOWLINE__V1__LIST_DIRECTORY_REQUEST__INIT;

	q.path = draw(r, 2) == 0 ? (char *)"d" : ONE_OF(r, directories);
	q.recursive = draw(r, 4) != 0;
	return perform(r, &files_list, &q.base, NULL, err);
}

/* What a source says to a target: its paths are clean, relative ones. */

static const char *const sync_files[] = { "d/f0", "d/f1", "d/sub/f0", "d/sub/f1", "d/sub/sub/f0",
	"d/l/f0" };
static const char *const sync_directories[] = { "d", "d/sub", "d/sub/sub", "d/t", "d/l" };

static int sync_file(struct race *r, const char *path, struct err *err)
{
	const struct sync_entry e = { .kind = SYNC_KIND_FILE,
		.path = path,
		.size = CONTENT_LEN,
		.mtime = 1234567890,
		.mode = 0640 };
	size_t copied = draw(r, 2) == 0 ? 3 : 0;

	if (sync_apply_begin(r->apply, &e, draw(r, 2) == 0, err) != 0 ||
	    (copied > 0 && sync_apply_copy(r->apply, 0, copied, err) != 0) ||
	    sync_apply_literal(
		r->apply, (const uint8_t *)CONTENT + copied, CONTENT_LEN - copied, err) != 0)
		return -1;
	return sync_apply_commit(r->apply, r->digest, err) < 0 ? -1 : 0;
}

static int apply(struct race *r, struct err *err)
{
	const char *file = ONE_OF(r, sync_files), *directory = ONE_OF(r, sync_directories);

	switch (draw(r, 10)) {
	case 0:
	case 1:
		return sync_apply_directory(r->apply, directory, 0751, 1234567890, err);
	case 6:
		return sync_apply_hardlink(
		    r->apply, file, ONE_OF(r, sync_files), CONTENT_LEN, 1234567890, err);
	case 7:
		sync_dirs_set(r->dirs, directory, 0750, 1234567892);
		sync_dirs_settle(r->dirs, r->maze.root);
		return 0;
	case 2:
		/* The links themselves may say what they like. */
		return sync_apply_link(
		    r->apply, draw(r, 2) == 0 ? "d/l" : file, MAZE_LINK_DOWN, 99, err);
	case 3:
		return sync_apply_touch(r->apply, file, 0604, 1234567891, err);
	case 4:
		return sync_apply_delete(r->apply, file, false, err) < 0 ? -1 : 0;
	case 5:
		return sync_apply_delete(r->apply, directory, true, err) < 0 ? -1 : 0;
	default:
		return sync_file(r, file, err);
	}
}

/* The race. */

static const struct kind {
	const char *name;
	int (*run)(struct race *, struct err *);
} kinds[] = {
	{ "upload", put },
	{ "unpack", unpack },
	{ "pack", pack },
	{ "mkdir", make_directory },
	{ "move", move },
	{ "remove", remove_all },
	{ "stat", stat_file },
	{ "list", list },
	{ "sync", apply },
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* UNIMPLEMENTED: why a move is invalid is looked for when it may be so no more. */
static bool is_for_other_reasons(const struct err *e)
{
	return e->code == GRPC_NOT_FOUND || e->code == GRPC_ALREADY_EXISTS ||
	    e->code == GRPC_INVALID_ARGUMENT || e->code == GRPC_UNIMPLEMENTED;
}

static bool is_for_a_link(const struct err *e)
{
	return e->code == GRPC_PERMISSION_DENIED || e->code == GRPC_FAILED_PRECONDITION ||
	    e->code == GRPC_ABORTED;
}

static void run_one(struct race *r, size_t kind, struct outcomes *o)
{
	struct err err = { 0 };

	if (kinds[kind].run(r, &err) == 0) {
		o->well++;
		return;
	}
	o->badly++;
	if (is_for_a_link(&err))
		o->met++;
	else if (!is_for_other_reasons(&err))
		fail_msg("%s: %s: %s", kinds[kind].name, err_code_name(err.code), err.text);
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static unsigned long run_batches(struct race *r, struct outcomes *outcomes)
{
	unsigned long times = getenv("TOWLINE_LONG") != NULL ? LONG : 1, done = 0;
	uint64_t until = now_ms() + TRY_MS * times;

	while (done < OPERATIONS * times && now_ms() < until) {
		for (unsigned i = 0; i < BATCH; i++, done++) {
			size_t kind = draw(r, KINDS);
			run_one(r, kind, &outcomes[kind]);
		}
		maze_check(&r->maze);
	}
	return done;
}

static void report(const struct race *r, unsigned long done, const struct outcomes *outcomes)
{
	print_message("%lu operations, %lu exchanges\n", done, maze_swaps(&r->maze));
	for (size_t i = 0; i < KINDS; i++)
		print_message("%-8s %8lu went well, %8lu did not, %8lu for a link\n", kinds[i].name,
		    outcomes[i].well, outcomes[i].badly, outcomes[i].met);
}

static void nothing_outside_is_touched_or_told(void **state)
{
	struct race *r = *state;
	struct outcomes outcomes[KINDS] = { 0 };
	unsigned long done = run_batches(r, outcomes);

	report(r, done, outcomes);
	assert_true(maze_swaps(&r->maze) > done / 100);
	for (size_t i = 0; i < KINDS; i++)
		assert_true(outcomes[i].well > 0 && outcomes[i].met > 0);
}

static int setup(void **state)
{
	struct race *r = calloc(1, sizeof(*r));
	struct err err;

	maze_make(&r->maze);
	r->transfers.workdir = r->maze.root;
	r->transfers.slash = fcntl(r->maze.root, F_DUPFD_CLOEXEC, 3);
	r->transfers.claims = claims_create();
	r->dirs = sync_dirs_create(&err);
	r->joint = sync_joint_create(SYNC_JOINT_WAIT_MS, &err);
	r->apply = sync_apply_create(r->maze.root, r->dirs, r->joint, &r->link, &err);
	make_archive(&r->archive);
	digest_of(CONTENT, CONTENT_LEN, r->digest);
	*state = r;
	return r->apply != NULL && r->dirs != NULL && r->joint != NULL &&
		r->transfers.claims != NULL
	    ? 0
	    : -1;
}

static int teardown(void **state)
{
	struct race *r = *state;

	sync_apply_free(r->apply);
	sync_joint_free(r->joint);
	sync_dirs_free(r->dirs);
	claims_free(r->transfers.claims);
	close(r->transfers.slash);
	maze_clear(&r->maze);
	free(r);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    nothing_outside_is_touched_or_told, setup, teardown),
	};

	/* Where a sync costs nothing there are more races in a second. */
	if (access("/dev/shm", W_OK) == 0)
		setenv("TMPDIR", "/dev/shm", 0);
	umask(022);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
