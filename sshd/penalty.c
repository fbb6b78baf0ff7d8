#include "sshd/penalty.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

/* An address as 16 bytes; IPv4 is mapped into IPv6. */
struct source {
	uint8_t bytes[16];
};

#define V4_BITS 96 /* before an IPv4 address */
#define V6_PART 8  /* bytes of an IPv6 address that make its source */

struct network {
	struct source source;
	unsigned bits;
};

struct penalties {
	struct penalty_table *table;
	struct network exempt[PENALTY_EXEMPT_MAX];
	size_t exempt_count;
};

static const uint32_t costs_ms[] = {
	[PENALTY_NO_AUTH] = 1000,
	[PENALTY_AUTH] = 5000,
	[PENALTY_GRACE] = 10000,
	[PENALTY_PROTOCOL] = 5000,
};

static void map_v4(const struct in_addr *in, struct source *out)
{
	memset(out->bytes, 0, sizeof(out->bytes));
	out->bytes[10] = out->bytes[11] = 0xff;
	memcpy(out->bytes + 12, in, 4);
}

/* false: neither IPv4 nor IPv6, so nobody far away. */
static bool source_of(const struct sockaddr *sa, struct source *out)
{
	if (sa->sa_family == AF_INET)
		map_v4(&((const struct sockaddr_in *)(const void *)sa)->sin_addr, out);
	else if (sa->sa_family == AF_INET6)
		memcpy(out->bytes, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
	else
		return false;
	return true;
}

static bool is_v4(const struct source *s)
{
	static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };

	return memcmp(s->bytes, prefix, sizeof(prefix)) == 0;
}

static bool network_holds(const struct network *n, const struct source *s)
{
	size_t whole = n->bits / 8;
	unsigned rest = n->bits % 8;
	uint8_t mask = (uint8_t)(0xff00 >> rest);

	return memcmp(n->source.bytes, s->bytes, whole) == 0 &&
	    (rest == 0 || ((n->source.bytes[whole] ^ s->bytes[whole]) & mask) == 0);
}

static bool is_exempt(const struct penalties *p, const struct source *s)
{
	for (size_t i = 0; i < p->exempt_count; i++)
		if (network_holds(&p->exempt[i], s))
			return true;
	return false;
}

/*
 * Its number in the table: the network of an IPv6 address, or the IPv4 address itself, which
 * is none of a network that anybody could be in (RFC 4291, section 2.4). 0 is no number there.
 */
static uint64_t number_of(const struct source *s)
{
	const uint8_t *from = is_v4(s) ? s->bytes + V4_BITS / 8 : s->bytes;
	size_t len = is_v4(s) ? sizeof(s->bytes) - V4_BITS / 8 : V6_PART;
	uint64_t number = 0;

	for (size_t i = 0; i < len; i++)
		number = number << 8 | from[i];
	return number != 0 ? number : 1;
}

struct penalties *penalties_create(int fd, struct err *err)
{
	struct penalties *p = calloc(1, sizeof(*p));

	if (p == NULL)
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	else if ((p->table = penalty_table_open(fd, err)) != NULL)
		return p;
	free(p);
	return NULL;
}

void penalties_free(struct penalties *p)
{
	if (p == NULL)
		return;
	penalty_table_close(p->table);
	free(p);
}

static int parse_network(const char *text, struct network *n)
{
	char address[INET6_ADDRSTRLEN] = { 0 };
	const char *slash = strchr(text, '/');
	size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
	struct in_addr v4;
	uint64_t bits = 128;

	if (len >= sizeof(address))
		return -1;
	snprintf(address, sizeof(address), "%.*s", (int)len, text);
	bool is_four = inet_pton(AF_INET, address, &v4) == 1;
	if (is_four)
		map_v4(&v4, &n->source);
	else if (inet_pton(AF_INET6, address, n->source.bytes) != 1)
		return -1;
	if (slash != NULL && text_to_u64(slash + 1, 0, is_four ? 32 : 128, &bits, NULL) != 0)
		return -1;
	n->bits = (unsigned)bits + (is_four && slash != NULL ? V4_BITS : 0);
	return 0;
}

int penalties_exempt(struct penalties *p, const char *network, struct err *err)
{
	if (p->exempt_count == PENALTY_EXEMPT_MAX)
		return err_set(err, GRPC_INVALID_ARGUMENT, "more than %d networks are exempt",
		    PENALTY_EXEMPT_MAX);
	if (parse_network(network, &p->exempt[p->exempt_count]) != 0)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "\"%s\" is no network; 192.0.2.0/24 or 2001:db8::/32 would be one", network);
	p->exempt_count++;
	return 0;
}

void penalties_add(
    struct penalties *p, const struct sockaddr *sa, enum penalty kind, uint64_t now_ms)
{
	struct source source;

	if (kind != PENALTY_NONE && source_of(sa, &source) && !is_exempt(p, &source))
		penalty_table_add(
		    p->table, number_of(&source), now_ms, costs_ms[kind], now_ms + PENALTY_MAX_MS);
}

bool penalties_refuse(struct penalties *p, const struct sockaddr *sa, uint64_t now_ms)
{
	struct source source;

	return source_of(sa, &source) &&
	    penalty_table_until(p->table, number_of(&source)) > now_ms + PENALTY_MIN_MS;
}

size_t penalties_count(const struct penalties *p)
{
	return penalty_table_count(p->table);
}
