#include "sshd/scp_line.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define BLANKS " \t"

/* A word as it is read: what was quoted has no meaning as a pattern. */
struct word {
	char *text; /* quoted characters behind a "\" */
	size_t len;
	bool is_quoted; /* a part of it; then it may be empty */
};

static void add(struct word *w, char c, bool quoted)
{
	bool is_plain = isalnum((unsigned char)c) || (unsigned char)c >= 0x80 ||
	    strchr("/._-+,:@%=", c) != NULL;

	if (quoted && !is_plain)
		w->text[w->len++] = '\\';
	w->text[w->len++] = c;
}

/* Behind the quote at ${at} - 1; NULL: it does not end, or means more. */
static const char *read_single(struct word *w, const char *at)
{
	w->is_quoted = true;
	for (; *at != '\''; at++) {
		if (*at == '\0')
			return NULL;
		add(w, *at, true);
	}
	return at + 1;
}

static const char *read_double(struct word *w, const char *at)
{
	w->is_quoted = true;
	for (; *at != '"'; at++) {
		if (*at == '\0' || *at == '$' || *at == '`')
			return NULL;
		if (*at == '\\' && at[1] != '\0' && strchr("$`\"\\", at[1]) != NULL)
			at++;
		add(w, *at, true);
	}
	return at + 1;
}

/* One word, and where it ends; NULL: the line is not ours. */
static const char *read_word(struct word *w, const char *at)
{
	if (*at == '#')
		return NULL;
	while (at != NULL && *at != '\0' && strchr(BLANKS, *at) == NULL) {
		char c = *at++;

		if (c == '\'') {
			at = read_single(w, at);
		} else if (c == '"') {
			at = read_double(w, at);
		} else if (c == '\\') {
			if (*at == '\0' || *at == '\n')
				return NULL;
			add(w, *at++, true);
		} else if (strchr("$`;&|<>(){}!\r\n", c) != NULL) {
			return NULL;
		} else {
			add(w, c, false);
		}
	}
	return at;
}

/* The next word, which the caller frees; NULL: there is none, or (${fine} false) the line
 * is not ours. */
static char *next_word(const char **line, bool *fine)
{
	struct word w = { 0 };
	const char *at = *line + strspn(*line, BLANKS);

	if (*at == '\0')
		return NULL;
	if ((w.text = malloc(strlen(at) * 2 + 1)) != NULL)
		at = read_word(&w, at);
	if (w.text == NULL || at == NULL || (w.len == 0 && !w.is_quoted)) {
		free(w.text);
		*fine = false;
		return NULL;
	}
	w.text[w.len] = '\0';
	*line = at;
	return w.text;
}

static bool read_options(const char *word, struct scp_line *l, bool *sink, bool *source)
{
	for (const char *o = word + 1; *o != '\0'; o++) {
		switch (*o) {
		case 't':
			*sink = true;
			break;
		case 'f':
			*source = true;
			break;
		case 'r':
			l->recursive = true;
			break;
		case 'p':
			l->preserve = true;
			break;
		case 'd':
			l->directory = true;
			break;
		case 'q': /* of no matter at this end */
		case 'v':
			break;
		default:
			return false;
		}
	}
	return word[1] != '\0';
}

static bool is_scp(const char *word)
{
	const char *base = strrchr(word, '/');

	return strcmp(base != NULL ? base + 1 : word, "scp") == 0;
}

/* What was written to stand for itself. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *at = text; *at != '\0'; at++) {
		if (*at == '\\' && at[1] != '\0')
			at++;
		*to++ = *at;
	}
	*to = '\0';
}

static bool read_words(const char *line, struct scp_line *l)
{
	bool fine = true, options = true, sink = false, source = false;
	char *word = next_word(&line, &fine);
	bool ours = word != NULL && is_scp(word);

	free(word);
	while (ours && (word = next_word(&line, &fine)) != NULL) {
		if (options && strcmp(word, "--") == 0) {
			options = false;
		} else if (options && word[0] == '-') {
			ours = read_options(word, l, &sink, &source);
		} else if (l->count < SCP_LINE_PATHS_MAX && word[0] != '\0') {
			options = false;
			l->paths[l->count++] = word;
			continue;
		} else {
			ours = false;
		}
		free(word);
	}
	l->sink = sink;
	return ours && fine && sink != source && l->count > 0 && (source || l->count == 1);
}

bool scp_line_parse(const char *line, struct scp_line *l)
{
	*l = (struct scp_line){ 0 };
	if (strlen(line) > SCP_LINE_BYTES || !read_words(line, l)) {
		scp_line_free(l);
		return false;
	}
	if (l->sink)
		unescape(l->paths[0]);
	return true;
}

void scp_line_free(struct scp_line *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->paths[i]);
	l->count = 0;
}
