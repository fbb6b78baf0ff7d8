/* Room for a file: on a disk it is taken, in memory it is looked at. */
#include "transfer/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static int file_in(const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	return fd;
}

static void too_much_is_refused_at_once(int fd)
{
	assert_int_equal(reserve_room(fd, 0, (uint64_t)1 << 60), -1);
	assert_true(errno == ENOSPC || errno == EFBIG);
}

static void test_in_memory_nothing_is_made(void **state)
{
	struct stat st;
	int fd = file_in("/dev/shm");

	(void)state;
	too_much_is_refused_at_once(fd);
	assert_int_equal(reserve_room(fd, 0, 0), 0);
	assert_int_equal(reserve_room(fd, 4096, 1 << 20), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(st.st_blocks, 0);
	close(fd);
}

static void test_the_size_stays(void **state)
{
	struct stat st;
	int fd = file_in("/var/tmp");

	(void)state;
	too_much_is_refused_at_once(fd);
	assert_int_equal(reserve_room(fd, 0, 1 << 20), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_in_memory_nothing_is_made),
		cmocka_unit_test(test_the_size_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
