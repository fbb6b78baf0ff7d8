/*
 * relay/app.h: a supervisor with a dialer, and a method that echoes.
 */
#ifndef TESTS_RELAY_APP_H
#define TESTS_RELAY_APP_H

#include <stdbool.h>
#include <stdint.h>

#include "relay/dialer.h"
#include "rig.h"

/* What the dialer's handlers and callbacks have seen. */
struct app {
	struct rig *rig;
	struct dialer *dialer;
	unsigned connected, disconnected, rejected, opened, closed;
	struct err why; /* of the last closed(), disconnected() or rejected() */
	char method[64], first[64], subject[64];
	uint64_t timeout_ms;
	bool half_closed, done;
};

/* RIG_ECHO and ForwardTcp: sends back what it gets, ends when the client does. A first
 * message "fail" is answered with ALREADY_EXISTS. */
extern const struct channel_method app_rows[];
extern const struct channel_method app_no_rows[];

void app_dial(struct app *, struct rig *, const char *url, const char *sandbox, const char *token,
    const struct channel_method *methods);
/* For sandbox "a", with these waits; 0: the default. */
void app_dial_within(
    struct app *, struct rig *, const char *url, uint32_t answer_ms, uint32_t grace_ms);
void app_hang_up(struct app *);

/* Waits until it is connected by so many connections, or a count is so. */
bool app_connected(struct app *, uint32_t connections);
bool app_until(struct rig *, const unsigned *count, unsigned want);

#endif
