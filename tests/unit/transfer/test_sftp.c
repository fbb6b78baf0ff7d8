/* The SFTP server and its packets: what is none, files, and their handles. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "sftp_chat.h"
#include "support/alloc.h"

/* The beginning. */

static void test_version(void **state)
{
	(void)state;
	say_init();
	run_all();
	struct sftp_in in = answer(SFTP_VERSION);
	size_t extensions = 0;
	for (; in.left > 0 && !in.bad; extensions++) {
		sftp_get_bytes(&in);
		sftp_get_bytes(&in);
	}
	assert_false(in.bad);
	assert_int_equal(extensions, 10);
	nothing_more();
}

static void ends_the_call(const void *bytes, size_t len, const char *words)
{
	struct err err = { 0 };
	struct chat *c = &sftp_chat->chat;

	chat_end(c);
	chat_begin(c);
	chat_say(c, bytes, len);
	assert_int_equal(run(&err), -1);
	assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
	if (strstr(err.text, words) == NULL)
		fail_msg("%s", err.text);
}

#define INIT "\0\0\0\5\1\0\0\0\3"

static void test_what_is_no_sftp_ends_the_call(void **state)
{
	(void)state;
	ends_the_call("\0\0\0\0\1", 5, "0 bytes");
	ends_the_call("\xff\xff\xff\xff\1", 5, "4294967295 bytes");
	ends_the_call("\0\0\0\5\3\0\0\0\3", 9, "type 3");
	ends_the_call("\0\0\0\4\1\0\0\0", 8, "INIT of 4");
	ends_the_call("\0\0\0\5\1\0\0", 7, "within a packet");
	ends_the_call("\0", 1, "within a packet");
	ends_the_call(INIT "\0\0\0\5\1\0\0\0\3", 18, "second INIT");
	ends_the_call(INIT "\0\0\0\0\5", 14, "0 bytes");
	ends_the_call(INIT "\0\0\0\4\5\0\0\0", 17, "without an id");
	ends_the_call(INIT "\0\0\0\4\6\0\0\0", 17, "without an id");
	/* Only a write may be as long as one. */
	ends_the_call(INIT "\0\1\0\1\5", 14, "65537 bytes");
	ends_the_call(INIT "\0\4\4\1\6", 14, "263169 bytes");
	/* A length alone is the beginning of a packet. */
	ends_the_call(INIT "\0\0\0\5", 13, "within a packet");
}

/* Files. */

static void write_and_read(void)
{
	say_init();
	say_open("f", SFTP_OPEN_READ | SFTP_OPEN_WRITE | SFTP_OPEN_CREATE);
	say_write(handle(0, 1), 0, "hello");
	say_write(handle(0, 1), 5, ", world");
	say_read(handle(0, 1), 0, 100);
	say_read(handle(0, 1), 7, 3);
	say_read(handle(0, 1), 12, 1);
	say_read(handle(0, 1), INT64_MAX - 1, 1);
	say_read(handle(0, 1), (uint64_t)INT64_MAX, 1);
	say_read(handle(0, 1), UINT64_MAX, 1);
	say_write(handle(0, 1), UINT64_MAX, "x");
	say_write(handle(0, 1), (uint64_t)INT64_MAX, "x");
	say(SFTP_CLOSE, "h", handle(0, 1));
	run_all();
	answer(SFTP_VERSION);
	answer(SFTP_HANDLE);
	is_status(SFTP_OK);
	is_status(SFTP_OK);
	is_data("hello, world");
	is_data("wor");
	is_status(SFTP_EOF);
	is_status(SFTP_EOF);
	is_status(SFTP_FAILURE);
	is_status(SFTP_FAILURE);
	is_status(SFTP_FAILURE);
	is_status(SFTP_FAILURE);
	is_status(SFTP_OK);
	nothing_more();
	file_is("f", "hello, world");
}

/* However the bytes are cut, the answers are the same. */
static void test_write_and_read(void **state)
{
	static const size_t pieces[] = { 0, 1, 2, 3, 5, 7, 13, 64 };

	(void)state;
	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		chat_end(&sftp_chat->chat);
		chat_begin(&sftp_chat->chat);
		sftp_chat->chat.piece = pieces[i];
		write_and_read();
		assert_int_equal(unlinkat(sftp_chat->env.workdir, "f", 0), 0);
	}
}

