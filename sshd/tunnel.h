/*
 * sshd/tunnel.h: connections that come through the gateway, as ForwardTcp{ssh, token}.
 *
 * The gateway has checked the token and put the session's id in its place. What the call
 * carries goes to libssh through a pair of sockets, since it speaks to nothing else.
 */
#ifndef SSHD_TUNNEL_H
#define SSHD_TUNNEL_H

#include "relay/dialer.h"

/* Rows for the dialer; its ${app} is the struct sshd. */
extern const struct channel_method tunnel_methods[];

#endif
