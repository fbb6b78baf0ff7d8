#include "rpc/status.h"

#include <inttypes.h>
#include <nghttp2/nghttp2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_DIGITS_MAX 8
#define TIMEOUT_VALUE_MAX  99999999

/* A space at either end is no part of a field's value (RFC 9110, section 5.5). */
void status_encode_message(const char *text, char out[static STATUS_MESSAGE_MAX])
{
	static const char hex[] = "0123456789ABCDEF";
	const char *begin = text, *end = text + strnlen(text, ERR_TEXT_MAX - 1);

	for (; text < end; text++) {
		unsigned char c = (unsigned char)*text;
		bool inside = text > begin && text + 1 < end;

		if (c >= (inside ? 0x20 : 0x21) && c <= 0x7e && c != '%') {
			*out++ = (char)c;
		} else {
			*out++ = '%';
			*out++ = hex[c >> 4];
			*out++ = hex[c & 15];
		}
	}
	*out = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Bytes of the text up to the last whole UTF-8 character, when more was cut off. */
static size_t whole_characters(const char *text, size_t len)
{
	size_t i = len;

	while (i > 0 && len - i < 3 && ((unsigned char)text[i - 1] & 0xc0) == 0x80)
		i--;
	if (i == 0 || (unsigned char)text[i - 1] < 0xc0)
		return len;

	unsigned char lead = (unsigned char)text[i - 1];
	size_t need = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;

	return len - (i - 1) >= need ? len : i - 1;
}

void status_decode_message(const char *value, size_t len, char out[static ERR_TEXT_MAX])
{
	size_t n = 0, i = 0;

	while (i < len && n < ERR_TEXT_MAX - 1) {
		int high = -1, low = -1;

		if (value[i] == '%' && len - i > 2) {
			high = hex_digit(value[i + 1]);
			low = hex_digit(value[i + 2]);
		}
		if (high >= 0 && low >= 0) {
			out[n++] = (char)(high << 4 | low);
			i += 3;
		} else {
			out[n++] = value[i++];
		}
	}
	if (i < len)
		n = whole_characters(out, n);
	out[n] = '\0';
}

/* A code of the gRPC standard, or -1. */
static int parse_code(const char *text)
{
	size_t len = strlen(text);
	int code = 0;

	if (len == 0 || len > 2 || strspn(text, "0123456789") != len)
		return -1;
	for (; *text != '\0'; text++)
		code = 10 * code + (*text - '0');
	return code <= GRPC_UNAUTHENTICATED ? code : -1;
}

void status_parse(const char *code, const char *message, struct err *e)
{
	char text[ERR_TEXT_MAX] = "";
	int known = code != NULL ? parse_code(code) : -1;

	if (known == GRPC_OK) {
		err_clear(e);
		return;
	}
	if (message != NULL)
		status_decode_message(message, strlen(message), text);
	if (known > 0)
		err_set(e, (enum grpc_code)known, "%s", text);
	else if (code == NULL)
		err_set(e, GRPC_UNKNOWN, "the peer sent no grpc-status");
	else
		err_set(e, GRPC_UNKNOWN, "grpc-status \"%.16s\" is no code: %s", code, text);
}

/* The unit in nanoseconds, 0 for a letter that is none. */
static uint64_t unit_ns(char unit)
{
	switch (unit) {
	case 'H':
		return UINT64_C(3600000000000);
	case 'M':
		return UINT64_C(60000000000);
	case 'S':
		return UINT64_C(1000000000);
	case 'm':
		return UINT64_C(1000000);
	case 'u':
		return UINT64_C(1000);
	case 'n':
		return UINT64_C(1);
	default:
		return 0;
	}
}

int status_parse_timeout(const char *value, uint64_t *ms)
{
	size_t digits = strspn(value, "0123456789");
	uint64_t count = 0;

	if (digits == 0 || digits > TIMEOUT_DIGITS_MAX || value[digits] == '\0' ||
	    value[digits + 1] != '\0')
		return -1;
	for (size_t i = 0; i < digits; i++)
		count = 10 * count + (uint64_t)(value[i] - '0');

	uint64_t unit = unit_ns(value[digits]);

	if (unit == 0)
		return -1;
	/* 99999999 hours are more nanoseconds than 64 bits hold. */
	if (unit >= 1000000)
		*ms = count * (unit / 1000000);
	else
		*ms = (count * unit + 999999) / 1000000;
	return 0;
}

void status_format_timeout(uint64_t ms, char out[static 16])
{
	static const struct {
		uint64_t ms;
		char letter;
	} units[] = { { 1, 'm' }, { 1000, 'S' }, { 60000, 'M' }, { 3600000, 'H' } };

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		uint64_t count = ms / units[i].ms + (ms % units[i].ms != 0);

		if (count <= TIMEOUT_VALUE_MAX) {
			snprintf(out, 16, "%" PRIu64 "%c", count, units[i].letter);
			return;
		}
	}
	snprintf(out, 16, "%dH", TIMEOUT_VALUE_MAX);
}

enum grpc_code status_from_http(int status)
{
	switch (status) {
	case 400:
		return GRPC_INTERNAL;
	case 401:
		return GRPC_UNAUTHENTICATED;
	case 403:
		return GRPC_PERMISSION_DENIED;
	case 404:
		return GRPC_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return GRPC_UNAVAILABLE;
	default:
		return GRPC_UNKNOWN;
	}
}

enum grpc_code status_from_h2(uint32_t error_code)
{
	switch (error_code) {
	case NGHTTP2_REFUSED_STREAM:
		return GRPC_UNAVAILABLE;
	case NGHTTP2_CANCEL:
		return GRPC_CANCELLED;
	case NGHTTP2_ENHANCE_YOUR_CALM:
		return GRPC_RESOURCE_EXHAUSTED;
	case NGHTTP2_INADEQUATE_SECURITY:
		return GRPC_PERMISSION_DENIED;
	default:
		return error_code <= NGHTTP2_HTTP_1_1_REQUIRED ? GRPC_INTERNAL : GRPC_UNKNOWN;
	}
}

uint32_t status_to_h2(enum grpc_code code)
{
	switch (code) {
	case GRPC_OK:
		return NGHTTP2_NO_ERROR;
	case GRPC_CANCELLED:
	case GRPC_DEADLINE_EXCEEDED:
		return NGHTTP2_CANCEL;
	case GRPC_RESOURCE_EXHAUSTED:
		return NGHTTP2_ENHANCE_YOUR_CALM;
	case GRPC_PERMISSION_DENIED:
		return NGHTTP2_INADEQUATE_SECURITY;
	default:
		/* UNAVAILABLE too: REFUSED_STREAM would promise that nothing has been
		 * done, and clients then call again by themselves. */
		return NGHTTP2_INTERNAL_ERROR;
	}
}
