/* What .gitignore patterns mean: by a table, and by what git itself says of a tree. */
#include "transfer/tree/ignore.h"

#include <fcntl.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/beneath.h"
#include "support/alloc.h"
#include "support/leak.h"

#define OUT    IGNORE_OUT
#define IN     IGNORE_IN
#define SILENT IGNORE_SILENT

/* A path that ends in a slash is a directory. */
static const struct row {
	const char *text, *path;
	enum ignore_answer answer;
} rows[] = {
	{ "", "a", SILENT },
	{ "a", "a", OUT },
	{ "a", "d/a", OUT },
	{ "a", "ab", SILENT },
	{ "a", "a/b", SILENT }, /* its directory is out: nobody asks */
	{ "# a\n\\#a\n", "a", SILENT },
	{ "# a\n\\#a\n", "#a", OUT },
	{ "\\!a", "!a", OUT },
	{ "a\n!a\n", "a", IN },
	{ "!a\na\n", "a", OUT },
	{ "a\r\nb\r\n", "b", OUT },
	{ "\xef\xbb\xbf"
	  "a",
	    "a", OUT },
	{ "a   ", "a", OUT },
	{ "a\\ ", "a ", OUT },
	{ "a\\   ", "a ", OUT },
	{ "a\t", "a", SILENT },
	{ "   ", "a", SILENT },
	{ "/a", "a", OUT },
	{ "/a", "d/a", SILENT },
	{ "//a", "a", SILENT },
	{ "a/b", "a/b", OUT },
	{ "a/b", "d/a/b", SILENT },
	{ "a/", "a", SILENT },
	{ "a/", "a/", OUT },
	{ "a/", "d/a/", OUT },
	{ "/", "a/", SILENT },
	{ "!", "a", SILENT },
	{ "*", "a", OUT },
	{ "*.o", "d/x.o", OUT },
	{ "*.o", ".o", OUT },
	{ "*.o", "x.oo", SILENT },
	{ "a*b*c", "axxbyyc", OUT },
	{ "a*b*c", "axxbyy", SILENT },
	{ "/*.o", "d/x.o", SILENT },
	{ "d/*", "d/a", OUT },
	{ "d/*", "d/a/b", SILENT },
	{ "d/*/b", "d/a/b", OUT },
	{ "d/*/b", "d/b", SILENT },
	{ "a?", "ab", OUT },
	{ "a?b/", "a/b/", SILENT },
	{ "**/a", "a", OUT },
	{ "**/a", "x/y/a", OUT },
	{ "**/a/b", "x/a/b", OUT },
	{ "a/**", "a/", SILENT },
	{ "a/**", "a/b/c", OUT },
	{ "a/**/b", "a/b", OUT },
	{ "a/**/b", "a/x/y/b", OUT },
	{ "a/**/b", "ab", SILENT },
	{ "a/**/b/**/c", "a/b/x/b/c", OUT },
	{ "a/***/b", "a/x/b", OUT },
	{ "a/x**y/b", "a/xzy/b", OUT },
	{ "a/x**y/b", "a/x/y/b", SILENT },
	{ "**", "a/b", OUT },
	{ "a/**/*.c", "a/x/y.c", OUT },
	{ "**/x*/**/y", "q/xx/a/b/y", OUT },
	{ "[abc]", "b", OUT },
	{ "[a-c]x", "bx", OUT },
	{ "[!a-c]", "d", OUT },
	{ "[^a-c]", "b", SILENT },
	{ "[]]", "]", OUT },
	{ "[]-]", "-", OUT },
	{ "[!]a]", "b", OUT },
	{ "[a-]", "-", OUT },
	{ "[\\]]", "]", OUT },
	{ "[a\\-z]", "b", SILENT },
	{ "[[:digit:]]x", "7x", OUT },
	{ "[[:digit:]a]", "a", OUT },
	{ "[[:nothing:]]", "n", SILENT },
	{ "[[:a]", ":", OUT },
	{ "[[:]", "[", OUT },
	{ "[a", "[a", SILENT },
	{ "[a", "a", SILENT },
	{ "a[/]b", "a/b", SILENT },
	{ "a[!x]b", "a/b", SILENT },
	{ "\\*", "*", OUT },
	{ "\\*", "a", SILENT },
	{ "\\a", "a", OUT },
	{ "a\\", "a\\", SILENT },
	{ "a\\\\", "a\\", OUT },
	{ "\xff*", "\xff\xfe", OUT },
	{ "[\xe0-\xff]", "\xf0", OUT },
};

static struct ignore *parse(const char *text)
{
	struct err err;
	struct ignore *g = ignore_parse(text, strlen(text), &err);

	assert_non_null(g);
	return g;
}

