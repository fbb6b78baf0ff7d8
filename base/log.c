#include "base/log.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"

#define LINE_MAX_BYTES 8192
#define EVENTS_MAX     64 /* whose rate is kept; the least recent makes room */

/* How often an event came in the second that began at ${since}. */
struct rate {
	const char *area, *event;
	time_t since;
	uint64_t count;
};

static struct {
	int fd;
	enum log_format format;
	_Atomic int level;
	pthread_mutex_t lock;
	struct rate rates[EVENTS_MAX];
} out = { .fd = STDERR_FILENO, .level = LOG_LEVEL_WARN, .lock = PTHREAD_MUTEX_INITIALIZER };

static const char *const level_names[] = { "error", "warn", "info", "debug", "trace" };

void log_setup(int fd, enum log_format format, enum log_level level)
{
	out.fd = fd;
	out.format = format;
	atomic_store(&out.level, (int)level);
}

int log_level_parse(const char *text, enum log_level *level, struct err *err)
{
	for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
		if (strcasecmp(text, level_names[i]) == 0) {
			*level = (enum log_level)i;
			return 0;
		}
	}
	return err_set(err, GRPC_INVALID_ARGUMENT,
	    "\"%s\" is no log level; error, warn, info, debug and trace are", text);
}

bool log_enabled(enum log_level level)
{
	return (int)level <= atomic_load_explicit(&out.level, memory_order_relaxed);
}

static void add_key(struct text *t, const char *key)
{
	if (out.format == LOG_FORMAT_JSON)
		text_addf(t, "%s\"%s\":", t->len > 1 ? "," : "", key);
	else
		text_addf(t, "%s%s=", t->len > 0 ? " " : "", key);
}

static void add_string(struct text *t, const char *key, const char *value)
{
	add_key(t, key);
	if (out.format == LOG_FORMAT_JSON)
		text_add_json(t, value, strlen(value));
	else
		text_add_logfmt(t, value, strlen(value));
}

static void add_field(struct text *t, const struct log_field *f)
{
	if (f->type == LOG_TYPE_STR) {
		if (f->str != NULL)
			add_string(t, f->key, f->str);
		return;
	}
	add_key(t, f->key);
	if (f->type == LOG_TYPE_I64)
		text_addf(t, "%" PRId64, f->i64);
	else
		text_addf(t, "%" PRIu64, f->u64);
}

static void emit(const char *area, enum log_level level, const char *event, time_t now,
    const struct log_field *fields, size_t count)
{
	struct text t;
	char when[21];
	bool json = out.format == LOG_FORMAT_JSON;

	text_init(&t, LINE_MAX_BYTES);
	text_time(now, when);
	if (json)
		text_add(&t, "{", 1);
	add_string(&t, "time", when);
	add_string(&t, "level", level_names[level]);
	add_string(&t, "area", area);
	add_string(&t, "event", event);
	for (size_t i = 0; i < count; i++)
		add_field(&t, &fields[i]);
	text_addf(&t, json ? "}\n" : "\n");
	/* A line too long, or no memory for it, is said rather than cut in the middle. */
	const char *lost = json ? "{\"event\":\"log_line_lost\"}\n" : "event=log_line_lost\n";
	ssize_t n = t.failed ? write(out.fd, lost, strlen(lost)) : write(out.fd, t.data, t.len);
	(void)n; /* there is nowhere to say that logging failed */
	text_free(&t);
}

/* The event's row, its own or the least recent one. */
static struct rate *find_rate(const char *area, const char *event)
{
	struct rate *oldest = &out.rates[0];

	for (size_t i = 0; i < EVENTS_MAX; i++) {
		struct rate *r = &out.rates[i];
		if (r->area == area && r->event == event)
			return r;
		if (r->since < oldest->since)
			oldest = r;
	}
	*oldest = (struct rate){ .area = area, .event = event };
	return oldest;
}

/* Whether this one is written; ${dropped} gets how many of the last second were not. */
static bool admit(const char *area, const char *event, time_t now, uint64_t *dropped)
{
	pthread_mutex_lock(&out.lock);
	struct rate *r = find_rate(area, event);
	*dropped = 0;
	if (r->since != now) {
		*dropped = r->count > LOG_BURST ? r->count - LOG_BURST : 0;
		r->since = now;
		r->count = 0;
	}
	bool yes = ++r->count <= LOG_BURST;
	pthread_mutex_unlock(&out.lock);
	return yes;
}

void log_write(const struct log_area *area, enum log_level level, const char *event,
    const struct log_field *fields, size_t count)
{
	time_t now = time(NULL);
	uint64_t dropped;
	bool yes = admit(area->name, event, now, &dropped);

	if (dropped > 0) {
		const struct log_field repeats = LOG_U64("repeated", dropped);
		emit(area->name, level, event, now, &repeats, 1);
	}
	if (yes)
		emit(area->name, level, event, now, fields, count);
}
