/* File operations, one turn after the other, as a worker runs them. */
#include "transfer/files/files.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/codec.h"
#include "relay/framed.h"
#include "support/alloc.h"
#include "support/leak.h"

#define TURNS_MAX 100000
#define NOBODY    65534

struct fixture {
	struct leak *leak;
	struct transfers transfers; /* the folder is both the working directory and "/" */
};

static struct fixture *fixture;

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->leak = leak_begin();
	f->transfers.workdir = open(leak_folder(f->leak), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->transfers.slash = fcntl(f->transfers.workdir, F_DUPFD_CLOEXEC, 3);
	*state = fixture = f;
	return f->transfers.slash >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
	static const char *const made[] = { "d", "e", "etc", "f", "g" };
	struct fixture *f = *state;
	struct err err;
	int r;

	for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++)
		assert_int_equal(beneath_remove_tree(f->transfers.workdir, made[i], &err), 0);
	close(f->transfers.workdir);
	close(f->transfers.slash);
	r = leak_end(f->leak);
	free(f);
	return r;
}

/* What is in the folder. */

static void make_file(const char *path, const char *content)
{
	int fd = openat(fixture->transfers.workdir, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, strlen(content)), (ssize_t)strlen(content));
	close(fd);
}

static void make_directory(const char *path)
{
	assert_int_equal(mkdirat(fixture->transfers.workdir, path, 0755), 0);
}

