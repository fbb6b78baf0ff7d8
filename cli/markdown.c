#include "cli/markdown.h"

#include <string.h>

#define PATH_BYTES_MAX 128

/* Text of ours as a cell of a table, where bars have a meaning. */
static void put_cell(const char *text, FILE *out)
{
	for (; *text != '\0'; text++) {
		if (*text == '|' || *text == '<' || *text == '*' || *text == '_')
			fputc('\\', out);
		fputc(*text, out);
	}
}

static void put_key(const struct config_key *k, FILE *out)
{
	fputs("| `", out);
	if (k->letter != 0)
		fprintf(out, "-%c`, `", k->letter);
	fprintf(
	    out, "--%s%s%s` | ", k->name, k->arg != NULL ? " " : "", k->arg != NULL ? k->arg : "");
	put_cell(k->help, out);
	if (k->dflt == CONFIG_REQUIRED)
		fputs(" (has to be given)", out);
	else if (k->dflt != NULL && k->dflt[0] != '\0')
		fprintf(out, " (default `%s`)", k->dflt);
	if (k->env != NULL)
		fprintf(out, "; `$%s`", k->env);
	fputs(" |\n", out);
}

static void put_keys(const struct config_key *k, FILE *out)
{
	if (k == NULL)
		return;
	fputs("\n| option | |\n|---|---|\n", out);
	for (; k->name != NULL; k++)
		put_key(k, out);
}

static void put_examples(const char *const *at, FILE *out)
{
	if (at == NULL)
		return;
	fputc('\n', out);
	for (; *at != NULL; at++)
		fprintf(out, "    %s\n", *at);
}

static void put_verb(const struct cmd *c, const char *path, FILE *out)
{
	bool has_args = c->args[0] != '\0';

	fprintf(
	    out, "\n### %s\n\n`%s%s%s`: %s.", path, path, has_args ? " " : "", c->args, c->help);
	if (c->alias != NULL)
		fprintf(out, " Also: `%s`.", c->alias);
	fputc('\n', out);
	if (c->more != NULL)
		fprintf(out, "\n%s", c->more);
	put_keys(c->keys, out);
	put_examples(c->examples, out);
}

static void put_verbs(const struct cmd *group, const char *path, FILE *out)
{
	for (const struct cmd *const *at = group->verbs; *at != NULL; at++) {
		const struct cmd *c = *at;
		char longer[PATH_BYTES_MAX];

		snprintf(longer, sizeof(longer), "%s %s", path, c->name);
		if (c->verbs == NULL) {
			put_verb(c, longer, out);
			continue;
		}
		fprintf(out, "\n## %s\n\nTo %s.", longer, c->help);
		if (c->alias != NULL)
			fprintf(out, " Also: `%s`.", c->alias);
		fputc('\n', out);
		put_verbs(c, longer, out);
	}
}

void markdown_print(const struct cmd *root, FILE *out)
{
	fputs("\n## Options of all verbs\n\nThey may stand before or behind the verb.\n", out);
	put_keys(cli_keys, out);
	put_verbs(root, root->name, out);
}
