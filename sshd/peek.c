#include "sshd/peek.h"

#include <libssh/server.h>
#include <stdlib.h>

/* As libssh 0.10.6 lays a message out. */

struct peek_auth {
	char *username;
	int method;
	char *password;
	void *pubkey;
	char *sigtype;
	int signature_state;
	char kbdint_response;
};

struct peek_open {
	int type;
	uint32_t sender, window, packet_size;
	char *originator;
	uint16_t originator_port;
	char *destination;
	uint16_t destination_port;
};

struct peek_request {
	int type;
	ssh_channel channel;
	uint8_t want_reply;
	char *term;
	uint32_t width, height, pxwidth, pxheight;
	ssh_string modes;
	char *name, *value, *command, *subsystem;
	uint8_t x11_single;
	char *x11_protocol, *x11_cookie;
	uint32_t x11_screen;
};

struct peek_service {
	char *name;
};

struct peek_global {
	int type;
	uint8_t want_reply;
	char *address;
	uint16_t port;
};

struct peek_message {
	ssh_session session;
	int type;
	struct peek_auth auth;
	struct peek_open open;
	struct peek_request request;
	struct peek_service service;
	struct peek_global global;
};

/* What is asked for by functions that are good, and to be replaced by callbacks that run
 * wherever libssh reads. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static void ask(ssh_message m, struct peek_pty *p)
{
	p->term = ssh_message_channel_request_pty_term(m);
	p->cols = (uint32_t)ssh_message_channel_request_pty_width(m);
	p->rows = (uint32_t)ssh_message_channel_request_pty_height(m);
	p->width = (uint32_t)ssh_message_channel_request_pty_pxwidth(m);
	p->height = (uint32_t)ssh_message_channel_request_pty_pxheight(m);
}
#pragma GCC diagnostic pop

void peek_pty(ssh_message m, struct peek_pty *p)
{
	const struct peek_request *r = &((const struct peek_message *)(const void *)m)->request;

	*p = (struct peek_pty){ 0 };
	ask(m, p);
	if (r->type != ssh_message_subtype(m) ||
	    r->channel != ssh_message_channel_request_channel(m) || r->term != p->term ||
	    r->width != p->cols || r->height != p->rows || r->pxwidth != p->width ||
	    r->pxheight != p->height || r->modes == NULL)
		return;
	p->modes = ssh_string_data(r->modes);
	p->modes_len = ssh_string_len(r->modes);
}

bool peek_wants_reply(ssh_message m)
{
	const struct peek_request *r = &((const struct peek_message *)(const void *)m)->request;

	return r->type != ssh_message_subtype(m) ||
	    r->channel != ssh_message_channel_request_channel(m) || r->want_reply != 0;
}

uint32_t peek_packet_max(ssh_message m)
{
	const struct peek_open *o = &((const struct peek_message *)(const void *)m)->open;

	if (o->type != ssh_message_subtype(m) ||
	    o->originator != ssh_message_channel_request_open_originator(m) ||
	    o->originator_port != ssh_message_channel_request_open_originator_port(m) ||
	    o->destination != ssh_message_channel_request_open_destination(m) ||
	    o->destination_port != ssh_message_channel_request_open_destination_port(m))
		return 0;
	return o->packet_size;
}

ssh_message peek_keep_global(ssh_message m)
{
	const struct peek_message *theirs = (const void *)m;
	struct peek_message *ours;

	if (theirs->type != ssh_message_type(m) || theirs->type != SSH_REQUEST_GLOBAL ||
	    theirs->global.type != ssh_message_subtype(m) ||
	    theirs->global.address != ssh_message_global_request_address(m) ||
	    theirs->global.port != ssh_message_global_request_port(m) ||
	    (ours = malloc(sizeof(*ours))) == NULL)
		return NULL;
	*ours = *theirs;
	return (ssh_message)(void *)ours;
}

void peek_free_global(ssh_message m)
{
	free(((struct peek_message *)(void *)m)->global.address);
	free(m);
}
