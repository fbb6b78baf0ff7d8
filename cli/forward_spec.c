#include "cli/forward_spec.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

static bool is_number(const char *text, size_t len)
{
	return len > 0 && strspn(text, "0123456789") >= len;
}

static int bad(const char *text, struct err *err)
{
	return err_set(
	    err, GRPC_INVALID_ARGUMENT, "\"%s\" is not [BIND:]PORT or [BIND:]PORT:TARGET", text);
}

/* BIND in front; what follows it, or NULL. */
static const char *take_bind(const char *text, struct forward_spec *spec)
{
	bool bracketed = text[0] == '[';
	const char *begin = text + bracketed;
	size_t len = strcspn(begin, bracketed ? "]" : ":");
	const char *rest = begin + len + bracketed;

	if (!bracketed && is_number(text, len)) {
		snprintf(spec->bind, sizeof(spec->bind), "%s", FORWARD_BIND_DEFAULT);
		return text;
	}
	if (len == 0 || len >= sizeof(spec->bind) || (bracketed && begin[len] != ']') ||
	    *rest != ':')
		return NULL;
	snprintf(spec->bind, sizeof(spec->bind), "%.*s", (int)len, begin);
	return rest + 1;
}

static int take_port(const char *text, size_t len, uint16_t *port, struct err *err)
{
	char number[8];
	uint64_t n;

	if (!is_number(text, len) || len >= sizeof(number))
		return err_set(err, GRPC_INVALID_ARGUMENT, "not a port");
	snprintf(number, sizeof(number), "%.*s", (int)len, text);
	if (text_to_u64(number, 0, UINT16_MAX, &n, err) != 0)
		return -1;
	*port = (uint16_t)n;
	return 0;
}

int forward_spec_parse(const char *text, struct forward_spec *spec, struct err *err)
{
	const char *ports;
	size_t len;

	*spec = (struct forward_spec){ 0 };
	if ((ports = take_bind(text, spec)) == NULL)
		return bad(text, err);
	len = strcspn(ports, ":");
	if (take_port(ports, len, &spec->port, err) != 0)
		return bad(text, err);
	spec->target = spec->port;
	if (ports[len] == '\0')
		return 0;
	if (take_port(ports + len + 1, strlen(ports + len + 1), &spec->target, err) != 0 ||
	    spec->target == 0)
		return bad(text, err);
	return 0;
}
