/* towline sandbox get */
#include <stdlib.h>

#include "cli/commands.h"
#include "cli/sandbox.h"
#include "proto/codec.h"

static int get(struct session *s, const char *given, struct err *err)
{
	Openshell__V1__SandboxResponse *reply = NULL;
	char *name = sandbox_choose(s, given, err);
	int r = -1;

	if (name != NULL && sandbox_get(s, name, &reply, err) == 0) {
		sandbox_remember(s, name);
		r = sandbox_print(session_cli(s), reply->sandbox, err);
	}
	codec_free(reply);
	free(name);
	return r;
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	struct err err = { 0 };
	struct session *s = session_open(cli, &err);
	int r = s != NULL ? get(s, words->count > 0 ? words->word[0] : NULL, &err) : -1;

	(void)options;
	session_close(s);
	return r == 0 ? CLI_EXIT_OK : cli_fail(cli, &err);
}

static const char *const examples[] = {
	"towline sandbox get box",
	NULL,
};

const struct cmd cmd_sandbox_get = {
	.name = "get",
	.args = "[NAME]",
	.help = "show a sandbox: its phase and why it is in it",
	.examples = examples,
	.words_max = 1,
	.run = run,
};
