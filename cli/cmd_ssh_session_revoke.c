/* towline ssh-session revoke */
#include <stdio.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/output.h"
#include "cli/paths.h"
#include "cli/session.h"
#include "cli/ssh.h"

/* The key that 'create' has put with the state is of no use any more. */
static void remove_key(const char *id)
{
	char path[PATHS_MAX], name[80];
	struct err err;

	snprintf(name, sizeof(name), "ssh/%.64s.key", id);
	if (paths_is_name(id) && paths_state(path, name, &err) == 0)
		unlink(path);
}

static int revoke_all(
    struct session *s, const struct cmd_words *words, json_t *results, struct err *err)
{
	for (int i = 0; i < words->count; i++) {
		json_t *one = json_object();
		bool found;

		if (ssh_revoke(s, words->word[i], &found, err) != 0) {
			json_decref(one);
			return -1;
		}
		remove_key(words->word[i]);
		json_object_set_new(one, "session_id", output_json_text(words->word[i]));
		json_object_set_new(one, "revoked", json_boolean(found));
		json_array_append_new(results, one);
		cli_say(
		    session_cli(s), "%s %s", found ? "revoked" : "already ended:", words->word[i]);
	}
	return 0;
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	json_t *results = json_array();
	struct err err = { 0 };
	struct session *s = session_open(cli, &err);
	int r = s != NULL ? revoke_all(s, words, results, &err) : -1;

	(void)options;
	session_close(s);
	if (r == 0 && cli->output == CLI_OUTPUT_JSON)
		r = output_json(json_incref(results), stdout, &err);
	json_decref(results);
	return r == 0 ? CLI_EXIT_OK : cli_fail(cli, &err);
}

static const char *const examples[] = {
	"towline ssh-session revoke 3f9c0a7be1d24c58",
	NULL,
};

const struct cmd cmd_ssh_session_revoke = {
	.name = "revoke",
	.args = "SESSION...",
	.help = "end SSH sessions, and what is open of them, now",
	.examples = examples,
	.words_min = 1,
	.words_max = CMD_WORDS_ANY,
	.run = run,
};
