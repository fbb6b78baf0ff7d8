#include "cli/pairs.h"

#include <stdlib.h>
#include <string.h>

static int add(struct pairs *p, const char *item, const char *option, struct err *err)
{
	const char *equals = strchr(item, '=');
	char *copy;

	if (equals == NULL || equals == item)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "%s: \"%s\" is not KEY=VALUE", option, item);
	if ((copy = strdup(item)) == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	copy[equals - item] = '\0';
	p->key[p->count] = copy;
	p->value[p->count] = copy + (equals - item) + 1;
	p->count++;
	return 0;
}

int pairs_parse(
    struct pairs *p, const struct config_list_value *list, const char *option, struct err *err)
{
	*p = (struct pairs){ 0 };
	for (size_t i = 0; i < list->count; i++)
		if (add(p, list->item[i], option, err) != 0)
			return -1;
	return 0;
}

void pairs_free(struct pairs *p)
{
	for (size_t i = 0; i < p->count; i++)
		free(p->key[i]);
	p->count = 0;
}
