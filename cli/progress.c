#include "cli/progress.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/output.h"
#include "cli/terminal.h"

#define LINE_MAX_BYTES   1024
#define NAME_MAX_BYTES   512
#define NOTE_MAX_BYTES   ((size_t)32 << 10)
#define COLUMNS_DEFAULT  80
#define NAME_COLUMNS_MIN 8
#define ERASE_LINE       "\r\033[K"

struct progress {
	struct loop *loop;
	const struct cli *cli;
	enum progress_style style;
	struct timer *timer; /* NULL: nothing is said */
	struct progress_view view;
	char name[NAME_MAX_BYTES];          /* safe to print */
	uint64_t painted_ms, painted_bytes; /* for the rate */
	pthread_mutex_t lock;               /* over the terminal's line and what follows */
	bool is_painted, was_said;
	size_t notes;
};

int progress_parse_style(void *field, const char *value, struct err *err)
{
	static const char *const names[] = { "auto", "bar", "plain", "json", "none" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(value, names[i]) == 0) {
			*(enum progress_style *)field = (enum progress_style)i;
			return 0;
		}
	}
	return err_set(
	    err, GRPC_INVALID_ARGUMENT, "\"%s\" is none of auto, bar, plain, json and none", value);
}

/* "1:02:03", "0:42" */
static void format_time(uint64_t seconds, char *out, size_t size)
{
	if (seconds >= 3600)
		snprintf(out, size, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, seconds / 3600,
		    seconds / 60 % 60, seconds % 60);
	else
		snprintf(out, size, "%" PRIu64 ":%02" PRIu64, seconds / 60, seconds % 60);
}

/* All but the name. */
static void format_numbers(const struct progress_view *v, char *out, size_t size)
{
	char bytes[OUTPUT_SIZE_MAX], total[OUTPUT_SIZE_MAX], rate[OUTPUT_SIZE_MAX], eta[32];
	size_t n;

	output_size(v->bytes, bytes);
	n = (size_t)snprintf(out, size, "%s", bytes);
	if (v->total > 0) {
		double part = (double)v->bytes / (double)v->total;

		output_size(v->total, total);
		n += (size_t)snprintf(
		    out + n, size - n, " / %s  %3.0f%%", total, part < 1 ? part * 100 : 100.0);
	}
	if (v->rate > 0) {
		output_size(v->rate, rate);
		n += (size_t)snprintf(out + n, size - n, "  %s/s", rate);
	}
	if (v->rate > 0 && v->total > v->bytes) {
		format_time((v->total - v->bytes + v->rate - 1) / v->rate, eta, sizeof(eta));
		snprintf(out + n, size - n, "  ETA %s", eta);
	}
}

void progress_format(const struct progress_view *v, unsigned columns, char *out, size_t size)
{
	char numbers[160];
	size_t len, room = columns < size ? columns : size - 1, name = strlen(v->name);

	format_numbers(v, numbers, sizeof(numbers));
	len = strlen(numbers) + 2;
	size_t name_room = room > len ? room - len : 0;
	if (name <= name_room)
		snprintf(out, size, "%s  %s", v->name, numbers);
	else if (name_room >= NAME_COLUMNS_MIN) /* the end of a path says more than its beginning */
		snprintf(out, size, "...%s  %s", v->name + name - (name_room - 3), numbers);
	else
		snprintf(out, room + 1, "%s", numbers);
}

void progress_format_json(const struct progress_view *v, char *out, size_t size)
{
	struct text t;

	text_init(&t, size - 1);
	text_addf(&t, "{\"event\":\"progress\",\"name\":");
	text_add_json(&t, v->name, strlen(v->name));
	text_addf(&t, ",\"bytes\":%" PRIu64 ",\"rate\":%" PRIu64, v->bytes, v->rate);
	if (v->total > 0)
		text_addf(&t, ",\"total\":%" PRIu64 ",\"percent\":%.1f", v->total,
		    v->bytes < v->total ? (double)v->bytes / (double)v->total * 100 : 100.0);
	if (v->rate > 0 && v->total > v->bytes)
		text_addf(
		    &t, ",\"eta_seconds\":%" PRIu64, (v->total - v->bytes + v->rate - 1) / v->rate);
	text_addf(&t, "}");
	snprintf(out, size, "%s", t.failed ? "{\"event\":\"progress\"}" : t.data);
	text_free(&t);
}

static void erase(struct progress *p)
{
	if (p->is_painted)
		fputs(ERASE_LINE, stderr);
	p->is_painted = false;
}

