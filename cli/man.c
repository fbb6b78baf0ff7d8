#include "cli/man.h"

#include <string.h>

#define PATH_BYTES_MAX 128

/* Text of ours, with what roff would understand made plain. */
static void put(const char *text, FILE *out)
{
	for (bool begin = true; *text != '\0'; begin = *text++ == '\n') {
		if (begin && (*text == '.' || *text == '\''))
			fputs("\\&", out);
		if (*text == '\\' || *text == '-')
			fputc('\\', out);
		fputc(*text, out);
	}
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
	if (k->dflt != NULL && k->dflt[0] != '\0') {
		fputs(" (default ", out);
		put(k->dflt, out);
		fputc(')', out);
	}
	if (k->env != NULL)
		fprintf(out, "; $%s", k->env);
	fputc('\n', out);
}

static void put_keys(const struct config_key *k, FILE *out)
{
	for (; k != NULL && k->name != NULL; k++)
		put_key(k, out);
}

static void put_verb(const struct cmd *c, const char *path, FILE *out)
{
	fputs(".SS ", out);
	put(path, out);
	fputc(' ', out);
	put(c->args, out);
	fputc('\n', out);
	put(c->help, out);
	fputs(".\n", out);
	if (c->more != NULL) {
		fputs(".PP\n", out);
		put(c->more, out);
	}
	put_keys(c->keys, out);
	if (c->examples != NULL)
		fputs(".PP\n.nf\n.RS\n", out);
	for (const char *const *at = c->examples; at != NULL && *at != NULL; at++) {
		put(*at, out);
		fputc('\n', out);
	}
	if (c->examples != NULL)
		fputs(".RE\n.fi\n", out);
}

static void put_verbs(const struct cmd *group, const char *path, FILE *out)
{
	for (const struct cmd *const *at = group->verbs; *at != NULL; at++) {
		char longer[PATH_BYTES_MAX];

		snprintf(longer, sizeof(longer), "%s %s", path, (*at)->name);
		if ((*at)->verbs != NULL)
			put_verbs(*at, longer, out);
		else
			put_verb(*at, longer, out);
	}
}

void man_print(const struct cmd *root, FILE *out)
{
	fputs(".TH TOWLINE 1 \"\" \"Towline " TOWLINE_VERSION "\"\n.SH NAME\n", out);
	put(root->name, out);
	fputs(" \\- ", out);
	put(root->help, out);
	fputs("\n.SH SYNOPSIS\n\\fBtowline\\fR [\\fIOPTION\\fR...] \\fIVERB\\fR ...\n", out);
	fputs(".SH OPTIONS OF ALL VERBS\n", out);
	put_keys(cli_keys, out);
	fputs(".SH VERBS\n", out);
	put_verbs(root, root->name, out);
	fputs(".SH EXIT STATUS\n"
	      "0: all went well; 1: it failed; 2: the command line makes no sense; 23: a\n"
	      "transfer that left entries out. exec and connect: the command's own, 124 after\n"
	      "its timeout, 128 and a signal's number, 255 if the connection failed.\n",
	    out);
}
