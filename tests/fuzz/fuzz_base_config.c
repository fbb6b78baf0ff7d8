/*
 * What people write: the lines of a file and the words of a command line, through the table that
 * has every type of field. What one source accepts the other has to accept with the same result;
 * what is refused has an error that can be shown.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/config.h"
#include "base/text.h"

#define WORDS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct options {
	char *name;
	bool tls;
	unsigned loops;
	uint64_t size;
	uint64_t wait;
	struct config_list_value tags;
};

#define KEY(n, l, a, p, field, d)                                                   \
	{                                                                           \
		.name = (n), .letter = (l), .arg = (a), .parse = (p),               \
		.offset = offsetof(struct options, field), .dflt = (d), .help = (n) \
	}

static const struct config_key keys[] = {
	KEY("name", 'n', "NAME", config_string, name, "nobody"),
	KEY("tls", 't', NULL, config_bool, tls, "true"),
	KEY("loops", 'l', "N", config_uint, loops, "2"),
	KEY("size", 's', "BYTES", config_size, size, "64K"),
	KEY("wait", 'w', "TIME", config_duration, wait, "30s"),
	KEY("tag", 'g', "TAG", config_list, tags, NULL),
	{ .name = NULL },
};

static void check(bool what)
{
	if (!what)
		abort();
}

/* The answer and the error agree, and the text is short and printable. */
static bool succeeded(int answer, const struct err *err)
{
	size_t left = strlen(err->text), n;

	check((answer < 0) == (err->code != GRPC_OK));
	check(left < ERR_TEXT_MAX);
	for (const char *at = err->text; left > 0; at += n, left -= n) {
		n = text_printable(at, left);
		check(n > 0);
	}
	return answer >= 0;
}

static void check_same(const struct options *a, const struct options *b)
{
	check((a->name == NULL) == (b->name == NULL));
	check(a->name == NULL || strcmp(a->name, b->name) == 0);
	check(a->tls == b->tls && a->loops == b->loops);
	check(a->size == b->size && a->wait == b->wait);
	check(a->tags.count == b->tags.count && a->tags.count <= CONFIG_LIST_MAX);
	for (size_t i = 0; i < a->tags.count; i++)
		check(strcmp(a->tags.item[i], b->tags.item[i]) == 0);
}

/* "  name = value " is taken for what "--name=value" says, or both are refused. */
static void compare_with_flag(const struct config_key *k, const char *value)
{
	struct options of_line = { 0 }, of_flag = { 0 };
	struct config line, flag;
	struct err line_err = { 0 }, flag_err = { 0 };
	char *text, *word;

	check(asprintf(&text, "\t%s =  %s \r\n", k->name, value) >= 0);
	check(asprintf(&word, "--%s=%s", k->name, value) >= 0);
	config_begin(&line, keys, &of_line);
	config_begin(&flag, keys, &of_flag);
	bool fine = succeeded(config_line(&line, "conf:1", text, &line_err), &line_err);
	int used = config_flags(&flag, 2, (char *[]){ word, word, NULL }, false, &flag_err);
	check(succeeded(used, &flag_err) == fine);
	if (fine) {
		check(used == 2);
		check_same(&of_line, &of_flag);
	}
	check(config_finish(&line, NULL) == 0);
	config_free(&line);
	config_free(&flag);
	free(text);
	free(word);
}

static void try_value(const char *text)
{
	const struct config_key *k = &keys[(unsigned char)text[0] % 6];
	const char *value = text[0] != '\0' ? text + 1 : text;
	size_t len = strlen(value);

	/* A line is trimmed, and not endless. */
	if (len > 4000 ||
	    (len > 0 && (strchr(" \t\r\n", value[0]) || strchr(" \t\r\n", value[len - 1]))))
		return;
	compare_with_flag(k, value);
}

static void try_lines(char *text)
{
	struct options o = { 0 };
	struct config c;

	config_begin(&c, keys, &o);
	for (char *line; (line = strsep(&text, "\n")) != NULL;) {
		struct err err = { 0 };

		succeeded(config_line(&c, "conf:1", line, &err), &err);
		check(err.code == GRPC_OK || strncmp(err.text, "conf:1: ", 8) == 0);
	}
	check(config_finish(&c, NULL) == 0);
	config_free(&c);
}

/* Words are moved about, but none is lost or made. */
static void check_words(char *const *before, char *const *after, int count)
{
	for (int i = 0; i < count; i++) {
		int found = 0;

		for (int j = 0; j < count; j++)
			found += before[i] == after[j];
		check(found == 1);
	}
}

static void try_flags(char *text)
{
	char *before[WORDS_MAX + 1] = { text }, *argv[WORDS_MAX + 1];
	struct options o = { 0 };
	struct config c;
	struct err err = { 0 };
	int argc = 1;
	bool first_word = text[0] == 'f';

	strsep(&text, "\n");
	while (argc < WORDS_MAX && text != NULL)
		before[argc++] = strsep(&text, "\n");
	memcpy(argv, before, sizeof(argv));
	config_begin(&c, keys, &o);
	int rest = config_flags(&c, argc, argv, first_word, &err);
	if (succeeded(rest, &err)) {
		check(rest >= 1 && rest <= argc);
		/* Of what is left nothing looks like a flag, unless it was not to be looked at. */
		for (int i = rest; i < argc && !first_word && strcmp(argv[rest - 1], "--") != 0;
		     i++)
			check(argv[i][0] != '-' || argv[i][1] == '\0');
	}
	check(argv[argc] == NULL && argv[0] == before[0]);
	check_words(before, argv, argc);
	config_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;

	/* Memory of its own, with a NUL behind it. */
	char *text = strndup((const char *)data + 1, size - 1);

	check(text != NULL);
	switch (data[0] % 3) {
	case 0:
		try_value(text);
		break;
	case 1:
		try_lines(text);
		break;
	default:
		try_flags(text);
	}
	free(text);
	return 0;
}
