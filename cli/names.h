/*
 * cli/names.h: the sandbox that was used last, for when none is named. Kept beside the
 * gateway's registration, where OpenShell keeps it; for a gateway known only by its
 * address, with the state.
 */
#ifndef CLI_NAMES_H
#define CLI_NAMES_H

#include "base/err.h"

/* Whose sandboxes: ${gateway} is a registered name or NULL, ${endpoint} its address,
 * ${workspace} may be NULL. */
struct names {
	const char *gateway, *endpoint, *workspace;
};

/* The name, which the caller frees. NULL: NOT_FOUND, with what to do about it. */
char *names_last(const struct names *, struct err *);

/* Best effort: a command does not fail because it cannot be remembered. */
void names_remember(const struct names *, const char *sandbox);

/* If it is the one remembered. */
void names_forget(const struct names *, const char *sandbox);

#endif
