/* towline sandbox ssh-proxy */
#include <stdlib.h>

#include "cli/commands.h"
#include "cli/sandbox.h"
#include "cli/ssh.h"
#include "cli/ssh_proxy.h"

struct options {
	char *token;
};

static const struct config_key keys[] = {
	{ .name = "token",
	    .arg = "TOKEN",
	    .env = "TOWLINE_SSH_TOKEN",
	    .parse = config_string,
	    .offset = offsetof(struct options, token),
	    .help = "of a session that is there; without it one is made, and revoked at the end" },
	{ 0 },
};

static int proxy(struct session *s, const char *name, const struct options *o, struct err *err)
{
	struct ssh_wish wish = { .sandbox = name, .seconds = SSH_RUN_SECONDS };
	Openshell__V1__CreateSshSessionResponse *reply;
	struct err ignored;

	if (o->token != NULL)
		return ssh_proxy_run(s, name, o->token, err);
	if (ssh_create(s, &wish, &reply, err) != 0)
		return -1;
	int r = ssh_proxy_run(s, name, reply->token, err);
	ssh_revoke(s, reply->session_id, NULL, &ignored); /* or it expires */
	ssh_reply_free(reply);
	return r;
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	struct err err = { 0 };
	struct session *s = session_open(cli, &err);
	int r = s != NULL ? proxy(s, words->word[0], options, &err) : -1;

	session_close(s);
	if (r == 0)
		return CLI_EXIT_OK;
	cli_fail(cli, &err);
	return CLI_EXIT_TRANSPORT;
}

static const char *const examples[] = {
	"ssh -o ProxyCommand='towline sandbox ssh-proxy box' box",
	NULL,
};

const struct cmd cmd_sandbox_ssh_proxy = {
	.name = "ssh-proxy",
	.args = "NAME",
	.help = "join standard input and output to a sandbox's SSH, for ssh's ProxyCommand",
	.more = "Only the gateway need be reachable, not its SSH port. What comes this way is\n"
		"authorised already: ssh needs no key.\n",
	.examples = examples,
	.keys = keys,
	.size = sizeof(struct options),
	.words_min = 1,
	.words_max = 1,
	.run = run,
};
