#include "cli/names.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/paths.h"

#define NAME_MAX_BYTES 300

/* An address as the name of a folder: "http_127.0.0.1_8080". */
static void fold(const char *text, char out[static NAME_MAX_BYTES])
{
	size_t n = 0;

	for (; *text != '\0' && n < NAME_MAX_BYTES - 1; text++) {
		bool plain = isalnum((unsigned char)*text) || *text == '.' || *text == '-';

		if (plain || (n > 0 && out[n - 1] != '_'))
			out[n++] = plain ? *text : '_';
	}
	out[n] = '\0';
}

static int path_of(const struct names *n, char out[static PATHS_MAX], struct err *err)
{
	char name[3 * NAME_MAX_BYTES], folder[NAME_MAX_BYTES], workspace[NAME_MAX_BYTES] = "";

	if (n->workspace != NULL && strcmp(n->workspace, "default") != 0)
		fold(n->workspace, workspace);
	fold(n->gateway != NULL ? n->gateway : n->endpoint, folder);
	snprintf(name, sizeof(name), "%s/%s/last_sandbox%s%s",
	    n->gateway != NULL ? "gateways" : "endpoints", folder, workspace[0] != '\0' ? "." : "",
	    workspace);
	return n->gateway != NULL ? paths_config(out, name, err) : paths_state(out, name, err);
}

/* What the file says, without the line's end that OpenShell's tools may write; the caller
 * frees it. NULL: there is none. */
static char *read_last(const struct names *n, char path[static PATHS_MAX], struct err *err)
{
	char *name = path_of(n, path, err) == 0 ? paths_read(path, err) : NULL;

	if (name != NULL)
		name[strcspn(name, " \t\r\n")] = '\0';
	return name;
}

char *names_last(const struct names *n, struct err *err)
{
	char path[PATHS_MAX];
	char *name = read_last(n, path, err);

	if (name != NULL && name[0] != '\0')
		return name;
	free(name);
	err_set(err, GRPC_NOT_FOUND,
	    "no sandbox is named, and none was used before; name one, or make one with "
	    "'towline sandbox create'");
	return NULL;
}

void names_remember(const struct names *n, const char *sandbox)
{
	char path[PATHS_MAX];
	struct err err;
	char *last = read_last(n, path, &err);

	if ((last == NULL || strcmp(last, sandbox) != 0) && path_of(n, path, &err) == 0)
		paths_write(path, sandbox, &err);
	free(last);
}

void names_forget(const struct names *n, const char *sandbox)
{
	char path[PATHS_MAX];
	struct err err;
	char *last = read_last(n, path, &err);

	if (last != NULL && strcmp(last, sandbox) == 0)
		unlink(path);
	free(last);
}