static void patterns_mean_what_git_says(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *r = &rows[i];
		struct ignore *g = parse(r->text);
		char path[64];
		size_t len = strlen(r->path);
		bool directory = r->path[len - 1] == '/';
		snprintf(path, sizeof(path), "%.*s", (int)(len - directory), r->path);
		if (ignore_match(g, path, directory) != r->answer)
			fail_msg("\"%s\" of %s: not %d", r->text, r->path, (int)r->answer);
		ignore_free(g);
	}
}

static void lists_are_taken_to_the_last_byte(void **state)
{
	const char *const patterns[] = { "#a", "b ", "*.o", "!keep.o", "", NULL };
	struct err err;
	struct ignore *g = ignore_list(patterns, &err);

	(void)state;
	assert_int_equal(ignore_match(g, "#a", false), OUT);
	assert_int_equal(ignore_match(g, "b", false), SILENT);
	assert_int_equal(ignore_match(g, "b ", false), OUT);
	assert_int_equal(ignore_match(g, "keep.o", false), IN);
	ignore_free(g);
}

static void what_is_in_a_directory_that_is_out_is_covered(void **state)
{
	struct ignore *g = parse("out/\n!out/in\n*.o\n");

	(void)state;
	assert_true(ignore_covers(g, "out/in", false));
	assert_true(ignore_covers(g, "x/out/y/z", false));
	assert_true(ignore_covers(g, "out", true));
	assert_false(ignore_covers(g, "out", false));
	assert_false(ignore_covers(g, "x/y", false));
	ignore_free(g);
}

static void there_is_a_limit(void **state)
{
	char *text = malloc(IGNORE_TEXT_MAX + 2), *piece[2];
	struct err err;

	(void)state;
	memset(text, '[', IGNORE_TEXT_MAX + 1);
	text[IGNORE_TEXT_MAX + 1] = '\0';
	piece[0] = text;
	piece[1] = NULL;
	assert_null(ignore_parse(text, IGNORE_TEXT_MAX, &err));
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	assert_null(ignore_list((const char *const *)piece, &err));
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	ignore_free(ignore_parse(text, IGNORE_TEXT_MAX - 1, &err));
	free(text);
}

/* Stars make no pattern slow. */
static void no_pattern_takes_long(void **state)
{
	char path[4096], text[4096];
	struct ignore *g;

	(void)state;
	for (size_t i = 0; i < sizeof(path) - 1; i++)
		path[i] = i % 2 != 0 ? '/' : 'a';
	path[sizeof(path) - 2] = 'a';
	path[sizeof(path) - 1] = '\0';
	for (size_t i = 0; i + 5 < sizeof(text); i += 5)
		memcpy(text + i, "**/a/", 6);
	text[4000] = 'b';
	text[4001] = '\0';
	g = parse(text);
	assert_int_equal(ignore_match(g, path, false), SILENT);
	ignore_free(g);
	memset(path, 'a', sizeof(path) - 1);
	for (size_t i = 0; i + 2 < sizeof(text); i += 2)
		memcpy(text + i, "*a", 3);
	text[4000] = 'b';
	text[4001] = '\0';
	g = parse(text);
	assert_int_equal(ignore_match(g, path, false), SILENT);
	ignore_free(g);
}

static void parse_or_not(void *cookie)
{
	struct err err;
	struct ignore *g = ignore_parse("a\n[b]\n", 6, &err);

	(void)cookie;
	assert_true(g != NULL || err.code == GRPC_RESOURCE_EXHAUSTED);
	ignore_free(g);
}

static void memory_may_be_short(void **state)
{
	(void)state;
	alloc_torture(parse_or_not, NULL);
}

/* Against git: random patterns, on a tree that is there. */

#define ROUNDS    300
#define PATHS     400
#define PATTERN   6  /* lines of a file */
#define NAME_ROOM 64 /* bytes of the longest path made, with its NUL */

struct tree {
	struct leak *leak;
	struct {
		char name[NAME_ROOM];
		bool directory;
	} paths[PATHS];
	size_t count;
	bool out[PATHS]; /* as git says */
	uint64_t random;
};

static unsigned below(struct tree *t, unsigned n)
{
	t->random = t->random * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(t->random >> 33) % n;
}

static void add_path(struct tree *t, const char *path, bool directory)
{
	char full[512];

	assert_true(t->count < PATHS);
	snprintf(full, sizeof(full), "%s/tree/%s", leak_folder(t->leak), path);
	if (directory) {
		assert_int_equal(mkdir(full, 0755), 0);
	} else {
		int fd = open(full, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
		assert_true(fd >= 0);
		close(fd);
	}
	snprintf(t->paths[t->count].name, sizeof(t->paths[0].name), "%s", path);
	t->paths[t->count++].directory = directory;
}

static void add_paths(struct tree *t, const char *folder, int depth)
{
	static const char *const names[] = { "a", "ab", "b.c", "]", "a-", "[a" };
	char path[NAME_ROOM];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		bool directory = depth < 3 && (i < 2 || (i == 2 && depth == 1));
		snprintf(path, sizeof(path), "%s%s", folder, names[i]);
		add_path(t, path, directory);
		if (directory) {
			snprintf(path, sizeof(path), "%s%s/", folder, names[i]);
			add_paths(t, path, depth + 1);
		}
	}
}

