/* cli/forward_spec.h: "[BIND:]PORT[:TARGET]", as people write which port to forward. */
#ifndef CLI_FORWARD_SPEC_H
#define CLI_FORWARD_SPEC_H

#include <stdint.h>

#include "base/err.h"

#define FORWARD_BIND_DEFAULT "127.0.0.1"
#define FORWARD_BIND_MAX     64

struct forward_spec {
	char bind[FORWARD_BIND_MAX]; /* without brackets */
	uint16_t port;               /* on this machine; 0: any */
	uint16_t target;             /* in the sandbox; 0: not given, and PORT is 0 too */
};

/* BIND is an address ("[::1]" in brackets) or localhost. INVALID_ARGUMENT. */
int forward_spec_parse(const char *text, struct forward_spec *, struct err *);

#endif
