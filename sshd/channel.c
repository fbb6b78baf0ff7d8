/* No channels yet: each is refused. */
#include "sshd/channel.h"

#include <libssh/server.h>
#include <stdlib.h>

struct channels {
	struct client *client;
};

struct channels *channels_create(struct client *client, struct err *err)
{
	struct channels *c = calloc(1, sizeof(*c));

	if (c == NULL)
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	else
		c->client = client;
	return c;
}

void channels_free(struct channels *c)
{
	free(c);
}

void channels_take(struct channels *c, ssh_message msg)
{
	ssh_message_reply_default(msg);
	ssh_message_free(msg);
	client_flush(c->client);
}

void channels_progress(struct channels *c)
{
	(void)c;
}

void channels_writable(struct channels *c)
{
	(void)c;
}

void channels_say(struct channels *c, const char *line)
{
	(void)c;
	(void)line;
}

size_t channels_count(const struct channels *c)
{
	(void)c;
	return 0;
}
