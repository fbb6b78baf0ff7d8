/*
 * proto/methods.h: every method of the .proto files as data. The table is made from
 * them at build time, so that what a method takes, answers and demands of its caller
 * is written in one place only.
 */
#ifndef PROTO_METHODS_H
#define PROTO_METHODS_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

/* Who may call, by the kind of credentials they come with. */
enum methods_auth {
	METHODS_AUTH_UNSTATED, /* the .proto file has no rule: health, reflection, drivers */
	METHODS_AUTH_NONE,     /* anybody: "unauthenticated" */
	METHODS_AUTH_BEARER,   /* a user */
	METHODS_AUTH_SANDBOX,  /* a sandbox's supervisor, with the sandbox's token */
	METHODS_AUTH_DUAL,     /* either of these two */
	METHODS_AUTH_PEER,     /* another replica of the gateway */
	METHODS_AUTH_OPERATOR  /* whoever runs the gateway */
};

/* In the workspace that the request is about; each includes the ones before. */
enum methods_role { METHODS_ROLE_NONE, METHODS_ROLE_USER, METHODS_ROLE_ADMIN };

struct method_info {
	const char *path;    /* "/openshell.v1.OpenShell/GetSandbox" */
	const char *service; /* "openshell.v1.OpenShell" */
	const char *name;    /* "GetSandbox" */
	const ProtobufCMessageDescriptor *request;
	const ProtobufCMessageDescriptor *reply;
	bool client_streaming;
	bool server_streaming;
	enum methods_auth auth;
	enum methods_role workspace_role;
	bool platform_admin; /* needs that role in the whole gateway */
	const char *scope;   /* a token's, such as "sandbox:write"; "" needs none */
};

/* The method of a request's :path, or NULL. Any thread. */
const struct method_info *methods_find(const char *path);

/* All of them, sorted by path: ${index} from 0 to methods_count() - 1. */
size_t methods_count(void);
const struct method_info *methods_at(size_t index);

/* As the .proto files write it: "bearer"; "" for METHODS_AUTH_UNSTATED. */
const char *methods_auth_name(enum methods_auth auth);

#endif
