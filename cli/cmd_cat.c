/* towline cat */
#include <unistd.h>

#include "cli/commands.h"
#include "cli/files.h"
#include "transfer/client.h"

static void on_done(void *cookie, const struct transfer_result *result, const struct err *err)
{
	(void)result;
	session_done(cookie, err);
}

static const struct transfer_ops ops = { .done = on_done };

static int one(struct session *s, const struct end *end, const void *options, struct err *err)
{
	struct session_wait wait = { .session = s };
	struct transfer_request r = { .client = session_client(s, err),
		.workers = session_workers(s, err),
		.sandbox = end->sandbox,
		.workspace = session_cli(s)->workspace,
		.local = "-",
		.fd = STDOUT_FILENO,
		.remote = end->path,
		.ops = &ops,
		.cookie = &wait };

	(void)options;
	if (r.client == NULL || r.workers == NULL ||
	    transfer_download(session_loop(s), &r, err) == NULL)
		return -1;
	return session_wait(s, &wait, SESSION_FOREVER, err);
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	return files_each(cli, "cat", words, options, one);
}

static const char *const examples[] = {
	"towline cat box:/etc/os-release",
	"towline cat box:log.1 box:log | grep error",
	NULL,
};

const struct cmd cmd_cat = {
	.name = "cat",
	.args = "NAME:PATH...",
	.help = "write files of a sandbox to standard output",
	.more = "Bytes come as they are, also on a terminal. The digest is checked at the end.\n",
	.examples = examples,
	.words_min = 1,
	.words_max = CMD_WORDS_ANY,
	.run = run,
};
