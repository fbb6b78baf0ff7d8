/*
 * What of a header block is parsed by hand. The first byte chooses: fields of metadata (name NUL
 * value NUL ...), a grpc-message, a grpc-timeout, a grpc-status, or an address of a configuration.
 * What is accepted has to come back the same after being written out.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/address.h"
#include "rpc/meta_wire.h"
#include "rpc/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool what)
{
	if (!what)
		abort();
}

/* The bytes up to the next NUL, or all that are left. */
static size_t next_part(const char *text, size_t len)
{
	return strnlen(text, len);
}

static void fill(struct rpc_meta *meta, const char *text, size_t len)
{
	while (len > 0) {
		struct meta_field field = { .name = text };
		struct err err = { 0 };

		field.name_len = next_part(text, len);
		text += field.name_len;
		len -= field.name_len;
		if (len > 0) {
			text++;
			len--;
		}
		field.value = text;
		field.value_len = next_part(text, len);
		text += field.value_len;
		len -= field.value_len;
		if (len > 0) {
			text++;
			len--;
		}
		check((meta_from_wire(meta, &field, &err) == 0) == (err.code == GRPC_OK));
	}
	check(meta->count <= RPC_META_ITEMS_MAX && meta->bytes <= RPC_META_BYTES_MAX);
}

static void try_fields(const char *text, size_t len)
{
	struct rpc_meta first, second;
	struct meta_wire wire;
	struct meta_field field;

	rpc_meta_init(&first);
	rpc_meta_init(&second);
	fill(&first, text, len);
	check(meta_wire_begin(&wire, &first, NULL) == 0);
	while (meta_wire_next(&wire, &field))
		check(meta_from_wire(&second, &field, NULL) == 0);
	meta_wire_end(&wire);
	check(first.count == second.count && first.bytes == second.bytes);
	for (size_t i = 0; i < first.count; i++) {
		check(strcmp(first.items[i].name, second.items[i].name) == 0);
		check(first.items[i].len == second.items[i].len);
		check(memcmp(first.items[i].value, second.items[i].value, first.items[i].len) == 0);
	}
	rpc_meta_free(&first);
	rpc_meta_free(&second);
}

static void try_message(const char *text, size_t len)
{
	char decoded[ERR_TEXT_MAX], again[ERR_TEXT_MAX], wire[STATUS_MESSAGE_MAX];

	status_decode_message(text, len, decoded);
	status_encode_message(decoded, wire);
	for (const char *c = wire; *c != '\0'; c++)
		check(*c >= 0x20 && *c <= 0x7e);
	status_decode_message(wire, strlen(wire), again);
	check(strcmp(decoded, again) == 0);
}

static void try_timeout(const char *text)
{
	uint64_t ms, again;
	char wire[16];

	if (status_parse_timeout(text, &ms) < 0)
		return;
	status_format_timeout(ms, wire);
	check(status_parse_timeout(wire, &again) == 0);
	check(again >= ms);
}

static void try_status(const char *text)
{
	const char *message = strchr(text, ' ');
	struct err err;

	status_parse(text, message, &err);
	check(err.code <= GRPC_UNAUTHENTICATED);
	check(strlen(err.text) < ERR_TEXT_MAX);
}

static void try_address(const char *text)
{
	struct address first, second;
	char written[ADDRESS_TEXT_MAX];
	struct err err = { 0 };

	if (address_parse(text, &first, &err) < 0) {
		check(err.code == GRPC_INVALID_ARGUMENT);
		return;
	}
	if (!first.is_numeric)
		return;
	address_text((const struct sockaddr *)&first.sa, first.sa_len, written);
	check(address_parse(written, &second, NULL) == 0);
	check(first.sa_len == second.sa_len);
	check(memcmp(&first.sa, &second.sa, first.sa_len) == 0);
	check(address_is_loopback(&first) == address_is_loopback(&second));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;

	/* Memory of its own, with a NUL behind it. */
	char *text = strndup((const char *)data + 1, size - 1);
	char *raw = malloc(size);

	check(text != NULL && raw != NULL);
	memcpy(raw, data + 1, size - 1);
	switch (data[0] % 5) {
	case 0:
		try_fields(raw, size - 1);
		break;
	case 1:
		try_message(raw, size - 1);
		break;
	case 2:
		try_timeout(text);
		break;
	case 3:
		try_status(text);
		break;
	default:
		try_address(text);
	}
	free(text);
	free(raw);
	return 0;
}
