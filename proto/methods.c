#include "proto/methods.h"

#include <stdlib.h>
#include <string.h>

#include "proto/tables.h"

static int compare_path(const void *path, const void *method)
{
	return strcmp(path, ((const struct method_info *)method)->path);
}

const struct method_info *methods_find(const char *path)
{
	return bsearch(
	    path, tables_methods, tables_method_count, sizeof(tables_methods[0]), compare_path);
}

size_t methods_count(void)
{
	return tables_method_count;
}

const struct method_info *methods_at(size_t index)
{
	return &tables_methods[index];
}

const char *methods_auth_name(enum methods_auth auth)
{
	switch (auth) {
	case METHODS_AUTH_UNSTATED:
		return "";
	case METHODS_AUTH_NONE:
		return "unauthenticated";
	case METHODS_AUTH_BEARER:
		return "bearer";
	case METHODS_AUTH_SANDBOX:
		return "sandbox";
	case METHODS_AUTH_DUAL:
		return "dual";
	case METHODS_AUTH_PEER:
		return "peer";
	case METHODS_AUTH_OPERATOR:
		return "operator";
	}
	return "";
}
