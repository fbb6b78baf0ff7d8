#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FIRST_CAP 64

void text_init(struct text *t, size_t max)
{
	*t = (struct text){ .max = max };
}

void text_free(struct text *t)
{
	free(t->data);
	*t = (struct text){ .max = t->max };
}

/* Room for ${n} more bytes and the NUL. */
static bool reserve(struct text *t, size_t n)
{
	size_t cap = t->cap > 0 ? t->cap : FIRST_CAP;

	if (t->failed || n > t->max - t->len) {
		t->failed = true;
		return false;
	}
	if (t->len + n < t->cap)
		return true;
	while (cap <= t->len + n)
		cap *= 2;
	char *data = realloc(t->data, cap);
	if (data == NULL) {
		t->failed = true;
		return false;
	}
	t->data = data;
	t->cap = cap;
	return true;
}

void text_add(struct text *t, const char *s, size_t n)
{
	if (!reserve(t, n))
		return;
	if (n > 0)
		memcpy(t->data + t->len, s, n);
	t->len += n;
	t->data[t->len] = '\0';
}

void text_vaddf(struct text *t, const char *fmt, va_list args)
{
	va_list again;

	va_copy(again, args);
	int n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n < 0 || !reserve(t, (size_t)n)) {
		t->failed = true;
		return;
	}
	vsnprintf(t->data + t->len, (size_t)n + 1, fmt, args);
	t->len += (size_t)n;
}

void text_addf(struct text *t, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	text_vaddf(t, fmt, args);
	va_end(args);
}

/* How many bytes of ${s} are one well-formed UTF-8 character (RFC 3629); 0: none. */
static size_t utf8_length(const unsigned char *s, size_t n)
{
	size_t len = s[0] < 0x80          ? 1
	    : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
	    : (s[0] & 0xf0) == 0xe0       ? 3
	    : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
					  : 0;

	if (len == 0 || len > n)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return len;
}

/* U+0000 to U+001F and U+007F to U+009F, which terminals obey. */
static bool is_control(const unsigned char *s, size_t len)
{
	return s[0] < 0x20 || s[0] == 0x7f || (len == 2 && s[0] == 0xc2 && s[1] < 0xa0);
}

size_t text_printable(const char *text, size_t n)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t len = utf8_length(s, n);

	return len > 0 && !is_control(s, len) ? len : 0;
}

static void add_json_char(struct text *t, const unsigned char *s, size_t len)
{
	if (len == 0)
		text_addf(t, "\\ufffd");
	else if (s[0] == '"' || s[0] == '\\')
		text_addf(t, "\\%c", s[0]);
	else if (s[0] == '\n')
		text_addf(t, "\\n");
	else if (is_control(s, len))
		text_addf(t, "\\u%04x", s[len - 1]); /* of two bytes the last is the number */
	else
		text_add(t, (const char *)s, len);
}

void text_add_json(struct text *t, const char *s, size_t n)
{
	text_add(t, "\"", 1);
	for (size_t i = 0, len; i<n; i += len> 0 ? len : 1) {
		len = utf8_length((const unsigned char *)s + i, n - i);
		add_json_char(t, (const unsigned char *)s + i, len);
	}
	text_add(t, "\"", 1);
}

void text_add_plain(struct text *t, const char *s, size_t n)
{
	for (size_t i = 0, len; i<n; i += len> 0 ? len : 1) {
		len = text_printable(s + i, n - i);
		if (len == 0)
			text_addf(t, "\\x%02x", (unsigned char)s[i]);
		else
			text_add(t, s + i, len);
	}
}

static bool is_bare(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (s[i] <= ' ' || s[i] >= 0x7f || s[i] == '"' || s[i] == '=' || s[i] == '\\')
			return false;
	return n > 0;
}

void text_add_logfmt(struct text *t, const char *s, size_t n)
{
	if (is_bare(s, n))
		text_add(t, s, n);
	else
		text_add_json(t, s, n);
}

int text_to_u64(const char *s, uint64_t min, uint64_t max, uint64_t *out, struct err *err)
{
	char *end;

	errno = 0;
	unsigned long long v = strtoull(s, &end, 10);
	if (s[0] < '0' || s[0] > '9' || *end != '\0' || errno != 0 || v < min || v > max)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "\"%s\" is not a number from %llu to %llu", s, (unsigned long long)min,
		    (unsigned long long)max);
	*out = v;
	return 0;
}

void text_hex(const uint8_t *bytes, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		*out++ = digits[bytes[i] >> 4];
		*out++ = digits[bytes[i] & 15];
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

int text_unhex(const char *s, uint8_t *out, size_t n)
{
	if (strlen(s) != 2 * n)
		return -1;
	for (size_t i = 0; i < n; i++) {
		int high = hex_digit(s[2 * i]), low = hex_digit(s[2 * i + 1]);
		if (high < 0 || low < 0)
			return -1;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return 0;
}

void text_time(int64_t unix_seconds, char out[static 21])
{
	time_t t = (time_t)unix_seconds;
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL || strftime(out, 21, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(out, 21, "1970-01-01T00:00:00Z");
}
