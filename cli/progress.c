#include "cli/progress.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/output.h"
#include "cli/terminal.h"

#define LINE_MAX_BYTES   512
#define COLUMNS_DEFAULT  80
#define NAME_COLUMNS_MIN 8
#define ERASE_LINE       "\r\033[K"

struct progress {
	struct loop *loop;
	const struct cli *cli;
	struct timer *timer; /* NULL: nothing is painted */
	struct progress_view view;
	uint64_t painted_ms, painted_bytes; /* for the rate */
	pthread_mutex_t lock;               /* over the terminal's line and what follows */
	bool is_painted;
	size_t notes;
};

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

static void paint(void *cookie)
{
	struct progress *p = cookie;
	char line[LINE_MAX_BYTES];
	uint32_t columns, rows;

	terminal_size(STDERR_FILENO, &columns, &rows);
	measure(p);
	progress_format(
	    &p->view, columns > 1 ? columns - 1 : COLUMNS_DEFAULT - 1, line, sizeof(line));
	pthread_mutex_lock(&p->lock);
	erase(p);
	fputs(line, stderr);
	fflush(stderr);
	p->is_painted = true;
	pthread_mutex_unlock(&p->lock);
	timer_start(p->timer, PROGRESS_REPAINT_MS);
}

struct progress *progress_create(
    struct loop *loop, const struct cli *cli, const char *name, struct err *err)
{
	struct progress *p = calloc(1, sizeof(*p));

	if (p == NULL) {
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	p->loop = loop;
	p->cli = cli;
	p->view.name = name;
	p->painted_ms = loop_now_us() / 1000;
	pthread_mutex_init(&p->lock, NULL);
	if (!cli->quiet && isatty(STDERR_FILENO) &&
	    (p->timer = timer_create_on(loop, paint, p)) != NULL)
		timer_start(p->timer, PROGRESS_FIRST_MS);
	return p;
}

void progress_update(struct progress *p, uint64_t bytes, uint64_t total)
{
	p->view.bytes = bytes;
	p->view.total = total;
}

void progress_note(struct progress *p, const char *text)
{
	pthread_mutex_lock(&p->lock);
	p->notes++;
	if (p->notes <= PROGRESS_NOTES_MAX || p->cli->verbose > 0) {
		erase(p);
		fprintf(stderr, "towline: %s\n", text);
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
	erase(p);
	fflush(stderr);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
