/* SSH endpoints: whose token it is, what a file of them may hold, and which one is chosen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/ssh_endpoints.h"
#include "support/leak.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

struct fixture {
	struct leak *leak;
	struct ssh_endpoints *all;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err err;

	f->leak = leak_begin();
	f->all = ssh_endpoints_create(&err);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	int result;

	ssh_endpoints_free(f->all);
	unlink(leak_path(f->leak, "tokens"));
	result = leak_end(f->leak);
	free(f);
	return result;
}

static void test_renewed(void **state)
{
	struct fixture *f = *state;
	char first[SSH_ENDPOINTS_TOKEN_SIZE], second[SSH_ENDPOINTS_TOKEN_SIZE];
	char id[NAMES_ID_MAX + 1];
	struct err err;

	assert_int_equal(ssh_endpoints_renew(f->all, 1, first, &err), 0);
	assert_true(ssh_endpoints_is_one(first));
	assert_true(ssh_endpoints_verify(f->all, first, id));
	assert_string_equal(id, "sshd-1");
	assert_int_equal(ssh_endpoints_renew(f->all, 1, second, &err), 0);
	assert_false(ssh_endpoints_verify(f->all, first, id));
	assert_true(ssh_endpoints_verify(f->all, second, id));
	for (size_t at = 0; at < strlen(second); at++) {
		memcpy(first, second, sizeof(first));
		first[at] = first[at] == '0' ? '1' : '0';
		assert_false(ssh_endpoints_verify(f->all, first, id));
		first[at] = '\0';
		assert_false(ssh_endpoints_verify(f->all, first, id));
	}
}

static int read_text(struct fixture *f, const char *text, mode_t mode, struct err *err)
{
	const char *path = leak_path(f->leak, "tokens");
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	fputs(text, file);
	fclose(file);
	assert_int_equal(chmod(path, mode), 0);
	*err = (struct err){ 0 };
	return ssh_endpoints_read(f->all, path, err);
}

static void test_file(void **state)
{
	static const char *const bad[] = { "sshd-a", "sshd-a." HEX "0", "sshd-." HEX, "a." HEX,
		"sshd-A." HEX, "sshd-a_b." HEX, "sshd-7." HEX, "sshd-a.X" HEX,
		"sshd-abcdefghijklmnopqrstuvwxyz012345." HEX, "sshd-a.b." HEX };
	struct fixture *f = *state;
	char id[NAMES_ID_MAX + 1];
	struct err err;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (read_text(f, bad[i], 0600, &err) == 0)
			fail_msg("taken: %s", bad[i]);
		assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
		assert_null(strstr(err.text, HEX));
	}
	assert_int_equal(read_text(f, "sshd-a." HEX "\n", 0640, &err), -1);
	assert_int_equal(err.code, GRPC_FAILED_PRECONDITION);
	assert_false(ssh_endpoints_verify(f->all, "sshd-a." HEX, id));
	if (read_text(f, "# two\n\nsshd-a." HEX "\r\nsshd-b-2." HEX " # last", 0600, &err) != 0)
		fail_msg("%s", err.text);
	assert_true(ssh_endpoints_verify(f->all, "sshd-a." HEX, id));
	assert_true(ssh_endpoints_verify(f->all, "sshd-b-2." HEX, id));
	assert_string_equal(id, "sshd-b-2");
	assert_int_equal(ssh_endpoints_read(f->all, "/nonexistent/file", &err), -1);
}

static const char *choose(struct fixture *f, char id[static NAMES_ID_MAX + 1])
{
	struct err err;

	if (ssh_endpoints_choose(f->all, id, &err) == 0)
		return id;
	assert_int_equal(err.code, GRPC_UNAVAILABLE);
	return "none";
}

static void test_choice(void **state)
{
	struct fixture *f = *state;
	char token[SSH_ENDPOINTS_TOKEN_SIZE], id[NAMES_ID_MAX + 1];
	unsigned taken[4] = { 0 };
	struct err err;

	assert_string_equal(choose(f, id), "none");
	for (unsigned i = 1; i <= 3; i++)
		assert_int_equal(ssh_endpoints_renew(f->all, i, token, &err), 0);
	assert_string_equal(choose(f, id), "none");
	ssh_endpoints_set_up(f->all, "sshd-2", true);
	assert_string_equal(choose(f, id), "sshd-2");
	ssh_endpoints_set_up(f->all, "sshd-1", true);
	ssh_endpoints_set_up(f->all, "sshd-3", true);
	ssh_endpoints_set_up(f->all, "sshd-9", true); /* nobody */
	for (unsigned i = 0; i < 9; i++)
		taken[choose(f, id)[5] - '0']++;
	for (unsigned i = 1; i <= 3; i++)
		assert_int_equal(taken[i], 3);
	ssh_endpoints_add_connections(f->all, "sshd-1", 2);
	ssh_endpoints_add_connections(f->all, "sshd-3", 1);
	assert_string_equal(choose(f, id), "sshd-2");
	assert_string_equal(choose(f, id), "sshd-2");
	ssh_endpoints_set_up(f->all, "sshd-2", false);
	assert_string_equal(choose(f, id), "sshd-3");
}

static void test_attends(void **state)
{
	struct fixture *f = *state;
	char token[SSH_ENDPOINTS_TOKEN_SIZE];
	struct err err;

	assert_int_equal(ssh_endpoints_left_ms(f->all, "sshd-1"), 0);
	assert_int_equal(ssh_endpoints_renew(f->all, 1, token, &err), 0);
	assert_int_equal(ssh_endpoints_left_ms(f->all, "sshd-1"), 0);
	ssh_endpoints_attends(f->all, "sshd-1", true, 100);
	assert_true(ssh_endpoints_left_ms(f->all, "sshd-1") == UINT64_MAX);
	ssh_endpoints_attends(f->all, "sshd-1", true, 200);
	ssh_endpoints_attends(f->all, "sshd-1", false, 300);
	assert_true(ssh_endpoints_left_ms(f->all, "sshd-1") == UINT64_MAX);
	ssh_endpoints_attends(f->all, "sshd-1", false, 400);
	assert_int_equal(ssh_endpoints_left_ms(f->all, "sshd-1"), 400);
}

static void test_most(void **state)
{
	struct fixture *f = *state;
	char token[SSH_ENDPOINTS_TOKEN_SIZE];
	struct err err;

	for (unsigned i = 1; i <= SSH_ENDPOINTS_MAX; i++)
		assert_int_equal(ssh_endpoints_renew(f->all, i, token, &err), 0);
	assert_int_equal(ssh_endpoints_renew(f->all, SSH_ENDPOINTS_MAX + 1, token, &err), -1);
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	assert_int_equal(ssh_endpoints_renew(f->all, 1, token, &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_renewed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_choice, setup, teardown),
		cmocka_unit_test_setup_teardown(test_attends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_most, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
