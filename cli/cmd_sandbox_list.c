/* towline sandbox list */
#include <string.h>

#include "cli/commands.h"
#include "cli/output.h"
#include "cli/sandbox.h"
#include "proto/codec.h"

#define COLUMNS 4

struct options {
	char *selector;
	bool all_workspaces;
};

static const struct config_key keys[] = {
	{ .name = "selector",
	    .letter = 'l',
	    .arg = "K=V,...",
	    .parse = config_string,
	    .offset = offsetof(struct options, selector),
	    .help = "only those with all of these labels" },
	{ .name = "all-workspaces",
	    .letter = 'A',
	    .parse = config_bool,
	    .offset = offsetof(struct options, all_workspaces),
	    .help = "those of every workspace" },
	{ 0 },
};

struct listing {
	struct output_table table;
	json_t *json;
};

static void add(struct listing *l, const Openshell__V1__Sandbox *s)
{
	char created[21];

	if (s->metadata == NULL)
		return;
	sandbox_created(s, created);
	json_array_append_new(l->json, sandbox_json(s));
	output_table_add(&l->table, s->metadata->name);
	output_table_add(&l->table, s->metadata->workspace);
	output_table_add(&l->table, sandbox_phase(s));
	output_table_add(&l->table, created);
}

/* One page; ${token} becomes the next one's, NULL after the last. */
static int list_page(struct session *s, const struct options *o, struct listing *l,
    Openshell__V1__ListSandboxesResponse **page, struct err *err)
{
	Openshell__V1__ListSandboxesRequest request = OPENSHELL__V1__LIST_SANDBOXES_REQUEST__INIT;
	Openshell__Datamodel__V1__WorkspaceSelector every =
	    OPENSHELL__DATAMODEL__V1__WORKSPACE_SELECTOR__INIT;
	Openshell__Datamodel__V1__AllWorkspaces all =
	    OPENSHELL__DATAMODEL__V1__ALL_WORKSPACES__INIT;
	void *reply;

	every.selection_case =
	    OPENSHELL__DATAMODEL__V1__WORKSPACE_SELECTOR__SELECTION_ALL_WORKSPACES;
	every.all_workspaces = &all;
	request.workspace_scope = o->all_workspaces ? &every : session_scope(s);
	if (o->selector != NULL)
		request.label_selector = o->selector;
	if (*page != NULL)
		request.page_token = (*page)->next_page_token;
	if (session_call(s, "ListSandboxes", &request.base,
		&openshell__v1__list_sandboxes_response__descriptor, &reply, err) != 0)
		return -1;
	codec_free(*page);
	*page = reply;
	for (size_t i = 0; i < (*page)->n_sandboxes; i++)
		add(l, (*page)->sandboxes[i]);
	return 0;
}

static int list(struct session *s, const struct options *o, struct listing *l, struct err *err)
{
	Openshell__V1__ListSandboxesResponse *page = NULL;
	size_t count = 0;
	int r;

	do {
		if ((r = list_page(s, o, l, &page, err)) == 0)
			r = session_list_goes_on(
			    page->next_page_token, page->n_sandboxes, &count, err);
	} while (r > 0);
	codec_free(page);
	return r;
}

static int print(const struct cli *cli, struct listing *l, struct err *err)
{
	json_t *json = l->json;

	if (cli->output != CLI_OUTPUT_JSON)
		return output_table_print(&l->table, stdout, err);
	l->json = NULL;
	return output_json(json, stdout, err);
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	static const char *const head[COLUMNS] = { "NAME", "WORKSPACE", "PHASE", "CREATED" };
	struct listing l = { .json = json_array() };
	struct err err = { 0 };
	struct session *s = session_open(cli, &err);
	int r = -1;

	(void)words;
	output_table_init(&l.table, COLUMNS);
	for (size_t i = 0; i < COLUMNS; i++)
		output_table_add(&l.table, head[i]);
	if (s != NULL && list(s, options, &l, &err) == 0)
		r = print(cli, &l, &err);
	output_table_free(&l.table);
	json_decref(l.json);
	session_close(s);
	return r == 0 ? CLI_EXIT_OK : cli_fail(cli, &err);
}

static const char *const examples[] = {
	"towline sandbox list",
	"towline -o json sandbox list --selector team=red | jq -r '.[].name'",
	NULL,
};

const struct cmd cmd_sandbox_list = {
	.name = "list",
	.alias = "ls",
	.args = "",
	.help = "list sandboxes",
	.examples = examples,
	.keys = keys,
	.size = sizeof(struct options),
	.run = run,
};
