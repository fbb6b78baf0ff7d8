#include "cli/end.h"

#include <stdlib.h>
#include <string.h>

int end_parse(const char *word, struct end *end, struct err *err)
{
	size_t name = strcspn(word, ":/");

	*end = (struct end){ .kind = END_KIND_LOCAL, .path = word };
	if (strcmp(word, "-") == 0) {
		end->kind = END_KIND_STREAM;
		return 0;
	}
	if (name == 0 || word[name] != ':' || word[0] == '.')
		return 0;
	if ((end->sandbox = strndup(word, name)) == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	end->kind = END_KIND_REMOTE;
	end->path = word[name + 1] != '\0' ? word + name + 1 : ".";
	return 0;
}

void end_free(struct end *end)
{
	free(end->sandbox);
	end->sandbox = NULL;
}
