/* The SFTP server, told packets as a client packs them, and what it answers. */
#include "transfer/sftp/sftp.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/beneath.h"
#include "chat.h"
#include "support/alloc.h"
#include "support/leak.h"

struct fixture {
	struct leak *leak;
	struct sftp_env env;
	struct chat chat;
	struct sftp_in answers; /* not read yet */
	uint32_t next_id;
};

static struct fixture *fixture;

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->leak = leak_begin();
	f->env.workdir = open(leak_folder(f->leak), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->env.slash = fcntl(f->env.workdir, F_DUPFD_CLOEXEC, 3);
	f->env.workdir_path = leak_folder(f->leak);
	chat_begin(&f->chat);
	*state = fixture = f;
	return f->env.slash >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
	static const char *const made[] = { "a", "b", "c", "d", "etc", "f", "link" };
	struct fixture *f = *state;
	struct err err;

	chat_end(&f->chat);
	for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++)
		assert_int_equal(beneath_remove_tree(f->env.workdir, made[i], &err), 0);
	close(f->env.workdir);
	close(f->env.slash);
	int r = leak_end(f->leak);
	free(f);
	return r;
}

static void say_packet(const struct text *body)
{
	uint8_t len[4];

	sftp_store_u32(len, (uint32_t)body->len);
	chat_say(&fixture->chat, len, 4);
	chat_say(&fixture->chat, body->data, body->len);
}

static void say_init(void)
{
	fixture->next_id = 0;
	chat_say(&fixture->chat, "\0\0\0\5\1\0\0\0\3", 9);
}

/* A request with the next id. What it has is 'u', a number of 32 bits, 'q', of 64, 's', a string,
 * 'h', a struct sftp_bytes, or 'z', no attributes. */
static void say(int type, const char *shape, ...)
{
	struct sftp_bytes b;
	struct text body;
	va_list args;

	text_init(&body, 1 << 20);
	sftp_put_u8(&body, (uint8_t)type);
	sftp_put_u32(&body, ++fixture->next_id);
	va_start(args, shape);
	for (; *shape != '\0'; shape++) {
		switch (*shape) {
		case 'u':
			sftp_put_u32(&body, va_arg(args, uint32_t));
			break;
		case 'q':
			sftp_put_u64(&body, va_arg(args, uint64_t));
			break;
		case 's':
			sftp_put_string(&body, va_arg(args, const char *));
			break;
		case 'h':
			b = va_arg(args, struct sftp_bytes);
			sftp_put_bytes(&body, b.data, b.len);
			break;
		default:
			sftp_put_u32(&body, 0);
		}
	}
	va_end(args);
	say_packet(&body);
	text_free(&body);
}

/* Runs what has been said; the answers are there then. */
static int run(struct err *err)
{
	struct chat *c = &fixture->chat;
	int r = sftp_run(&fixture->env, &c->talk, err);

	if (r == 0)
		assert_int_equal(talk_flush(&c->talk, err), 0);
	fixture->answers = (struct sftp_in){ .at = c->told, .left = c->told_len };
	fixture->next_id = 0;
	if (r == 0)
		assert_int_equal(c->used, c->said_len);
	return r;
}

static void run_all(void)
{
	struct err err = { 0 };

	if (run(&err) != 0)
		fail_msg("%s", err.text);
}

/* The next answer: of this type, and to the next request. */
static struct sftp_in answer(int type)
{
	struct sftp_bytes b = sftp_get_bytes(&fixture->answers);
	struct sftp_in in = { .at = b.data, .left = b.len };

	assert_false(fixture->answers.bad);
	assert_true(in.left >= 5);
	if (in.at[0] != type)
		fail_msg("type %d, not %d, to %u", in.at[0], type, fixture->next_id + 1);
	in.at++;
	in.left--;
	uint32_t id = sftp_get_u32(&in);
	if (type != SFTP_VERSION)
		assert_int_equal(id, ++fixture->next_id);
	return in;
}