static void test_handles(void **state)
{
	struct sftp_bytes longer = { (const uint8_t *)"\0\0\0\0\0\0\0\2 ", 9 };
	struct sftp_bytes shorter = { (const uint8_t *)"\0\0\0\0\0\0\0", 7 };

	(void)state;
	make_file("f", "123");
	say_init();
	say_read(handle(0, 0), 0, 1);
	say_open("f", SFTP_OPEN_READ);
	say(SFTP_CLOSE, "h", handle(0, 1));
	say(SFTP_CLOSE, "h", handle(0, 1));
	say_read(handle(0, 1), 0, 1);
	say_write(handle(0, 1), 0, "x");
	say_open("f", SFTP_OPEN_READ);
	say_read(handle(0, 1), 0, 1);
	say_read(handle(0, 2), 0, 1);
	say_read(handle(SFTP_HANDLES_MAX, 1), 0, 1);
	say_read(handle(UINT32_MAX, 1), 0, 1);
	say_read(longer, 0, 1);
	say_read(shorter, 0, 1);
	say_write(handle(0, 2), 0, "x");
	say(SFTP_READDIR, "h", handle(0, 2));
	say(SFTP_FSTAT, "h", handle(1, 1));
	run_all(); /* what is open is closed */
	answer(SFTP_VERSION);
	is_status(SFTP_FAILURE);
	answer(SFTP_HANDLE);
	is_status(SFTP_OK);
	is_status(SFTP_FAILURE);
	is_status(SFTP_FAILURE);
	/* The handle of a write that is refused is of 8 bytes as well: its data is skipped. */
	is_status(SFTP_FAILURE);
	answer(SFTP_HANDLE);
	is_status(SFTP_FAILURE);
	is_data("1");
	for (int i = 0; i < 7; i++)
		is_status(SFTP_FAILURE);
	nothing_more();
}

static void test_handles_have_an_end(void **state)
{
	(void)state;
	make_file("f", "");
	say_init();
	for (int i = 0; i < SFTP_HANDLES_MAX; i++)
		say_open("f", SFTP_OPEN_READ);
	say_open("a", SFTP_OPEN_WRITE | SFTP_OPEN_CREATE);
	say(SFTP_OPENDIR, "s", ".");
	say(SFTP_CLOSE, "h", handle(5, 1));
	say(SFTP_OPENDIR, "s", ".");
	run_all();
	answer(SFTP_VERSION);
	for (int i = 0; i < SFTP_HANDLES_MAX; i++)
		answer(SFTP_HANDLE);
	is_status(SFTP_FAILURE);
	is_status(SFTP_FAILURE);
	is_status(SFTP_OK);
	answer(SFTP_HANDLE);
	nothing_more();
	assert_int_equal(faccessat(sftp_chat->env.workdir, "a", F_OK, 0), -1);
}

static void test_open_flags(void **state)
{
	(void)state;
	make_file("f", "123");
	assert_int_equal(mkdirat(sftp_chat->env.workdir, "d", 0755), 0);
	assert_int_equal(mkfifoat(sftp_chat->env.workdir, "c", 0600), 0);
	say_init();
	say_open("f", SFTP_OPEN_WRITE | SFTP_OPEN_CREATE | SFTP_OPEN_EXCLUSIVE);
	say_open("f", SFTP_OPEN_WRITE | SFTP_OPEN_APPEND); /* 0, 1 */
	say_write(handle(0, 1), 0, "45");
	say_read(handle(0, 1), 0, 1);
	say_open("f", SFTP_OPEN_READ); /* 1, 1 */
	say_read(handle(1, 1), 0, 9);
	say_write(handle(1, 1), 0, "x");
	say_open("f", SFTP_OPEN_WRITE | SFTP_OPEN_TRUNCATE); /* 2, 1 */
	say_read(handle(1, 1), 0, 9);
	say_open("missing", SFTP_OPEN_READ);
	say_open("d", SFTP_OPEN_READ);
	say_open("c", SFTP_OPEN_READ);
	say_open("c", SFTP_OPEN_WRITE);
	say_open("/dev/null", SFTP_OPEN_WRITE); /* 3, 1 */
	say_write(handle(3, 1), 0, "x");
	say_open("/dev/full", SFTP_OPEN_WRITE); /* 4, 1 */
	say_write(handle(4, 1), 0, "x");
	run_all();
	answer(SFTP_VERSION);
	is_status(SFTP_FAILURE);
	answer(SFTP_HANDLE);
	is_status(SFTP_OK);
	is_status(SFTP_FAILURE);
	answer(SFTP_HANDLE);
	is_data("12345");
	is_status(SFTP_FAILURE);
	answer(SFTP_HANDLE);
	is_status(SFTP_EOF);
	is_status(SFTP_NO_SUCH_FILE);
	is_status(SFTP_FAILURE);
	is_status(SFTP_FAILURE);
	is_status(SFTP_FAILURE);
	answer(SFTP_HANDLE);
	is_status(SFTP_OK);
	answer(SFTP_HANDLE);
	is_status(SFTP_FAILURE);
	nothing_more();
}

