#include "cli/carry.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/copy.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/progress.h"
#include "cli/remote.h"
#include "cli/signals.h"
#include "transfer/client.h"

#define CANCEL_MS 10000 /* for part files to be removed */

/* A transfer that runs. */
struct carry {
	struct session_wait wait;
	struct transfer *transfer; /* NULL: over */
	struct progress *progress;
	struct transfer_result result;
	struct signals signals;
	int signal;
};

static void on_progress(void *cookie, const struct transfer_progress *p)
{
	progress_update(((struct carry *)cookie)->progress, p->bytes, p->total);
}

static void on_note(void *cookie, const char *text)
{
	progress_note(((struct carry *)cookie)->progress, text);
}

static void on_done(void *cookie, const struct transfer_result *result, const struct err *err)
{
	struct carry *c = cookie;

	c->transfer = NULL;
	c->result = *result;
	session_done(&c->wait, err);
}

static const struct transfer_ops ops = {
	.progress = on_progress,
	.note = on_note,
	.done = on_done,
};

static void on_signal(void *cookie, int number)
{
	struct carry *c = cookie;

	if (c->signal == 0 && c->transfer != NULL)
		transfer_cancel(c->transfer);
	c->signal = number;
}

typedef struct transfer *starter(struct loop *, const struct transfer_request *, struct err *);

static int run(struct carry *c, starter *start, struct transfer_request *r, struct err *err)
{
	struct session *s = c->wait.session;

	r->client = session_client(s, err);
	r->workers = session_workers(s, err);
	r->workspace = session_cli(s)->workspace;
	r->ops = &ops;
	r->cookie = c;
	if (r->client == NULL || r->workers == NULL)
		return -1;
	/* Standard input and output may keep us waiting: then a signal ends us as it would. */
	if (r->fd < 0 && signals_watch(&c->signals, session_loop(s), on_signal, c, err) != 0)
		return -1;
	if ((c->transfer = start(session_loop(s), r, err)) == NULL)
		return -1;
	return session_wait(s, &c->wait, SESSION_FOREVER, err);
}

/* One transfer, with what is measured of it. */
static int carry(struct session *s, starter *start, struct transfer_request *r,
    struct carry_result *result, struct err *err)
{
	struct carry c = { .wait.session = s };
	uint64_t began = loop_now_us();
	int code = -1;

	c.progress = progress_create(
	    session_loop(s), session_cli(s), start == transfer_upload ? r->local : r->remote, err);
	if (c.progress != NULL)
		code = run(&c, start, r, err);
	r->cookie = NULL; /* it goes with us */
	signals_free(&c.signals);
	progress_free(c.progress);
	if (code == 0 && r->recursive && c.result.files == 0)
		code = err_set(err, GRPC_FAILED_PRECONDITION,
		    "%s has no file in it: there was nothing to copy but its directories",
		    start == transfer_upload ? r->local : r->remote);
	result->us = loop_now_us() - began;
	result->files = c.result.files;
	result->bytes = c.result.bytes;
	result->skipped = c.result.skipped;
	result->signal = c.signal;
	result->has_digest = c.result.has_digest && !r->recursive;
	memcpy(result->digest, c.result.digest, sizeof(result->digest));
	return code;
}

void carry_result_free(struct carry_result *r)
{
	free(r->target);
	r->target = NULL;
}

static enum copy_kind kind_of(mode_t mode)
{
	return S_ISDIR(mode) ? COPY_KIND_DIRECTORY : COPY_KIND_FILE;
}

/* Up. */

static int upload_target(struct session *s, const struct carry_options *o, struct copy_case *c,
    char **target, struct err *err)
{
	struct stat st;

	if (strcmp(o->source, "-") == 0) {
		if (o->dest == NULL || copy_is_folder_name(o->dest))
			return err_set(err, GRPC_INVALID_ARGUMENT,
			    "standard input has no name: name the file to make");
		c->exact = true;
	} else {
		if (stat(o->source, &st) != 0)
			return err_sys(err, errno, "%s", o->source);
		c->source_kind = kind_of(st.st_mode);
	}
	if (copy_asks(c) && remote_kind(s, o->sandbox, o->dest, &c->dest_kind, err) != 0)
		return -1;
	*target = copy_target(c, err);
	return *target != NULL ? 0 : -1;
}

int carry_upload(
    struct session *s, const struct carry_options *o, struct carry_result *result, struct err *err)
{
	struct copy_case c = { .source = o->source,
		.source_kind = COPY_KIND_FILE,
		.dest = o->dest,
		.exact = o->exact };
	struct transfer_request r = { .sandbox = o->sandbox,
		.local = o->source,
		.fd = strcmp(o->source, "-") == 0 ? STDIN_FILENO : -1,
		.exclude = o->exclude };

