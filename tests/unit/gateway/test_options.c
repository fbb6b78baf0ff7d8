/* Options: where one may listen, and what is said about mistakes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/options.h"
#include "gateway/ssh_access.h"

/* Whatever can be executed stands in for a supervisor. */
#define SUPERVISOR "--supervisor=/proc/self/exe"

static int read_options(struct options *o, struct err *err, char *first, char *second)
{
	char *argv[] = { (char *)"towline-gateway", (char *)"--data-dir=/tmp/x", (char *)SUPERVISOR,
		first, second, NULL };
	int argc = first == NULL ? 3 : second == NULL ? 4 : 5;

	*err = (struct err){ 0 };
	return options_read(o, argc, argv, err);
}

static void test_listen(void **state)
{
	static const struct {
		const char *address;
		bool good;
	} cases[] = {
		{ "127.0.0.1:0", true },
		{ "127.0.0.2:8080", true },
		{ "[::1]:8080", true },
		{ "localhost:0", true },
		{ "unix:/run/towline.sock", true },
		{ "0.0.0.0:8080", false },
		{ "[::]:8080", false },
		{ "192.168.1.1:80", false },
		{ "10.0.0.1:0", false },
		{ "[::ffff:10.0.0.1]:80", false },
		{ "example.com:80", false },
		{ "https://127.0.0.1:80", false },
		{ "127.0.0.1", false },
		{ "", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct options o;
		struct err err;
		char flag[128];
		bool good;

		snprintf(flag, sizeof(flag), "--listen=%s", cases[i].address);
		good = read_options(&o, &err, flag, NULL) == 0;
		options_free(&o);
		if (good != cases[i].good)
			fail_msg("%s: %s", flag, err.text);
		if (!good)
			assert_non_null(strstr(err.text, "listen"));
	}
}

static void test_defaults(void **state)
{
	struct options o;
	struct err err;

	(void)state;
	if (read_options(&o, &err, NULL, NULL) != 0)
		fail_msg("%s", err.text);
	assert_string_equal(o.data_dir, "/tmp/x");
	assert_int_equal(o.listen.count, 1);
	assert_string_equal(o.listen.item[0], "127.0.0.1:8080");
	assert_string_equal(o.driver, "local");
	assert_int_equal(o.supervisor[0], '/');
	assert_in_range(o.loops, 1, 8);
	assert_int_equal(o.log_level, LOG_LEVEL_INFO);
	assert_int_equal(o.provision_ms, 120000);
	assert_null(o.ready_file);
	assert_in_range(o.ssh.workers, 1, 4);
	assert_string_equal(o.ssh.listen, "127.0.0.1:2222");
	assert_false(o.ssh.listen_given);
	assert_int_equal(o.ssh.session_connections, SSH_ACCESS_CONNECTIONS_MAX);
	assert_int_equal(o.ssh.sandbox_connections, SSH_ACCESS_CONNECTIONS_SANDBOX_MAX);
	options_free(&o);
}

static void is_mistake(const char *flag, const char *word)
{
	struct options o;
	struct err err;

	assert_int_equal(read_options(&o, &err, (char *)flag, NULL), -1);
	options_free(&o);
	if (strstr(err.text, word) == NULL)
		fail_msg("%s: %s", flag, err.text);
}

static void test_loops(void **state)
{
	struct options o;
	struct err err;

	(void)state;
	assert_int_equal(read_options(&o, &err, (char *)"--loops=64", NULL), 0);
	assert_int_equal(o.loops, 64);
	options_free(&o);
	is_mistake("--loops=65", "--loops: 65 is more than 64");
}

static void test_mistakes(void **state)
{
	(void)state;
	is_mistake("--driver=moon", "moon");
	is_mistake("--log-level=loud", "log-level");
	is_mistake("--log-format=xml", "xml");
	is_mistake("--ssh-workers=65", "--ssh-workers");
	is_mistake("--ssh-workers=many", "--ssh-workers");
	is_mistake("--ssh-listen=unix:/tmp/x", "--ssh-listen");
	is_mistake("--ssh-listen=example.com:22", "--ssh-listen");
	is_mistake("--ssh-listen=22", "--ssh-listen");
	is_mistake("--ssh-port=65536", "--ssh-port");
	is_mistake("--ssh-session-connections=0", "--ssh-session-connections");
	is_mistake("--sshd=/nonexistent/sshd", "/nonexistent/sshd");
	is_mistake("--nonsense", "nonsense");
	is_mistake("word", "word");
	is_mistake("--config=/nonexistent/file", "/nonexistent/file");
}

static void test_no_supervisor(void **state)
{
	char *argv[] = { (char *)"towline-gateway", (char *)"--data-dir=/tmp/x",
		(char *)"--supervisor=/nonexistent/supervisor", NULL };
	struct options o;
	struct err err;

	(void)state;
	assert_int_equal(options_read(&o, 3, argv, &err), -1);
	assert_non_null(strstr(err.text, "/nonexistent/supervisor"));
	options_free(&o);
}

static void test_required(void **state)
{
	char *argv[] = { (char *)"towline-gateway", (char *)SUPERVISOR, NULL };
	struct options o;
	struct err err;

	(void)state;
	assert_int_equal(options_read(&o, 2, argv, &err), -1);
	assert_non_null(strstr(err.text, "data-dir"));
	options_free(&o);
}

static void test_ssh(void **state)
{
	struct options o;
	struct err err;

	(void)state;
	if (read_options(&o, &err, (char *)"--ssh-listen=0.0.0.0:0", (char *)"--ssh-workers=0") !=
	    0)
		fail_msg("%s", err.text);
	assert_true(o.ssh.listen_given);
	assert_int_equal(o.ssh.workers, 0);
	options_free(&o);
	assert_int_equal(
	    read_options(&o, &err, (char *)"--ssh-endpoints=/x", (char *)"--ssh-workers=0"), -1);
	assert_non_null(strstr(err.text, "--ssh-host"));
	options_free(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_listen),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_loops),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_ssh),
		cmocka_unit_test(test_no_supervisor),
		cmocka_unit_test(test_required),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
