/* towline forward stop */
#include <string.h>

#include "cli/commands.h"
#include "cli/forward_spec.h"
#include "cli/record.h"

/* What is looked for, and what became of it. */
struct search {
	const struct cli *cli;
	struct forward_spec spec;
	bool any_bind;
	const char *sandbox; /* NULL: any */
	size_t found;
	int code;
};

static void stop_one(void *cookie, const char *file, const struct record *r)
{
	struct search *s = cookie;
	struct err err = { 0 };

	if (r->port != s->spec.port || (!s->any_bind && strcmp(r->bind, s->spec.bind) != 0) ||
	    (s->sandbox != NULL && strcmp(r->sandbox, s->sandbox) != 0))
		return;
	s->found++;
	if (record_end(file, &err) == 0 || err.code == GRPC_NOT_FOUND) {
		cli_say(
		    s->cli, "stopped %s:%u of sandbox %s", r->bind, (unsigned)r->port, r->sandbox);
	} else {
		err_wrap(&err, "%s:%u of sandbox %s", r->bind, (unsigned)r->port, r->sandbox);
		s->code = cli_fail(s->cli, &err);
	}
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	const char *port = words->word[0];
	struct search s = { .cli = cli,
		.sandbox = words->count > 1 ? words->word[1] : NULL,
		.any_bind = strchr(port, ':') == NULL,
		.code = CLI_EXIT_OK };
	struct err err = { 0 };

	(void)options;
	if (forward_spec_parse(port, &s.spec, &err) != 0)
		return cli_usage(cli, "stop: %s", err.text);
	if (record_list(stop_one, &s, &err) != 0)
		return cli_fail(cli, &err);
	if (s.found > 0)
		return s.code;
	err_set(&err, GRPC_NOT_FOUND, "port %s is not forwarded%s%s; see 'towline forward list'",
	    port, s.sandbox != NULL ? " to sandbox " : "", s.sandbox != NULL ? s.sandbox : "");
	return cli_fail(cli, &err);
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
