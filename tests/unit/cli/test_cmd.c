/* Command lines of a small program, from words to a verb with its options. */
#include "cli/cmd.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/leak.h"

#define WORDS_MAX 16

struct options {
	char *text;
	bool flag;
	unsigned number;
};

static const struct config_key keys[] = {
	{ .name = "text",
	    .letter = 't',
	    .arg = "TEXT",
	    .parse = config_string,
	    .offset = offsetof(struct options, text),
	    .help = "a text" },
	{ .name = "flag",
	    .letter = 'f',
	    .parse = config_bool,
	    .offset = offsetof(struct options, flag),
	    .help = "a switch" },
	{ .name = "number",
	    .arg = "N",
	    .parse = config_uint,
	    .offset = offsetof(struct options, number),
	    .dflt = "7",
	    .help = "a number" },
	{ 0 },
};

/* What the verb was given. */
static struct {
	const char *verb;
	char text[32], endpoint[32], words[128], command[128];
	bool flag, quiet;
	unsigned number;
	enum cli_output output;
} seen;

static void join(char *out, size_t size, char *const *word, int count)
{
	out[0] = '\0';
	for (int i = 0; i < count; i++) {
		size_t len = strlen(out);

		snprintf(out + len, size - len, "%s%s", i > 0 ? "|" : "", word[i]);
	}
}

static int note(
    const char *verb, const struct cli *cli, const struct options *o, const struct cmd_words *w)
{
	seen.verb = verb;
	snprintf(seen.text, sizeof(seen.text), "%s", o->text != NULL ? o->text : "");
	snprintf(
	    seen.endpoint, sizeof(seen.endpoint), "%s", cli->endpoint != NULL ? cli->endpoint : "");
	seen.flag = o->flag;
	seen.number = o->number;
	seen.quiet = cli->quiet;
	seen.output = cli->output;
	join(seen.words, sizeof(seen.words), w->word, w->count);
	join(seen.command, sizeof(seen.command), w->command, w->command_count);
	return 42;
}

static int run_plain(const struct cli *cli, const void *o, const struct cmd_words *w)
{
	return note("plain", cli, o, w);
}

static int run_command(const struct cli *cli, const void *o, const struct cmd_words *w)
{
	return note("command", cli, o, w);
}

static int run_program(const struct cli *cli, const void *o, const struct cmd_words *w)
{
	return note("program", cli, o, w);
}

static const struct cmd plain = { .name = "plain",
	.alias = "pl",
	.args = "A [B]",
	.help = "takes words",
	.keys = keys,
	.size = sizeof(struct options),
	.words_min = 1,
	.words_max = 2,
	.run = run_plain };
static const struct cmd command = { .name = "command",
	.args = "[-- COMMAND]",
	.help = "takes a command behind two dashes",
	.keys = keys,
	.size = sizeof(struct options),
	.words_max = 1,
	.tail = CMD_TAIL_COMMAND,
	.run = run_command };
static const struct cmd program = { .name = "program",
	.args = "[--] COMMAND",
	.help = "takes a command",
	.keys = keys,
	.size = sizeof(struct options),
	.words_max = 1,
	.tail = CMD_TAIL_PROGRAM,
	.run = run_program };
static const struct cmd *const verbs[] = { &plain, &command, &program, NULL };
static const struct cmd group = { .name = "group", .alias = "gr", .help = "verbs", .verbs = verbs };
static const struct cmd *const groups[] = { &group, NULL };
static const struct cmd root = { .name = "towline", .help = "groups", .verbs = groups };

/* Runs a command line whose words are separated by blanks; ${err} has what was said. */
static int run_line(struct leak *leak, const char *line, char err[static 512])
{
	char copy[256], *argv[WORDS_MAX + 1] = { (char *)"towline" }, *rest = copy, *word;
	const char *path = leak_path(leak, "stderr");
	int argc = 1, saved = dup(STDERR_FILENO), code;
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ssize_t n;

	assert_true(saved >= 0 && fd >= 0);
	snprintf(copy, sizeof(copy), "%s", line);
	while ((word = strsep(&rest, " ")) != NULL && argc < WORDS_MAX)
		argv[argc++] = word;
	memset(&seen, 0, sizeof(seen));
	dup2(fd, STDERR_FILENO);
	code = cmd_main(&root, argc, argv);
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	n = pread(fd, err, 511, 0);
	err[n > 0 ? n : 0] = '\0';
	close(saved);
	close(fd);
	unlink(path);
	return code;
}

static int setup(void **state)
{
	unsetenv("OPENSHELL_GATEWAY_ENDPOINT");
	*state = leak_begin();
	setenv("XDG_CONFIG_HOME", leak_folder(*state), 1);
	return 0;
}

static int teardown(void **state)
{
	return leak_end(*state);
}

