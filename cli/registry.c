#include "cli/registry.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/paths.h"
#include "rpc/address.h"

/* The path of a file that belongs to the gateway. */
static int path_of(char out[static PATHS_MAX], const char *name, const char *file, struct err *err)
{
	char folder[PATHS_MAX], gateway[PATHS_MAX];

	if (!paths_is_name(name))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "\"%s\" cannot be a gateway's name: it has 1 to 64 letters, digits, '.', '_' "
		    "and '-'",
		    name);
	if (paths_config(folder, "gateways", err) != 0 ||
	    paths_join(gateway, folder, name, err) != 0)
		return -1;
	return paths_join(out, gateway, file, err);
}

char *registry_active(struct err *err)
{
	char path[PATHS_MAX];
	char *name;

	if (paths_config(path, "active_gateway", err) != 0 ||
	    (name = paths_read(path, err)) == NULL)
		return NULL;
	name[strcspn(name, " \t\r\n")] = '\0';
	if (name[0] != '\0')
		return name;
	free(name);
	err_set(err, GRPC_NOT_FOUND, "%s is empty", path);
	return NULL;
}

static json_t *read_metadata(const char *name, struct err *err)
{
	char path[PATHS_MAX];
	json_error_t why;
	char *text;
	json_t *json;

	if (path_of(path, name, "metadata.json", err) != 0)
		return NULL;
	if ((text = paths_read(path, err)) == NULL) {
		if (err->code == GRPC_NOT_FOUND)
			err_set(
			    err, GRPC_NOT_FOUND, "there is no gateway \"%s\": no %s", name, path);
		return NULL;
	}
	json = json_loads(text, JSON_REJECT_DUPLICATES, &why);
	free(text);
	if (json == NULL)
		err_set(err, GRPC_INVALID_ARGUMENT, "%s: line %d: %s", path, why.line, why.text);
	return json;
}

/* The file's path if there is such a file. */
static int find_file(const char *name, const char *file, char **out, struct err *err)
{
	char path[PATHS_MAX];

	*out = NULL;
	if (path_of(path, name, file, err) != 0)
		return -1;
	if (!paths_exists(path))
		return 0;
	*out = strdup(path);
	return *out != NULL ? 0 : err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
}

int registry_load(const char *name, struct registry_gateway *g, struct err *err)
{
	json_t *json = read_metadata(name, err);
	const char *endpoint;

	*g = (struct registry_gateway){ 0 };
	if (json == NULL)
		return -1;
	endpoint = json_string_value(json_object_get(json, "gateway_endpoint"));
	if (endpoint != NULL) {
		g->name = strdup(name);
		g->endpoint = strdup(endpoint);
	}
	json_decref(json);
	if (endpoint == NULL)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "the metadata of gateway \"%s\" has no gateway_endpoint", name);
	if (g->name == NULL || g->endpoint == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	if (find_file(name, "mtls/ca.crt", &g->ca_file, err) != 0 ||
	    find_file(name, "mtls/tls.crt", &g->cert_file, err) != 0 ||
	    find_file(name, "mtls/tls.key", &g->key_file, err) != 0)
		return -1;
	return 0;
}

void registry_free(struct registry_gateway *g)
{
	free(g->name);
	free(g->endpoint);
	free(g->ca_file);
	free(g->cert_file);
	free(g->key_file);
	*g = (struct registry_gateway){ 0 };
}

/* OpenShell's command line wants every one of these. */
static int fill(json_t *json, const char *name, const char *endpoint)
{
	struct address address;
	struct err err;
	int port = address_parse(endpoint, &address, &err) == 0 ? address.port : 0;

	return json_object_set_new(json, "name", json_string(name)) |
	    json_object_set_new(json, "gateway_endpoint", json_string(endpoint)) |
	    json_object_set_new(json, "is_remote", json_false()) |
	    json_object_set_new(json, "gateway_port", json_integer(port)) |
	    json_object_set_new(json, "auth_mode", json_string("plaintext"));
}

int registry_save(const char *name, const char *endpoint, struct err *err)
{
	char path[PATHS_MAX];
	struct err none;
	json_t *json = read_metadata(name, &none);
	char *text = NULL;
	int r;

	if (json == NULL)
		json = json_object();
	if (json != NULL && fill(json, name, endpoint) == 0)
		text = json_dumps(json, JSON_INDENT(2));
	json_decref(json);
	if (text == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	r = path_of(path, name, "metadata.json", err);
	if (r == 0)
		r = paths_write(path, text, err);
	free(text);
	return r;
}

int registry_activate(const char *name, struct err *err)
{
	char path[PATHS_MAX];

	return paths_config(path, "active_gateway", err) == 0 ? paths_write(path, name, err) : -1;
}
