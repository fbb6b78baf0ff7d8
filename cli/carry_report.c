/* What is said of copies. */
#include <assert.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/carry.h"
#include "cli/output.h"

#define LINE_MAX_BYTES ((size_t)16 << 10)

void carry_items_free(struct carry_item *items, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(items[i].target);
		items[i].target = NULL;
	}
}

/* What copies come to, together. */
static struct carry_item sum(const struct carry_item *items, size_t count)
{
	struct carry_item all = { 0 };

	for (size_t i = 0; i < count; i++) {
		const struct carry_item *item = &items[i];

		all.us = item->us > all.us ? item->us : all.us;
		all.skipped += item->skipped;
		all.ignored += item->ignored;
		all.is_tree = all.is_tree || item->is_tree;
		if (item->err.code != GRPC_OK)
			continue;
		all.files += item->files;
		all.bytes += item->bytes;
	}
	return all;
}

static void add_plain(struct text *t, const char *text)
{
	text_add_plain(t, text, strlen(text));
}

/* What patterns leave out is said even if it is nothing: else one day it is not noticed. */
static void add_ignored(struct text *t, const struct carry_options *o, const struct carry_item *all)
{
	bool heeded = all->is_tree && (o->git_ignore || o->exclude != NULL);

	if (heeded || all->ignored > 0)
		text_addf(t, ", %" PRIu64 " skipped by %s", all->ignored,
		    o->git_ignore && o->exclude == NULL ? ".gitignore" : "patterns");
}

static void say(const struct cli *cli, const struct carry_options *o, const char *what,
    const struct carry_item *r, size_t same)
{
	char bytes[OUTPUT_SIZE_MAX], rate[OUTPUT_SIZE_MAX];
	struct text skipped;

	output_size(r->bytes, bytes);
	output_size(r->us > 0 ? (uint64_t)((double)r->bytes * 1e6 / (double)r->us) : 0, rate);
	text_init(&skipped, 128);
	text_addf(&skipped, "%s", "");
	if (same > 0)
		text_addf(&skipped, ", %zu the same already", same);
	if (r->skipped > 0)
		text_addf(&skipped, ", %" PRIu64 " skipped", r->skipped);
	add_ignored(&skipped, o, r);
	cli_say(cli, "%s: %" PRIu64 " %s, %s in %.2f s (%s/s)%s", what, r->files,
	    r->files == 1 ? "file" : "files", bytes, (double)r->us / 1e6, rate,
	    skipped.failed ? "" : skipped.data);
	if (cli->quiet && (r->skipped > 0 || r->ignored > 0))
		fprintf(stderr, "towline:%s\n", skipped.failed ? " skipped" : skipped.data + 1);
	text_free(&skipped);
}

static const char *verb_of(const struct carry_item *items, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (items[i].to != NULL)
			return "copied";
	return items[0].up ? "uploaded" : "downloaded";
}

/* "uploaded a to ./a", or of several "uploaded 3 of 4 to d/"; one at least went well. */
static void report_text(const struct cli *cli, const struct carry_options *o,
    const struct carry_item *items, size_t count, size_t copied)
{
	struct carry_item all = sum(items, count);
	const char *target = count == 1 ? items[0].target : o->dest;
	struct text what;
	size_t same = 0;

	assert(target != NULL); /* else nothing was planned, and nothing went well */
	text_init(&what, LINE_MAX_BYTES);
	text_addf(&what, "%s ", verb_of(items, count));
	if (count == 1)
		add_plain(&what, items[0].source);
	else
		text_addf(&what, copied == count ? "%zu" : "%zu of %zu", copied, count);
	text_addf(&what, " to ");
	add_plain(&what, target);
	for (size_t i = 0; i < count; i++)
		same += items[i].same;
	say(cli, o, what.failed ? "copied" : what.data, &all, same);
	text_free(&what);
}

