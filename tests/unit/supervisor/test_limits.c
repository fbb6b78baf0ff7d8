/* How many connections are forwarded, how long a service may take, and what outlives us. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "openshell/v1/openshell.pb-c.h"
#include "served/served.h"
#include "support/leak.h"
#include "supervisor/forward.h"
#include "supervisor/reaper.h"

#define SHORT_MS 200
#define DRAIN_MS 1000
#define KIB      ((size_t)1024)
#define NOBODY   65534

static const struct channel_method forward = { .path = "/openshell.v1.OpenShell/ForwardTcp",
	.open = forward_open };

struct fixture {
	struct leak *leak;
	struct served served;
	struct supervisor supervisor;
	int listener;
	uint16_t port;
};

/* A service with little room for what it has not read. */
static void listen_somewhere(struct fixture *f)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(a);
	const int room = 4096;

	f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(f->listener, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	assert_int_equal(bind(f->listener, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(f->listener, 0), 0);
	assert_int_equal(getsockname(f->listener, (struct sockaddr *)&a, &len), 0);
	f->port = ntohs(a.sin_port);
}

/* Its connections do not wait for each other. */
static int connect_to(struct fixture *f)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
		.sin_port = htons(f->port),
		.sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0)
		assert_int_equal(errno, EINPROGRESS);
	return fd;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	loop_free(loop_create(0, NULL)); /* the first opens what all of them share */
	f->leak = leak_begin();
	listen_somewhere(f);
	served_open(&f->served, &forward, &f->supervisor);
	f->supervisor.loop = f->served.loop;
	f->supervisor.forward_connect_ms = FORWARD_CONNECT_MS;
	f->supervisor.forward_drain_ms = FORWARD_DRAIN_MS;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	served_close(&f->served);
	close(f->listener);
	int r = leak_end(f->leak);
	free(f);
	return r;
}

static void begin(struct fixture *f)
{
	Openshell__V1__TcpRelayTarget target = OPENSHELL__V1__TCP_RELAY_TARGET__INIT;
	Openshell__V1__TcpForwardInit init = OPENSHELL__V1__TCP_FORWARD_INIT__INIT;
	Openshell__V1__TcpForwardFrame frame = OPENSHELL__V1__TCP_FORWARD_FRAME__INIT;

	target.host = (char *)"127.0.0.1";
	target.port = f->port;
	init.target_case = OPENSHELL__V1__TCP_FORWARD_INIT__TARGET_TCP;
	init.tcp = &target;
	frame.payload_case = OPENSHELL__V1__TCP_FORWARD_FRAME__PAYLOAD_INIT;
	frame.init = &init;
	served_call(&f->served, &frame.base);
}

static bool none_is_left(struct served *s)
{
	return ((struct supervisor *)s->app)->forwards == 0;
}

static bool is_full(struct served *s)
{
	return ((struct supervisor *)s->app)->forwards == SUPERVISOR_FORWARDS_MAX;
}

/* The others are there only for the count: their sockets would be as many gigabytes. */
static void connections_are_counted(void **state)
{
	struct fixture *f = *state;
	struct supervisor *s = &f->supervisor;

	s->forwards = SUPERVISOR_FORWARDS_MAX;
	begin(f);
	served_until(&f->served, served_is_over);
	assert_int_equal(f->served.status.code, GRPC_RESOURCE_EXHAUSTED);
	assert_non_null(strstr(f->served.status.text, "4096 connections are forwarded"));
	assert_int_equal(s->forwards, SUPERVISOR_FORWARDS_MAX);

	s->forwards--;
	begin(f);
	framed_end(f->served.call);
	served_until(&f->served, is_full);
	close(accept4(f->listener, NULL, NULL, SOCK_CLOEXEC));
	served_until(&f->served, served_is_over);
	assert_int_equal(f->served.status.code, GRPC_OK);
	assert_int_equal(s->forwards, SUPERVISOR_FORWARDS_MAX - 1);
	s->forwards = 0;
}

