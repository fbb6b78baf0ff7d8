/*
 * A pattern is compiled to items, each of which takes one byte or a run of them. Two
 * marks are enough to go back to: a later "*" stands for an earlier one of the same name,
 * since what is before it has matched already; a later "**" likewise for an earlier one.
 */
#include "transfer/tree/ignore.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum item_kind {
	ITEM_BYTE,   /* the byte in ${value} */
	ITEM_ANY,    /* "?": one byte, no slash */
	ITEM_SET,    /* "[...]": one of sets[value] */
	ITEM_STAR,   /* "*": bytes up to a slash */
	ITEM_DEEP,   /* two stars and a slash: "name/" any number of times */
	ITEM_DEEPER, /* the same, once at least */
	ITEM_REST    /* two stars at the end: what is left, a byte at least */
};

struct item {
	uint32_t kind : 8;
	uint32_t value : 24; /* IGNORE_TEXT_MAX is less */
};

struct set {
	uint8_t bits[32];
};

struct rule {
	uint32_t first, count; /* items */
	bool negated;
	bool directory; /* matches directories only */
	bool anywhere;  /* no slash in it: the last name of the path counts */
};

/* Arrays as long as the text is: no pattern makes more of anything than it has bytes. */
struct ignore {
	struct rule *rules;
	struct item *items;
	struct set *sets;
	size_t rule_count, item_count, set_count;
};

static const struct {
	const char *name;
	int (*has)(int);
} classes[] = {
	{ "alnum", isalnum },
	{ "alpha", isalpha },
	{ "blank", isblank },
	{ "cntrl", iscntrl },
	{ "digit", isdigit },
	{ "graph", isgraph },
	{ "lower", islower },
	{ "print", isprint },
	{ "punct", ispunct },
	{ "space", isspace },
	{ "upper", isupper },
	{ "xdigit", isxdigit },
};

static void set_add(struct set *set, unsigned byte)
{
	set->bits[byte / 8] |= (uint8_t)(1u << byte % 8);
}

static bool set_has(const struct set *set, unsigned byte)
{
	return (set->bits[byte / 8] >> byte % 8 & 1) != 0;
}

/* A text that is read from its beginning. */
struct cursor {
	const char *at, *end;
};

static bool next_byte(struct cursor *c, unsigned *byte)
{
	if (c->at == c->end)
		return false;
	*byte = (unsigned char)*c->at++;
	return true;
}

/* The byte that a backslash, if there is one, stands before. */
static bool next_escaped(struct cursor *c, unsigned *byte)
{
	return next_byte(c, byte) && (*byte != '\\' || next_byte(c, byte));
}

/* ":alpha:]", read from behind its bracket. False: no class of that name; ${c} stays
 * where it was when it is not even the form of one. */
static bool read_class(struct cursor *c, struct set *set, bool *is_class)
{
	const char *name = c->at + 1;
	const char *end = memchr(name, ']', (size_t)(c->end - name));

	*is_class = false;
	if (end == NULL)
		return false; /* nor does the set around it end */
	if (end == name || end[-1] != ':')
		return true;
	*is_class = true;
	c->at = end + 1;
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
		if (strlen(classes[i].name) != (size_t)(end - 1 - name) ||
		    memcmp(classes[i].name, name, (size_t)(end - 1 - name)) != 0)
			continue;
		for (unsigned byte = 0; byte < 0x80; byte++)
			if (classes[i].has((int)byte))
				set_add(set, byte);
		return true;
	}
	return false;
}

/* What is between the brackets. False: it is unfinished or has no sense. */
static bool read_members(struct cursor *c, struct set *set)
{
	unsigned byte, low = 0; /* 0: no range may begin */
	bool is_class;

	for (bool first = true; c->at < c->end; first = false) {
		if (*c->at == ']' && !first) {
			c->at++;
			return true;
		}
		if (*c->at == '-' && low != 0 && c->end - c->at > 1 && c->at[1] != ']') {
			c->at++;
			if (!next_escaped(c, &byte))
				return false;
			for (; low <= byte; low++)
				set_add(set, low);
			low = 0;
			continue;
		}
		if (*c->at == '[' && c->end - c->at > 1 && c->at[1] == ':') {
			c->at++;
			if (!read_class(c, set, &is_class))
				return false;
			low = is_class ? 0 : '[';
			if (!is_class)
				set_add(set, '[');
			continue;
		}
		if (!next_escaped(c, &byte))
			return false;
		set_add(set, byte);
		low = byte;
	}
	return false;
}

