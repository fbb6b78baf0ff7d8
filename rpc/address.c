#include "rpc/address.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define HTTP_PORT  80
#define HTTPS_PORT 443
#define NO_PORT    (-1) /* the text has to name one */

static int refuse(const char *text, const char *why, struct err *err)
{
	return err_set(err, GRPC_INVALID_ARGUMENT, "address \"%.100s\": %s", text, why);
}

static bool take_prefix(const char **rest, const char *prefix)
{
	size_t len = strlen(prefix);

	if (strncasecmp(*rest, prefix, len) != 0)
		return false;
	*rest += len;
	return true;
}

/* ${rest} is what follows "unix:". */
static int parse_unix(const char *text, const char *rest, struct address *a, struct err *err)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&a->sa;

	if (strncmp(rest, "//", 2) == 0) {
		rest += 2;
		if (rest[0] != '/' || rest[1] == '/')
			return refuse(text, "a Unix socket is unix:/path or unix:///path", err);
	}
	if (*rest == '\0')
		return refuse(text, "the path of the Unix socket is missing", err);

	size_t size = strlen(rest) + 1;

	if (size > sizeof(un->sun_path))
		return refuse(text, "a path of a Unix socket has at most 107 bytes", err);
	a->is_unix = a->is_numeric = true;
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, rest, size);
	memcpy(a->host, rest, size);
	a->sa_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
	return 0;
}

static int parse_port(
    const char *text, const char *port, size_t len, uint16_t *out, struct err *err)
{
	unsigned value = 0;

	for (size_t i = 0; i < len; i++) {
		if (port[i] < '0' || port[i] > '9' || len > 5)
			return refuse(text, "the port is not a number up to 65535", err);
		value = 10 * value + (unsigned)(port[i] - '0');
	}
	if (len == 0 || value > UINT16_MAX)
		return refuse(text, "the port is not a number up to 65535", err);
	*out = (uint16_t)value;
	return 0;
}

/* Whether the last label is a number: "127.1" and "0x7f000001" are addresses to
 * some resolvers and names to others, so they are neither here. */
static bool ends_in_number(const char *host)
{
	const char *dot = strrchr(host, '.');
	const char *last = dot != NULL ? dot + 1 : host;

	if (strncasecmp(last, "0x", 2) == 0)
		return last[2 + strspn(last + 2, "0123456789abcdefABCDEF")] == '\0';
	return *last != '\0' && last[strspn(last, "0123456789")] == '\0';
}

static int check_name(const char *text, const char *host, struct err *err)
{
	for (const char *c = host; *c != '\0'; c++) {
		if (!isalnum((unsigned char)*c) && strchr("-_.", *c) == NULL)
			return refuse(text, "the host has a character that no host name has", err);
	}
	if (host[0] == '\0' || host[0] == '.' || strstr(host, "..") != NULL)
		return refuse(text, "the host is missing", err);
	if (ends_in_number(host))
		return refuse(text, "write an IPv4 address as four decimal numbers", err);
	return 0;
}

/* RFC 6761, section 6.3: localhost is the loopback whatever a resolver says. */
static int parse_ipv4_or_name(const char *text, struct address *a, struct err *err)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&a->sa;
	const char *digits = strcasecmp(a->host, "localhost") == 0 ? "127.0.0.1" : a->host;

	if (inet_pton(AF_INET, digits, &in->sin_addr) != 1)
		return check_name(text, a->host, err);
	in->sin_family = AF_INET;
	in->sin_port = htons(a->port);
	a->sa_len = sizeof(*in);
	a->is_numeric = true;
	return 0;
}

static int parse_ipv6(const char *text, struct address *a, struct err *err)
{
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a->sa;

	if (strchr(a->host, '%') != NULL)
		return refuse(text, "IPv6 zones are not supported", err);
	if (inet_pton(AF_INET6, a->host, &in6->sin6_addr) != 1)
		return refuse(text, "not an IPv6 address between the brackets", err);
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(a->port);
	a->sa_len = sizeof(*in6);
	a->is_numeric = true;
	return 0;
}

