#include "base/config.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define LINE_BYTES_MAX 4096
#define PLACE_PATH_MAX 80 /* bytes of a file's path in an error, so that the key fits behind it */

const char CONFIG_REQUIRED[] = "";

/* The sources, from weak to strong. */
enum strength {
	STRENGTH_NONE,
	STRENGTH_DEFAULT,
	STRENGTH_FILE,
	STRENGTH_ENVIRONMENT,
	STRENGTH_FLAG
};

/* Field types. */

int config_string(void *field, const char *value, struct err *err)
{
	char *copy = strdup(value);

	if (copy == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	free(*(char **)field);
	*(char **)field = copy;
	return 0;
}

int config_bool(void *field, const char *value, struct err *err)
{
	static const char *const yes[] = { "true", "yes", "on", "1" },
				 *const no[] = { "false", "no", "off", "0" };

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
		if (strcmp(value, yes[i]) == 0 || strcmp(value, no[i]) == 0) {
			*(bool *)field = strcmp(value, yes[i]) == 0;
			return 0;
		}
	}
	return err_set(err, GRPC_INVALID_ARGUMENT, "\"%s\" is neither true nor false", value);
}

int config_uint(void *field, const char *value, struct err *err)
{
	uint64_t n;

	if (text_to_u64(value, 0, UINT32_MAX, &n, err) != 0)
		return -1;
	*(unsigned *)field = (unsigned)n;
	return 0;
}

/* A number with one of the given units behind it. */
static int parse_scaled(uint64_t *out, const char *value, const char *const *units,
    const uint64_t *factors, const char *what, struct err *err)
{
	char *end;

	errno = 0;
	unsigned long long n = strtoull(value, &end, 10);
	for (size_t i = 0; value[0] >= '0' && value[0] <= '9' && errno == 0 && units[i] != NULL;
	     i++) {
		uint64_t scaled;
		if (strcasecmp(end, units[i]) == 0 &&
		    !__builtin_mul_overflow(n, factors[i], &scaled)) {
			*out = scaled;
			return 0;
		}
	}
	return err_set(err, GRPC_INVALID_ARGUMENT, "\"%s\" is not %s", value, what);
}

int config_size(void *field, const char *value, struct err *err)
{
	static const char *const units[] = { "", "K", "KiB", "M", "MiB", "G", "GiB", NULL };
	static const uint64_t factors[] = { 1, 1 << 10, 1 << 10, 1 << 20, 1 << 20, 1 << 30,
		1 << 30 };

	return parse_scaled(field, value, units, factors, "a size, such as 64K, 16M or 1G", err);
}

int config_duration(void *field, const char *value, struct err *err)
{
	static const char *const units[] = { "ms", "s", "", "m", "h", NULL };
	static const uint64_t factors[] = { 1, 1000, 1000, 60000, 3600000 };

	return parse_scaled(field, value, units, factors, "a time, such as 500ms, 30s or 2h", err);
}

int config_list(void *field, const char *value, struct err *err)
{
	struct config_list_value *list = field;

	if (list->count == CONFIG_LIST_MAX)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "given more than %d times", CONFIG_LIST_MAX);
	if ((list->item[list->count] = strdup(value)) == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	list->count++;
	return 0;
}

static void free_list(struct config_list_value *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->item[i]);
	list->count = 0;
}

/* Setting a key. */

void config_begin(struct config *c, const struct config_key *keys, void *target)
{
	size_t count = 0;

	*c = (struct config){ .keys = keys, .target = target };
	while (keys[count].name != NULL)
		count++;
	assert(count <= sizeof(c->set));
}

static void *field_of(const struct config *c, const struct config_key *k)
{
	return (char *)c->target + k->offset;
}

/* ${where} is what the person wrote: "--loops", "file:3: loops". */
static int set(struct config *c, const struct config_key *k, enum strength strength,
    const char *where, const char *value, struct err *err)
{
	uint8_t *now = &c->set[k - c->keys];
	bool is_list = k->parse == config_list;

	if (*now > strength)
		return 0;
	if (*now == (uint8_t)STRENGTH_FLAG && !is_list && k->arg != NULL)
		return err_set(err, GRPC_INVALID_ARGUMENT, "%s: given twice", where);
	if (is_list && *now < strength)
		free_list(field_of(c, k));
	if (k->parse(field_of(c, k), value, err) != 0)
		return err_wrap(err, "%s", where);
	*now = (uint8_t)strength;
	return 0;
}

