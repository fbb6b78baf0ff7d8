/* cli/remote.h: what is at a path in a sandbox. */
#ifndef CLI_REMOTE_H
#define CLI_REMOTE_H

#include "base/err.h"
#include "cli/copy.h"
#include "cli/session.h"

/* Links are followed; what is no directory is a file. */
int remote_kind(
    struct session *, const char *sandbox, const char *path, enum copy_kind *, struct err *);

#endif
