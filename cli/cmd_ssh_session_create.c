/* towline ssh-session create */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/sandbox.h"
#include "cli/ssh.h"
#include "cli/ssh_files.h"

#define PERMISSIONS_MAX 8

struct options {
	uint64_t ttl_ms;
	char *public_key, *key_file;
	struct config_list_value permit;
};

#define FIELD(name) offsetof(struct options, name)

static const struct config_key keys[] = {
	{ .name = "ttl",
	    .arg = "TIME",
	    .parse = config_duration,
	    .dflt = "15m",
	    .offset = FIELD(ttl_ms),
	    .help = "how long it lives, 1s to 24h" },
	{ .name = "public-key",
	    .arg = "FILE",
	    .parse = config_string,
	    .offset = FIELD(public_key),
	    .help = "a key of yours, as ~/.ssh/id_ed25519.pub; then none is made" },
	{ .name = "key-file",
	    .arg = "FILE",
	    .parse = config_string,
	    .offset = FIELD(key_file),
	    .help = "where to put the key that is made; with -o json without it, in the answer" },
	{ .name = "permit",
	    .arg = "WHAT",
	    .parse = config_list,
	    .offset = FIELD(permit),
	    .help = "exec, pty, sftp or forward; may be given again; all if it is not" },
	{ 0 },
};

static int take_permissions(const struct options *o,
    Towline__V1__SshPermission out[static PERMISSIONS_MAX], size_t *count, struct err *err)
{
	if (o->permit.count > PERMISSIONS_MAX)
		return err_set(err, GRPC_INVALID_ARGUMENT, "--permit: there are four kinds");
	for (size_t i = 0; i < o->permit.count; i++)
		if ((out[i] = ssh_permission_find(o->permit.item[i])) ==
		    TOWLINE__V1__SSH_PERMISSION__SSH_PERMISSION_UNSPECIFIED)
			return err_set(err, GRPC_INVALID_ARGUMENT,
			    "--permit: \"%s\" is none of exec, pty, sftp and forward",
			    o->permit.item[i]);
	*count = o->permit.count;
	return 0;
}

/* Where the key goes: as asked; with the state otherwise, under the session's id. */
static int key_path(
    const struct options *o, const char *id, char out[static PATHS_MAX], struct err *err)
{
	char dir[PATHS_MAX], name[80];

	if (o->key_file != NULL) {
		if (snprintf(out, PATHS_MAX, "%s", o->key_file) < PATHS_MAX)
			return 0;
		return err_set(err, GRPC_INVALID_ARGUMENT, "--key-file: the path is too long");
	}
	snprintf(name, sizeof(name), "%.64s.key", id);
	if (paths_state(dir, "ssh", err) != 0 || paths_make_folders(dir, 0700, err) != 0)
		return -1;
	return paths_join(out, dir, name, err);
}

static void add_line(struct output_table *t, const char *name, const char *value)
{
	output_table_add(t, name);
	output_table_add(t, value);
}

static int print_table(
    const Openshell__V1__CreateSshSessionResponse *r, const char *key, struct err *err)
{
	struct output_table t;
	char port[16], until[21] = "";
	struct text ssh;

	snprintf(port, sizeof(port), "%u", (unsigned)r->port);
	if (r->expiration_time != NULL)
		text_time(r->expiration_time->seconds, until);
	text_init(&ssh, (size_t)2 * PATHS_MAX);
	text_addf(&ssh, "ssh -p %s%s%s %s@%s", port, key[0] != '\0' ? " -i " : "", key, r->username,
	    r->host);
	output_table_init(&t, 2);
	add_line(&t, "session", r->session_id);
	add_line(&t, "expires", until);
	add_line(&t, "host", r->host);
	add_line(&t, "port", port);
	add_line(&t, "user", r->username);
	add_line(&t, "host key", r->host_key);
	add_line(&t, "fingerprint", r->host_key_fingerprint);
	if (key[0] != '\0')
		add_line(&t, "key file", key);
	add_line(&t, "connect", ssh.failed ? "" : ssh.data);
	int result = output_table_print(&t, stdout, err);
	output_table_free(&t);
	text_free(&ssh);
	return result;
}

