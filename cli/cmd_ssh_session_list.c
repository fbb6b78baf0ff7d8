/* towline ssh-session list */
#include <stdio.h>

#include "base/text.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/session.h"
#include "cli/ssh.h"
#include "proto/codec.h"

#define COLUMNS 8

struct options {
	bool all;
};

static const struct config_key keys[] = {
	{ .name = "all",
	    .letter = 'a',
	    .parse = config_bool,
	    .offset = offsetof(struct options, all),
	    .help = "those too that have ended, for a day" },
	{ 0 },
};

struct listing {
	struct output_table table;
	json_t *json;
};

static void time_of(const Google__Protobuf__Timestamp *t, char out[static 21])
{
	out[0] = '\0';
	if (t != NULL)
		text_time(t->seconds, out);
}

static json_t *json_of(const Towline__V1__SshSessionInfo *i, const char *created,
    const char *expires, const char *revoked)
{
	json_t *json = json_object(), *permissions = json_array();

	for (size_t n = 0; n < i->n_permissions; n++)
		json_array_append_new(
		    permissions, json_string(ssh_permission_name(i->permissions[n])));
	json_object_set_new(json, "session_id", output_json_text(i->session_id));
	json_object_set_new(json, "sandbox", output_json_text(i->sandbox));
	json_object_set_new(json, "workspace", output_json_text(i->workspace));
	json_object_set_new(json, "username", output_json_text(i->username));
	json_object_set_new(json, "subject", output_json_text(i->subject));
	json_object_set_new(json, "created_at", json_string(created));
	json_object_set_new(json, "expires_at", json_string(expires));
	json_object_set_new(json, "revoked_at", json_string(revoked));
	json_object_set_new(json, "key_fingerprint", output_json_text(i->key_fingerprint));
	json_object_set_new(json, "permissions", permissions);
	json_object_set_new(json, "connections", json_integer((json_int_t)i->connections));
	json_object_set_new(json, "bytes_in", json_integer((json_int_t)i->bytes_in));
	json_object_set_new(json, "bytes_out", json_integer((json_int_t)i->bytes_out));
	return json;
}

static void add(struct listing *l, const Towline__V1__SshSessionInfo *i)
{
	char created[21], expires[21], revoked[21], count[16];
	char in[OUTPUT_SIZE_MAX], out[OUTPUT_SIZE_MAX];

	time_of(i->created_time, created);
	time_of(i->expiration_time, expires);
	time_of(i->revoked_time, revoked);
	json_array_append_new(l->json, json_of(i, created, expires, revoked));
	snprintf(count, sizeof(count), "%u", (unsigned)i->connections);
	output_size(i->bytes_in, in);
	output_size(i->bytes_out, out);
	output_table_add(&l->table, i->session_id);
	output_table_add(&l->table, i->sandbox);
	output_table_add(&l->table, i->subject);
	output_table_add(&l->table, expires);
	output_table_add(&l->table, revoked);
	output_table_add(&l->table, count);
	output_table_add(&l->table, in);
	output_table_add(&l->table, out);
}

/* One page; ${page} is freed, and becomes the new one. */
static int list_page(struct session *s, Towline__V1__ListSshSessionsRequest *r, struct listing *l,
    Towline__V1__ListSshSessionsResponse **page, struct err *err)
{
	void *reply;

	if (*page != NULL)
		r->page_token = (*page)->next_page_token;
	if (session_call(s, "/towline.v1.SshSessions/ListSshSessions", &r->base,
		&towline__v1__list_ssh_sessions_response__descriptor, &reply, err) != 0)
		return -1;
	codec_free(*page);
	*page = reply;
	for (size_t i = 0; i < (*page)->n_sessions; i++)
		add(l, (*page)->sessions[i]);
	return 0;
}

static int list(struct session *s, const struct options *o, const char *sandbox, struct listing *l,
    struct err *err)
{
	Towline__V1__ListSshSessionsRequest r = TOWLINE__V1__LIST_SSH_SESSIONS_REQUEST__INIT;
	Towline__V1__ListSshSessionsResponse *page = NULL;
	size_t count = 0;
	int more;

	if (sandbox != NULL)
		r.sandbox = (char *)sandbox;
	r.workspace_scope = session_scope(s);
	r.include_ended = o->all;
	do {
		if ((more = list_page(s, &r, l, &page, err)) == 0)
			more = session_list_goes_on(
			    page->next_page_token, page->n_sessions, &count, err);
	} while (more > 0);
	codec_free(page);
	return more;
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	static const char *const head[COLUMNS] = { "SESSION", "SANDBOX", "BY", "EXPIRES", "REVOKED",
		"OPEN", "IN", "OUT" };
	struct listing l = { .json = json_array() };
	struct err err = { 0 };
	struct session *s = session_open(cli, &err);
	int r = -1;

	output_table_init(&l.table, COLUMNS);
	for (size_t i = 0; i < COLUMNS; i++)
		output_table_add(&l.table, head[i]);
	if (s != NULL && list(s, options, words->count > 0 ? words->word[0] : NULL, &l, &err) == 0)
		r = cli->output == CLI_OUTPUT_JSON ? output_json(json_incref(l.json), stdout, &err)
						   : output_table_print(&l.table, stdout, &err);
	output_table_free(&l.table);
	json_decref(l.json);
	session_close(s);
	return r == 0 ? CLI_EXIT_OK : cli_fail(cli, &err);
}

static const char *const examples[] = {
	"towline ssh-session list",
	"towline -o json ssh-session list box --all | jq -r '.[].session_id'",
	NULL,
};

const struct cmd cmd_ssh_session_list = {
	.name = "list",
	.alias = "ls",
	.args = "[NAME]",
	.help = "list SSH sessions: whose, until when, and what they are used for",
	.examples = examples,
	.keys = keys,
	.size = sizeof(struct options),
	.words_max = 1,
	.run = run,
};
