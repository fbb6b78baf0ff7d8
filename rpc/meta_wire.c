#include "rpc/meta_wire.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

static bool ends_in_bin(const char *name, size_t len)
{
	return len > 4 && memcmp(name + len - 4, "-bin", 4) == 0;
}

bool meta_is_binary(const char *name)
{
	return ends_in_bin(name, strlen(name));
}

size_t meta_base64_encode(const void *bytes, size_t len, char *out)
{
	int n = EVP_EncodeBlock((unsigned char *)out, bytes, (int)len);
	size_t encoded = (size_t)n;

	while (encoded > 0 && out[encoded - 1] == '=')
		encoded--;
	out[encoded] = '\0';
	return encoded;
}

static int digit_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Padding is optional, but when there is some it must be the right amount. */
static bool strip_padding(const char *text, size_t *len)
{
	size_t n = *len;

	while (n > 0 && *len - n < 2 && text[n - 1] == '=')
		n--;
	if (n < *len && *len % 4 != 0)
		return false;
	*len = n;
	return n % 4 != 1;
}

ptrdiff_t meta_base64_decode(const char *text, size_t len, uint8_t *out)
{
	uint32_t bits = 0;
	unsigned held = 0;
	size_t n = 0;

	if (!strip_padding(text, &len))
		return -1;
	for (size_t i = 0; i < len; i++) {
		int digit = digit_of(text[i]);

		if (digit < 0)
			return -1;
		bits = bits << 6 | (uint32_t)digit;
		held += 6;
		if (held >= 8) {
			held -= 8;
			out[n++] = (uint8_t)(bits >> held);
		}
	}
	return (ptrdiff_t)n;
}

static bool name_is(const struct meta_field *field, const char *name)
{
	return strlen(name) == field->name_len && memcmp(field->name, name, field->name_len) == 0;
}

/* What belongs to the transport and not to the application. */
static bool is_reserved(const struct meta_field *field)
{
	if (field->name_len > 0 && field->name[0] == ':')
		return true;
	if (field->name_len >= 5 && memcmp(field->name, "grpc-", 5) == 0)
		return !name_is(field, "grpc-status-details-bin");
	return name_is(field, "te") || name_is(field, "content-type") ||
	    name_is(field, "content-length") || name_is(field, "host");
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static void strip_blanks(const char **value, size_t *len)
{
	while (*len > 0 && is_blank((*value)[0])) {
		++*value;
		--*len;
	}
	while (*len > 0 && is_blank((*value)[*len - 1]))
		--*len;
}

static int add_one_binary(struct rpc_meta *meta, const char *name, const char *text, size_t len,
    uint8_t *scratch, struct err *err)
{
	strip_blanks(&text, &len);

	ptrdiff_t n = meta_base64_decode(text, len, scratch);

	if (n < 0)
		return err_set(
		    err, GRPC_INVALID_ARGUMENT, "metadata %.64s: the value is no base64", name);
	return rpc_meta_add(meta, name, scratch, (size_t)n, err);
}

static int add_binary(
    struct rpc_meta *meta, const char *name, const char *value, size_t len, struct err *err)
{
	uint8_t *scratch = malloc(len + 1);
	int result;

	if (scratch == NULL)
		return err_sys(err, ENOMEM, "metadata %.64s", name);
	for (;;) {
		const char *comma = memchr(value, ',', len);
		size_t part = comma != NULL ? (size_t)(comma - value) : len;

		result = add_one_binary(meta, name, value, part, scratch, err);
		if (result < 0 || comma == NULL)
			break;
		value += part + 1;
		len -= part + 1;
	}
	free(scratch);
	return result;
}

int meta_from_wire(struct rpc_meta *meta, const struct meta_field *field, struct err *err)
{
	const char *value = field->value;
	size_t len = field->value_len;
	int result;

	if (is_reserved(field))
		return 0;

	char *name = strndup(field->name, field->name_len);

	if (name == NULL)
		return err_sys(err, ENOMEM, "metadata");
	if (strlen(name) != field->name_len) {
		result = err_set(err, GRPC_INVALID_ARGUMENT, "a metadata name holds a NUL");
	} else if (meta_is_binary(name)) {
		result = add_binary(meta, name, value, len, err);
	} else {
		strip_blanks(&value, &len);
		result = rpc_meta_add(meta, name, value, len, err);
	}
	free(name);
	return result;
}

int meta_wire_begin(struct meta_wire *wire, const struct rpc_meta *meta, struct err *err)
{
	size_t need = 0;

	*wire = (struct meta_wire){ .meta = meta };
	for (size_t i = 0; meta != NULL && i < meta->count; i++) {
		if (meta_is_binary(meta->items[i].name))
			need += META_BASE64_SIZE(meta->items[i].len);
	}
	if (need == 0)
		return 0;
	wire->text = malloc(need);
	return wire->text != NULL ? 0 : err_sys(err, ENOMEM, "metadata");
}

bool meta_wire_next(struct meta_wire *wire, struct meta_field *field)
{
	if (wire->meta == NULL || wire->index == wire->meta->count)
		return false;

	const struct rpc_meta_item *item = &wire->meta->items[wire->index++];

	*field = (struct meta_field){ .name = item->name,
		.name_len = strlen(item->name),
		.value = item->value,
		.value_len = item->len };
	if (meta_is_binary(item->name)) {
		char *out = wire->text + wire->used;

		field->value = out;
		field->value_len = meta_base64_encode(item->value, item->len, out);
		wire->used += field->value_len + 1;
	}
	return true;
}

void meta_wire_end(struct meta_wire *wire)
{
	free(wire->text);
	*wire = (struct meta_wire){ 0 };
}
