#include "rpc/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rpc/address.h"
#include "rpc/conn.h"

struct rpc_client {
	struct loop *loop;
	struct rpc_options options;
	struct rpc_client_options opt;
	struct rpc_conn *conn; /* NULL: gone */
	struct rpc_tls *own_tls;
};

static void on_ready(void *cookie)
{
	struct rpc_client *c = cookie;

	if (c->opt.ready != NULL)
		c->opt.ready(c->opt.cookie);
}

static void on_closed(void *cookie, const struct err *why)
{
	struct rpc_client *c = cookie;
	struct rpc_client_options opt = c->opt;

	rpc_tls_free(c->own_tls);
	free(c);
	if (opt.closed != NULL)
		opt.closed(opt.cookie, why);
}

static const struct conn_ops conn_ops = { .ready = on_ready, .closed = on_closed };

static int dial(struct rpc_client *c, const struct address *address, struct err *err)
{
	struct rpc_tls_options defaults = { 0 };
	char authority[sizeof(address->host) + 8];

	if (address->tls && c->opt.tls == NULL &&
	    (c->opt.tls = c->own_tls = rpc_tls_client(&defaults, err)) == NULL)
		return -1;
	if (address->is_unix)
		snprintf(authority, sizeof(authority), "localhost");
	else
		snprintf(authority, sizeof(authority),
		    strchr(address->host, ':') != NULL ? "[%s]:%u" : "%s:%u", address->host,
		    address->port);
	int fd = address_connect(address, err);
	if (fd < 0)
		return -1;
	const struct conn_options o = {
		.fd = fd,
		.connecting = true,
		.tls = address->tls ? c->opt.tls : NULL,
		.host = address->host,
		.authority = authority,
		.options = &c->options,
		.ops = &conn_ops,
		.cookie = c,
	};
	if ((c->conn = conn_create(c->loop, &o, err)) == NULL) {
		close(fd);
		return -1;
	}
	return 0;
}

struct rpc_client *rpc_client_connect_to(struct loop *loop, const struct address *address,
    const struct rpc_client_options *opt, struct err *err)
{
	struct rpc_client *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	c->loop = loop;
	c->opt = *opt;
	c->options = rpc_options_default();
	if (opt->connect_timeout_ms != 0)
		c->options.connect_ms = opt->connect_timeout_ms;
	if (opt->keepalive_ms != 0)
		c->options.keepalive_ms = opt->keepalive_ms;
	if (dial(c, address, err) != 0) {
		rpc_tls_free(c->own_tls);
		free(c);
		return NULL;
	}
	return c;
}

struct rpc_client *rpc_client_connect(
    struct loop *loop, const char *url, const struct rpc_client_options *opt, struct err *err)
{
	struct address address;

	if (address_parse(url, &address, err) != 0 || address_resolve(&address, err) != 0)
		return NULL;
	return rpc_client_connect_to(loop, &address, opt, err);
}

void rpc_client_close(struct rpc_client *c)
{
	conn_close(c->conn, NULL);
}

struct rpc_call *rpc_client_call(
    struct rpc_client *c, const struct rpc_client_call *o, struct err *err)
{
	return call_create(c->conn, o->path, o->meta, o->timeout_ms, o->ops, o->cookie, err);
}

struct rpc_conn *rpc_client_conn(struct rpc_client *c)
{
	return c->conn;
}
