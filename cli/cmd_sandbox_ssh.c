/* towline sandbox ssh, scp, sftp and rsync: the real tools, with a session for the run */
#include "cli/commands.h"
#include "cli/ssh_tool.h"

static const char *const with_config[] = { "-F", "%s", NULL };
static const char *const with_shell[] = { "-e", "ssh -F '%s'", NULL };

static const struct ssh_tool ssh = { "ssh", with_config, SSH_TOOL_FIRST };
static const struct ssh_tool scp = { "scp", with_config, SSH_TOOL_PATHS };
static const struct ssh_tool sftp = { "sftp", with_config, SSH_TOOL_HOST };
static const struct ssh_tool rsync = { "rsync", with_shell, SSH_TOOL_PATHS };

static int run(const struct cli *cli, const struct ssh_tool *tool, const struct cmd_words *words)
{
	if (words->command_count == 0)
		return cli_usage(cli, "%s: which sandbox? see towline sandbox %s --help",
		    tool->program, tool->program);
	return ssh_tool_run(cli, tool, words->command, words->command_count);
}

static int run_ssh(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	(void)options;
	return run(cli, &ssh, words);
}

static int run_scp(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	(void)options;
	return run(cli, &scp, words);
}

static int run_sftp(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	(void)options;
	return run(cli, &sftp, words);
}

static int run_rsync(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	(void)options;
	return run(cli, &rsync, words);
}

#define RUNS                                                                                         \
	"A session is made for the run and revoked at its end; it needs no key and no host key of\n" \
	"yours. Your own ~/.ssh/config is not read: 'sandbox ssh-config' is for that.\n"

static const char *const ssh_examples[] = {
	"towline sandbox ssh box",
	"towline sandbox ssh box -- uname -a",
	"towline sandbox ssh box -N -L 8080:localhost:80",
	NULL,
};

const struct cmd cmd_sandbox_ssh = {
	.name = "ssh",
	.args = "NAME [SSH-OPTION...] [-- COMMAND...]",
	.help = "run ssh into a sandbox",
	.more = RUNS,
	.examples = ssh_examples,
	.tail = CMD_TAIL_VERBATIM,
	.run = run_ssh,
};

static const char *const scp_examples[] = {
	"towline sandbox scp -r src box:/work",
	"towline sandbox scp box:/etc/os-release .",
	NULL,
};

const struct cmd cmd_sandbox_scp = {
	.name = "scp",
	.args = "[SCP-OPTION...] FROM... TO",
	.help = "run scp, with NAME:PATH for what is in a sandbox",
	.more = RUNS "'towline cp' does the same without ssh, and faster.\n",
	.examples = scp_examples,
	.tail = CMD_TAIL_VERBATIM,
	.run = run_scp,
};

static const char *const sftp_examples[] = {
	"towline sandbox sftp box",
	"towline sandbox sftp -b commands box:/work",
	NULL,
};

const struct cmd cmd_sandbox_sftp = {
	.name = "sftp",
	.args = "[SFTP-OPTION...] NAME[:PATH]",
	.help = "run sftp on a sandbox",
	.more = RUNS,
	.examples = sftp_examples,
	.tail = CMD_TAIL_VERBATIM,
	.run = run_sftp,
};

static const char *const rsync_examples[] = {
	"towline sandbox rsync -a src/ box:/work/src/",
	NULL,
};

const struct cmd cmd_sandbox_rsync = {
	.name = "rsync",
	.args = "[RSYNC-OPTION...] FROM... TO",
	.help = "run rsync, with NAME:PATH for what is in a sandbox",
	.more = RUNS "The sandbox needs an rsync of its own; 'towline sync' needs none.\n",
	.examples = rsync_examples,
	.tail = CMD_TAIL_VERBATIM,
	.run = run_rsync,
};