/* Cuts ${rest} ("host:port", "[::1]:port") into host and the port's text. */
static int split(const char *text, const char *rest, size_t len, struct address *a,
    const char **port, bool *bracketed, struct err *err)
{
	const char *end = rest + len, *host_end;

	*bracketed = len > 0 && *rest == '[';
	if (*bracketed) {
		rest++;
		host_end = memchr(rest, ']', (size_t)(end - rest));
		if (host_end == NULL)
			return refuse(text, "the closing bracket is missing", err);
		*port = host_end + 1;
	} else {
		host_end = memchr(rest, ':', len);
		if (host_end == NULL)
			host_end = end;
		if (host_end < end &&
		    memchr(host_end + 1, ':', (size_t)(end - host_end - 1)) != NULL)
			return refuse(text, "write an IPv6 address in brackets", err);
		*port = host_end;
	}
	if (*port < end && **port != ':')
		return refuse(text, "only a port may follow the host", err);
	if ((size_t)(host_end - rest) >= sizeof(a->host))
		return refuse(text, "the host is too long", err);
	memcpy(a->host, rest, (size_t)(host_end - rest));
	return 0;
}

static int parse_inet(
    const char *text, const char *rest, int default_port, struct address *a, struct err *err)
{
	size_t len = strlen(rest);
	const char *port = rest + len;
	bool bracketed = false;

	if (default_port != NO_PORT && len > 0 && rest[len - 1] == '/')
		len--;
	if (split(text, rest, len, a, &port, &bracketed, err) < 0)
		return -1;
	if (port < rest + len) {
		size_t digits = (size_t)(rest + len - port - 1);

		if (parse_port(text, port + 1, digits, &a->port, err) < 0)
			return -1;
	} else if (default_port == NO_PORT) {
		return refuse(text, "the port is missing; write host:port", err);
	} else {
		a->port = (uint16_t)default_port;
	}
	return bracketed ? parse_ipv6(text, a, err) : parse_ipv4_or_name(text, a, err);
}

int address_parse(const char *text, struct address *out, struct err *err)
{
	struct address a = { 0 };
	const char *rest = text;
	int port = NO_PORT, result;

	if (take_prefix(&rest, "unix:")) {
		result = parse_unix(text, rest, &a, err);
	} else {
		if (take_prefix(&rest, "https://")) {
			a.tls = true;
			port = HTTPS_PORT;
		} else if (take_prefix(&rest, "http://")) {
			port = HTTP_PORT;
		}
		result = parse_inet(text, rest, port, &a, err);
	}
	if (result == 0)
		*out = a;
	return result;
}

static int lookup_failed(const char *host, int why, int sys, struct err *err)
{
	if (why == EAI_SYSTEM)
		return err_sys(err, sys, "look up %.100s", host);
	if (why == EAI_MEMORY)
		return err_sys(err, ENOMEM, "look up %.100s", host);
	return err_set(err, GRPC_UNAVAILABLE, "look up %.100s: %s", host, gai_strerror(why));
}

int address_resolve(struct address *a, struct err *err)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV };
	struct addrinfo *found;
	char port[8];

	if (a->is_numeric)
		return 0;
	snprintf(port, sizeof(port), "%u", (unsigned)a->port);

	int why = getaddrinfo(a->host, port, &hints, &found);

	if (why != 0)
		return lookup_failed(a->host, why, errno, err);
	memcpy(&a->sa, found->ai_addr, found->ai_addrlen);
	a->sa_len = found->ai_addrlen;
	a->is_numeric = true;
	freeaddrinfo(found);
	return 0;
}

bool address_is_loopback(const struct address *a)
{
	if (a->is_unix)
		return true;
	if (!a->is_numeric)
		return false;
	if (a->sa.ss_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)&a->sa;

		return ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	}

	const struct in6_addr *in6 = &((const struct sockaddr_in6 *)&a->sa)->sin6_addr;

	return IN6_IS_ADDR_LOOPBACK(in6) ||
	    (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == IN_LOOPBACKNET);
}

static int open_socket(const struct address *a, struct err *err)
{
	if (!a->is_numeric)
		return err_set(err, GRPC_INTERNAL, "%.100s has not been looked up", a->host);

	int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd >= 0 ? fd : err_sys(err, errno, "socket");
}

