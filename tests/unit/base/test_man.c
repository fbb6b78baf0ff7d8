/* Manual pages: what roff would take for its own is made plain, and each thing has its place. */
#include "base/man.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ${text} is the caller's to free. */
static void get_printed(char **text, void (*print)(const void *, FILE *), const void *what)
{
	size_t len = 0;
	FILE *out = open_memstream(text, &len);

	assert_non_null(out);
	print(what, out);
	fclose(out);
}

static void print_text(const void *text, FILE *out)
{
	man_text(text, out);
}

static void print_page(const void *page, FILE *out)
{
	man_page(page, out);
}

static void text_is_plain(void **state)
{
	static const struct {
		const char *text, *roff;
	} cases[] = {
		{ "", "" },
		{ "one\ntwo", "one\ntwo\n" },
		{ ".gitignore's\n'quoted'\n", "\\&.gitignore's\n\\&'quoted'\n" },
		{ "a\\b --flag", "a\\eb \\-\\-flag\n" },
		{ "one\n\ntwo", "one\n.PP\ntwo\n" },
		{ "so:\n  as it is\nand on", "so:\n.nf\n  as it is\n.fi\nand on\n" },
		{ "\nexit status:\n  0\n\nfiles:\nx",
		    ".SH EXIT STATUS\n.nf\n  0\n.fi\n.SH FILES\nx\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *got = NULL;

		get_printed(&got, print_text, cases[i].text);
		assert_string_equal(got, cases[i].roff);
		free(got);
	}
}

static void a_page_has_its_parts(void **state)
{
	static const struct config_key keys[] = {
		{ .name = "size",
		    .letter = 's',
		    .env = "A_SIZE",
		    .arg = "N",
		    .dflt = "1",
		    .help = "how many" },
		{ .name = "in", .arg = "FILE", .dflt = CONFIG_REQUIRED, .help = "from where" },
		{ 0 },
	};
	static const struct man_page page = {
		.name = "a-program",
		.section = "8",
		.summary = "does a thing",
		.usage = "usage: a-program [-s N]\n                 FILE\n\nDoes a thing.\n\n",
		.keys = keys,
		.epilogue = "\nexit status:\n  0   done\n",
		.see_also = "another(1)",
	};
	static const char roff[] =
	    ".nh\n.ad l\n.SH NAME\na\\-program \\- does a thing\n"
	    ".SH SYNOPSIS\n.nf\na\\-program [\\-s N]\n                 FILE\n.fi\n"
	    ".SH DESCRIPTION\nDoes a thing.\n.SH OPTIONS\n"
	    ".TP\n\\fB\\-s\\fR, \\fB\\-\\-size\\fR \\fIN\\fR\nhow many (default 1); $A_SIZE\n"
	    ".TP\n\\fB\\-\\-in\\fR \\fIFILE\\fR\nfrom where (has to be given)\n"
	    ".SH EXIT STATUS\n.nf\n  0   done\n.fi\n.SH SEE ALSO\nanother(1)\n";
	char *got = NULL;

	(void)state;
	get_printed(&got, print_page, &page);
	assert_memory_equal(got, ".TH A-PROGRAM 8 ", strlen(".TH A-PROGRAM 8 "));
	assert_string_equal(strchr(got, '\n') + 1, roff);
	free(got);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_plain),
		cmocka_unit_test(a_page_has_its_parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