/* A client is not to see, and less to write, the memory of who serves it. */
static void test_nothing_of_ourselves_is_served(void **state)
{
	static const char *const paths[] = { "/proc/self/mem", "/proc/self/environ",
		"/proc/thread-self/maps", "/proc/version", "link", "c" };
	char self[64];

	(void)state;
	make_file("f", "123");
	int fd = openat(sftp_chat->env.workdir, "f", O_RDONLY | O_CLOEXEC);
	assert_int_equal(symlinkat("/proc/self/mem", sftp_chat->env.workdir, "link"), 0);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	assert_int_equal(symlinkat(self, sftp_chat->env.workdir, "c"), 0);
	say_init();
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		say_open(paths[i], SFTP_OPEN_READ);
		say_read(handle(0, 1), 0, 100);
	}
	run_all();
	answer(SFTP_VERSION);
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		is_status(strcmp(paths[i], "c") == 0 ? SFTP_NO_SUCH_FILE : SFTP_FAILURE);
		is_status(SFTP_FAILURE);
	}
	close(fd);
}

/* 256 KiB each way, and no more in one answer. */
static void test_large(void **state)
{
	size_t len = SFTP_IO_MAX;
	char *data = calloc(1, len + 1);

	(void)state;
	memset(data, 'x', len);
	sftp_chat->chat.piece = 1000;
	say_init();
	say_open("f", SFTP_OPEN_READ | SFTP_OPEN_WRITE | SFTP_OPEN_CREATE);
	say_write(handle(0, 1), 0, data);
	say_write(handle(0, 1), len, "end");
	say_read(handle(0, 1), 0, UINT32_MAX);
	say_read(handle(0, 1), 3, (uint32_t)len);
	run_all();
	answer(SFTP_VERSION);
	answer(SFTP_HANDLE);
	is_status(SFTP_OK);
	is_status(SFTP_OK);
	is_data(data);
	memcpy(data + len - 3, "end", 3);
	is_data(data);
	nothing_more();
	free(data);
}

/* One-byte slices of the largest packet: they are copied together, and it is written. */
static void test_large_in_bytes(void **state)
{
	size_t len = SFTP_IO_MAX;
	char *data = calloc(1, len + 1);

	(void)state;
	memset(data, 'y', len);
	sftp_chat->chat.piece = 1;
	say_init();
	say_open("f", SFTP_OPEN_WRITE | SFTP_OPEN_CREATE);
	say_write(handle(0, 1), 0, data);
	run_all();
	answer(SFTP_VERSION);
	answer(SFTP_HANDLE);
	is_status(SFTP_OK);
	free(data);
}

/* Every request, cut off at each byte of it: BAD_MESSAGE, and the next one is served. */
static void test_requests_cut_short(void **state)
{
	static const struct {
		int type;
		size_t whole; /* zeros that would do */
	} cases[] = { { SFTP_OPEN, 12 }, { SFTP_SETSTAT, 8 }, { SFTP_MKDIR, 8 }, { SFTP_RENAME, 8 },
		{ SFTP_SYMLINK, 8 }, { SFTP_REMOVE, 4 }, { SFTP_RMDIR, 4 }, { SFTP_STAT, 4 },
		{ SFTP_LSTAT, 4 }, { SFTP_OPENDIR, 4 }, { SFTP_READLINK, 4 }, { SFTP_REALPATH, 4 },
		{ SFTP_EXTENDED, 4 }, { SFTP_CLOSE, 4 }, { SFTP_READ, 16 }, { SFTP_FSTAT, 4 },
		{ SFTP_FSETSTAT, 8 }, { SFTP_READDIR, 4 } };

	(void)state;
	say_init();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size_t n = 0; n < cases[i].whole; n++) {
			static const char zeros[16];
			struct text body;
			text_init(&body, 100);
			sftp_put_u8(&body, (uint8_t)cases[i].type);
			sftp_put_u32(&body, ++sftp_chat->next_id);
			text_add(&body, zeros, n);
			say_packet(&body);
			text_free(&body);
		}
	say(SFTP_STAT, "s", ".");
	run_all();
	answer(SFTP_VERSION);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size_t n = 0; n < cases[i].whole; n++)
			is_status(SFTP_BAD_MESSAGE);
	answer(SFTP_ATTRS);
	nothing_more();
}

