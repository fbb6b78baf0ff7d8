/* towline sandbox delete */
#include "cli/commands.h"
#include "cli/forward.h"
#include "cli/output.h"
#include "cli/sandbox.h"
#include "proto/codec.h"

struct options {
	bool allow_missing, no_wait;
};

static const struct config_key keys[] = {
	{ .name = "allow-missing",
	    .parse = config_bool,
	    .offset = offsetof(struct options, allow_missing),
	    .help = "one that is not there is deleted already" },
	{ .name = "no-wait",
	    .parse = config_bool,
	    .offset = offsetof(struct options, no_wait),
	    .help = "do not wait until it is gone" },
	{ 0 },
};

static const char *outcome_word(Openshell__V1__DeletionOutcome outcome)
{
	switch (outcome) {
	case OPENSHELL__V1__DELETION_OUTCOME__DELETION_OUTCOME_ALREADY_ABSENT:
		return "already absent";
	case OPENSHELL__V1__DELETION_OUTCOME__DELETION_OUTCOME_ACCEPTED:
		return "being deleted";
	default:
		return "deleted";
	}
}

static int delete_one(
    struct session *s, const struct options *o, const char *name, json_t *results, struct err *err)
{
	Openshell__V1__DeleteSandboxRequest request = OPENSHELL__V1__DELETE_SANDBOX_REQUEST__INIT;
	Openshell__V1__DeletionOutcome outcome;
	json_t *result;
	void *reply;

	request.name = (char *)name;
	request.allow_missing = o->allow_missing;
	request.workspace_scope = session_scope(s);
	if (session_call(s, "DeleteSandbox", &request.base,
		&openshell__v1__delete_sandbox_response__descriptor, &reply, err) != 0)
		return -1;
	outcome = ((Openshell__V1__DeleteSandboxResponse *)reply)->outcome;
	codec_free(reply);
	if (outcome == OPENSHELL__V1__DELETION_OUTCOME__DELETION_OUTCOME_ACCEPTED && !o->no_wait) {
		if (sandbox_await(s, name, SANDBOX_GOAL_GONE, SANDBOX_WAIT_MS, NULL, err) != 0)
			return -1;
		outcome = OPENSHELL__V1__DELETION_OUTCOME__DELETION_OUTCOME_COMPLETED;
	}
	sandbox_forget(s, name);
	forward_end_all(s, name);
	cli_say(session_cli(s), "%s %s", outcome_word(outcome), name);
	result = json_object();
	json_object_set_new(result, "name", output_json_text(name));
	json_object_set_new(result, "outcome", json_string(outcome_word(outcome)));
	json_array_append_new(results, result);
	return 0;
}

/* One that fails does not keep the others. */
static int delete_all(
    struct session *s, const struct options *o, const struct cmd_words *words, json_t *results)
{
	int code = CLI_EXIT_OK;

	for (int i = 0; i < words->count; i++) {
		struct err err = { 0 };

		if (delete_one(s, o, words->word[i], results, &err) != 0)
			code = cli_fail(session_cli(s), &err);
	}
	return code;
}

static int run(const struct cli *cli, const void *options, const struct cmd_words *words)
{
	struct err err = { 0 };
	struct session *s = session_open(cli, &err);
	json_t *results = json_array();
	int code;

	if (s == NULL)
		code = cli_fail(cli, &err);
	else
		code = delete_all(s, options, words, results);
	if (s != NULL && cli->output == CLI_OUTPUT_JSON &&
	    output_json(json_incref(results), stdout, &err) != 0)
		code = cli_fail(cli, &err);
	json_decref(results);
	session_close(s);
	return code;
}

static const char *const examples[] = {
	"towline sandbox delete box other",
	"towline sandbox delete --allow-missing box",
	NULL,
};

const struct cmd cmd_sandbox_delete = {
	.name = "delete",
	.alias = "rm",
	.args = "NAME...",
	.help = "end sandboxes and remove all that is theirs, forwards of this machine too",
	.examples = examples,
	.keys = keys,
	.size = sizeof(struct options),
	.words_min = 1,
	.words_max = CMD_WORDS_ANY,
	.run = run,
};
