/* The SFTP server and what has names: paths, attributes, users, directories. */
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
	assert_non_null(realpath(sftp_chat->env.workdir_path, real));
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
	assert_int_equal(symlinkat("f", sftp_chat->env.workdir, "link"), 0);
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
	assert_int_equal(fstatat(sftp_chat->env.workdir, "link", &st, AT_SYMLINK_NOFOLLOW), 0);
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
	assert_int_equal(mkdirat(sftp_chat->env.workdir, "etc", 0755), 0);
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
	assert_int_equal(mkdirat(sftp_chat->env.workdir, "d", 0755), 0);
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
		struct sftp_in peek = sftp_chat->answers;
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, sftp_setup, sftp_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_names),
		TEST(test_attributes),
		TEST(test_copy_data),
		TEST(test_names_of_ids),
		TEST(test_list),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