static void test_lengths_that_lie(void **state)
{
	char path[PATH_MAX + 1];

	(void)state;
	make_file("f", "123");
	memset(path, 'a', PATH_MAX);
	path[PATH_MAX] = '\0';
	say_init();
	say(SFTP_STAT, "u", UINT32_MAX);
	say(SFTP_STAT, "uu", (uint32_t)5, (uint32_t)0);
	say(SFTP_STAT, "h", (struct sftp_bytes){ (const uint8_t *)"f\0g", 3 });
	say(SFTP_STAT, "s", path);
	path[PATH_MAX - 1] = '\0';
	say(SFTP_STAT, "s", path);
	say_open("f", SFTP_OPEN_WRITE); /* 0, 1 */
	say(SFTP_WRITE, "hqu", handle(0, 1), (uint64_t)0, UINT32_MAX);
	say(SFTP_WRITE, "hqus", handle(0, 1), (uint64_t)0, (uint32_t)2, "xyz");
	say(SFTP_WRITE, "hqu", handle(0, 1), (uint64_t)0, (uint32_t)0);
	say(SFTP_WRITE, "h", handle(0, 1));
	say(SFTP_SETSTAT, "suu", "f", SFTP_ATTR_EXTENDED, UINT32_MAX);
	say(SFTP_SETSTAT, "suq", "f", (uint32_t)SFTP_ATTR_SIZE, UINT64_MAX);
	say(77, "s", "f");
	say(SFTP_STATUS, "s", "f");
	say(SFTP_EXTENDED, "s", "nobody@nowhere");
	say(SFTP_STAT, "su", "f", (uint32_t)7); /* what is behind is for later versions */
	run_all();
	answer(SFTP_VERSION);
	for (int i = 0; i < 5; i++)
		is_status(SFTP_BAD_MESSAGE);
	answer(SFTP_HANDLE);
	is_status(SFTP_BAD_MESSAGE);
	is_status(SFTP_BAD_MESSAGE);
	is_status(SFTP_OK);
	is_status(SFTP_BAD_MESSAGE);
	is_status(SFTP_BAD_MESSAGE);
	is_status(SFTP_BAD_MESSAGE);
	is_status(SFTP_OP_UNSUPPORTED);
	is_status(SFTP_OP_UNSUPPORTED);
	is_status(SFTP_OP_UNSUPPORTED);
	answer(SFTP_ATTRS);
	nothing_more();
	file_is("f", "123");
}

/* The other end does not read: nothing more is asked of the disk. */
static void test_client_is_gone(void **state)
{
	struct err err = { 0 };

	(void)state;
	make_file("f", "123");
	sftp_chat->chat.gone_after = 1;
	say_init();
	say_open("f", SFTP_OPEN_READ);
	for (int i = 0; i < 5000; i++)
		say_read(handle(0, 1), 0, 3);
	assert_int_equal(run(&err), -1);
	assert_int_equal(err.code, GRPC_CANCELLED);
	assert_true(sftp_chat->chat.told_len < 2 * TALK_BATCH_BYTES);
}

static void torture(void *cookie)
{
	struct err err = { 0 };

	(void)cookie;
	chat_end(&sftp_chat->chat);
	chat_begin(&sftp_chat->chat);
	sftp_chat->chat.piece = 50;
	alloc_hold();
	say_init();
	say_open("f", SFTP_OPEN_READ | SFTP_OPEN_WRITE | SFTP_OPEN_CREATE);
	say_write(handle(0, 1), 0, "123");
	say_read(handle(0, 1), 0, 100000);
	say(SFTP_OPENDIR, "s", ".");
	say(SFTP_READDIR, "h", handle(1, 1));
	say(SFTP_REALPATH, "s", "x");
	say(SFTP_EXTENDED, "ss", "expand-path@openssh.com", "~x");
	alloc_release();
	if (run(&err) != 0) {
		assert_true(alloc_has_failed());
		assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	}
}

static void test_no_memory(void **state)
{
	(void)state;
	alloc_torture(torture, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, sftp_setup, sftp_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_version),
		TEST(test_what_is_no_sftp_ends_the_call),
		TEST(test_write_and_read),
		TEST(test_handles),
		TEST(test_handles_have_an_end),
		TEST(test_open_flags),
		TEST(test_nothing_of_ourselves_is_served),
		TEST(test_large),
		TEST(test_large_in_bytes),
		TEST(test_requests_cut_short),
		TEST(test_lengths_that_lie),
		TEST(test_client_is_gone),
		TEST(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
