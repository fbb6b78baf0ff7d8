/* Options from a file, the environment and flags: one parser, and who wins. */
#include "base/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "options.h"

#define LINE_MAX_BYTES 4095

#define KEY(n, l, e, a, p, field, d)                                                            \
	{                                                                                       \
		.name = (n), .letter = (l), .env = (e), .arg = (a), .parse = (p),               \
		.offset = offsetof(struct options, field), .dflt = (d), .help = "what " n " is" \
	}

static int give_file(struct options_fixture *f, const void *text, size_t len)
{
	const char *path = leak_path(f->leak, "conf");
	FILE *file = fopen(path, "we");

	assert_int_equal(fwrite(text, 1, len, file), len);
	fclose(file);
	return config_file(&f->c, path, &f->e);
}

static int give_text(struct options_fixture *f, const char *text)
{
	return give_file(f, text, strlen(text));
}

/* The same value of the same key from each source. */
enum source { SOURCE_FILE, SOURCE_ENVIRONMENT, SOURCE_FLAG, SOURCES };

static int give(
    struct options_fixture *f, enum source source, const struct config_key *k, const char *value)
{
	char text[256];

	if (source == SOURCE_ENVIRONMENT) {
		setenv(k->env, value, 1);
		return config_environment(&f->c, &f->e);
	}
	if (source == SOURCE_FILE) {
		snprintf(text, sizeof(text), "%s = %s", k->name, value);
		return config_line(&f->c, "conf:7", text, &f->e);
	}
	snprintf(text, sizeof(text), "--%s=%s", k->name, value);
	return config_flags(&f->c, 2, (char *[]){ "program", text, NULL }, false, &f->e) == 2 ? 0
											      : -1;
}

static void test_defaults(void **state)
{
	struct options_fixture *f = *state;

	assert_int_equal(config_finish(&f->c, &f->e), 0);
	assert_string_equal(f->o.name, "nobody");
	assert_true(f->o.tls);
	assert_int_equal(f->o.loops, 2);
	assert_int_equal(f->o.size, 65536);
	assert_int_equal(f->o.wait, 30000);
	assert_int_equal(f->o.tags.count, 0);
	assert_false(f->o.dry);
}

static void test_required(void **state)
{
	static const struct config_key required[] = {
		KEY("name", 0, "TEST_NAME", "NAME", config_string, name, CONFIG_REQUIRED),
		{ .name = NULL },
	};
	struct options_fixture *f = *state;

	config_begin(&f->c, required, &f->o);
	assert_int_equal(config_finish(&f->c, &f->e), -1);
	options_assert_error(f, "--name must be given; see --help");
	assert_int_equal(config_line(&f->c, "conf:1", "name = x", &f->e), 0);
	assert_int_equal(config_finish(&f->c, &f->e), 0);
	assert_string_equal(f->o.name, "x");
}

static void test_bad_default_names_its_key(void **state)
{
	static const struct config_key bad[] = {
		KEY("loops", 0, NULL, "N", config_uint, loops, "many"),
		{ .name = NULL },
	};
	struct options_fixture *f = *state;

	config_begin(&f->c, bad, &f->o);
	assert_int_equal(config_finish(&f->c, &f->e), -1);
	options_assert_error(f, "loops: \"many\" is not a number from 0 to 4294967295");
}

/* Whatever came, in whatever order: a flag before the environment before the file. */
static void test_precedence(void **state)
{
	static const enum source orders[][SOURCES] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 },
		{ 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 } };
	static const char *const names[] = { "of-file", "of-environment", "of-flag", "nobody" };
	struct options_fixture *f = *state;

	for (size_t order = 0; order < 6; order++) {
		for (unsigned given = 0; given < 8; given++) {
			int strongest = given & 4 ? 2 : given & 2 ? 1 : given & 1 ? 0 : 3;

			options_start_again(f);
			for (size_t i = 0; i < SOURCES; i++) {
				enum source s = orders[order][i];

				if (given & 1U << s)
					assert_int_equal(give(f, s, &options_keys[0], names[s]), 0);
			}
			assert_int_equal(config_finish(&f->c, &f->e), 0);
			assert_string_equal(f->o.name, names[strongest]);
		}
	}
}