/* Runs git in the tree; 1 is an answer too. */
static void run_git(struct tree *t, char *const *words)
{
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int status;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addchdir_np(&actions, leak_path(t->leak, "tree"));
	posix_spawn_file_actions_addopen(&actions, 0, "../paths", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(
	    &actions, 1, "../answer", O_WRONLY | O_CREAT | O_TRUNC, 0644);
	assert_int_equal(posix_spawnp(&pid, words[0], &actions, NULL, words, environ), 0);
	posix_spawn_file_actions_destroy(&actions);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
}

/* The order git gives them back is ours: but only those that are out. */
static void ask_git(struct tree *t)
{
	char *words[] = { "git", "-c", "core.excludesFile=/dev/null", "check-ignore", "--no-index",
		"--stdin", NULL };
	char line[512];
	size_t at = 0;

	memset(t->out, 0, sizeof(t->out));
	run_git(t, words);
	FILE *file = fopen(leak_path(t->leak, "answer"), "re");
	assert_non_null(file);
	while (fgets(line, sizeof(line), file) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		while (at < t->count && strcmp(t->paths[at].name, line) != 0)
			at++;
		assert_true(at < t->count);
		t->out[at++] = true;
	}
	fclose(file);
}

static void make_pattern(struct tree *t, char *out)
{
	static const char *const parts[] = { "a", "b", "*", "?", "/", "/", "**/", "/**/", "/**",
		"[a]", "[!a]", "[]-a]", "[^[:alpha:]]", "\\a", ".c", "ab", "-", "*/", "\\[", "[a",
		"a*", " ", "[a-c]", "]" };

	size_t len = 0;

	if (below(t, 5) == 0)
		out[len++] = '!';
	for (unsigned n = 1 + below(t, 4); n > 0; n--) {
		const char *part = parts[below(t, sizeof(parts) / sizeof(parts[0]))];
		/* git before 2.51 takes "a**" for "a" and then two stars of their own. */
		if (part[0] == '*' && len > 0 && out[len - 1] != '/')
			continue;
		len += (size_t)snprintf(out + len, 16, "%s", part);
	}
	snprintf(out + len, 2, "\n");
}

static void write_patterns(struct tree *t, const char *text)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/tree/.gitignore", leak_folder(t->leak));
	FILE *file = fopen(path, "we");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void compare(struct tree *t, const char *text)
{
	struct ignore *g = parse(text);

	for (size_t i = 0; i < t->count; i++) {
		const char *name = t->paths[i].name;
		if (ignore_covers(g, name, t->paths[i].directory) != t->out[i])
			fail_msg(
			    "git says %s of %s, by:\n%s", t->out[i] ? "out" : "in", name, text);
	}
	ignore_free(g);
}

static int setup(void **state)
{
	struct tree *t = calloc(1, sizeof(*t));

	t->leak = leak_begin();
	t->random = 4;
	*state = t;
	assert_int_equal(mkdir(leak_path(t->leak, "tree"), 0755), 0);
	add_paths(t, "", 0);
	FILE *file = fopen(leak_path(t->leak, "paths"), "we");
	assert_non_null(file);
	for (size_t i = 0; i < t->count; i++)
		fprintf(file, "%s\n", t->paths[i].name);
	fclose(file);
	run_git(t, (char *[]){ "git", "init", "-q", NULL });
	return 0;
}

static int teardown(void **state)
{
	struct tree *t = *state;
	struct err err;
	int folder = open(leak_folder(t->leak), O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	beneath_remove_tree(folder, "tree", &err);
	unlinkat(folder, "paths", 0);
	unlinkat(folder, "answer", 0);
	close(folder);
	r = leak_end(t->leak);
	free(t);
	return r;
}

static void git_agrees(void **state)
{
	struct tree *t = *state;
	char text[64 * PATTERN] = "";

	for (int round = 0; round < ROUNDS; round++) {
		text[0] = '\0';
		for (unsigned n = 1 + below(t, PATTERN); n > 0; n--)
			make_pattern(t, text + strlen(text));
		write_patterns(t, text);
		ask_git(t);
		compare(t, text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(patterns_mean_what_git_says),
		cmocka_unit_test(lists_are_taken_to_the_last_byte),
		cmocka_unit_test(what_is_in_a_directory_that_is_out_is_covered),
		cmocka_unit_test(there_is_a_limit),
		cmocka_unit_test(no_pattern_takes_long),
		cmocka_unit_test(memory_may_be_short),
		cmocka_unit_test_setup_teardown(git_agrees, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