static bool read_set(struct cursor *c, struct set *set)
{
	bool negated = c->at < c->end && (*c->at == '!' || *c->at == '^');

	memset(set, 0, sizeof(*set));
	c->at += negated;
	if (!read_members(c, set))
		return false;
	for (size_t i = 0; negated && i < sizeof(set->bits); i++)
		set->bits[i] = (uint8_t)~set->bits[i];
	set->bits['/' / 8] &= (uint8_t) ~(1u << '/' % 8);
	return true;
}

/* Stars; two of them are more than one only when they are all of a name. */
static enum item_kind read_stars(struct cursor *c, const char *pattern)
{
	const char *begin = c->at;

	while (c->at < c->end && *c->at == '*')
		c->at++;
	bool alone = begin == pattern || begin[-1] == '/';
	if (c->at - begin < 2 || !alone)
		return ITEM_STAR;
	if (c->at == c->end)
		return ITEM_REST;
	if (*c->at == '/') {
		c->at++;
		return ITEM_DEEP;
	}
	if (*c->at == '\\' && c->end - c->at > 1 && c->at[1] == '/') {
		c->at += 2;
		return ITEM_DEEPER;
	}
	return ITEM_STAR;
}

static void add_item(struct ignore *g, enum item_kind kind, size_t value)
{
	g->items[g->item_count++] =
	    (struct item){ .kind = (uint8_t)kind, .value = (uint32_t)value & 0xffffff };
}

/* False: it can never match. */
static bool compile(struct ignore *g, const char *pattern, size_t len)
{
	struct cursor c = { pattern, pattern + len };
	unsigned byte;

	while (c.at < c.end) {
		switch (*c.at) {
		case '?':
			c.at++;
			add_item(g, ITEM_ANY, 0);
			break;
		case '*':
			add_item(g, read_stars(&c, pattern), 0);
			break;
		case '[':
			c.at++;
			if (!read_set(&c, &g->sets[g->set_count]))
				return false;
			add_item(g, ITEM_SET, g->set_count++);
			break;
		default:
			if (!next_escaped(&c, &byte))
				return false;
			add_item(g, ITEM_BYTE, byte);
		}
	}
	return len > 0;
}

static void add_rule(struct ignore *g, const char *pattern, size_t len)
{
	struct rule rule = { .first = (uint32_t)g->item_count };
	size_t sets = g->set_count;

	rule.negated = len > 0 && pattern[0] == '!';
	pattern += rule.negated;
	len -= rule.negated;
	rule.directory = len > 0 && pattern[len - 1] == '/';
	len -= rule.directory;
	rule.anywhere = memchr(pattern, '/', len) == NULL;
	if (len > 0 && pattern[0] == '/') {
		pattern++;
		len--;
	}
	if (compile(g, pattern, len)) {
		rule.count = (uint32_t)(g->item_count - rule.first);
		g->rules[g->rule_count++] = rule;
	} else {
		g->item_count = rule.first;
		g->set_count = sets;
	}
}

/* For patterns of ${len} bytes in all, each with one byte behind it. */
static struct ignore *ignore_create(size_t len, struct err *err)
{
	struct ignore *g = len <= IGNORE_TEXT_MAX ? calloc(1, sizeof(*g)) : NULL;

	if (len > IGNORE_TEXT_MAX) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "more than %zu bytes of patterns",
		    IGNORE_TEXT_MAX);
		return NULL;
	}
	if (g != NULL) {
		/* "a" and a line's end are a rule, "[a]" is a set. */
		g->rules = malloc((len / 2 + 1) * sizeof(*g->rules));
		g->items = malloc((len + 1) * sizeof(*g->items));
		g->sets = malloc((len / 3 + 1) * sizeof(*g->sets));
	}
	if (g == NULL || g->rules == NULL || g->items == NULL || g->sets == NULL) {
		ignore_free(g);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	return g;
}

void ignore_free(struct ignore *g)
{
	if (g == NULL)
		return;
	free(g->rules);
	free(g->items);
	free(g->sets);
	free(g);
}

/* Spaces at the end do not count, unless there is a backslash before them. */
static size_t trim(const char *line, size_t len)
{
	size_t kept = 0;

	for (size_t i = 0; i < len; i++) {
		if (line[i] == '\\') {
			if (++i == len)
				return len;
			kept = i + 1;
		} else if (line[i] != ' ') {
			kept = i + 1;
		}
	}
	return kept;
}

struct ignore *ignore_parse(const char *text, size_t len, struct err *err)
{
	static const char mark[] = { '\xef', '\xbb', '\xbf' };
	struct ignore *g = ignore_create(len + 1, err);