/* A value that is wrong is said with its key and where it stands, from each source. */
static void test_errors_name_key_and_place(void **state)
{
	static const struct {
		size_t key;
		const char *value, *what;
	} rows[] = {
		{ 1, "maybe", "is neither true nor false" },
		{ 1, "TRUE", "is neither true nor false" },
		{ 2, "-1", "is not a number from 0 to 4294967295" },
		{ 2, "4294967296", "is not a number from 0 to 4294967295" },
		{ 3, "12Q", "is not a size, such as 64K, 16M or 1G" },
		{ 3, "K", "is not a size, such as 64K, 16M or 1G" },
		{ 4, "1d", "is not a time, such as 500ms, 30s or 2h" },
		{ 4, "-1s", "is not a time, such as 500ms, 30s or 2h" },
	};
	struct options_fixture *f = *state;
	char want[256], place[64];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct config_key *k = &options_keys[rows[i].key];

		for (int s = 0; s < SOURCES; s++) {
			options_start_again(f);
			assert_int_equal(give(f, (enum source)s, k, rows[i].value), -1);
			snprintf(place, sizeof(place), "%s%s",
			    s == SOURCE_FILE       ? "conf:7: "
				: s == SOURCE_FLAG ? "--"
						   : "",
			    s == SOURCE_ENVIRONMENT ? k->env : k->name);
			snprintf(want, sizeof(want), "%s: \"%s\" %s", place, rows[i].value,
			    rows[i].what);
			options_assert_error(f, want);
		}
	}
}

static void test_values(void **state)
{
	static const struct {
		size_t key;
		const char *value;
		uint64_t want;
	} rows[] = {
		{ 1, "true", 1 },
		{ 1, "off", 0 },
		{ 1, "1", 1 },
		{ 1, "no", 0 },
		{ 2, "0", 0 },
		{ 2, "4294967295", UINT32_MAX },
		{ 3, "0", 0 },
		{ 3, "17", 17 },
		{ 3, "3k", 3072 },
		{ 3, "3KiB", 3072 },
		{ 3, "2M", 2 << 20 },
		{ 3, "1GiB", 1 << 30 },
		{ 3, "17179869183G", UINT64_C(17179869183) << 30 },
		{ 3, "18446744073709551615", UINT64_MAX },
		{ 4, "500ms", 500 },
		{ 4, "7", 7000 },
		{ 4, "7s", 7000 },
		{ 4, "2m", 120000 },
		{ 4, "3H", 10800000 },
	};
	struct options_fixture *f = *state;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (int s = 0; s < SOURCES; s++) {
			size_t key = rows[i].key;

			options_start_again(f);
			assert_int_equal(
			    give(f, (enum source)s, &options_keys[key], rows[i].value), 0);
			assert_true(rows[i].want ==
			    (key == 1          ? f->o.tls
				    : key == 2 ? f->o.loops
				    : key == 3 ? f->o.size
					       : f->o.wait));
		}
	}
}

/* What cannot be read leaves the field as it was, also when only the unit is too much. */
static void test_failure_leaves_the_field(void **state)
{
	static const char *const sizes[] = { "", "K", "1X", "1 K", " 1", "0x10", "17179869184G",
		"18446744073709551616", "1.5M" };
	static const char *const times[] = { "", "s", "1w", "5124095576031h", "1 s",
		"18446744073709552s" };
	bool flag = true;
	unsigned number = 5;
	uint64_t big = 5;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(config_size(&big, sizes[i], NULL), -1);
		assert_int_equal(big, 5);
	}
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		assert_int_equal(config_duration(&big, times[i], NULL), -1);
		assert_int_equal(big, 5);
	}
	assert_int_equal(config_bool(&flag, "", NULL), -1);
	assert_true(flag);
	assert_int_equal(config_uint(&number, "5x", NULL), -1);
	assert_int_equal(number, 5);
}

/* Within a source a list adds up; a stronger source starts it anew. */
static void test_lists(void **state)
{
	struct options_fixture *f = *state;

	assert_int_equal(config_line(&f->c, "c:1", "tag = f1", &f->e), 0);
	assert_int_equal(config_line(&f->c, "c:2", "tag = f2", &f->e), 0);
	assert_int_equal(f->o.tags.count, 2);
	assert_string_equal(f->o.tags.item[1], "f2");
	assert_int_equal(give(f, SOURCE_ENVIRONMENT, &options_keys[5], "e1"), 0);
	assert_int_equal(f->o.tags.count, 1);
	assert_int_equal(options_give_flags(f, "--tag a -g b --tag=c"), 5 + 1);
	assert_int_equal(f->o.tags.count, 3);
	assert_string_equal(f->o.tags.item[0], "a");
	assert_string_equal(f->o.tags.item[2], "c");
	assert_int_equal(config_line(&f->c, "c:3", "tag = f3", &f->e), 0);
	assert_int_equal(f->o.tags.count, 3);
	for (unsigned i = 3; i < CONFIG_LIST_MAX; i++)
		assert_int_equal(options_give_flags(f, "--tag x"), 3);
	assert_int_equal(options_give_flags(f, "--tag x"), -1);
	options_assert_error(f, "--tag: given more than 64 times");
}

