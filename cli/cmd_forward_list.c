/* towline forward list */
#include <stdio.h>

#include "base/text.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/record.h"

#define COLUMNS 6

struct listing {
	struct output_table table;
	json_t *json;
};

static void add(void *cookie, const char *file, const struct record *r)
{
	struct listing *l = cookie;
	char local[128], target[128], pid[16], since[21];

	(void)file;
	json_array_append_new(l->json, record_json(r));
	snprintf(local, sizeof(local), "%s:%u", r->bind, (unsigned)r->port);
	snprintf(target, sizeof(target), "%s:%u", r->target_host, (unsigned)r->target_port);
	snprintf(pid, sizeof(pid), "%ld", (long)r->pid);
	text_time(r->since, since);
	output_table_add(&l->table, local);
	output_table_add(&l->table, r->sandbox);
	output_table_add(&l->table, target);
	output_table_add(&l->table, pid);
	output_table_add(&l->table, since);
	output_table_add(&l->table, r->error);
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	static const char *const head[COLUMNS] = { "LOCAL", "SANDBOX", "TARGET", "PID", "SINCE",
		"LAST ERROR" };
	struct listing l = { .json = json_array() };
	struct err err = { 0 };
	int r;

	(void)options;
	(void)words;
	output_table_init(&l.table, COLUMNS);
	for (size_t i = 0; i < COLUMNS; i++)
		output_table_add(&l.table, head[i]);
	r = record_list(add, &l, &err);
	if (r == 0)
		r = cli->output == CLI_OUTPUT_JSON ? output_json(json_incref(l.json), stdout, &err)
						   : output_table_print(&l.table, stdout, &err);
	output_table_free(&l.table);
	json_decref(l.json);
	return r == 0 ? CLI_EXIT_OK : cli_fail(cli, &err);
}

static const char *const examples[] = {
	"towline forward list",
	NULL,
};

const struct cmd cmd_forward_list = {
	.name = "list",
	.alias = "ls",
	.args = "",
	.help = "list the forwards of this machine",
	.examples = examples,
	.run = run,
};
