#include "cli/commands.h"

static const struct cmd *const gateway_verbs[] = {
	&cmd_gateway_start,
	&cmd_gateway_stop,
	&cmd_gateway_status,
	NULL,
};

static const struct cmd gateway = {
	.name = "gateway",
	.alias = "gw",
	.help = "start, stop and look at a gateway on this machine",
	.verbs = gateway_verbs,
};

static const struct cmd *const sandbox_verbs[] = {
	&cmd_sandbox_create,
	&cmd_sandbox_list,
	&cmd_sandbox_get,
	&cmd_sandbox_exec,
	&cmd_sandbox_connect,
	&cmd_sandbox_upload,
	&cmd_sandbox_download,
	&cmd_sandbox_sync,
	&cmd_sandbox_ssh,
	&cmd_sandbox_scp,
	&cmd_sandbox_sftp,
	&cmd_sandbox_rsync,
	&cmd_sandbox_ssh_config,
	&cmd_sandbox_ssh_proxy,
	&cmd_sandbox_stop,
	&cmd_sandbox_start,
	&cmd_sandbox_delete,
	NULL,
};

static const struct cmd sandbox = {
	.name = "sandbox",
	.alias = "sb",
	.help = "make sandboxes, run commands in them, move files in and out",
	.verbs = sandbox_verbs,
};

static const struct cmd *const forward_verbs[] = {
	&cmd_forward_start,
	&cmd_forward_stop,
	&cmd_forward_list,
	&cmd_forward_service,
	NULL,
};

static const struct cmd forward = {
	.name = "forward",
	.alias = "fwd",
	.help = "reach ports of a sandbox from this machine",
	.verbs = forward_verbs,
};

static const struct cmd *const ssh_session_verbs[] = {
	&cmd_ssh_session_create,
	&cmd_ssh_session_list,
	&cmd_ssh_session_revoke,
	NULL,
};

static const struct cmd ssh_session = {
	.name = "ssh-session",
	.help = "keys that open a sandbox to ssh, scp, sftp and rsync for a while",
	.verbs = ssh_session_verbs,
};

static const struct cmd *const verbs[] = {
	&gateway,
	&sandbox,
	&forward,
	&ssh_session,
	&cmd_cp,
	&cmd_ls,
	&cmd_stat,
	&cmd_mkdir,
	&cmd_mv,
	&cmd_rm,
	&cmd_cat,
	&cmd_watch,
	&cmd_sandbox_sync,
	&cmd_help_verb,
	NULL,
};

const struct cmd commands = {
	.name = "towline",
	.help = "Sandboxes that nobody can dial: commands, files and ports by way of a gateway.",
	.more = "With no gateway yet:\n"
		"  towline gateway start\n"
		"  towline sandbox create\n",
	.verbs = verbs,
};
