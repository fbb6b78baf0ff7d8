/* Addresses: every spelling, and sockets made of them. */
#include "rpc/address.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/leak.h"

static int set_up(void **state)
{
	*state = leak_begin();
	return 0;
}

static int tear_down(void **state)
{
	return leak_end(*state);
}

static void understands_every_spelling(void **state)
{
	static const struct {
		const char *text, *host, *numeric;
		unsigned port;
		bool tls;
	} cases[] = {
		{ "127.0.0.1:8080", "127.0.0.1", "127.0.0.1:8080", 8080, false },
		{ "http://127.0.0.1:8080", "127.0.0.1", "127.0.0.1:8080", 8080, false },
		{ "http://127.0.0.1:8080/", "127.0.0.1", "127.0.0.1:8080", 8080, false },
		{ "http://127.0.0.1", "127.0.0.1", "127.0.0.1:80", 80, false },
		{ "https://10.0.0.1", "10.0.0.1", "10.0.0.1:443", 443, true },
		{ "HTTPS://10.0.0.1:1", "10.0.0.1", "10.0.0.1:1", 1, true },
		{ "https://gateway.example.org", "gateway.example.org", NULL, 443, true },
		{ "gateway_1.example-x.org:65535", "gateway_1.example-x.org", NULL, 65535, false },
		{ "x1:5", "x1", NULL, 5, false },
		{ "localhost:1", "localhost", "127.0.0.1:1", 1, false },
		{ "http://LocalHost:1", "LocalHost", "127.0.0.1:1", 1, false },
		{ "[::1]:8080", "::1", "[::1]:8080", 8080, false },
		{ "https://[2001:db8::1]", "2001:db8::1", "[2001:db8::1]:443", 443, true },
		{ "http://[::ffff:127.0.0.1]:9/", "::ffff:127.0.0.1", "[::ffff:127.0.0.1]:9", 9,
		    false },
		{ "0.0.0.0:0", "0.0.0.0", "0.0.0.0:0", 0, false },
		{ "unix:/run/x.sock", "/run/x.sock", "unix:/run/x.sock", 0, false },
		{ "unix:///run/x.sock", "/run/x.sock", "unix:/run/x.sock", 0, false },
		{ "unix:x.sock", "x.sock", "unix:x.sock", 0, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct address a;
		struct err err = { 0 };
		char text[ADDRESS_TEXT_MAX];

		assert_int_equal(address_parse(cases[i].text, &a, &err), 0);
		assert_string_equal(a.host, cases[i].host);
		assert_int_equal(a.port, cases[i].port);
		assert_int_equal(a.tls, cases[i].tls);
		assert_int_equal(a.is_numeric, cases[i].numeric != NULL);
		if (a.is_numeric) {
			address_text((const struct sockaddr *)&a.sa, a.sa_len, text);
			assert_string_equal(text, cases[i].numeric);
		}
	}
}

static void names_what_it_does_not_understand(void **state)
{
	static const char *const cases[] = { "", ":", ":80", "host", "host:", "host:x",
		"host:65536", "host:000080", "host:-1", "host:+1", "host: 1", "::1", "::1:80",
		"[::1]", "[::1", "[::1]x:1", "[]:1", "[127.0.0.1]:1", "[fe80::1%eth0]:1",
		"http://[fe80::1%25eth0]:1", "http://", "https:///", "http://host/path",
		"http://host:1/path", "http://user@host:1", "http://host:1?q", "http://host:1//",
		"ftp://host:1", "ho st:1", "host\n:1", "h\xc3\xb6st:1", ".:1", ".host:1", "a..b:1",
		"127.1:80", "0x7f000001:80", "0x7f.0.0.1:80", "2130706433:80", "0177.0.0.1:80",
		"1.2.3.4.5:80", "256.0.0.1:80", "host.1:80", "unix:", "unix://", "unix://host/path",
		"unix:////path", "127.0.0.1:80/" };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct address a;
		struct err err = { 0 };

		if (address_parse(cases[i], &a, &err) == 0)
			fail_msg("\"%s\" was accepted", cases[i]);
		assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
		assert_non_null(strstr(err.text, "address \""));
	}
}