	*result = (struct carry_result){ 0 };
	if (upload_target(s, o, &c, &result->target, err) != 0)
		return -1;
	r.remote = result->target;
	r.recursive = c.source_kind == COPY_KIND_DIRECTORY;
	return carry(s, transfer_upload, &r, result, err);
}

/* Down. */

static enum copy_kind local_kind(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? kind_of(st.st_mode) : COPY_KIND_NONE;
}

/* "d/" is made if it is not there. */
static int make_folder_of(const char *target, struct err *err)
{
	char *copy = strdup(target);
	char *slash = copy != NULL ? strrchr(copy, '/') : NULL;
	int r = 0;

	if (copy == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	if (slash != NULL && slash != copy) {
		*slash = '\0';
		r = paths_make_folders(copy, 0777, err);
	}
	free(copy);
	return r;
}

static int download_target(struct copy_case *c, char **target, struct err *err)
{
	if (copy_asks(c))
		c->dest_kind = local_kind(c->dest);
	if ((*target = copy_target(c, err)) == NULL)
		return -1;
	if (c->dest != NULL && !c->exact && copy_is_folder_name(c->dest))
		return make_folder_of(*target, err);
	return 0;
}

int carry_download(
    struct session *s, const struct carry_options *o, struct carry_result *result, struct err *err)
{
	bool to_stdout = o->dest != NULL && strcmp(o->dest, "-") == 0;
	struct copy_case c = { .source = o->source, .dest = o->dest, .exact = o->exact };
	struct transfer_request r = {
		.sandbox = o->sandbox, .remote = o->source, .fd = to_stdout ? STDOUT_FILENO : -1
	};

	*result = (struct carry_result){ 0 };
	if (remote_kind(s, o->sandbox, o->source, &c.source_kind, err) != 0)
		return -1;
	if (c.source_kind == COPY_KIND_NONE)
		return err_set(
		    err, GRPC_NOT_FOUND, "there is no %s in sandbox %s", o->source, o->sandbox);
	r.recursive = c.source_kind == COPY_KIND_DIRECTORY;
	if (to_stdout)
		result->target = strdup("-");
	else if (download_target(&c, &result->target, err) != 0)
		return -1;
	r.local = result->target;
	return carry(s, transfer_download, &r, result, err);
}

/* What is said. */

static void report_text(const struct cli *cli, const char *verb, const struct carry_options *o,
    const struct carry_result *r)
{
	char bytes[OUTPUT_SIZE_MAX], rate[OUTPUT_SIZE_MAX], skipped[48] = "";

	output_size(r->bytes, bytes);
	output_size(r->us > 0 ? (uint64_t)((double)r->bytes * 1e6 / (double)r->us) : 0, rate);
	if (r->skipped > 0)
		snprintf(skipped, sizeof(skipped), ", %" PRIu64 " skipped", r->skipped);
	cli_say(cli, "%s %s to %s: %" PRIu64 " %s, %s in %.2f s (%s/s)%s", verb, o->source,
	    r->target, r->files, r->files == 1 ? "file" : "files", bytes, (double)r->us / 1e6, rate,
	    skipped);
	if (cli->quiet && r->skipped > 0)
		fprintf(stderr, "towline: %" PRIu64 " skipped\n", r->skipped);
}

static json_t *report_json(const struct carry_options *o, const struct carry_result *r)
{
	json_t *json = json_object();
	char digest[2 * sizeof(r->digest) + 1];

	json_object_set_new(json, "sandbox", output_json_text(o->sandbox));
	json_object_set_new(json, "source", output_json_text(o->source));
	json_object_set_new(json, "target", output_json_text(r->target));
	json_object_set_new(json, "files", json_integer((json_int_t)r->files));
	json_object_set_new(json, "bytes", json_integer((json_int_t)r->bytes));
	json_object_set_new(json, "skipped", json_integer((json_int_t)r->skipped));
	json_object_set_new(json, "seconds", json_real((double)r->us / 1e6));
	if (r->has_digest) {
		text_hex(r->digest, sizeof(r->digest), digest);
		json_object_set_new(json, "xxh3_128", json_string(digest));
	}
	return json;
}

int carry_report(const struct cli *cli, const char *verb, const struct carry_options *o,
    const struct carry_result *r, FILE *out, struct err *err)
{
	if (cli->output == CLI_OUTPUT_TABLE)
		report_text(cli, verb, o, r);
	else if (output_json(report_json(o, r), out, err) != 0)
		return cli_fail(cli, err);
	return r->skipped > 0 ? CLI_EXIT_SKIPPED : CLI_EXIT_OK;
}