/* Its backlog is full, so that the kernel does not answer for it. */
static void a_service_that_does_not_answer(void **state)
{
	struct fixture *f = *state;
	int before[4];

	f->supervisor.forward_connect_ms = SHORT_MS;
	for (size_t i = 0; i < 4; i++)
		before[i] = connect_to(f);
	begin(f);
	served_until(&f->served, served_is_over);
	assert_int_equal(f->served.status.code, GRPC_UNAVAILABLE);
	assert_non_null(strstr(f->served.status.text, "nothing answers at 127.0.0.1:"));
	assert_int_equal(f->supervisor.forwards, 0);
	for (size_t i = 0; i < 4; i++)
		close(before[i]);
}

/* What the kernel keeps for a service that does not read. */
static size_t kept_by_kernel(struct fixture *f)
{
	static const uint8_t bytes[64 << 10];
	int from = connect_to(f), to = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
	size_t all = 0;

	for (ssize_t n; (n = write(from, bytes, sizeof(bytes))) > 0;)
		all += (size_t)n;
	assert_int_equal(errno, EAGAIN);
	close(from);
	close(to);
	return all;
}

static size_t read_to_the_end(int fd, int *why)
{
	static uint8_t bytes[64 << 10];
	size_t all = 0;
	ssize_t n;

	while ((n = read(fd, bytes, sizeof(bytes))) > 0)
		all += (size_t)n;
	*why = n < 0 ? errno : 0;
	return all;
}

static bool is_begun(struct served *s)
{
	return ((struct supervisor *)s->app)->forwards == 1;
}

/* Both have ended, the call is over, and the service does not read what came before. */
static void a_service_that_does_not_read(void **state)
{
	struct fixture *f = *state;
	size_t all = kept_by_kernel(f) + 512 * KIB; /* the rest is in a window */
	uint8_t *bytes = calloc(1, all);
	int why;

	f->supervisor.forward_drain_ms = DRAIN_MS;
	begin(f);
	served_until(&f->served, is_begun);
	int service = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
	assert_int_equal(shutdown(service, SHUT_WR), 0);
	struct slice s = slice_copy(bytes, all);
	assert_int_equal(framed_write(f->served.call, FRAMED_BYTES, s), 0);
	framed_end(f->served.call);
	free(bytes);
	served_until(&f->served, served_is_over);
	assert_int_equal(f->served.status.code, GRPC_OK);
	assert_int_equal(f->supervisor.forwards, 1);
	served_until(&f->served, none_is_left);
	assert_true(read_to_the_end(service, &why) < all);
	assert_int_equal(why, ECONNRESET);
	close(service);
}

/* Processes of another user, which are not ours to end. */

/* Until nobody has the other end of ${pipe} any more. */
static void outlive(const int pipe[2])
{
	char byte;

	close(pipe[1]);
	while (read(pipe[0], &byte, 1) < 0 && errno == EINTR)
		;
	_exit(0);
}

/* 0: it took as long as it was given, and the child is still there. */
static int kill_for(unsigned ms, const int pipe[2])
{
	uint64_t began = loop_now_us();
	pid_t child = fork();

	if (child == 0)
		outlive(pipe);
	if (child < 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0)
		return 1;
	reaper_kill_all(ms);
	uint64_t took = loop_now_us() - began;
	return took >= ms * 1000 && kill(child, 0) != 0 && errno == EPERM ? 0 : 2;
}

static void what_does_not_die_is_left(void **state)
{
	int pipe[2], status;

	(void)state;
	if (getuid() != 0)
		skip();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	assert_int_equal(pipe2(pipe, O_CLOEXEC), 0);
	pid_t one = fork();
	if (one == 0)
		_exit(kill_for(SHORT_MS, pipe));
	assert_int_equal(waitpid(one, &status, 0), one);
	close(pipe[0]);
	close(pipe[1]);
	assert_int_equal(status, 0);
	assert_true(waitpid(-1, &status, 0) > 0); /* which has come to us */
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(connections_are_counted, setup, teardown),
		cmocka_unit_test_setup_teardown(a_service_that_does_not_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(a_service_that_does_not_read, setup, teardown),
		cmocka_unit_test(what_does_not_die_is_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
