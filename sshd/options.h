/* sshd/options.h: the command line of towline-sshd. */
#ifndef SSHD_OPTIONS_H
#define SSHD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/err.h"
#include "base/log.h"
#include "sshd/sshd.h"

#define OPTIONS_REKEY_BYTES  ((uint64_t)64 << 10) /* --rekey-limit: at least */
#define OPTIONS_GRACE_MAX_MS 600000 /* --login-grace: a longer one keeps places from others */

struct options {
	char *gateway, *endpoint_id, *token_file, *host_key, *ca_file;
	char *listen, *startups, *log_level_text, *log_format_text;
	unsigned listen_fd, parent_fd, penalties_fd; /* 0: none */
	struct config_list_value exempt;
	uint64_t rekey_bytes;
	struct sshd_limits limits;
	enum log_level log_level;
	enum log_format log_format;
	bool help, version, man;
};

/* Flags, then the environment, then defaults. INVALID_ARGUMENT says what is wrong. The
 * texts are ${config}'s: config_free(). */
int options_parse(struct config *, int argc, char *argv[], struct options *, struct err *);

/* To standard output. */
void options_help(void);
void options_man(void);

#endif