/* The rate follows what happens within a few paintings. */
static void measure(struct progress *p)
{
	uint64_t now = loop_now_us() / 1000, ms = now - p->painted_ms;

	if (ms == 0)
		return;
	uint64_t rate = (p->view.bytes - p->painted_bytes) * 1000 / ms;
	p->view.rate = p->view.rate == 0 ? rate : (p->view.rate * 7 + rate * 3) / 10;
	p->painted_ms = now;
	p->painted_bytes = p->view.bytes;
}

/* With the lock. */
static void put_line(struct progress *p)
{
	char line[LINE_MAX_BYTES];
	uint32_t columns = 0, rows;

	if (p->style == PROGRESS_STYLE_JSON) {
		progress_format_json(&p->view, line, sizeof(line));
	} else {
		if (p->style == PROGRESS_STYLE_BAR)
			terminal_size(STDERR_FILENO, &columns, &rows);
		progress_format(&p->view,
		    p->style != PROGRESS_STYLE_BAR ? LINE_MAX_BYTES - 1
			: columns > 1              ? columns - 1
						   : COLUMNS_DEFAULT - 1,
		    line, sizeof(line));
	}
	erase(p);
	fprintf(stderr, p->style == PROGRESS_STYLE_BAR ? "%s" : "%s\n", line);
	fflush(stderr);
	p->is_painted = p->style == PROGRESS_STYLE_BAR;
	p->was_said = true;
}

static void paint(void *cookie)
{
	struct progress *p = cookie;

	measure(p);
	pthread_mutex_lock(&p->lock);
	put_line(p);
	pthread_mutex_unlock(&p->lock);
	timer_start(
	    p->timer, p->style == PROGRESS_STYLE_PLAIN ? PROGRESS_LINE_MS : PROGRESS_REPAINT_MS);
}

static enum progress_style choose(const struct cli *cli, enum progress_style style)
{
	if (style != PROGRESS_STYLE_AUTO)
		return style;
	return !cli->quiet && isatty(STDERR_FILENO) ? PROGRESS_STYLE_BAR : PROGRESS_STYLE_NONE;
}

struct progress *progress_create(
    struct loop *loop, const struct cli *cli, enum progress_style style, struct err *err)
{
	struct progress *p = calloc(1, sizeof(*p));

	if (p == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	p->loop = loop;
	p->cli = cli;
	p->style = choose(cli, style);
	p->view.name = p->name;
	p->painted_ms = loop_now_us() / 1000;
	pthread_mutex_init(&p->lock, NULL);
	if (p->style != PROGRESS_STYLE_NONE && (p->timer = timer_create_on(loop, paint, p)) != NULL)
		timer_start(p->timer, PROGRESS_FIRST_MS);
	return p;
}

void progress_name(struct progress *p, const char *name)
{
	struct text t;

	text_init(&t, sizeof(p->name) - 1);
	text_add_plain(&t, name, strlen(name));
	snprintf(p->name, sizeof(p->name), "%s", t.failed || t.data == NULL ? "..." : t.data);
	text_free(&t);
}

void progress_count(struct progress *p, size_t done, size_t count)
{
	snprintf(p->name, sizeof(p->name), "%zu of %zu", done, count);
}

void progress_update(struct progress *p, uint64_t bytes, uint64_t total)
{
	p->view.bytes = bytes;
	p->view.total = total;
}

/* The names in it are of those who made them. */
static void put_note(const char *text)
{
	struct text t;

	text_init(&t, NOTE_MAX_BYTES);
	text_add_plain(&t, text, strlen(text));
	fprintf(stderr, "towline: %s\n", t.failed ? "a note too long to be told" : t.data);
	text_free(&t);
}

void progress_note(struct progress *p, const char *text)
{
	pthread_mutex_lock(&p->lock);
	p->notes++;
	if (p->notes <= PROGRESS_NOTES_MAX || p->cli->verbose > 0) {
		erase(p);
		put_note(text);
	} else if (p->notes == PROGRESS_NOTES_MAX + 1) {
		erase(p);
		fprintf(stderr, "towline: there are more; --verbose prints all\n");
	}
	pthread_mutex_unlock(&p->lock);
}

void progress_free(struct progress *p)
{
	if (p == NULL)
		return;
	timer_free(p->timer);
	if (p->was_said && p->style != PROGRESS_STYLE_BAR)
		put_line(p);
	erase(p);
	fflush(stderr);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
