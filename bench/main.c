/* towline-bench: the load, the service and the reference relay of ./dev bench. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/text.h"
#include "bench.h"

static const struct {
	const char *name;
	int (*run)(int argc, char *argv[]);
	const char *help;
} commands[] = {
	{ "relay", bench_relay, "PORT TARGET_PORT            a plain TCP relay, the reference" },
	{ "service", bench_service, "PORT                        what lies behind a forward" },
	{ "load", bench_load,
	    "MODE STREAMS AMOUNT TARGET  up, down, ping or idle through tcp:PORT or URL,SANDBOX,PORT" },
	{ "exec", bench_exec, "COUNT PARALLEL URL SANDBOX  ExecSandbox of /bin/true" },
	{ "sessions", bench_sessions, "COUNT PARALLEL URL SANDBOX  CreateSshSession" },
	{ "sftp", bench_sftp,
	    "URL SANDBOX                 an SFTP server, on standard input and output" },
};

int bench_fail(const struct err *err)
{
	fprintf(stderr, "towline-bench: %s: %s\n", err_code_name(err->code), err->text);
	return 1;
}

static _Noreturn void give_up(const char *what)
{
	perror(what);
	exit(1);
}

int bench_listen(uint16_t *port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
		.sin_port = htons(*port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	const int on = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
	    bind(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0 || listen(fd, 4096) != 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &len) != 0)
		give_up("listen");
	*port = ntohs(sa.sin_port);
	return fd;
}

int bench_dial(uint16_t port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const int on = 1;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) != 0 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0)
		give_up("connect");
	return fd;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

uint64_t bench_number(const char *text, uint64_t max)
{
	struct err err;
	uint64_t number;

	if (text_to_u64(text, 0, max, &number, &err) == 0)
		return number;
	exit(bench_fail(&err));
}

double bench_quantile(double *values, size_t n, double q)
{
	qsort(values, n, sizeof(*values), compare);
	return n == 0 ? 0 : values[(size_t)((double)(n - 1) * q)];
}

int main(int argc, char *argv[])
{
	loop_ignore_sigpipe();
	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		fprintf(stderr, "towline-bench %s %s\n", commands[i].name, commands[i].help);
	return 2;
}