static json_t *describe(const struct carry_item *r)
{
	json_t *json = json_object(), *error;
	char digest[2 * sizeof(r->digest) + 1];

	json_object_set_new(json, "sandbox", output_json_text(r->sandbox));
	json_object_set_new(json, "source", output_json_text(r->source));
	if (r->to != NULL)
		json_object_set_new(json, "to", output_json_text(r->to));
	if (r->target != NULL)
		json_object_set_new(json, "target", output_json_text(r->target));
	json_object_set_new(json, "files", json_integer((json_int_t)r->files));
	json_object_set_new(json, "bytes", json_integer((json_int_t)r->bytes));
	json_object_set_new(json, "moved", json_integer((json_int_t)r->moved));
	json_object_set_new(json, "skipped", json_integer((json_int_t)r->skipped));
	json_object_set_new(json, "ignored", json_integer((json_int_t)r->ignored));
	json_object_set_new(json, "seconds", json_real((double)r->us / 1e6));
	if (r->same)
		json_object_set_new(json, "same", json_true());
	if (r->has_digest) {
		text_hex(r->digest, sizeof(r->digest), digest);
		json_object_set_new(json, "xxh3_128", json_string(digest));
	}
	if (r->err.code != GRPC_OK) {
		error = json_object();
		json_object_set_new(error, "code", json_string(err_code_name(r->err.code)));
		json_object_set_new(error, "message", output_json_text(r->err.text));
		json_object_set_new(json, "error", error);
	}
	return json;
}

static json_t *describe_all(const struct carry_item *items, size_t count, size_t copied)
{
	const struct carry_item all = sum(items, count);
	json_t *json = json_object(), *copies = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(copies, describe(&items[i]));
	json_object_set_new(json, "copies", copies);
	json_object_set_new(json, "files", json_integer((json_int_t)all.files));
	json_object_set_new(json, "bytes", json_integer((json_int_t)all.bytes));
	json_object_set_new(json, "skipped", json_integer((json_int_t)all.skipped));
	json_object_set_new(json, "ignored", json_integer((json_int_t)all.ignored));
	json_object_set_new(json, "failed", json_integer((json_int_t)(count - copied)));
	json_object_set_new(json, "seconds", json_real((double)all.us / 1e6));
	return json;
}

static void say_kept(const struct cli *cli, const struct carry_item *items, size_t count)
{
	char size[OUTPUT_SIZE_MAX];
	uint64_t kept = 0;

	for (size_t i = 0; i < count; i++)
		kept += items[i].kept;
	if (kept == 0)
		return;
	output_size(kept, size);
	cli_say(cli, "towline: %s of it are kept: the same command again goes on from there", size);
}

/* With a list of copies the errors of single ones are in there as well. */
static size_t report_errors(
    const struct cli *cli, const struct carry_item *items, size_t count, int signal)
{
	size_t failed = 0;

	for (size_t i = 0; i < count; i++) {
		if (items[i].err.code == GRPC_OK)
			continue;
		failed++;
		if (signal == 0 || items[i].err.code != GRPC_CANCELLED)
			cli_fail(cli, &items[i].err);
	}
	return failed;
}

int carry_report(const struct cli *cli, const struct carry_options *o,
    const struct carry_item *items, size_t count, bool list, int signal)
{
	bool to_stdout =
	    o->dest != NULL && strcmp(o->dest, "-") == 0 && !items[0].up && items[0].to == NULL;
	size_t failed = report_errors(cli, items, count, signal);
	FILE *out = to_stdout ? stderr : stdout;
	struct err err = { 0 };

	say_kept(cli, items, count);
	if (cli->output == CLI_OUTPUT_TABLE && failed < count)
		report_text(cli, o, items, count, count - failed);
	else if (cli->output == CLI_OUTPUT_JSON && list)
		output_json(describe_all(items, count, count - failed), out, &err);
	else if (cli->output == CLI_OUTPUT_JSON && failed == 0)
		output_json(describe(&items[0]), out, &err);
	if (err.code != GRPC_OK)
		return cli_fail(cli, &err);
	if (signal != 0)
		return CLI_EXIT_SIGNAL + signal;
	if (failed > 0)
		return CLI_EXIT_FAILED;
	return sum(items, count).skipped > 0 ? CLI_EXIT_SKIPPED : CLI_EXIT_OK;
}