static void is_status(int status)
{
	struct sftp_in in = answer(SFTP_STATUS);
	uint32_t got = sftp_get_u32(&in);
	struct sftp_bytes text = sftp_get_bytes(&in);

	sftp_get_bytes(&in);
	assert_false(in.bad);
	if (got != (uint32_t)status)
		fail_msg("%u, not %d: %.*s", got, status, (int)text.len, (const char *)text.data);
}

static void nothing_more(void)
{
	assert_int_equal(fixture->answers.left, 0);
}

/* As the table of handles makes them: the slot, and how often it has been used. */
static struct sftp_bytes handle(uint32_t slot, uint32_t generation)
{
	static uint8_t names[8][SFTP_HANDLE_SIZE];
	static unsigned next;
	uint8_t *name = names[next++ % 8];

	sftp_store_u32(name, slot);
	sftp_store_u32(name + 4, generation);
	return (struct sftp_bytes){ .data = name, .len = SFTP_HANDLE_SIZE };
}

static void make_file(const char *path, const char *content)
{
	int fd = openat(fixture->env.workdir, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, content, strlen(content)), (ssize_t)strlen(content));
	close(fd);
}

static void file_is(const char *path, const char *content)
{
	char buf[64] = "";
	int fd = openat(fixture->env.workdir, path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_true(read(fd, buf, sizeof(buf) - 1) >= (ssize_t)strlen(content));
	assert_string_equal(buf, content);
	close(fd);
}

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
	struct chat *c = &fixture->chat;

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

static void say_open(const char *path, uint32_t flags)
{
	say(SFTP_OPEN, "suz", path, flags);
}

static void say_write(struct sftp_bytes h, uint64_t offset, const char *data)
{
	say(SFTP_WRITE, "hqs", h, offset, data);
}

static void say_read(struct sftp_bytes h, uint64_t offset, uint32_t len)
{
	say(SFTP_READ, "hqu", h, offset, len);
}

static void is_data(const char *content)
{
	struct sftp_in in = answer(SFTP_DATA);
	struct sftp_bytes b = sftp_get_bytes(&in);

	assert_int_equal(in.left, 0);
	assert_int_equal(b.len, strlen(content));
	assert_memory_equal(b.data, content, b.len);
}

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
		chat_end(&fixture->chat);
		chat_begin(&fixture->chat);
		fixture->chat.piece = pieces[i];
		write_and_read();
		assert_int_equal(unlinkat(fixture->env.workdir, "f", 0), 0);
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
	assert_int_equal(faccessat(fixture->env.workdir, "a", F_OK, 0), -1);
}

