/* towline forward stop */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/forward_spec.h"
#include "cli/record.h"

#define FOUND_MAX 64

/* What is looked for, and what was found. */
struct search {
	struct forward_spec spec;
	bool any_bind;
	const char *sandbox; /* NULL: any */
	char files[FOUND_MAX][160];
	char names[FOUND_MAX][160];
	size_t count;
};

static void look_at(void *cookie, const char *file, const struct record *r)
{
	struct search *s = cookie;

	if (r->port != s->spec.port || (!s->any_bind && strcmp(r->bind, s->spec.bind) != 0) ||
	    (s->sandbox != NULL && strcmp(r->sandbox, s->sandbox) != 0) || s->count == FOUND_MAX)
		return;
	snprintf(s->files[s->count], sizeof(s->files[0]), "%s", file);
	snprintf(s->names[s->count], sizeof(s->names[0]), "%s:%u of sandbox %s", r->bind,
	    (unsigned)r->port, r->sandbox);
	s->count++;
}

static int stop_all(const struct cli *cli, const struct search *s)
{
	int code = CLI_EXIT_OK;

	for (size_t i = 0; i < s->count; i++) {
		struct err err = { 0 };

		if (record_end(s->files[i], &err) == 0 || err.code == GRPC_NOT_FOUND) {
			cli_say(cli, "stopped %s", s->names[i]);
		} else {
			err_wrap(&err, "%s", s->names[i]);
			code = cli_fail(cli, &err);
		}
	}
	return code;
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	const char *port = words->word[0];
	struct search s = { .sandbox = words->count > 1 ? words->word[1] : NULL,
		.any_bind = strchr(port, ':') == NULL };
	struct err err = { 0 };

	(void)options;
	if (forward_spec_parse(port, &s.spec, &err) != 0)
		return cli_usage(cli, "stop: %s", err.text);
	if (record_list(look_at, &s, &err) != 0)
		return cli_fail(cli, &err);
	if (s.count == 0) {
		err_set(&err, GRPC_NOT_FOUND,
		    "port %s is not forwarded%s%s; see "
		    "'towline forward list'",
		    port, s.sandbox != NULL ? " to sandbox " : "",
		    s.sandbox != NULL ? s.sandbox : "");
		return cli_fail(cli, &err);
	}
	return stop_all(cli, &s);
}

static const char *const examples[] = {
	"towline forward stop 8000",
	NULL,
};

const struct cmd cmd_forward_stop = {
	.name = "stop",
	.args = "[BIND:]PORT [NAME]",
	.help = "end a forward",
	.examples = examples,
	.words_min = 1,
	.words_max = 2,
	.run = run,
};
