#include "sshd/penalty.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/text.h"

/* An address as 16 bytes; IPv4 is mapped into IPv6. */
struct source {
	uint8_t bytes[16];
};

#define V4_BITS  96 /* before an IPv4 address */
#define V6_PART  8  /* bytes of an IPv6 address that make its source */
#define KEY_SIZE (2 * sizeof(struct source) + 1)

struct entry {
	char key[KEY_SIZE];
	uint64_t until_ms;
};

struct network {
	struct source source;
	unsigned bits;
};

struct penalties {
	struct map *map; /* of entries */
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

static void key_of(struct source s, char key[static KEY_SIZE])
{
	if (!is_v4(&s))
		memset(s.bytes + V6_PART, 0, sizeof(s.bytes) - V6_PART);
	text_hex(s.bytes, sizeof(s.bytes), key);
}

struct penalties *penalties_create(struct err *err)
{
	struct penalties *p = calloc(1, sizeof(*p));

	if (p != NULL && (p->map = map_create()) != NULL)
		return p;
	free(p);
	err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	return NULL;
}

static bool drop_entry(void *cookie, const char *key, void *value)
{
	struct penalties *p = cookie;

	map_remove(p->map, key);
	free(value);
	return true;
}

void penalties_free(struct penalties *p)
{
	if (p == NULL)
		return;
	map_each(p->map, drop_entry, p);
	map_free(p->map);
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

struct search {
	uint64_t now_ms;
	struct entry *first; /* the one that is free first */
};

static bool compare_entry(void *cookie, const char *key, void *value)
{
	struct search *s = cookie;
	struct entry *e = value;

	(void)key;
	if (s->first == NULL || e->until_ms < s->first->until_ms)
		s->first = e;
	return s->first->until_ms > s->now_ms; /* one that is free already will do */
}

static void make_room(struct penalties *p, uint64_t now_ms)
{
	struct search s = { .now_ms = now_ms };

	if (map_count(p->map) < PENALTY_SOURCES_MAX)
		return;
	map_each(p->map, compare_entry, &s);
	map_remove(p->map, s.first->key);
	free(s.first);
}

/* NULL: no memory; who cannot be remembered goes unpunished. */
static struct entry *entry_for(struct penalties *p, const char *key, uint64_t now_ms)
{
	struct entry *e = map_get(p->map, key);

	if (e != NULL)
		return e;
	make_room(p, now_ms);
	if ((e = calloc(1, sizeof(*e))) == NULL)
		return NULL;
	memcpy(e->key, key, sizeof(e->key));
	if (map_put(p->map, key, e) == 0)
		return e;
	free(e);
	return NULL;
}

void penalties_add(
    struct penalties *p, const struct sockaddr *sa, enum penalty kind, uint64_t now_ms)
{
	struct source source;
	char key[KEY_SIZE];

	if (kind == PENALTY_NONE || !source_of(sa, &source) || is_exempt(p, &source))
		return;
	key_of(source, key);
	struct entry *e = entry_for(p, key, now_ms);
	if (e == NULL)
		return;
	if (e->until_ms < now_ms)
		e->until_ms = now_ms;
	e->until_ms += costs_ms[kind];
	if (e->until_ms > now_ms + PENALTY_MAX_MS)
		e->until_ms = now_ms + PENALTY_MAX_MS;
}

bool penalties_refuse(struct penalties *p, const struct sockaddr *sa, uint64_t now_ms)
{
	struct source source;
	char key[KEY_SIZE];

	if (!source_of(sa, &source))
		return false;
	key_of(source, key);
	const struct entry *e = map_get(p->map, key);
	return e != NULL && e->until_ms > now_ms + PENALTY_MIN_MS;
}

size_t penalties_count(const struct penalties *p)
{
	return map_count(p->map);
}
