/* cli/remote.h: what is at a path in a sandbox. */
#ifndef CLI_REMOTE_H
#define CLI_REMOTE_H

#include "base/err.h"
#include "cli/copy.h"
#include "cli/session.h"

/*
 * Asked with a DownloadFile of one byte, since there is no call for it yet: NOT_FOUND is
 * nothing, FAILED_PRECONDITION a directory. (So is a sandbox that is stopped; the
 * transfer that follows finds out and says so.)
 */
int remote_kind(
    struct session *, const char *sandbox, const char *path, enum copy_kind *, struct err *);

#endif