static bool exists(const char *path)
{
	return faccessat(fixture->transfers.workdir, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* "d" with "a" of 3 bytes, "link", and "sub" with "b". */
static void make_tree(void)
{
	make_directory("d");
	make_directory("d/sub");
	make_file("d/a", "123");
	make_file("d/sub/b", "");
	assert_int_equal(symlinkat("a", fixture->transfers.workdir, "d/link"), 0);
}

/* An operation, to its end or until it waits. */

struct outcome {
	enum files_result result;
	struct err err;
	struct text messages; /* all of them; packed lists can be added to one another */
	size_t longest, turns;
};

static struct outcome perform(const struct files_op *op, const ProtobufCMessage *request)
{
	struct outcome o = { .result = FILES_MORE };
	struct files_call c = { .transfers = &fixture->transfers, .request = request };

	text_init(&o.messages, (size_t)64 << 20);
	file_info_init(&c.info, fixture->transfers.slash);
	c.state = calloc(1, op->state + 1);
	for (; c.state != NULL && o.result == FILES_MORE && o.turns < TURNS_MAX; o.turns++) {
		o.result = op->run(&c, &o.err);
		if (c.reply == NULL)
			continue;
		alloc_hold();
		text_add(&o.messages, (const char *)c.reply, c.reply_len);
		alloc_release();
		if (c.reply_len > o.longest)
			o.longest = c.reply_len;
		free(c.reply);
		c.reply = NULL;
	}
	if (c.state == NULL)
		o.result = err_set(&o.err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	else if (op->end != NULL)
		op->end(c.state);
	free(c.state);
	file_info_free(&c.info);
	return o;
}

/* The answer, which the caller frees. */
static void *answer(const struct files_op *op, const ProtobufCMessage *request,
    const ProtobufCMessageDescriptor *type)
{
	struct outcome o = perform(op, request);
	void *message;

	if (o.result == FILES_FAILED)
		fail_msg("%s", o.err.text);
	message = codec_unpack(type, (const uint8_t *)o.messages.data, o.messages.len, NULL);
	assert_non_null(message);
	text_free(&o.messages);
	return message;
}

static void refuses(const struct files_op *op, const ProtobufCMessage *request, enum grpc_code code,
    const char *words)
{
	struct outcome o = perform(op, request);

	assert_int_equal(o.result, FILES_FAILED);
	if (o.err.code != code || strstr(o.err.text, words) == NULL)
		fail_msg("%s: %s", err_code_name(o.err.code), o.err.text);
	text_free(&o.messages);
}

static Towline__V1__StatFileResponse *stat_of(const char *path)
{
	Towline__V1__StatFileRequest q = TOWLINE__V1__STAT_FILE_REQUEST__INIT;

	q.path = (char *)path;
	q.no_follow = true;
	return answer(&files_stat, &q.base, &towline__v1__stat_file_response__descriptor);
}

/* The names of owners. */

static void owner_is(const char *name)
{
	Towline__V1__StatFileResponse *r = stat_of("d/a");

	assert_string_equal(r->file->owner, name);
	codec_free(r);
}

static void write_passwd(const char *content)
{
	unlinkat(fixture->transfers.workdir, "etc/passwd", 0);
	make_file("etc/passwd", content);
}

static void test_owners(void **state)
{
	char line[4096], name[OWNERS_NAME_MAX + 1];
	unsigned uid = getuid();

	(void)state;
	make_tree();
	owner_is("");
	make_directory("etc");
	snprintf(
	    line, sizeof(line), "x\nother:x:%u9:\n:\nme:x:%u:0::/:\nlate:x:%u:\n", uid, uid, uid);
	write_passwd(line);
	owner_is("me");
	snprintf(line, sizeof(line), "%02000d:x:%u:0\nme:x:%u:0::/:", 1, uid, uid);
	write_passwd(line);
	owner_is("me");
	memset(name, 'n', OWNERS_NAME_MAX);
	name[OWNERS_NAME_MAX] = '\0';
	snprintf(line, sizeof(line), "%s:x:%u:0\n", name, uid);
	write_passwd(line);
	owner_is("");
	snprintf(line, sizeof(line), "%s:x:%u:0\n", name + 1, uid);
	write_passwd(line);
	owner_is(name + 1);
	snprintf(line, sizeof(line), "bad\xff:x:%u:0\n", uid);
	write_passwd(line);
	owner_is("");
	/* Not what it should be: it is not waited for. */
	assert_int_equal(unlinkat(fixture->transfers.workdir, "etc/passwd", 0), 0);
	assert_int_equal(mkfifoat(fixture->transfers.workdir, "etc/passwd", 0600), 0);
	owner_is("");
}

/* Listings. */

static void test_list_sends_bounded_messages(void **state)
{
	Towline__V1__ListDirectoryRequest q = TOWLINE__V1__LIST_DIRECTORY_REQUEST__INIT;
	char path[300] = "d/";
	size_t count = 1000;
	int fd;

	(void)state;
	make_directory("d");
	/* Each byte of these is told as four, in name and in path. */
	memset(path + 2, '\xff', 240);
	for (size_t i = 0; i < count; i++) {
		snprintf(path + 242, sizeof(path) - 242, "%zu", i);
		fd = openat(fixture->transfers.workdir, path, O_CREAT | O_CLOEXEC, 0600);
		assert_true(fd >= 0);
		close(fd);
	}
	q.path = (char *)"d";
	struct outcome o = perform(&files_list, &q.base);
	assert_int_equal(o.result, FILES_DONE);
	assert_true(o.turns > 50);
	assert_true(o.longest < FRAMED_STRUCTURED_MAX);
	Towline__V1__ListDirectoryResponse *r =
	    codec_unpack(&towline__v1__list_directory_response__descriptor,
		(const uint8_t *)o.messages.data, o.messages.len, NULL);
	assert_non_null(r);
	assert_int_equal(r->n_entries, count);
	assert_int_equal(r->entries[0]->raw_name.data[0], 0xff);
	assert_memory_equal(r->entries[0]->name, "\\xff", 4);
	codec_free(r);
	text_free(&o.messages);
}

/* Removal. */

static uint64_t removed(const char *path)
{
	Towline__V1__RemoveFileRequest q = TOWLINE__V1__REMOVE_FILE_REQUEST__INIT;

	q.path = (char *)path;
	q.recursive = true;
	Towline__V1__RemoveFileResponse *r =
	    answer(&files_remove, &q.base, &towline__v1__remove_file_response__descriptor);
	uint64_t count = r->removed;
	codec_free(r);
	return count;
}

static void test_remove(void **state)
{
	(void)state;
	make_tree();
	make_directory("e");
	make_file("e/kept", "");
	assert_int_equal(symlinkat("../e", fixture->transfers.workdir, "d/out"), 0);
	assert_int_equal(removed("d/out"), 1);
	assert_int_equal(symlinkat("../e", fixture->transfers.workdir, "d/sub/out"), 0);
	assert_int_equal(removed("d"), 6);
	assert_false(exists("d"));
	assert_true(exists("e/kept"));
}

static void test_remove_lets_others_have_the_worker(void **state)
{
	char path[32];

	(void)state;
	make_directory("d");
	for (int i = 0; i < 5000; i++) {
		snprintf(path, sizeof(path), "d/%d", i);
		make_file(path, "");
	}
	Towline__V1__RemoveFileRequest q = TOWLINE__V1__REMOVE_FILE_REQUEST__INIT;
	q.path = (char *)"d";
	q.recursive = true;
	struct outcome o = perform(&files_remove, &q.base);
	assert_int_equal(o.result, FILES_DONE);
	assert_true(o.turns > 1);
	text_free(&o.messages);
}

/* A directory whose entries nobody but root may remove, as which we are not to run then. */
static void close_directory(const char *path)
{
	assert_int_equal(fchmodat(fixture->transfers.workdir, path, 0555, 0), 0);
}

static int give_away(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)type;
	(void)at;
	return S_ISLNK(st->st_mode) ? 0 : chown(path, NOBODY, NOBODY);
}

static struct outcome remove_as_nobody(const char *path)
{
	Towline__V1__RemoveFileRequest q = TOWLINE__V1__REMOVE_FILE_REQUEST__INIT;
	bool root = geteuid() == 0;

	if (root)
		assert_int_equal(
		    nftw(leak_folder(fixture->leak), give_away, 16, FTW_PHYS | FTW_DEPTH), 0);
	assert_int_equal(seteuid(root ? NOBODY : geteuid()), 0);
	q.path = (char *)path;
	q.recursive = true;
	struct outcome o = perform(&files_remove, &q.base);
	if (root)
		assert_int_equal(seteuid(0), 0);
	return o;
}

/* In order of the directory there are some that can be removed before, between and behind. */
static void test_remove_goes_on(void **state)
{
	char path[64];

	(void)state;
	make_directory("d");
	for (int i = 0; i < 600; i++) {
		snprintf(path, sizeof(path), "d/a long name for a directory %d", i);
		make_directory(path);
		snprintf(path, sizeof(path), "d/a long name for a directory %d/f", i);
		make_file(path, "");
		snprintf(path, sizeof(path), "d/file %d", i);
		make_file(path, "");
	}
	for (int i = 0; i < 600; i += 100) {
		snprintf(path, sizeof(path), "d/a long name for a directory %d", i);
		close_directory(path);
	}
	struct outcome o = remove_as_nobody("d");
	assert_int_equal(o.result, FILES_FAILED);
	assert_int_equal(o.err.code, GRPC_PERMISSION_DENIED);
	assert_non_null(
	    strstr(o.err.text, "6 could not be removed, 1788 were: d/a long name for "));
	assert_non_null(strstr(o.err.text, "00/f: Permission denied; d/a long name for a"));
	text_free(&o.messages);
	for (int i = 0; i < 600; i++) {
		snprintf(path, sizeof(path), "d/a long name for a directory %d/f", i);
		assert_int_equal(exists(path), i % 100 == 0);
		snprintf(path, sizeof(path), "d/file %d", i);
		assert_false(exists(path));
	}
}

/* What stays is looked at twice, and not once more for each directory it is in. */
static void test_remove_what_is_deep_and_stays(void **state)
{
	struct text path;

	(void)state;
	text_init(&path, 4096);
	text_addf(&path, "d");
	make_directory(path.data);
	for (int i = 0; i < 200; i++) {
		text_addf(&path, "/sub");
		make_directory(path.data);
	}
	text_addf(&path, "/f");
	make_file(path.data, "");
	path.data[path.len - 2] = '\0';
	close_directory(path.data);
	make_file("d/sub/sub/beside", "");
	struct outcome o = remove_as_nobody("d");
	assert_int_equal(o.result, FILES_FAILED);
	assert_non_null(strstr(o.err.text, "1 could not be removed, 1 were: d/sub/sub"));
	assert_true(exists(path.data));
	assert_false(exists("d/sub/sub/beside"));
	text_free(&o.messages);
	text_free(&path);
}

/* Moves. */

static void test_move(void **state)
{
	Towline__V1__MoveFileRequest q = TOWLINE__V1__MOVE_FILE_REQUEST__INIT;

	(void)state;
	make_tree();
	q.path = (char *)"d";
	q.new_path = (char *)"d/sub/d";
	refuses(&files_move, &q.base, GRPC_INVALID_ARGUMENT, "into itself");
	q.new_path = (char *)"d/x";
	q.if_exists = TOWLINE__V1__IF_EXISTS__IF_EXISTS_FAIL;
	refuses(&files_move, &q.base, GRPC_INVALID_ARGUMENT, "into itself");
	q.path = (char *)"d/a";
	q.new_path = (char *)"/e";
	codec_free(answer(&files_move, &q.base, &towline__v1__move_file_response__descriptor));
	assert_true(exists("e") && !exists("d/a"));
	q.path = (char *)"d/link";
	refuses(&files_move, &q.base, GRPC_ALREADY_EXISTS, "/e exists");
	q.new_path = (char *)"../e";
	refuses(&files_move, &q.base, GRPC_PERMISSION_DENIED, "leads out");
}

/* "d/sub" comes and goes, until it is ended; also after "d" was away while it was gone. */
static pid_t swap_for_ever(void)
{
	pid_t child = fork();

	if (child != 0)
		return child;
	for (int dir = fixture->transfers.workdir;;) {
		renameat(dir, "d/sub", dir, "e/sub");
		renameat(dir, "e/sub", dir, "d/sub");
	}
}

/* "d" into what is in it, or has just been: whatever the moment, the answer is right. */
static void test_move_into_itself_while_that_moves(void **state)
{
	Towline__V1__MoveFileRequest q = TOWLINE__V1__MOVE_FILE_REQUEST__INIT;
	unsigned refused = 0;

	(void)state;
	make_directory("d");
	make_directory("d/sub");
	make_directory("e");
	pid_t child = swap_for_ever();
	assert_true(child > 0);
	q.path = (char *)"d";
	q.new_path = (char *)"d/sub/x";
	q.if_exists = TOWLINE__V1__IF_EXISTS__IF_EXISTS_FAIL;
	/* While the other is kept waiting for a processor, all answers are one. */
	time_t end = time(NULL) + 30;
	for (int i = 0; i < 3000 || (refused == 0 && time(NULL) < end); i++) {
		struct outcome o = perform(&files_move, &q.base);

		if (o.result == FILES_DONE) /* it was in "e" by then: back again */
			renameat(
			    fixture->transfers.workdir, "e/sub/x", fixture->transfers.workdir, "d");
		else if (o.err.code == GRPC_INVALID_ARGUMENT)
			refused++;
		else if (o.err.code != GRPC_NOT_FOUND)
			fail_msg("%s %s", err_code_name(o.err.code), o.err.text);
		text_free(&o.messages);
	}
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_true(refused > 0);
}

/* Without memory: what was asked for is done, or an error says that it was not. */

static void settle(struct outcome o)
{
	if (o.result == FILES_FAILED) {
		assert_true(alloc_has_failed());
		assert_int_equal(o.err.code, GRPC_RESOURCE_EXHAUSTED);
	}
	text_free(&o.messages);
}

static void torture_stat(void *cookie)
{
	Towline__V1__StatFileRequest q = TOWLINE__V1__STAT_FILE_REQUEST__INIT;

	(void)cookie;
	q.path = (char *)"d/link";
	q.no_follow = true;
	settle(perform(&files_stat, &q.base));
}

static void torture_list(void *cookie)
{
	Towline__V1__ListDirectoryRequest q = TOWLINE__V1__LIST_DIRECTORY_REQUEST__INIT;
	char *exclude[] = { (char *)"*.o", (char *)"build/" };

	(void)cookie;
	q.path = (char *)"d";
	q.recursive = true;
	q.n_exclude = 2;
	q.exclude = exclude;
	settle(perform(&files_list, &q.base));
}

static void torture_watch(void *cookie)
{
	Towline__V1__WatchFilesRequest q = TOWLINE__V1__WATCH_FILES_REQUEST__INIT;

	(void)cookie;
	q.path = (char *)"d";
	q.recursive = true;
	settle(perform(&files_watch, &q.base));
}

static void torture_change(void *cookie)
{
	Towline__V1__MakeDirectoryRequest m = TOWLINE__V1__MAKE_DIRECTORY_REQUEST__INIT;
	Towline__V1__MoveFileRequest v = TOWLINE__V1__MOVE_FILE_REQUEST__INIT;
	Towline__V1__RemoveFileRequest r = TOWLINE__V1__REMOVE_FILE_REQUEST__INIT;

	(void)cookie;
	m.path = (char *)"e/x";
	m.parents = true;
	settle(perform(&files_mkdir, &m.base));
	v.path = (char *)"e";
	v.new_path = (char *)"f";
	if (exists("e"))
		settle(perform(&files_move, &v.base));
	r.path = (char *)"f";
	r.recursive = r.allow_missing = true;
	settle(perform(&files_remove, &r.base));
	alloc_relent();
	beneath_remove_tree(fixture->transfers.workdir, "f", NULL);
}

static void test_no_memory(void **state)
{
	(void)state;
	make_tree();
	alloc_torture(torture_stat, NULL);
	alloc_torture(torture_list, NULL);
	alloc_torture(torture_watch, NULL);
	alloc_torture(torture_change, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_owners, setup, teardown),
		cmocka_unit_test_setup_teardown(test_list_sends_bounded_messages, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove_goes_on, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_remove_what_is_deep_and_stays, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_remove_lets_others_have_the_worker, setup, teardown),
		cmocka_unit_test_setup_teardown(test_move, setup, teardown),
		cmocka_unit_test_setup_teardown(
		    test_move_into_itself_while_that_moves, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