static void test_verbs(void **state)
{
	static const struct {
		const char *line, *verb, *words, *command;
	} cases[] = {
		{ "group plain a", "plain", "a", "" },
		{ "gr pl a b", "plain", "a|b", "" },
		{ "group plain a -f b", "plain", "a|b", "" },
		{ "-q group -o json plain a", "plain", "a", "" },
		{ "group command", "command", "", "" },
		{ "group command -- ls -l --flag", "command", "", "ls|-l|--flag" },
		{ "group command x -- ls -- y", "command", "x", "ls|--|y" },
		{ "group program ls -l", "program", "", "ls|-l" },
		{ "group program -f ls -f", "program", "", "ls|-f" },
		{ "group program -- ls -l", "program", "", "ls|-l" },
		{ "group program box -- ls -l", "program", "box", "ls|-l" },
		{ "group program -t x -- box -- ls", "program", "", "box|--|ls" },
	};
	char err[512];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(run_line(*state, cases[i].line, err), 42);
		assert_string_equal(seen.verb, cases[i].verb);
		assert_string_equal(seen.words, cases[i].words);
		assert_string_equal(seen.command, cases[i].command);
		assert_string_equal(err, "");
	}
}

static void test_options(void **state)
{
	char err[512];

	run_line(*state, "group plain a", err);
	assert_string_equal(seen.text, "");
	assert_int_equal(seen.number, 7);
	assert_false(seen.flag || seen.quiet);
	run_line(*state, "-q group plain -t x a --number=3 -f -o json", err);
	assert_string_equal(seen.text, "x");
	assert_int_equal(seen.number, 3);
	assert_true(seen.flag && seen.quiet && seen.output == CLI_OUTPUT_JSON);
	run_line(*state, "group plain --text=y --flag --no-flag a", err);
	assert_string_equal(seen.text, "y");
	assert_false(seen.flag);
}

static void test_the_stronger_source(void **state)
{
	const char *path;
	char err[512];
	FILE *f;

	mkdir(leak_path(*state, "openshell"), 0700);
	path = leak_path(*state, "openshell/towline.conf");
	f = fopen(path, "w");
	assert_non_null(f);
	fputs("gateway-endpoint = from-file\n", f);
	fclose(f);
	run_line(*state, "group plain a", err);
	assert_string_equal(seen.endpoint, "from-file");
	setenv("OPENSHELL_GATEWAY_ENDPOINT", "from-environment", 1);
	run_line(*state, "group plain a", err);
	assert_string_equal(seen.endpoint, "from-environment");
	run_line(*state, "--gateway-endpoint from-flag group plain a", err);
	assert_string_equal(seen.endpoint, "from-flag");
	unlink(path);
	rmdir(leak_path(*state, "openshell"));
}

static void test_no_sense(void **state)
{
	static const char *const cases[][2] = {
		{ "grup", "did you mean \"towline group\"" },
		{ "group plian a", "did you mean \"towline group plain\"" },
		{ "group xyzzy", "see towline group --help" },
		{ "group plain", "A [B]" },
		{ "group plain a b c", "too many" },
		{ "group plain a -- b", "too many" },
		{ "group plain a --txet x", "did you mean --text?" },
		{ "group plain a --xyzzy=1",
		    "unknown option --xyzzy; see towline group plain --help" },
		{ "--quite group plain a", "did you mean --quiet?" },
		{ "group plain a --number x", "--number" },
		{ "group plain a --text", "TEXT" },
		{ "-o yaml group plain a", "yaml" },
	};
	char err[512];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(run_line(*state, cases[i][0], err), CLI_EXIT_USAGE);
		assert_null(seen.verb);
		if (strstr(err, cases[i][1]) == NULL)
			fail_msg("%s: %s", cases[i][0], err);
	}
	assert_int_equal(run_line(*state, "-o json group xyzzy", err), CLI_EXIT_USAGE);
	assert_non_null(strstr(err, "{\"error\":{\"code\":\"INVALID_ARGUMENT\""));
}

static void test_find(void **state)
{
	char *path[] = { (char *)"gr", (char *)"pl", (char *)"x" };

	(void)state;
	assert_ptr_equal(cmd_find(&root, path, 0), &root);
	assert_ptr_equal(cmd_find(&root, path, 1), &group);
	assert_ptr_equal(cmd_find(&root, path, 2), &plain);
	assert_null(cmd_find(&root, path, 3));
	assert_null(cmd_find(&root, path + 2, 1));
}

static void test_help(void **state)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	assert_non_null(out);
	cmd_help(&plain, "towline group plain", out);
	fclose(out);
	assert_non_null(strstr(text, "usage: towline group plain A [B]\n"));
	assert_non_null(strstr(text, "--text TEXT"));
	assert_non_null(strstr(text, "options of all verbs:"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_verbs, setup, teardown),
		cmocka_unit_test_setup_teardown(test_options, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_stronger_source, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_sense, setup, teardown),
		cmocka_unit_test_setup_teardown(test_find, setup, teardown),
		cmocka_unit_test_setup_teardown(test_help, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