static const struct config_key *find(const struct config *c, const char *name, size_t len)
{
	for (const struct config_key *k = c->keys; k->name != NULL; k++)
		if (strlen(k->name) == len && memcmp(k->name, name, len) == 0)
			return k;
	return NULL;
}

static const struct config_key *find_letter(const struct config *c, char letter)
{
	for (const struct config_key *k = c->keys; k->name != NULL; k++)
		if (k->letter == letter)
			return k;
	return NULL;
}

/* Flags. */

/* What one word of the command line says. */
struct flag {
	const struct config_key *key;
	const char *value; /* NULL: none given with it */
	bool negated;
};

static struct flag read_flag(const struct config *c, const char *word)
{
	struct flag f = { 0 };

	if (word[1] != '-') {
		f.key = find_letter(c, word[1]);
		if (word[2] != '\0')
			f.value = word + 2 + (word[2] == '=');
		return f;
	}
	size_t len = strcspn(word + 2, "=");
	if (word[2 + len] == '=')
		f.value = word + 2 + len + 1;
	f.key = find(c, word + 2, len);
	if (f.key == NULL && strncmp(word, "--no-", 5) == 0 &&
	    (f.key = find(c, word + 5, len - 3)) != NULL) {
		f.negated = true;
		if (f.key->arg != NULL || f.value != NULL)
			f.key = NULL;
	}
	return f;
}

/* Applies a flag; ${next} is the word behind it, or NULL. Returns how many words it took, -1 on
 * error. */
static int apply_flag(struct config *c, const char *word, const char *next, struct err *err)
{
	struct flag f = read_flag(c, word);
	int words = 1;

	/* The value of a misspelt option may be a secret. */
	if (f.key == NULL)
		return err_set(err, GRPC_INVALID_ARGUMENT, "unknown option %.*s; see --help",
		    (int)strcspn(word, "="), word);
	if (f.key->arg == NULL) {
		if (f.value == NULL)
			f.value = f.negated ? "false" : "true";
	} else if (f.value == NULL) {
		if (next == NULL)
			return err_set(
			    err, GRPC_INVALID_ARGUMENT, "%s needs a value: %s", word, f.key->arg);
		f.value = next;
		words = 2;
	}
	char where[128];
	snprintf(where, sizeof(where), "--%s", f.key->name);
	return set(c, f.key, STRENGTH_FLAG, where, f.value, err) == 0 ? words : -1;
}

/* "-rf" is "-r -f" if both are switches; the last one may be no switch, with its value in the
 * next word. */
static bool is_group(const struct config *c, const char *word)
{
	if (word[1] == '-' || word[2] == '\0')
		return false;
	for (const char *at = word + 1; *at != '\0'; at++) {
		const struct config_key *k = find_letter(c, *at);

		if (k == NULL || (k->arg != NULL && at[1] != '\0'))
			return false;
	}
	return true;
}

static int apply_word(struct config *c, int argc, char *argv[], int i, struct err *err)
{
	const char *next = i + 1 < argc ? argv[i + 1] : NULL;
	int words = 1;

	if (!is_group(c, argv[i]))
		return apply_flag(c, argv[i], next, err);
	for (const char *at = argv[i] + 1; *at != '\0' && words > 0; at++) {
		const char one[] = { '-', *at, '\0' };

		words = apply_flag(c, one, next, err);
	}
	return words;
}

/* Moves ${count} words at ${from} to the front of argv[to...], keeping the order. */
static void rotate(char *argv[], int to, int from, int count)
{
	for (int n = 0; n < count; n++) {
		char *word = argv[from + n];
		memmove(&argv[to + n + 1], &argv[to + n], (size_t)(from - to) * sizeof(*argv));
		argv[to + n] = word;
	}
}

int config_flags(struct config *c, int argc, char *argv[], bool first_word, struct err *err)
{
	int front = 1; /* flags end here, words begin */

	for (int i = 1; i < argc;) {
		if (strcmp(argv[i], "--") == 0) {
			rotate(argv, front, i, 1);
			return front + 1;
		}
		if (argv[i][0] != '-' || argv[i][1] == '\0') {
			if (first_word)
				return i;
			i++;
			continue;
		}
		int words = apply_word(c, argc, argv, i, err);
		if (words < 0)
			return -1;
		rotate(argv, front, i, words);
		front += words;
		i += words;
	}
	return front;
}

/* The environment and files. */

int config_environment(struct config *c, struct err *err)
{
	for (const struct config_key *k = c->keys; k->name != NULL; k++) {
		const char *value = k->env != NULL ? getenv(k->env) : NULL;
		if (value != NULL && value[0] != '\0' &&
		    set(c, k, STRENGTH_ENVIRONMENT, k->env, value, err) != 0)
			return -1;
	}
	return 0;
}