static void test_open_flags(void **state)
{
	(void)state;
	make_file("f", "123");
	assert_int_equal(mkdirat(fixture->env.workdir, "d", 0755), 0);
	assert_int_equal(mkfifoat(fixture->env.workdir, "c", 0600), 0);
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
	int fd = openat(fixture->env.workdir, "f", O_RDONLY | O_CLOEXEC);
	assert_int_equal(symlinkat("/proc/self/mem", fixture->env.workdir, "link"), 0);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	assert_int_equal(symlinkat(self, fixture->env.workdir, "c"), 0);
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
	fixture->chat.piece = 1000;
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
	fixture->chat.piece = 1;
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
			sftp_put_u32(&body, ++fixture->next_id);
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

/* Names. */

static void is_name(const char *name)
{
	struct sftp_in in = answer(SFTP_NAME);

	assert_int_equal(sftp_get_u32(&in), 1);
	struct sftp_bytes b = sftp_get_bytes(&in);
	char got[PATH_MAX];
	snprintf(got, sizeof(got), "%.*s", (int)b.len, (const char *)b.data);
	assert_string_equal(got, name);
}

static void test_names(void **state)
{
	char real[PATH_MAX], path[PATH_MAX + 8];

	(void)state;
	assert_non_null(realpath(fixture->env.workdir_path, real));
	make_file("f", "123");
	make_file("a", "a");
	say_init();
	say(SFTP_MKDIR, "suu", "d", (uint32_t)SFTP_ATTR_PERMISSIONS, (uint32_t)0700);
	say(SFTP_MKDIR, "sz", "d");
	say(SFTP_RENAME, "ss", "f", "a");
	say(SFTP_RENAME, "ss", "f", "d/f");
	say(SFTP_RENAME, "ss", "d", "a");
	say(SFTP_EXTENDED, "sss", "posix-rename@openssh.com", "d/f", "a");
	say(SFTP_EXTENDED, "sss", "hardlink@openssh.com", "a", "b");
	say(SFTP_EXTENDED, "sss", "hardlink@openssh.com", "a", "b");
	say(SFTP_SYMLINK, "ss", "../b", "link");
	say(SFTP_READLINK, "s", "link");
	say(SFTP_READLINK, "s", "b");
	say(SFTP_RMDIR, "s", "b");
	say(SFTP_REMOVE, "s", "d");
	say(SFTP_RMDIR, "s", "d");
	say(SFTP_REMOVE, "s", "missing");
	say(SFTP_REALPATH, "s", "");
	say(SFTP_REALPATH, "s", "./x/../b");
	say(SFTP_REALPATH, "s", "new");
	say(SFTP_REALPATH, "s", "new/er");
	say(SFTP_REALPATH, "s", "/../");
	say(SFTP_EXTENDED, "ss", "expand-path@openssh.com", "~/new");
	say(SFTP_EXTENDED, "ss", "expand-path@openssh.com", "~nobody-here");
	setenv("HOME", real, 1);
	run_all();
	answer(SFTP_VERSION);
	is_status(SFTP_OK);
	is_status(SFTP_FAILURE);
	is_status(SFTP_FAILURE);
	is_status(SFTP_OK);
	is_status(SFTP_FAILURE);
	is_status(SFTP_OK);
	is_status(SFTP_OK);
	is_status(SFTP_FAILURE);
	is_status(SFTP_OK);
	is_name("../b");
	is_status(SFTP_BAD_MESSAGE);
	is_status(SFTP_NO_SUCH_FILE);
	is_status(SFTP_FAILURE);
	is_status(SFTP_OK);
	is_status(SFTP_NO_SUCH_FILE);
	is_name(real);
	is_status(SFTP_NO_SUCH_FILE);
	snprintf(path, sizeof(path), "%s/new", real);
	is_name(path);
	is_status(SFTP_NO_SUCH_FILE);
	is_name("/");
	is_name(path);
	is_status(SFTP_NO_SUCH_FILE);
	nothing_more();
	file_is("b", "123");
}

static void test_attributes(void **state)
{
	struct stat st;

	(void)state;
	make_file("f", "123");
	assert_int_equal(symlinkat("f", fixture->env.workdir, "link"), 0);
	say_init();
	say(SFTP_SETSTAT, "suu", "link", (uint32_t)SFTP_ATTR_PERMISSIONS, (uint32_t)0600);
	say(SFTP_SETSTAT, "suuu", "f", (uint32_t)SFTP_ATTR_TIMES, (uint32_t)1, UINT32_MAX);
	say_open("f", SFTP_OPEN_READ | SFTP_OPEN_WRITE); /* 0, 1 */
	say(SFTP_FSETSTAT, "huq", handle(0, 1), (uint32_t)SFTP_ATTR_SIZE, (uint64_t)1);
	say(SFTP_FSTAT, "h", handle(0, 1));
	say(SFTP_SETSTAT, "suq", "f", (uint32_t)SFTP_ATTR_SIZE, (uint64_t)2);
	say(SFTP_LSTAT, "s", "link");
	say(SFTP_STAT, "s", "link");
	say(SFTP_EXTENDED, "ssuuu", "lsetstat@openssh.com", "link", (uint32_t)SFTP_ATTR_TIMES,
	    (uint32_t)5, (uint32_t)6);
	say(SFTP_EXTENDED, "ssuq", "lsetstat@openssh.com", "link", (uint32_t)SFTP_ATTR_SIZE,
	    (uint64_t)5);
	say(SFTP_EXTENDED, "sh", "fsync@openssh.com", handle(0, 1));
	say(SFTP_EXTENDED, "sh", "fsync@openssh.com", handle(1, 1));
	say(SFTP_EXTENDED, "ss", "statvfs@openssh.com", ".");
	say(SFTP_EXTENDED, "sh", "fstatvfs@openssh.com", handle(0, 1));
	say(SFTP_EXTENDED, "s", "limits@openssh.com");
	run_all();
	answer(SFTP_VERSION);
	is_status(SFTP_OK);
	is_status(SFTP_OK);
	answer(SFTP_HANDLE);
	is_status(SFTP_OK);
	struct sftp_in in = answer(SFTP_ATTRS);
	struct sftp_attrs a;
	sftp_get_attrs(&in, &a);
	assert_int_equal(a.size, 1);
	assert_int_equal(a.permissions, S_IFREG | 0600);
	is_status(SFTP_OK);
	in = answer(SFTP_ATTRS);
	sftp_get_attrs(&in, &a);
	assert_true(S_ISLNK(a.permissions));
	in = answer(SFTP_ATTRS);
	sftp_get_attrs(&in, &a);
	assert_int_equal(a.size, 2);
	is_status(SFTP_OK);
	is_status(SFTP_BAD_MESSAGE);
	is_status(SFTP_OK);
	is_status(SFTP_FAILURE);
	assert_int_equal(answer(SFTP_EXTENDED_REPLY).left, 88);
	assert_int_equal(answer(SFTP_EXTENDED_REPLY).left, 88);
	in = answer(SFTP_EXTENDED_REPLY);
	assert_int_equal(sftp_get_u64(&in), SFTP_PACKET_MAX);
	assert_int_equal(sftp_get_u64(&in), SFTP_IO_MAX);
	nothing_more();
	assert_int_equal(fstatat(fixture->env.workdir, "link", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_mtim.tv_sec, 6);
}

static void test_copy_data(void **state)
{
	static const char name[] = "copy-data";

	(void)state;
	make_file("a", "0123456789");
	say_init();
	say_open("a", SFTP_OPEN_READ);                     /* 0, 1 */
	say_open("b", SFTP_OPEN_WRITE | SFTP_OPEN_CREATE); /* 1, 1 */
	say_open("a", SFTP_OPEN_WRITE);                    /* 2, 1 */
	say_open("/dev/zero", SFTP_OPEN_READ);             /* 3, 1 */
	say(SFTP_EXTENDED, "shqqhq", name, handle(0, 1), (uint64_t)2, (uint64_t)3, handle(1, 1),
	    (uint64_t)0);
	say(SFTP_EXTENDED, "shqqhq", name, handle(0, 1), (uint64_t)8, (uint64_t)0, handle(1, 1),
	    (uint64_t)3);
	say(SFTP_EXTENDED, "shqqhq", name, handle(0, 1), (uint64_t)0, (uint64_t)0, handle(2, 1),
	    (uint64_t)10);
	say(SFTP_EXTENDED, "shqqhq", name, handle(1, 1), (uint64_t)0, (uint64_t)0, handle(0, 1),
	    (uint64_t)0);
	say(SFTP_EXTENDED, "shqqhq", name, handle(0, 1), UINT64_MAX, (uint64_t)0, handle(1, 1),
	    (uint64_t)0);
	say(SFTP_EXTENDED, "shqqhq", name, handle(3, 1), (uint64_t)0, (uint64_t)5, handle(1, 1),
	    (uint64_t)5);
	run_all();
	answer(SFTP_VERSION);
	for (int i = 0; i < 4; i++)
		answer(SFTP_HANDLE);
	is_status(SFTP_OK);
	is_status(SFTP_OK);
	is_status(SFTP_FAILURE);
	is_status(SFTP_FAILURE);
	is_status(SFTP_FAILURE);
	is_status(SFTP_OK);
	nothing_more();
	file_is("b", "23489"); /* and NULs */
}

static void test_names_of_ids(void **state)
{
	static const char name[] = "users-groups-by-id@openssh.com";
	char *many = calloc(4, SFTP_IDS_MAX + 1);

	(void)state;
	assert_int_equal(mkdirat(fixture->env.workdir, "etc", 0755), 0);
	make_file("etc/passwd", "me:x:7:8::/home/me:/bin/sh\n");
	say_init();
	say(SFTP_EXTENDED, "shh", name,
	    (struct sftp_bytes){ (const uint8_t *)"\0\0\0\7\0\0\0\10", 8 },
	    (struct sftp_bytes){ (const uint8_t *)"\0\0\0\7", 4 });
	say(SFTP_EXTENDED, "sss", name, "\1\1\1", "");
	say(SFTP_EXTENDED, "shs", name,
	    (struct sftp_bytes){ (const uint8_t *)many, 4 * (SFTP_IDS_MAX + 1) }, "");
	say(SFTP_EXTENDED, "ss", "expand-path@openssh.com", "~me/x/..");
	run_all();
	answer(SFTP_VERSION);
	struct sftp_in in = answer(SFTP_EXTENDED_REPLY);
	struct sftp_bytes users = sftp_get_bytes(&in), groups = sftp_get_bytes(&in);
	assert_int_equal(users.len, 10);
	assert_memory_equal(users.data, "\0\0\0\2me\0\0\0\0", 10);
	assert_int_equal(groups.len, 4);
	is_status(SFTP_BAD_MESSAGE);
	is_status(SFTP_FAILURE);
	is_status(SFTP_NO_SUCH_FILE);
	nothing_more();
	free(many);
}

/* Directories. */

static void test_list(void **state)
{
	char name[300];
	uint32_t seen = 0;

	(void)state;
	assert_int_equal(mkdirat(fixture->env.workdir, "d", 0755), 0);
	memset(name, '\xff', sizeof(name));
	for (int i = 0; i < 1000; i++) {
		snprintf(name + 240, 20, "%d", i);
		memcpy(name, "d/", 2);
		make_file(name, "");
	}
	say_init();
	say(SFTP_OPENDIR, "s", "d"); /* 0, 1 */
	for (int i = 0; i < 30; i++)
		say(SFTP_READDIR, "h", handle(0, 1));
	say_read(handle(0, 1), 0, 1);
	say(SFTP_FSTAT, "h", handle(0, 1));
	run_all();
	answer(SFTP_VERSION);
	answer(SFTP_HANDLE);
	for (int i = 0; i < 30; i++) {
		struct sftp_in peek = fixture->answers;
		struct sftp_bytes b = sftp_get_bytes(&peek);
		if (b.data[0] == SFTP_STATUS) {
			is_status(SFTP_EOF);
			continue;
		}
		struct sftp_in in = answer(SFTP_NAME);
		assert_true(in.left < SFTP_LIST_BYTES + 1024);
		for (uint32_t n = sftp_get_u32(&in); n > 0; n--, seen++) {
			struct sftp_attrs a;
			sftp_get_bytes(&in);
			struct sftp_bytes line = sftp_get_bytes(&in);
			assert_true(line.data[0] == '-' || line.data[0] == 'd');
			sftp_get_attrs(&in, &a);
		}
		assert_false(in.bad);
		assert_int_equal(in.left, 0);
	}
	assert_int_equal(seen, 1002);
	is_status(SFTP_FAILURE);
	answer(SFTP_ATTRS);
	nothing_more();
}

/* The other end does not read: nothing more is asked of the disk. */
static void test_client_is_gone(void **state)
{
	struct err err = { 0 };

	(void)state;
	make_file("f", "123");
	fixture->chat.gone_after = 1;
	say_init();
	say_open("f", SFTP_OPEN_READ);
	for (int i = 0; i < 5000; i++)
		say_read(handle(0, 1), 0, 3);
	assert_int_equal(run(&err), -1);
	assert_int_equal(err.code, GRPC_CANCELLED);
	assert_true(fixture->chat.told_len < 2 * TALK_BATCH_BYTES);
}

static void torture(void *cookie)
{
	struct err err = { 0 };

	(void)cookie;
	chat_end(&fixture->chat);
	chat_begin(&fixture->chat);
	fixture->chat.piece = 50;
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

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
		TEST(test_names),
		TEST(test_attributes),
		TEST(test_copy_data),
		TEST(test_names_of_ids),
		TEST(test_list),
		TEST(test_client_is_gone),
		TEST(test_no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
