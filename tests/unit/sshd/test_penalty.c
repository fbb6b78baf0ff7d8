/* Sources that fail, those that do not, and how many are remembered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sshd/penalty.h"

static struct sockaddr_storage address(const char *text)
{
	struct sockaddr_storage sa = { 0 };
	struct sockaddr_in *v4 = (struct sockaddr_in *)&sa;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&sa;

	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		sa.ss_family = AF_INET;
	} else {
		assert_int_equal(inet_pton(AF_INET6, text, &v6->sin6_addr), 1);
		sa.ss_family = AF_INET6;
	}
	return sa;
}

static void add(struct penalties *p, const char *from, enum penalty kind, uint64_t now)
{
	struct sockaddr_storage sa = address(from);

	penalties_add(p, (struct sockaddr *)&sa, kind, now);
}

static bool refuse(struct penalties *p, const char *from, uint64_t now)
{
	struct sockaddr_storage sa = address(from);

	return penalties_refuse(p, (struct sockaddr *)&sa, now);
}

static void test_one_fault_is_forgiven_and_a_row_is_not(void **state)
{
	struct penalties *p = penalties_create(-1, NULL);

	(void)state;
	add(p, "192.0.2.1", PENALTY_AUTH, 1000);
	add(p, "192.0.2.1", PENALTY_AUTH, 1000);
	add(p, "192.0.2.1", PENALTY_AUTH, 1000);
	assert_false(refuse(p, "192.0.2.1", 1000)); /* 15 s, and no more */
	add(p, "192.0.2.1", PENALTY_AUTH, 1000);
	assert_true(refuse(p, "192.0.2.1", 1000));
	assert_true(refuse(p, "::ffff:192.0.2.1", 1000)); /* the same machine */
	assert_false(refuse(p, "192.0.2.2", 1000));
	assert_true(refuse(p, "192.0.2.1", 5999));
	assert_false(refuse(p, "192.0.2.1", 6000));
	penalties_free(p);
}

static void test_there_is_a_longest_wait(void **state)
{
	struct penalties *p = penalties_create(-1, NULL);

	(void)state;
	for (int i = 0; i < 1000; i++)
		add(p, "192.0.2.1", PENALTY_GRACE, 0);
	assert_true(refuse(p, "192.0.2.1", PENALTY_MAX_MS - PENALTY_MIN_MS - 1));
	assert_false(refuse(p, "192.0.2.1", PENALTY_MAX_MS - PENALTY_MIN_MS));
	penalties_free(p);
}

static void test_a_network_of_ipv6_is_one_source(void **state)
{
	struct penalties *p = penalties_create(-1, NULL);

	(void)state;
	add(p, "2001:db8::1", PENALTY_GRACE, 0);
	add(p, "2001:db8::ffff", PENALTY_GRACE, 0);
	assert_true(refuse(p, "2001:db8::7", 0));
	assert_false(refuse(p, "2001:db8:0:1::7", 0));
	assert_int_equal(penalties_count(p), 1);
	penalties_free(p);
}

static void test_some_are_exempt(void **state)
{
	struct penalties *p = penalties_create(-1, NULL);

	(void)state;
	assert_int_equal(penalties_exempt(p, "10.0.0.0/9", NULL), 0);
	assert_int_equal(penalties_exempt(p, "2001:db8::/33", NULL), 0);
	assert_int_equal(penalties_exempt(p, "192.0.2.7", NULL), 0);
	static const struct {
		const char *from;
		bool refused;
	} rows[] = {
		{ "10.127.255.255", false },
		{ "10.128.0.0", true },
		{ "192.0.2.7", false },
		{ "192.0.2.6", true },
		{ "2001:db8:7fff::1", false },
		{ "2001:db8:8000::1", true },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (int k = 0; k < 4; k++)
			add(p, rows[i].from, PENALTY_GRACE, 0);
		assert_int_equal(refuse(p, rows[i].from, 0), rows[i].refused);
	}
	penalties_free(p);
}

static void test_what_is_no_network(void **state)
{
	static const char *const texts[] = { "", "x", "10.0.0.0/33", "::/129", "10.0.0/8",
		"10.0.0.0/", "10.0.0.0/-1", "10.0.0.0/8 ", "1.2.3.4.5", "2001:db8::1::2",
		"0123456789012345678901234567890123456789012345678901234567890/1" };
	struct penalties *p = penalties_create(-1, NULL);

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct err err = { 0 };

		assert_int_equal(penalties_exempt(p, texts[i], &err), -1);
		assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
	}
	for (int i = 0; i < PENALTY_EXEMPT_MAX; i++)
		assert_int_equal(penalties_exempt(p, "::1", NULL), 0);
	assert_int_equal(penalties_exempt(p, "::1", NULL), -1);
	penalties_free(p);
}