static void lengths_have_limits(void **state)
{
	struct address a;
	char text[600];

	(void)state;
	snprintf(text, sizeof(text), "%0255d:1", 0);
	memset(text, 'a', 255);
	assert_int_equal(address_parse(text, &a, NULL), 0);
	snprintf(text, sizeof(text), "%0256d:1", 0);
	memset(text, 'a', 256);
	assert_int_equal(address_parse(text, &a, NULL), -1);
	snprintf(text, sizeof(text), "unix:/%0106d", 0);
	assert_int_equal(address_parse(text, &a, NULL), 0);
	snprintf(text, sizeof(text), "unix:/%0107d", 0);
	assert_int_equal(address_parse(text, &a, NULL), -1);
	memset(text, '[', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(address_parse(text, &a, NULL), -1);
}

static void knows_loopback(void **state)
{
	static const struct {
		const char *text;
		bool loopback;
	} cases[] = {
		{ "127.0.0.1:1", true },
		{ "127.255.0.3:1", true },
		{ "[::1]:1", true },
		{ "[::ffff:127.0.0.1]:1", true },
		{ "[::ffff:7f00:1]:1", true },
		{ "localhost:1", true },
		{ "unix:/x", true },
		{ "0.0.0.0:1", false },
		{ "126.255.255.255:1", false },
		{ "128.0.0.1:1", false },
		{ "[::]:1", false },
		{ "[::ffff:0.0.0.0]:1", false },
		{ "[::127.0.0.1]:1", false },
		{ "[fe80::1]:1", false },
		{ "localhost.example.org:1", false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct address a;

		assert_int_equal(address_parse(cases[i].text, &a, NULL), 0);
		assert_int_equal(address_is_loopback(&a), cases[i].loopback);
	}
}

static struct address parsed(const char *text)
{
	struct address a;
	struct err err = { 0 };

	if (address_parse(text, &a, &err) < 0)
		fail_msg("%s", err.text);
	return a;
}

static void assert_flags(int fd)
{
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

/* Joins the two ends and sends a byte. */
static void meet(int listener, const char *bound)
{
	struct address to = parsed(bound);
	struct err err = { 0 };
	int client = address_connect(&to, &err), server;
	struct pollfd ready = { .fd = listener, .events = POLLIN };
	char byte = 0;

	assert_true(client >= 0);
	assert_flags(client);
	assert_int_equal(poll(&ready, 1, 5000), 1);
	server = accept(listener, NULL, NULL);
	assert_true(server >= 0);
	assert_int_equal(write(server, "x", 1), 1);
	ready.fd = client;
	assert_int_equal(poll(&ready, 1, 5000), 1);
	assert_int_equal(read(client, &byte, 1), 1);
	assert_int_equal(byte, 'x');
	close(client);
	close(server);
}

static void listens_and_says_where(void **state)
{
	static const char *const texts[] = { "127.0.0.1:0", "[::1]:0", "localhost:0" };

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct address a = parsed(texts[i]);
		struct err err = { 0 };
		char bound[ADDRESS_TEXT_MAX];
		int fd = address_listen(&a, bound, &err);

		if (fd < 0 && i == 1 && err.sys == EADDRNOTAVAIL)
			continue; /* a machine without IPv6 */
		assert_true(fd >= 0);
		assert_flags(fd);
		assert_int_not_equal(parsed(bound).port, 0);
		meet(fd, bound);
		close(fd);
	}
}

static void a_client_socket_does_not_delay(void **state)
{
	struct address a = parsed("127.0.0.1:0");
	char bound[ADDRESS_TEXT_MAX];
	int listener = address_listen(&a, bound, NULL), client, on = 0;
	socklen_t len = sizeof(on);

	(void)state;
	a = parsed(bound);
	client = address_connect(&a, NULL);
	assert_int_equal(getsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, &len), 0);
	assert_int_not_equal(on, 0);
	close(client);
	close(listener);
}

static void a_port_that_is_taken_is_named(void **state)
{
	struct address a = parsed("127.0.0.1:0");
	struct err err = { 0 };
	char bound[ADDRESS_TEXT_MAX], port[8];
	int fd = address_listen(&a, bound, NULL);

	(void)state;
	assert_true(fd >= 0);
	a = parsed(bound);
	snprintf(port, sizeof(port), "%u", (unsigned)a.port);
	assert_int_equal(address_listen(&a, bound, &err), -1);
	assert_int_equal(err.sys, EADDRINUSE);
	assert_non_null(strstr(err.text, port));
	close(fd);
}

static void unix_text(struct leak *leak, char out[static ADDRESS_TEXT_MAX])
{
	snprintf(out, ADDRESS_TEXT_MAX, "unix:%s", leak_path(leak, "s"));
}

static void a_unix_socket_is_private_from_birth(void **state)
{
	char text[ADDRESS_TEXT_MAX], bound[ADDRESS_TEXT_MAX];
	struct address a;
	struct stat st;
	int fd;
	mode_t old = umask(0);

	unix_text(*state, text);
	a = parsed(text);
	fd = address_listen(&a, bound, NULL);
	umask(old);
	assert_true(fd >= 0);
	assert_flags(fd);
	assert_string_equal(bound, text);
	assert_int_equal(stat(a.host, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	meet(fd, bound);
	close(fd);
	unlink(a.host);
}

static void a_dead_socket_is_replaced_a_live_one_is_not(void **state)
{
	char text[ADDRESS_TEXT_MAX], bound[ADDRESS_TEXT_MAX];
	struct err err = { 0 };
	struct address a;
	int fd, second;

	unix_text(*state, text);
	a = parsed(text);
	fd = address_listen(&a, bound, NULL);
	assert_true(fd >= 0);
	assert_int_equal(address_listen(&a, bound, &err), -1);
	assert_int_equal(err.sys, EADDRINUSE);
	assert_non_null(strstr(err.text, text));
	close(accept(fd, NULL, NULL)); /* the one that tried whether we live */
	meet(fd, text);
	close(fd);
	second = address_listen(&a, bound, &err);
	assert_true(second >= 0);
	meet(second, text);
	close(second);
	unlink(a.host);
}

static void a_file_in_the_place_is_left_alone(void **state)
{
	char text[ADDRESS_TEXT_MAX], bound[ADDRESS_TEXT_MAX];
	struct address a;
	struct stat st;
	int fd;

	unix_text(*state, text);
	a = parsed(text);
	fd = open(a.host, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(address_listen(&a, bound, NULL), -1);
	assert_int_equal(stat(a.host, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	unlink(a.host);
}

static void nobody_there_is_unavailable(void **state)
{
	char text[ADDRESS_TEXT_MAX];
	struct err err = { 0 };
	struct address a;

	unix_text(*state, text);
	a = parsed(text);
	assert_int_equal(address_connect(&a, &err), -1);
	assert_non_null(strstr(err.text, text));
}

static void a_name_is_looked_up_before_use(void **state)
{
	struct address a = parsed("no-such-host.invalid:1");
	struct err err = { 0 };

	(void)state;
	assert_int_equal(address_connect(&a, &err), -1);
	assert_int_equal(err.code, GRPC_INTERNAL);
	assert_int_equal(address_resolve(&a, &err), -1);
	assert_int_equal(err.code, GRPC_UNAVAILABLE);
	assert_non_null(strstr(err.text, "no-such-host.invalid"));

	a = parsed("127.0.0.1:7");
	assert_int_equal(address_resolve(&a, &err), 0);
	assert_int_equal(a.port, 7);
}

static void an_unnamed_unix_peer_is_just_unix(void **state)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	char text[ADDRESS_TEXT_MAX];

	(void)state;
	address_text((const struct sockaddr *)&un, sizeof(sa_family_t), text);
	assert_string_equal(text, "unix");
	memset(un.sun_path, 'p', sizeof(un.sun_path));
	address_text((const struct sockaddr *)&un, sizeof(un), text);
	assert_int_equal(strlen(text), 5 + sizeof(un.sun_path));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(understands_every_spelling),
		cmocka_unit_test(names_what_it_does_not_understand),
		cmocka_unit_test(lengths_have_limits),
		cmocka_unit_test(knows_loopback),
		cmocka_unit_test(listens_and_says_where),
		cmocka_unit_test(a_client_socket_does_not_delay),
		cmocka_unit_test(a_port_that_is_taken_is_named),
		cmocka_unit_test(a_unix_socket_is_private_from_birth),
		cmocka_unit_test(a_dead_socket_is_replaced_a_live_one_is_not),
		cmocka_unit_test(a_file_in_the_place_is_left_alone),
		cmocka_unit_test(nobody_there_is_unavailable),
		cmocka_unit_test(a_name_is_looked_up_before_use),
		cmocka_unit_test(an_unnamed_unix_peer_is_just_unix),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
