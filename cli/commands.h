/* cli/commands.h: the table of all verbs. Each is in a file of its name: cmd_GROUP_VERB.c. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "cli/cmd.h"

extern const struct cmd commands; /* the root */

extern const struct cmd cmd_gateway_start, cmd_gateway_stop, cmd_gateway_status;
extern const struct cmd cmd_sandbox_create, cmd_sandbox_get, cmd_sandbox_list, cmd_sandbox_delete,
    cmd_sandbox_stop, cmd_sandbox_start, cmd_sandbox_exec, cmd_sandbox_connect, cmd_sandbox_upload,
    cmd_sandbox_download, cmd_sandbox_sync, cmd_sandbox_ssh, cmd_sandbox_scp, cmd_sandbox_sftp,
    cmd_sandbox_rsync, cmd_sandbox_ssh_proxy, cmd_sandbox_ssh_config;
extern const struct cmd cmd_forward_start, cmd_forward_stop, cmd_forward_list, cmd_forward_service;
extern const struct cmd cmd_ssh_session_create, cmd_ssh_session_list, cmd_ssh_session_revoke;
extern const struct cmd cmd_cp, cmd_ls, cmd_stat, cmd_mkdir, cmd_mv, cmd_rm, cmd_cat, cmd_watch;
extern const struct cmd cmd_help_verb;

#endif
