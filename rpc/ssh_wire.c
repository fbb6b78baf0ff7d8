#include "rpc/ssh_wire.h"

#include <endian.h>
#include <string.h>

static const uint8_t *take(struct ssh_wire_in *in, size_t len)
{
	const uint8_t *at = in->at;

	if (in->failed || len > in->left) {
		in->failed = true;
		in->left = 0;
		return NULL;
	}
	in->at += len;
	in->left -= len;
	return at;
}

uint32_t ssh_wire_u32(struct ssh_wire_in *in)
{
	const uint8_t *at = take(in, sizeof(uint32_t));
	uint32_t value = 0;

	if (at != NULL)
		memcpy(&value, at, sizeof(value));
	return be32toh(value);
}

const uint8_t *ssh_wire_string(struct ssh_wire_in *in, size_t *len)
{
	const uint8_t *at;

	*len = ssh_wire_u32(in);
	at = take(in, *len);
	if (at == NULL)
		*len = 0;
	return at;
}

bool ssh_wire_is(struct ssh_wire_in *in, const char *text)
{
	size_t len;
	const uint8_t *at = ssh_wire_string(in, &len);

	return at != NULL && len == strlen(text) && memcmp(at, text, len) == 0;
}

bool ssh_wire_done(const struct ssh_wire_in *in)
{
	return !in->failed && in->left == 0;
}

void ssh_wire_put(struct ssh_wire_out *out, const void *bytes, size_t len)
{
	if (out->failed || len > out->size - out->len) {
		out->failed = true;
		return;
	}
	if (len > 0)
		memcpy(out->at + out->len, bytes, len);
	out->len += len;
}

void ssh_wire_put_u32(struct ssh_wire_out *out, uint32_t value)
{
	uint32_t big = htobe32(value);

	ssh_wire_put(out, &big, sizeof(big));
}

void ssh_wire_put_string(struct ssh_wire_out *out, const void *bytes, size_t len)
{
	ssh_wire_put_u32(out, (uint32_t)len);
	ssh_wire_put(out, bytes, len);
}

void ssh_wire_put_text(struct ssh_wire_out *out, const char *text)
{
	ssh_wire_put_string(out, text, strlen(text));
}
