/* towline sandbox ssh-config */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/sandbox.h"
#include "cli/ssh.h"
#include "cli/ssh_files.h"

struct options {
	char *host;
};

static const struct config_key keys[] = {
	{ .name = "host",
	    .arg = "HOST",
	    .parse = config_string,
	    .offset = offsetof(struct options, host),
	    .help = "what to call it; NAME if left out" },
	{ 0 },
};

/* What ssh runs has to be found, whatever its PATH is. */
static void own_path(char out[static PATHS_MAX])
{
	ssize_t n = readlink("/proc/self/exe", out, PATHS_MAX - 1);

	if (n > 0)
		out[n] = '\0';
	else
		snprintf(out, PATHS_MAX, "towline");
}

static void print(
    struct session *s, const char *host, const char *name, const char *alias, const char *known)
{
	const struct cli *cli = session_cli(s);
	char program[PATHS_MAX];

	own_path(program);
	printf("Host %s\n", host);
	printf("\tHostKeyAlias %s\n\tUserKnownHostsFile \"%s\"\n", alias, known);
	printf("\tGlobalKnownHostsFile /dev/null\n\tStrictHostKeyChecking yes\n");
	printf("\tUpdateHostKeys no\n\tUser %s\n", name);
	printf("\tProxyCommand '%s'", program);
	if (session_gateway(s) != NULL)
		printf(" --gateway '%s'", session_gateway(s));
	else
		printf(" --gateway-endpoint '%s'", session_endpoint(s));
	if (cli->workspace != NULL)
		printf(" --workspace '%s'", cli->workspace);
	printf(" sandbox ssh-proxy '%s'\n", name);
}

/* The host key is what a session tells; that session is not needed. */
static int configure(struct session *s, const char *name, const char *host, struct err *err)
{
	struct ssh_wish wish = { .sandbox = name, .seconds = 1 };
	Openshell__V1__CreateSshSessionResponse *reply;
	char alias[128], known[PATHS_MAX];
	struct err ignored;

	if (ssh_create(s, &wish, &reply, err) != 0)
		return -1;
	snprintf(alias, sizeof(alias), SSH_FILES_ALIAS ".%.100s",
	    session_gateway(s) != NULL ? session_gateway(s) : session_endpoint(s));
	for (char *c = alias; *c != '\0'; c++)
		if (strchr(" \t,/*?!|#", *c) != NULL)
			*c = '_';
	int r = ssh_files_pin(alias, reply->host_key, known, err);
	ssh_revoke(s, reply->session_id, NULL, &ignored); /* or it expires, at once */
	ssh_reply_free(reply);
	if (r == 0)
		print(s, host != NULL ? host : name, name, alias, known);
	return r;
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	const struct options *o = options;
	struct err err = { 0 };
	struct session *s = session_open(cli, &err);
	char *name =
	    s != NULL ? sandbox_choose(s, words->count > 0 ? words->word[0] : NULL, &err) : NULL;
	int r = name != NULL ? configure(s, name, o->host, &err) : -1;

	free(name);
	session_close(s);
	return r == 0 ? CLI_EXIT_OK : cli_fail(cli, &err);
}

static const char *const examples[] = {
	"towline sandbox ssh-config box >> ~/.ssh/config",
	"ssh box",
	NULL,
};

const struct cmd cmd_sandbox_ssh_config = {
	.name = "ssh-config",
	.args = "[NAME]",
	.help = "print a Host block for ~/.ssh/config",
	.more =
	    "With it ssh, scp, sftp, rsync, sshfs and editors that use ssh know the sandbox by its\n"
	    "name. Each connection makes a session of its own, which ends with it; the host key is\n"
	    "checked against the one that the gateway has told.\n",
	.examples = examples,
	.keys = keys,
	.size = sizeof(struct options),
	.words_max = 1,
	.run = run,
};