static void test_so_many_are_remembered(void **state)
{
	struct penalties *p = penalties_create(-1, NULL);
	char from[32];

	(void)state;
	for (unsigned i = 0; i < 4 * PENALTY_SOURCES_MAX; i++) {
		snprintf(from, sizeof(from), "10.%u.%u.1", i >> 8, i & 255);
		add(p, from, PENALTY_GRACE, 0);
		add(p, from, PENALTY_GRACE, 0);
		assert_true(refuse(p, from, 0)); /* each, when it comes */
	}
	size_t count = penalties_count(p);
	assert_true(count <= PENALTY_SOURCES_MAX && count > PENALTY_SOURCES_MAX / 10 * 9);
	penalties_free(p);
}

/* Those that have to wait longest keep their places. */
static void test_who_would_be_free_first_is_forgotten(void **state)
{
	struct penalties *p = penalties_create(-1, NULL);
	char from[32];

	(void)state;
	for (int k = 0; k < 10; k++)
		add(p, "192.0.2.1", PENALTY_GRACE, 0);
	for (unsigned i = 0; i < 4 * PENALTY_SOURCES_MAX; i++) {
		snprintf(from, sizeof(from), "2001:db8:%x:%x::1", i >> 8, i & 255);
		add(p, from, PENALTY_AUTH, 0);
	}
	assert_true(refuse(p, "192.0.2.1", 0));
	penalties_free(p);
}

/* Shared between processes. */

static int shared_file(void)
{
	int fd = memfd_create("penalties", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	return fd;
}

static void test_what_one_process_saw_all_know(void **state)
{
	int fd = shared_file();
	struct penalties *first = penalties_create(fd, NULL), *second = penalties_create(fd, NULL);

	(void)state;
	close(fd);
	for (int k = 0; k < 2; k++) {
		add(first, "192.0.2.1", PENALTY_AUTH, 1000);
		assert_false(refuse(second, "192.0.2.1", 1000));
		add(second, "192.0.2.1", PENALTY_AUTH, 1000);
	}
	assert_true(refuse(first, "192.0.2.1", 1000) && refuse(second, "192.0.2.1", 1000));
	assert_int_equal(penalties_count(second), 1);
	penalties_free(first);
	assert_true(refuse(second, "192.0.2.1", 1000));
	penalties_free(second);
}

static void hammer(int fd, unsigned start)
{
	struct penalties *p = penalties_create(fd, NULL);
	char from[32];

	for (unsigned i = 0; i < 100; i++)
		add(p, "192.0.2.1", PENALTY_NO_AUTH, 0);
	for (unsigned i = start; i < start + 20000; i++) {
		snprintf(from, sizeof(from), "10.%u.%u.1", i >> 8 & 255, i & 255);
		add(p, from, PENALTY_NO_AUTH, 0);
	}
	penalties_free(p);
}

static void test_processes_at_once(void **state)
{
	int fd = shared_file();
	struct penalties *p = penalties_create(fd, NULL);
	int status;

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0) {
			hammer(fd, i * 5000);
			_exit(0);
		}
	}
	for (int i = 0; i < 4; i++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	/* 400 s in all, if at first there was not a place for each process. */
	assert_true(refuse(p, "192.0.2.1", 90000 - PENALTY_MIN_MS));
	assert_false(refuse(p, "192.0.2.1", 400000 - PENALTY_MIN_MS));
	assert_true(penalties_count(p) <= PENALTY_SOURCES_MAX);
	penalties_free(p);
	close(fd);
}

static void test_a_file_that_is_no_table(void **state)
{
	struct err err = { 0 };
	int fd = shared_file();

	(void)state;
	assert_int_equal(ftruncate(fd, 100), 0);
	assert_null(penalties_create(fd, &err));
	assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
	close(fd);
	fd = memfd_create("penalties", MFD_CLOEXEC); /* may not be sealed */
	assert_null(penalties_create(fd, &err));
	assert_int_equal(err.code, GRPC_PERMISSION_DENIED);
	close(fd);
	fd = shared_file();
	penalties_free(penalties_create(fd, NULL));
	assert_int_equal(ftruncate(fd, 0), -1); /* or others would lose what they have mapped */
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_fault_is_forgiven_and_a_row_is_not),
		cmocka_unit_test(test_there_is_a_longest_wait),
		cmocka_unit_test(test_a_network_of_ipv6_is_one_source),
		cmocka_unit_test(test_some_are_exempt),
		cmocka_unit_test(test_what_is_no_network),
		cmocka_unit_test(test_so_many_are_remembered),
		cmocka_unit_test(test_who_would_be_free_first_is_forgotten),
		cmocka_unit_test(test_what_one_process_saw_all_know),
		cmocka_unit_test(test_processes_at_once),
		cmocka_unit_test(test_a_file_that_is_no_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
