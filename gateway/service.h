/*
 * gateway/service.h: the table of what is served, and by which file.
 *
 * Every method of the services below that has no row of its own answers UNIMPLEMENTED
 * and says which one it is. Adding a routed call takes a row here and one in route.c.
 */
#ifndef GATEWAY_SERVICE_H
#define GATEWAY_SERVICE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "rpc/server.h"

/* All of them, for rpc_server_create(), with the gateway as the application. The caller
 * frees the table. NULL: no memory. */
struct rpc_method *service_methods(size_t *count, struct err *);

/* The method has a row, and does something. */
bool service_is_served(const char *path);

/* A service of this gateway, by its full name. */
bool service_is_service(const char *name);

#endif
