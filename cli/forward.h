/* cli/forward.h: a forward as the verbs have it: checked, recorded, run to its end. */
#ifndef CLI_FORWARD_H
#define CLI_FORWARD_H

#include <stdbool.h>

#include "base/err.h"
#include "cli/cli.h"
#include "cli/forward_spec.h"
#include "cli/session.h"

struct forward_options {
	const char *sandbox; /* NULL: the one used last */
	const char *target_host;
	struct forward_spec spec;
	bool background;
};

/* Until a signal comes, or until it is in the background. Returns the exit code. */
int forward_run(const struct cli *, const struct forward_options *);

/* A process of its own that does it in the background: 'forward start -d'. */
int forward_spawn(struct session *, const char *spec, const char *sandbox, struct err *);

/* Ends what is forwarded to a sandbox that is deleted, by whichever process of ours. */
void forward_end_all(struct session *, const char *sandbox);

#endif
