/* gateway/names.h: what sandboxes and workspaces may be called. */
#ifndef GATEWAY_NAMES_H
#define GATEWAY_NAMES_H

#include "base/err.h"

#define NAMES_SANDBOX_MAX   19 /* characters, as OpenShell's clients expect */
#define NAMES_WORKSPACE_MAX 63 /* as a DNS label */
#define NAMES_ID_MAX        36 /* a UUID's text */

/* Of [a-z0-9-], the first a letter; INVALID_ARGUMENT says what is wrong. */
int names_check_sandbox(const char *name, struct err *);
int names_check_workspace(const char *name, struct err *);

/* A name for a sandbox that was given none, such as "brisk-otter-3f2"; it may be
 * taken already. */
void names_generate(char out[static NAMES_SANDBOX_MAX + 1]);

#endif