/* "-tg x" is "-t -g x"; what takes a value ends a group, or has it behind itself. */
static void test_groups(void **state)
{
	struct options_fixture *f = *state;

	assert_int_equal(options_give_flags(f, "-t=false -ttg x"), 4);
	assert_true(f->o.tls);
	assert_string_equal(f->o.tags.item[0], "x");
	assert_int_equal(options_give_flags(f, "-gt"), 2);
	assert_string_equal(f->o.tags.item[1], "t");
	assert_int_equal(options_give_flags(f, "-tg"), -1);
	options_assert_error(f, "-g needs a value: TAG");
	assert_int_equal(options_give_flags(f, "-tx"), -1);
	assert_int_equal(options_give_flags(f, "-tfalse"), 2);
	assert_false(f->o.tls);
}

/* The value behind a name we do not know may be a token. */
static void test_errors_keep_secrets(void **state)
{
	struct options_fixture *f = *state;

	assert_int_equal(options_give_flags(f, "--tokn=s3cret"), -1);
	assert_null(strstr(f->e.text, "s3cret"));
	assert_int_equal(options_give_flags(f, "--name=s3cret --name=s3cret"), -1);
	assert_null(strstr(f->e.text, "s3cret"));
	assert_int_equal(config_line(&f->c, "c:1", "tokn = s3cret", &f->e), -1);
	assert_null(strstr(f->e.text, "s3cret"));
	assert_int_equal(config_line(&f->c, "c:1", "name s3cret", &f->e), -1);
	assert_null(strstr(f->e.text, "s3cret"));
}

static void test_environment(void **state)
{
	struct options_fixture *f = *state;

	setenv("TEST_NAME", "", 1); /* as if it were not there */
	setenv("TEST_LOOPS", "9", 1);
	assert_int_equal(config_environment(&f->c, &f->e), 0);
	assert_null(f->o.name);
	assert_int_equal(f->o.loops, 9);
}

static void test_lines(void **state)
{
	static const char *const empty[] = { "", " ", "\t\r\n", "#", "  # name = x", "#name=x\n" };
	static const char *const named[] = { "name=x", "  name  =  x  ", "\tname\t=\tx\r\n",
		"name = x\n" };
	static const struct {
		const char *line, *text;
	} bad[] = {
		{ "name", "c:1: name: no \"=\"; a line is \"name = value\"" },
		{ " two words ", "c:1: two: no \"=\"; a line is \"name = value\"" },
		{ "nam = x", "c:1: unknown name \"nam\"" },
		{ "Name = x", "c:1: unknown name \"Name\"" },
		{ "= x", "c:1: unknown name \"\"" },
		{ "dry = true", "c:1: unknown name \"dry\"" },
		{ "loops =", "c:1: loops: \"\" is not a number from 0 to 4294967295" },
		{ "loops = 1 # one",
		    "c:1: loops: \"1 # one\" is not a number from 0 to 4294967295" },
		{ "\x1b[2J = x", "c:1: unknown name \"\\x1b[2J\"" },
	};
	struct options_fixture *f = *state;

	for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++)
		assert_int_equal(config_line(&f->c, "c:1", empty[i], &f->e), 0);
	assert_null(f->o.name);
	for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++) {
		options_start_again(f);
		assert_int_equal(config_line(&f->c, "c:1", named[i], &f->e), 0);
		assert_string_equal(f->o.name, "x");
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(config_line(&f->c, "c:1", bad[i].line, &f->e), -1);
		options_assert_error(f, bad[i].text);
	}
	/* Of two lines the later one counts. */
	assert_int_equal(config_line(&f->c, "c:2", "name = a=b # c", &f->e), 0);
	assert_string_equal(f->o.name, "a=b # c");
}

static void test_file(void **state)
{
	struct options_fixture *f = *state;
	char want[256];

	assert_int_equal(
	    give_text(f, "# ours\n\nname = x\r\nloops=3\ntag = a\ntag = b\nsize = 1M"), 0);
	assert_string_equal(f->o.name, "x");
	assert_int_equal(f->o.loops, 3);
	assert_int_equal(f->o.tags.count, 2);
	assert_int_equal(f->o.size, 1 << 20);
	assert_int_equal(give_text(f, "name = y\n\nloops = many\nname = z\n"), -1);
	snprintf(want, sizeof(want), "%s:3: loops: \"many\" is not a number from 0 to 4294967295",
	    leak_path(f->leak, "conf"));
	options_assert_error(f, want);
	assert_string_equal(f->o.name, "y");
	assert_int_equal(give_text(f, ""), 0);
}

