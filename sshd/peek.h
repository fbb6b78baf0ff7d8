/*
 * sshd/peek.h: what libssh has read of a client's request and has no function to ask for.
 *
 * libssh 0.10 keeps the terminal modes of a pty-req, whether a request wants an answer, and
 * the largest packet that the opener of a channel takes, in a structure that it does not
 * publish. They matter: a shell without modes behaves oddly, what is asked without a wish for
 * an answer may be that a command's output is read no more, and a packet size of 10 makes
 * ssh_channel_write() send empty packets for ever. And global requests have to be answered in
 * their order, of which libssh takes no account. The structure is described here as 0.10.6 has
 * it, and looked at only where what stands around the field is what libssh's own functions say.
 */
#ifndef SSHD_PEEK_H
#define SSHD_PEEK_H

#include <libssh/libssh.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A pty-req; of a window-change the sizes alone. */
struct peek_pty {
	const char *term; /* may be NULL */
	uint32_t cols, rows, width, height;
	const uint8_t *modes; /* NULL: none, or this is another libssh */
	size_t modes_len;
};

/* Good as long as the message. */
void peek_pty(ssh_message, struct peek_pty *);

/* Of a request of a channel; true also if this is another libssh. */
bool peek_wants_reply(ssh_message);

/* Of a request to open a channel; 0: this is another libssh. */
uint32_t peek_packet_max(ssh_message);

/*
 * A copy of a global request of which a callback is told, for libssh's own functions to
 * answer later: libssh frees the request when the callback returns, but not what belongs to
 * it, which is the copy's. NULL: no memory, or this is another libssh.
 */
ssh_message peek_keep_global(ssh_message);
void peek_free_global(ssh_message);

#endif