/* Whether a socket nobody listens on any more lies at the path. */
static bool is_dead_socket(const struct address *a)
{
	struct stat st;

	if (lstat(a->host, &st) < 0 || !S_ISSOCK(st.st_mode))
		return false;

	int fd = open_socket(a, NULL);

	if (fd < 0)
		return false;

	bool refused =
	    connect(fd, (const struct sockaddr *)&a->sa, a->sa_len) < 0 && errno == ECONNREFUSED;

	close(fd);
	return refused;
}

static int bind_socket(int fd, const struct address *a)
{
	const struct sockaddr *sa = (const struct sockaddr *)&a->sa;

	if (bind(fd, sa, a->sa_len) == 0)
		return 0;
	if (errno != EADDRINUSE || !a->is_unix)
		return -1;
	if (!is_dead_socket(a)) {
		errno = EADDRINUSE;
		return -1;
	}
	return unlink(a->host) == 0 ? bind(fd, sa, a->sa_len) : -1;
}

static int prepare_listener(int fd, const struct address *a)
{
	int on = 1;

	/* On Linux a Unix socket's file gets the mode of its descriptor, so at no
	 * moment can others open it. */
	if (a->is_unix)
		return fchmod(fd, 0600);
	return setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
}

int address_listen(const struct address *a, char bound[static ADDRESS_TEXT_MAX], struct err *err)
{
	struct sockaddr_storage sa = { 0 };
	socklen_t len = sizeof(sa);
	int fd = open_socket(a, err);

	if (fd < 0)
		return -1;
	if (prepare_listener(fd, a) < 0 || bind_socket(fd, a) < 0 || listen(fd, SOMAXCONN) < 0 ||
	    getsockname(fd, (struct sockaddr *)&sa, &len) < 0) {
		int sys = errno;

		close(fd);
		if (a->is_unix)
			return err_sys(err, sys, "listen on unix:%s", a->host);
		return err_sys(err, sys, "listen on %.100s port %u", a->host, (unsigned)a->port);
	}
	address_text((const struct sockaddr *)&sa, len, bound);
	return fd;
}

int address_connect(const struct address *a, struct err *err)
{
	int fd = open_socket(a, err);
	int on = 1;

	if (fd < 0)
		return -1;
	if (!a->is_unix)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	/* An interrupted connect goes on by itself. */
	if (connect(fd, (const struct sockaddr *)&a->sa, a->sa_len) < 0 && errno != EINPROGRESS &&
	    errno != EINTR) {
		char to[ADDRESS_TEXT_MAX];
		int sys = errno;

		close(fd);
		address_text((const struct sockaddr *)&a->sa, a->sa_len, to);
		if (sys == EAGAIN)
			return err_set(err, GRPC_UNAVAILABLE,
			    "connect to %s: too many connections wait there", to);
		return err_sys(err, sys, "connect to %s", to);
	}
	return fd;
}

void address_text(const struct sockaddr *sa, socklen_t len, char out[static ADDRESS_TEXT_MAX])
{
	char digits[INET6_ADDRSTRLEN];

	if (sa->sa_family == AF_INET) {
		const struct sockaddr_in *in = (const struct sockaddr_in *)sa;

		inet_ntop(AF_INET, &in->sin_addr, digits, sizeof(digits));
		snprintf(out, ADDRESS_TEXT_MAX, "%s:%u", digits, (unsigned)ntohs(in->sin_port));
	} else if (sa->sa_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;

		inet_ntop(AF_INET6, &in6->sin6_addr, digits, sizeof(digits));
		snprintf(out, ADDRESS_TEXT_MAX, "[%s]:%u", digits, (unsigned)ntohs(in6->sin6_port));
	} else {
		const struct sockaddr_un *un = (const struct sockaddr_un *)sa;
		size_t head = offsetof(struct sockaddr_un, sun_path);
		size_t room = len > head ? len - head : 0;
		size_t path = room > 0 ? strnlen(un->sun_path, room) : 0;

		snprintf(out, ADDRESS_TEXT_MAX, path > 0 ? "unix:%.*s" : "unix", (int)path,
		    un->sun_path);
	}
}