static void test_no_file(void **state)
{
	struct options_fixture *f = *state;
	char want[256];

	assert_int_equal(config_file(&f->c, leak_path(f->leak, "conf"), &f->e), -1);
	assert_int_equal(f->e.code, GRPC_NOT_FOUND);
	snprintf(want, sizeof(want), "%s: No such file or directory", leak_path(f->leak, "conf"));
	assert_string_equal(f->e.text, want);
	assert_int_equal(config_file(&f->c, leak_folder(f->leak), &f->e), -1);
	snprintf(want, sizeof(want), "%s: Is a directory", leak_folder(f->leak));
	assert_string_equal(f->e.text, want);
}

/* A line up to its limit, with and without an end; then one byte more. */
static void test_long_lines(void **state)
{
	struct options_fixture *f = *state;
	static char text[LINE_MAX_BYTES + 3] = "name=";

	memset(text + 5, 'v', LINE_MAX_BYTES - 5);
	assert_int_equal(give_file(f, text, LINE_MAX_BYTES), 0);
	assert_int_equal(strlen(f->o.name), LINE_MAX_BYTES - 5);
	text[LINE_MAX_BYTES] = '\n';
	options_start_again(f);
	assert_int_equal(give_file(f, text, LINE_MAX_BYTES + 1), 0);
	assert_int_equal(strlen(f->o.name), LINE_MAX_BYTES - 5);
	options_start_again(f);
	text[LINE_MAX_BYTES] = 'v';
	text[LINE_MAX_BYTES + 1] = '\n';
	assert_int_equal(give_file(f, text, LINE_MAX_BYTES + 2), -1);
	assert_non_null(strstr(f->e.text, "conf:1: a line of more than 4095 bytes"));
	assert_null(f->o.name);
	/* One without an end. */
	assert_int_equal(config_file(&f->c, "/dev/zero", &f->e), -1);
	options_assert_error(f, "/dev/zero:1: a NUL in a line");
}

static void test_nul_in_a_file(void **state)
{
	struct options_fixture *f = *state;

	assert_int_equal(give_file(f, "loops = 3\nname = x\0y\n", 21), -1);
	assert_non_null(strstr(f->e.text, "conf:2: a NUL in a line"));
	assert_null(f->o.name);
	assert_int_equal(give_file(f, "\0", 1), -1);
	assert_int_equal(give_file(f, "name = x\0", 9), -1);
	assert_null(f->o.name);
}

/* However long the path is, the error says line and key, and what is wrong. */
static void test_long_path(void **state)
{
	struct options_fixture *f = *state;
	char path[1024];
	size_t len = (size_t)snprintf(path, sizeof(path), "%s/", leak_folder(f->leak));
	FILE *file;

	for (; len < 900; len += 2)
		memcpy(path + len, "./", 3);
	memcpy(path + len, "conf", 5);
	file = fopen(path, "we");
	fputs("\nloops = many\n", file);
	fclose(file);
	assert_int_equal(config_file(&f->c, path, &f->e), -1);
	assert_non_null(strstr(f->e.text, "/./conf:2: loops: \"many\" is not a number"));
	assert_memory_equal(f->e.text, "...", 3);
}

/* Each key once, with what it needs; required is said by no default. */
static void test_help(void **state)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	(void)state;
	config_help(options_keys, out);
	fclose(out);
	assert_string_equal(text,
	    "  -n, --name NAME                  what name is (default nobody) [TEST_NAME]\n"
	    "  -t, --tls                        what tls is (default true) [TEST_TLS]\n"
	    "  -l, --loops N                    what loops is (default 2) [TEST_LOOPS]\n"
	    "  -s, --size BYTES                 what size is (default 64K) [TEST_SIZE]\n"
	    "  -w, --wait TIME                  what wait is (default 30s) [TEST_WAIT]\n"
	    "  -g, --tag TAG                    what tag is [TEST_TAG]\n"
	    "      --dry                        what dry is\n");
	free(text);
}

static void test_what_is_given_back(void **state)
{
	struct options_fixture *f = *state;

	assert_true(options_give_flags(f, "--name x --tag a --tag b") > 0);
	config_free(&f->c);
	assert_null(f->o.name);
	assert_int_equal(f->o.tags.count, 0);
	config_free(&f->c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		options_test(test_defaults),
		options_test(test_required),
		options_test(test_bad_default_names_its_key),
		options_test(test_precedence),
		options_test(test_errors_name_key_and_place),
		options_test(test_values),
		options_test(test_failure_leaves_the_field),
		options_test(test_lists),
		options_test(test_groups),
		options_test(test_errors_keep_secrets),
		options_test(test_environment),
		options_test(test_lines),
		options_test(test_file),
		options_test(test_no_file),
		options_test(test_long_lines),
		options_test(test_nul_in_a_file),
		options_test(test_long_path),
		options_test(test_help),
		options_test(test_what_is_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