	if (g == NULL)
		return NULL;
	if (len >= sizeof(mark) && memcmp(text, mark, sizeof(mark)) == 0) {
		text += sizeof(mark);
		len -= sizeof(mark);
	}
	for (size_t at = 0, n; at < len; at += n + 1) {
		const char *line = text + at, *end = memchr(line, '\n', len - at);
		n = end != NULL ? (size_t)(end - line) : len - at;
		size_t used = strnlen(line, n);
		if (used == 0 || line[0] == '#')
			continue;
		used -= used == n && line[n - 1] == '\r';
		add_rule(g, line, trim(line, used));
	}
	return g;
}

struct ignore *ignore_list(const char *const *patterns, struct err *err)
{
	size_t len = 0;

	for (size_t i = 0; patterns[i] != NULL && len <= IGNORE_TEXT_MAX; i++)
		len += strlen(patterns[i]) + 1;
	struct ignore *g = ignore_create(len, err);
	for (size_t i = 0; g != NULL && patterns[i] != NULL; i++)
		add_rule(g, patterns[i], strlen(patterns[i]));
	return g;
}

/* Matching. */

static bool takes(const struct ignore *g, struct item item, unsigned char byte)
{
	switch ((enum item_kind)item.kind) {
	case ITEM_BYTE:
		return item.value == byte;
	case ITEM_ANY:
		return byte != '/';
	case ITEM_SET:
		return set_has(&g->sets[item.value], byte);
	default:
		return false;
	}
}

/* Where to go on when what was tried does not fit: with one byte or one name more. */
struct mark {
	const struct item *item; /* behind the stars; NULL: nowhere */
	const char *at;
};

struct attempt {
	const struct item *item;
	const char *at, *end; /* of the path */
	struct mark star, deep;
};

/* Moves behind the next slash. */
static bool next_name(const char **at, const char *end)
{
	const char *slash = memchr(*at, '/', (size_t)(end - *at));

	*at = slash != NULL ? slash + 1 : end;
	return slash != NULL;
}

static bool retry(struct attempt *a)
{
	if (a->star.item != NULL && a->star.at < a->end && *a->star.at != '/') {
		a->at = ++a->star.at;
		a->item = a->star.item;
		return true;
	}
	if (a->deep.item == NULL || !next_name(&a->deep.at, a->end))
		return false;
	a->at = a->deep.at;
	a->item = a->deep.item;
	a->star.item = NULL;
	return true;
}

/* One item; false: it does not fit. */
static bool step(const struct ignore *g, struct attempt *a)
{
	switch ((enum item_kind)a->item->kind) {
	case ITEM_STAR:
		a->star = (struct mark){ ++a->item, a->at };
		return true;
	case ITEM_DEEPER:
		if (!next_name(&a->at, a->end))
			return false;
		/* fall through */
	case ITEM_DEEP:
		a->deep = (struct mark){ ++a->item, a->at };
		a->star.item = NULL;
		return true;
	case ITEM_REST:
		if (a->at == a->end)
			return false;
		a->item++;
		a->at = a->end;
		return true;
	default:
		if (a->at == a->end || !takes(g, *a->item, (unsigned char)*a->at))
			return false;
		if (*a->at == '/')
			a->star.item = NULL; /* no star reaches across */
		a->item++;
		a->at++;
		return true;
	}
}

static bool rule_matches(
    const struct ignore *g, const struct rule *rule, const char *path, const char *end)
{
	const struct item *last = g->items + rule->first + rule->count;
	struct attempt a = { .item = g->items + rule->first, .at = path, .end = end };

	for (;;) {
		if (a.item == last && a.at == a.end)
			return true;
		if ((a.item == last || !step(g, &a)) && !retry(&a))
			return false;
	}
}

static enum ignore_answer match(
    const struct ignore *g, const char *path, const char *end, bool directory)
{
	const char *slash = memrchr(path, '/', (size_t)(end - path));
	const char *name = slash != NULL ? slash + 1 : path;

	for (size_t i = g->rule_count; i-- > 0;) {
		const struct rule *rule = &g->rules[i];
		if (rule->directory && !directory)
			continue;
		if (rule_matches(g, rule, rule->anywhere ? name : path, end))
			return rule->negated ? IGNORE_IN : IGNORE_OUT;
	}
	return IGNORE_SILENT;
}

enum ignore_answer ignore_match(const struct ignore *g, const char *path, bool directory)
{
	return match(g, path, path + strlen(path), directory);
}

bool ignore_covers(const struct ignore *g, const char *path, bool directory)
{
	const char *end = path + strlen(path);

	for (const char *slash = path; (slash = strchr(slash, '/')) != NULL; slash++)
		if (match(g, path, slash, true) == IGNORE_OUT)
			return true;
	return match(g, path, end, directory) == IGNORE_OUT;
}
