/* cli/pairs.h: options that are given as KEY=VALUE, again and again. */
#ifndef CLI_PAIRS_H
#define CLI_PAIRS_H

#include <stddef.h>

#include "base/config.h"
#include "base/err.h"

struct pairs {
	char *key[CONFIG_LIST_MAX]; /* owns the text of both */
	char *value[CONFIG_LIST_MAX];
	size_t count;
};

/* INVALID_ARGUMENT names ${option} and the item. pairs_free() whatever the result. */
int pairs_parse(struct pairs *, const struct config_list_value *, const char *option, struct err *);
void pairs_free(struct pairs *);

#endif
