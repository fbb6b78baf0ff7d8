/*
 * cli/ssh_proxy.h: standard input and output joined to a sandbox's SSH endpoint, for ssh's
 * ProxyCommand.
 */
#ifndef CLI_SSH_PROXY_H
#define CLI_SSH_PROXY_H

#include "base/err.h"
#include "cli/session.h"

/* Until both directions have ended, or the endpoint hangs up. -1 with the reason. */
int ssh_proxy_run(struct session *, const char *sandbox, const char *token, struct err *);

#endif
