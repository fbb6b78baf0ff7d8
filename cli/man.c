#include "cli/man.h"

#include <stdbool.h>
#include <string.h>

#include "base/man.h"

#define PATH_BYTES_MAX 128

static void put_examples(const char *const *at, FILE *out)
{
	if (at == NULL)
		return;
	fputs(".PP\n", out);
	for (; *at != NULL; at++) {
		char line[1024];

		snprintf(line, sizeof(line), "  %s", *at);
		man_text(line, out);
		fputs(".br\n", out);
	}
}

static void put_verb(const struct cmd *c, const char *path, FILE *out)
{
	char line[1024];

	snprintf(line, sizeof(line), "%s %s", path, c->args);
	fputs(".SS ", out);
	man_text(line, out);
	if (c->alias != NULL)
		snprintf(line, sizeof(line), "%s. Also: %s.", c->help, c->alias);
	else
		snprintf(line, sizeof(line), "%s.", c->help);
	man_text(line, out);
	if (c->more != NULL) {
		fputs(".PP\n", out);
		man_text(c->more, out);
	}
	man_keys(c->keys, out);
	put_examples(c->examples, out);
}

static void put_verbs(const struct cmd *c, const char *path, FILE *out)
{
	if (c->verbs == NULL)
		put_verb(c, path, out);
	for (const struct cmd *const *at = c->verbs; at != NULL && *at != NULL; at++) {
		char longer[PATH_BYTES_MAX];

		snprintf(longer, sizeof(longer), "%s %s", path, (*at)->name);
		put_verbs(*at, longer, out);
	}
}

/* The other pages: of the groups, on the page of all. */
static void put_see_also(const struct cmd *c, bool is_root, FILE *out)
{
	man_heading("see also", out);
	if (!is_root)
		man_text("towline(1)", out);
	for (const struct cmd *const *at = c->verbs; is_root && at != NULL && *at != NULL; at++)
		if ((*at)->verbs != NULL)
			fprintf(out, "towline\\-%s(1),\n", (*at)->name);
	if (is_root)
		man_text("towline-gateway(8), towline-supervisor(8), towline-sshd(8)", out);
}

void man_print(const struct cmd *c, const char *path, FILE *out)
{
	bool is_root = strchr(path, ' ') == NULL;
	char name[PATH_BYTES_MAX], line[PATH_BYTES_MAX + 32];

	snprintf(name, sizeof(name), "%s", path);
	for (char *at = name; *at != '\0'; at++)
		*at = *at == ' ' ? '-' : *at;
	man_title(name, "1", c->help, out);
	man_heading("synopsis", out);
	if (c->verbs != NULL)
		snprintf(line, sizeof(line), "%s [OPTION...] VERB ...", path);
	else
		snprintf(line, sizeof(line), "%s [OPTION...] %s", path, c->args);
	man_text(line, out);
	if (is_root && c->more != NULL) {
		man_heading("description", out);
		man_text(c->more, out);
	}
	man_heading(c->verbs != NULL ? "verbs" : "description", out);
	put_verbs(c, path, out);
	man_heading("options of all verbs", out);
	man_keys(cli_keys, out);
	man_text("\nexit status:\n"
		 "0: all went well; 1: it failed; 2: the command line makes no sense; 23: a\n"
		 "transfer that left entries out. exec and connect: the command's own, 124 after\n"
		 "its timeout, 128 and a signal's number, 255 if the connection failed.\n",
	    out);
	put_see_also(c, is_root, out);
}
