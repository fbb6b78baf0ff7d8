#include "rpc/meta.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/meta_wire.h"

void rpc_meta_init(struct rpc_meta *meta)
{
	*meta = (struct rpc_meta){ 0 };
}

void rpc_meta_free(struct rpc_meta *meta)
{
	for (size_t i = 0; i < meta->count; i++)
		free(meta->items[i].name); /* the value is in the same block */
	free(meta->items);
	rpc_meta_init(meta);
}

/* RFC 9110, section 5.6.2 "tchar", less the upper case that HTTP/2 forbids. */
static bool is_name_char(char c)
{
	if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
		return true;
	return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static bool is_name(const char *name)
{
	if (*name == '\0')
		return false;
	while (is_name_char(*name))
		name++;
	return *name == '\0';
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* RFC 9113, section 8.2.1: no control characters, no blanks at either end. */
static bool is_text(const char *value, size_t len)
{
	if (len > 0 && (is_blank(value[0]) || is_blank(value[len - 1])))
		return false;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)value[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

static int check(
    const struct rpc_meta *meta, const char *name, const void *value, size_t len, struct err *err)
{
	if (!is_name(name))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "metadata name \"%.64s\" may hold only lower-case letters, digits, "
		    "'-', '_' and '.'",
		    name);
	if (!meta_is_binary(name) && !is_text(value, len))
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "metadata %.64s: the value must be printable text; use a name that ends in "
		    "-bin for bytes",
		    name);
	if (meta->count >= RPC_META_ITEMS_MAX)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "more than %d metadata items in one call", RPC_META_ITEMS_MAX);
	if (len > RPC_META_BYTES_MAX - meta->bytes ||
	    strlen(name) > RPC_META_BYTES_MAX - meta->bytes - len)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED,
		    "more than %d bytes of metadata in one call", RPC_META_BYTES_MAX);
	return 0;
}

static int grow(struct rpc_meta *meta, struct err *err)
{
	size_t cap = meta->cap > 0 ? 2 * meta->cap : 4;
	struct rpc_meta_item *items = realloc(meta->items, cap * sizeof(*items));

	if (items == NULL)
		return err_sys(err, ENOMEM, "metadata");
	meta->items = items;
	meta->cap = cap;
	return 0;
}

int rpc_meta_add(
    struct rpc_meta *meta, const char *name, const void *value, size_t len, struct err *err)
{
	if (check(meta, name, value, len, err) < 0)
		return -1;
	if (meta->count == meta->cap && grow(meta, err) < 0)
		return -1;

	size_t name_len = strlen(name);
	char *copy = malloc(name_len + 1 + len + 1);

	if (copy == NULL)
		return err_sys(err, ENOMEM, "metadata %.64s", name);
	memcpy(copy, name, name_len + 1);
	if (len > 0)
		memcpy(copy + name_len + 1, value, len);
	copy[name_len + 1 + len] = '\0';
	meta->items[meta->count++] =
	    (struct rpc_meta_item){ .name = copy, .value = copy + name_len + 1, .len = len };
	meta->bytes += name_len + len;
	return 0;
}

int rpc_meta_add_text(struct rpc_meta *meta, const char *name, const char *value, struct err *err)
{
	return rpc_meta_add(meta, name, value, strlen(value), err);
}

const char *rpc_meta_get(const struct rpc_meta *meta, const char *name)
{
	for (size_t i = 0; i < meta->count; i++) {
		if (strcmp(meta->items[i].name, name) == 0)
			return meta->items[i].value;
	}
	return NULL;
}
