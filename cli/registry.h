/*
 * cli/registry.h: which gateways there are, where OpenShell's tools and SDKs look:
 *
 *	$XDG_CONFIG_HOME/openshell/active_gateway                a name
 *	$XDG_CONFIG_HOME/openshell/gateways/NAME/metadata.json   name, gateway_endpoint, ...
 *	                                       .../mtls/ca.crt, tls.crt, tls.key
 *	                                       .../last_sandbox  a name
 */
#ifndef CLI_REGISTRY_H
#define CLI_REGISTRY_H

#include "base/err.h"

struct registry_gateway {
	char *name;
	char *endpoint;
	char *ca_file, *cert_file, *key_file; /* NULL: there is none */
};

/* The name of the active one, which the caller frees. NULL: NOT_FOUND. */
char *registry_active(struct err *);

/* NOT_FOUND: no gateway of that name. registry_free() whatever the result. */
int registry_load(const char *name, struct registry_gateway *, struct err *);
void registry_free(struct registry_gateway *);

/* Registers a gateway without TLS. Metadata that others put there is kept. */
int registry_save(const char *name, const char *endpoint, struct err *);
int registry_activate(const char *name, struct err *);

#endif
