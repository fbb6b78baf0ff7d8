/*
 * sshd/channel.h: the channels of a connection, each of which becomes a call.
 *
 * A connection makes this when it is open, never before; it hands over what libssh has
 * received, and tells when more can be written.
 */
#ifndef SSHD_CHANNEL_H
#define SSHD_CHANNEL_H

#include <libssh/libssh.h>
#include <stddef.h>

#include "base/err.h"
#include "sshd/client.h"

struct channels;

#define CHANNELS_MAX 64 /* open on a connection; more are refused: "resource shortage" */

struct channels *channels_create(struct client *, struct err *);

/* Ends all calls; no callback after. libssh's channels go with its session. NULL is legal. */
void channels_free(struct channels *);

/* A channel to open, or a request of a channel, which it takes: the answer may come later. */
void channels_take(struct channels *, ssh_message);

/* A global request, kept by peek_keep_global(), which it takes. From inside libssh. */
void channels_take_global(struct channels *, ssh_message);

/* libssh has read something: a channel that the client was asked for may be open now. */
void channels_progress(struct channels *);

/* client_write() takes bytes again. */
void channels_writable(struct channels *);

/* A line for the person at the other end: to stderr of each channel that runs a command. */
void channels_say(struct channels *, const char *line);

size_t channels_count(const struct channels *); /* open now */

#endif
