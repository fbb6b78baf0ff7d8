#include "base/man.h"

#include <stdbool.h>
#include <string.h>

/* Text of ours, with what roff would understand made plain. */
static void put_n(const char *text, size_t n, FILE *out)
{
	if (n > 0 && (text[0] == '.' || text[0] == '\''))
		fputs("\\&", out);
	for (size_t i = 0; i < n; i++) {
		if (text[i] == '\\')
			fputs("\\e", out);
		else if (text[i] == '-')
			fputs("\\-", out);
		else
			fputc(text[i], out);
	}
}

static void put(const char *text, FILE *out)
{
	put_n(text, strlen(text), out);
}

static void put_capitals(const char *text, size_t n, FILE *out)
{
	for (size_t i = 0; i < n; i++)
		fputc(text[i] >= 'a' && text[i] <= 'z' ? text[i] - 'a' + 'A' : text[i], out);
}

void man_heading(const char *title, FILE *out)
{
	fputs(".SH ", out);
	put_capitals(title, strlen(title), out);
	fputc('\n', out);
}

/* What man_text() has to know of the lines before. */
struct lines {
	FILE *out;
	bool fixed;     /* lines stay as they are */
	bool paragraph; /* one begins with the next line */
};

static void set_fixed(struct lines *l, bool fixed)
{
	if (l->fixed != fixed)
		fputs(fixed ? ".nf\n" : ".fi\n", l->out);
	l->fixed = fixed;
}

static void put_line(struct lines *l, const char *line, size_t n)
{
	if (n == 0) {
		l->paragraph = true;
		return;
	}
	if (line[n - 1] == ':' && line[0] != ' ' && l->paragraph) {
		set_fixed(l, false);
		fputs(".SH ", l->out);
		put_capitals(line, n - 1, l->out);
	} else {
		if (l->paragraph)
			fputs(".PP\n", l->out);
		set_fixed(l, line[0] == ' ');
		put_n(line, n, l->out);
	}
	l->paragraph = false;
	fputc('\n', l->out);
}

void man_text(const char *text, FILE *out)
{
	struct lines l = { .out = out };

	while (*text != '\0') {
		size_t n = strcspn(text, "\n");
		put_line(&l, text, n);
		text += n + (text[n] == '\n');
	}
	set_fixed(&l, false);
}

static void put_key(const struct config_key *k, FILE *out)
{
	fputs(".TP\n\\fB", out);
	if (k->letter != 0)
		fprintf(out, "\\-%c\\fR, \\fB", k->letter);
	fputs("\\-\\-", out);
	put(k->name, out);
	if (k->arg != NULL) {
		fputs("\\fR \\fI", out);
		put(k->arg, out);
	}
	fputs("\\fR\n", out);
	put(k->help, out);
	if (k->dflt == CONFIG_REQUIRED) {
		fputs(" (has to be given)", out);
	} else if (k->dflt != NULL && k->dflt[0] != '\0') {
		fputs(" (default ", out);
		put(k->dflt, out);
		fputc(')', out);
	}
	if (k->env != NULL)
		fprintf(out, "; $%s", k->env);
	fputc('\n', out);
}

void man_keys(const struct config_key *k, FILE *out)
{
	for (; k != NULL && k->name != NULL; k++)
		put_key(k, out);
}

void man_title(const char *name, const char *section, const char *summary, FILE *out)
{
	fputs(".TH ", out);
	put_capitals(name, strlen(name), out);
	/* Names of options and variables are for copying: no hyphens in them. */
	fprintf(out, " %s \"\" \"Towline " TOWLINE_VERSION "\"\n.nh\n.ad l\n", section);
	man_heading("name", out);
	put(name, out);
	fputs(" \\- ", out);
	put(summary, out);
	fputc('\n', out);
}

/* The first paragraph line by line as it is, and what follows. */
static void put_usage(const char *usage, FILE *out)
{
	static const char word[] = "usage: ";
	const char *end = strstr(usage, "\n\n");
	size_t n = end != NULL ? (size_t)(end - usage) : strlen(usage);
	size_t skipped = strncmp(usage, word, sizeof(word) - 1) == 0 ? sizeof(word) - 1 : 0;

	man_heading("synopsis", out);
	fputs(".nf\n", out);
	put_n(usage + skipped, n - skipped, out);
	fputs("\n.fi\n", out);
	man_heading("description", out);
	if (end != NULL)
		man_text(end + 2, out);
}

void man_page(const struct man_page *p, FILE *out)
{
	man_title(p->name, p->section, p->summary, out);
	put_usage(p->usage, out);
	man_heading("options", out);
	man_keys(p->keys, out);
	man_text(p->epilogue, out);
	man_heading("see also", out);
	man_text(p->see_also, out);
}
