/* The command that an scp runs at the other end: what is ours, and what is the shell's. */
#include "sshd/scp_line.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void assert_parsed(const char *line, const char *flags, const char *paths[], size_t count)
{
	struct scp_line l;
	char got[8];

	if (!scp_line_parse(line, &l))
		fail_msg("not understood: %s", line);
	snprintf(got, sizeof(got), "%s%s%s%s", l.sink ? "t" : "f", l.recursive ? "r" : "",
	    l.preserve ? "p" : "", l.directory ? "d" : "");
	assert_string_equal(got, flags);
	assert_int_equal(l.count, count);
	for (size_t i = 0; i < count; i++)
		assert_string_equal(l.paths[i], paths[i]);
	scp_line_free(&l);
}

#define PARSED(line, flags, ...)                                    \
	assert_parsed(line, flags, (const char *[]){ __VA_ARGS__ }, \
	    sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(char *))

static void test_what_clients_send(void **state)
{
	(void)state;
	PARSED("scp -t .", "t", ".");
	PARSED("scp -r -p -d -t /tmp/x", "trpd", "/tmp/x");
	PARSED("scp -v -f file", "f", "file");
	PARSED("scp -t -- -x", "t", "-x");
	PARSED("scp -qrt 'a dir'", "tr", "a dir");
	PARSED("/usr/bin/scp -tr dir", "tr", "dir");
	PARSED("scp -f  ~/a\tb ", "f", "~/a", "b");
	PARSED("scp -t ~", "t", "~");
}

static void test_quotes(void **state)
{
	(void)state;
	PARSED("scp -t 'it'\\''s'", "t", "it's");
	PARSED("scp -t \"a b\\\"c\\\\d\\e\"", "t", "a b\"c\\d\\e");
	PARSED("scp -t a\\ b\\*", "t", "a b*");
	PARSED("scp -t '*$(x);`y`'", "t", "*$(x);`y`");
	PARSED("'scp' '-t' \"x\"", "t", "x");
	PARSED("scp -t caf\xc3\xa9", "t", "caf\xc3\xa9");
	PARSED("scp -t '\xff\n'", "t", "\xff\n");
}

static void test_patterns(void **state)
{
	(void)state;
	PARSED("scp -f a*b?[c-d]", "f", "a*b?[c-d]");
	PARSED("scp -f 'a*'b* \"?\" \\[x]", "f", "a\\*b*", "\\?", "\\[x]");
	PARSED("scp -f '~'", "f", "\\~");
	PARSED("scp -f 'a b.txt'", "f", "a\\ b.txt");
}

static void test_what_is_not_ours(void **state)
{
	static const char *const lines[] = { "", " ", "scp", "scp a b", "scp -t", "scp -f",
		"scp -t a b", "scp -t -f x", "scp -tf x", "scp -tx y", "scp - x", "scp -t ''",
		"rsync --server", "scpx -t a", "echo scp -t x", "scp -t $HOME", "scp -t `x`",
		"scp -t a;b", "scp -t a|b", "scp -t a&", "scp -t a>b", "scp -t <a", "scp -t (a",
		"scp -t {a,b}", "scp -t !x", "scp -t a\nb", "scp -t 'a", "scp -t \"a",
		"scp -t \"$a\"", "scp -t \"`a`\"", "scp -t a\\", "scp -t a\\\nb", "#scp -t a",
		"scp -t #a", "X=1 scp -t a", "scp -l 8 -t a", "scp --help -t a" };
	struct scp_line l;

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		if (scp_line_parse(lines[i], &l))
			fail_msg("understood: %s", lines[i]);
}

static void test_limits(void **state)
{
	char *line = calloc(1, SCP_LINE_BYTES + 16);
	struct scp_line l;

	(void)state;
	memcpy(line, "scp -f", 6);
	for (size_t i = 0; i < SCP_LINE_PATHS_MAX; i++)
		memcpy(line + 6 + 2 * i, " a", 2);
	assert_true(scp_line_parse(line, &l));
	assert_int_equal(l.count, SCP_LINE_PATHS_MAX);
	scp_line_free(&l);
	memcpy(line + strlen(line), " a", 2);
	assert_false(scp_line_parse(line, &l));
	memset(line, 'a', SCP_LINE_BYTES + 1);
	memcpy(line, "scp -t ", 7);
	assert_false(scp_line_parse(line, &l));
	line[SCP_LINE_BYTES] = '\0';
	assert_true(scp_line_parse(line, &l));
	scp_line_free(&l);
	free(line);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_clients_send),
		cmocka_unit_test(test_quotes),
		cmocka_unit_test(test_patterns),
		cmocka_unit_test(test_what_is_not_ours),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