static int print_json(
    const Openshell__V1__CreateSshSessionResponse *r, const char *key, struct err *err)
{
	json_t *json = json_object(), *permissions = json_array();
	char until[21] = "";

	if (r->expiration_time != NULL)
		text_time(r->expiration_time->seconds, until);
	for (size_t i = 0; i < r->n_permissions; i++)
		json_array_append_new(
		    permissions, json_string(ssh_permission_name(r->permissions[i])));
	json_object_set_new(json, "session_id", output_json_text(r->session_id));
	json_object_set_new(json, "sandbox_id", output_json_text(r->sandbox_id));
	json_object_set_new(json, "host", output_json_text(r->host));
	json_object_set_new(json, "port", json_integer((json_int_t)r->port));
	json_object_set_new(json, "username", output_json_text(r->username));
	json_object_set_new(json, "host_key", output_json_text(r->host_key));
	json_object_set_new(
	    json, "host_key_fingerprint", output_json_text(r->host_key_fingerprint));
	json_object_set_new(json, "expires_at", json_string(until));
	json_object_set_new(json, "permissions", permissions);
	json_object_set_new(json, "token", output_json_text(r->token));
	if (key[0] != '\0')
		json_object_set_new(json, "key_file", output_json_text(key));
	else if (r->private_key[0] != '\0')
		json_object_set_new(json, "private_key", output_json_text(r->private_key));
	return output_json(json, stdout, err);
}

static int tell(const struct cli *cli, const struct options *o,
    const Openshell__V1__CreateSshSessionResponse *r, struct err *err)
{
	bool is_json = cli->output == CLI_OUTPUT_JSON;
	char key[PATHS_MAX] = "";

	if (r->private_key[0] != '\0' && (!is_json || o->key_file != NULL) &&
	    (key_path(o, r->session_id, key, err) != 0 ||
		ssh_files_write_key(key, r->private_key, err) != 0))
		return -1;
	return is_json ? print_json(r, key, err) : print_table(r, key, err);
}

static int create(struct session *s, const char *given, const struct options *o, struct err *err)
{
	Towline__V1__SshPermission permissions[PERMISSIONS_MAX];
	Openshell__V1__CreateSshSessionResponse *reply = NULL;
	struct ssh_wish wish = { .permissions = permissions };
	char *name = sandbox_choose(s, given, err), *line = NULL;
	struct err ignored;
	int r = -1;

	wish.sandbox = name;
	wish.seconds = (uint32_t)(o->ttl_ms / 1000);
	if (name == NULL || take_permissions(o, permissions, &wish.permission_count, err) != 0 ||
	    (o->public_key != NULL && (line = paths_read(o->public_key, err)) == NULL)) {
		free(name);
		return -1;
	}
	if (line != NULL)
		line[strcspn(line, "\r\n")] = '\0';
	wish.public_key = line;
	if (ssh_create(s, &wish, &reply, err) == 0) {
		sandbox_remember(s, name);
		r = tell(session_cli(s), o, reply, err);
		if (r != 0) /* nobody has its key */
			ssh_revoke(s, reply->session_id, NULL, &ignored);
	}
	ssh_reply_free(reply);
	free(line);
	free(name);
	return r;
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	const struct options *o = options;
	struct err err = { 0 };
	struct session *s;
	int r = -1;

	if (o->ttl_ms < 1000 || o->ttl_ms > (uint64_t)SSH_RUN_SECONDS * 1000)
		return cli_usage(cli, "create: --ttl: from 1s to 24h");
	if ((s = session_open(cli, &err)) != NULL)
		r = create(s, words->count > 0 ? words->word[0] : NULL, o, &err);
	session_close(s);
	return r == 0 ? CLI_EXIT_OK : cli_fail(cli, &err);
}

static const char *const examples[] = {
	"towline ssh-session create box --ttl 1h",
	"towline ssh-session create box --public-key ~/.ssh/id_ed25519.pub --permit sftp",
	NULL,
};

const struct cmd cmd_ssh_session_create = {
	.name = "create",
	.args = "[NAME]",
	.help = "make a key that opens a sandbox for a while",
	.examples = examples,
	.keys = keys,
	.size = sizeof(struct options),
	.words_max = 1,
	.run = run,
};