static char *trim(char *s)
{
	s += strspn(s, " \t\r\n");
	for (size_t n = strlen(s); n > 0 && strchr(" \t\r\n", s[n - 1]) != NULL;)
		s[--n] = '\0';
	return s;
}

int config_line(struct config *c, const char *where, const char *line, struct err *err)
{
	char copy[LINE_BYTES_MAX], label[256];

	if (strlen(line) >= sizeof(copy))
		return err_set(err, GRPC_INVALID_ARGUMENT, "%s: a line of more than %d bytes",
		    where, LINE_BYTES_MAX - 1);
	snprintf(copy, sizeof(copy), "%s", line);
	char *name = trim(copy);
	if (name[0] == '\0' || name[0] == '#')
		return 0;
	char *equals = strchr(name, '=');
	if (equals == NULL)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "%s: %.*s: no \"=\"; a line is \"name = value\"", where,
		    (int)strcspn(name, " \t"), name);
	*equals = '\0';
	char *value = trim(equals + 1);
	name = trim(name);
	const struct config_key *k = find(c, name, strlen(name));
	if (k == NULL || k->flag_only)
		return err_set(err, GRPC_INVALID_ARGUMENT, "%s: unknown name \"%s\"", where, name);
	snprintf(label, sizeof(label), "%s: %s", where, k->name);
	return set(c, k, STRENGTH_FILE, label, value, err);
}

/* A line without its end, its length in ${len}. Of one too long the first LINE_BYTES_MAX
 * bytes. */
static bool read_line(FILE *f, char line[static LINE_BYTES_MAX + 1], size_t *len)
{
	size_t n = 0;
	int c = 0;

	while (n < LINE_BYTES_MAX && (c = getc(f)) != EOF && c != '\n')
		line[n++] = (char)c;
	line[n] = '\0';
	*len = n;
	return n > 0 || c == '\n';
}

int config_file(struct config *c, const char *path, struct err *err)
{
	char line[LINE_BYTES_MAX + 1], where[PLACE_PATH_MAX + 32];
	size_t len, path_len = strlen(path);
	bool is_long = path_len > PLACE_PATH_MAX;
	const char *shown = is_long ? path + path_len - PLACE_PATH_MAX : path;
	FILE *f = fopen(path, "re");
	int r = 0;

	if (f == NULL)
		return err_sys(err, errno, "%s", path);
	for (unsigned n = 1; r == 0 && read_line(f, line, &len); n++) {
		snprintf(where, sizeof(where), "%s%s:%u", is_long ? "..." : "", shown, n);
		if (strlen(line) != len)
			r = err_set(err, GRPC_INVALID_ARGUMENT, "%s: a NUL in a line", where);
		else
			r = config_line(c, where, line, err);
	}
	if (r == 0 && ferror(f))
		r = err_sys(err, errno, "%s", path);
	fclose(f);
	return r;
}

int config_finish(struct config *c, struct err *err)
{
	for (const struct config_key *k = c->keys; k->name != NULL; k++) {
		if (c->set[k - c->keys] != STRENGTH_NONE || k->dflt == NULL)
			continue;
		if (k->dflt == CONFIG_REQUIRED)
			return err_set(
			    err, GRPC_INVALID_ARGUMENT, "--%s must be given; see --help", k->name);
		if (set(c, k, STRENGTH_DEFAULT, k->name, k->dflt, err) != 0)
			return -1;
	}
	return 0;
}

void config_free(struct config *c)
{
	for (const struct config_key *k = c->keys; k != NULL && k->name != NULL; k++) {
		if (k->parse == config_string) {
			free(*(char **)field_of(c, k));
			*(char **)field_of(c, k) = NULL;
		} else if (k->parse == config_list) {
			free_list(field_of(c, k));
		}
	}
}

void config_help(const struct config_key *keys, FILE *out)
{
	char left[64];

	for (const struct config_key *k = keys; k->name != NULL; k++) {
		char letter[8] = "    ";
		if (k->letter != 0)
			snprintf(letter, sizeof(letter), "-%c, ", k->letter);
		snprintf(left, sizeof(left), "%s--%s%s%s", letter, k->name,
		    k->arg != NULL ? " " : "", k->arg != NULL ? k->arg : "");
		fprintf(out, "  %-32s %s", left, k->help);
		if (k->dflt != NULL && k->dflt[0] != '\0')
			fprintf(out, " (default %s)", k->dflt);
		if (k->env != NULL)
			fprintf(out, " [%s]", k->env);
		fputc('\n', out);
	}
}
