/* Names of owners, from files that the sandbox writes as it likes. */
#include "transfer/owners.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/beneath.h"
#include "support/leak.h"

struct fixture {
	struct leak *leak;
	int slash;
	struct owners owners;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->leak = leak_begin();
	f->slash = open(leak_folder(f->leak), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(f->slash, "etc", 0700), 0);
	owners_init(&f->owners, f->slash);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	struct err err;

	assert_int_equal(beneath_remove_tree(f->slash, "etc", &err), 0);
	close(f->slash);
	int r = leak_end(f->leak);
	free(f);
	return r;
}

static FILE *write_to(struct fixture *f, const char *path)
{
	FILE *file = fopen(leak_path(f->leak, path), "we");

	assert_non_null(file);
	return file;
}

static void write_passwd(struct fixture *f, const char *text)
{
	FILE *file = write_to(f, "etc/passwd");

	fputs(text, file);
	fclose(file);
}

static void names_are_found(void **state)
{
	struct fixture *f = *state;

	write_passwd(f,
	    "root:x:0:0::/:/bin/sh\nbad\n:x:7:\nann:x:1000:1000::\nbob:x:1000:1::\n"
	    "\xff:x:8:8:\n");
	assert_string_equal(owners_user(&f->owners, 0), "root");
	assert_string_equal(owners_user(&f->owners, 1000), "ann");
	assert_string_equal(owners_user(&f->owners, 7), "");
	assert_string_equal(owners_user(&f->owners, 8), "");
	assert_string_equal(owners_user(&f->owners, 9), "");
	assert_string_equal(owners_group(&f->owners, 0), "");
}

static void names_have_a_length(void **state)
{
	struct fixture *f = *state;
	FILE *file = write_to(f, "etc/passwd");

	fprintf(file, "%0*u:x:1:1:\n", OWNERS_NAME_MAX - 1, 0);
	fprintf(file, "%0*u:x:2:2:\n", OWNERS_NAME_MAX, 0);
	fclose(file);
	assert_int_equal(strlen(owners_user(&f->owners, 1)), OWNERS_NAME_MAX - 1);
	assert_string_equal(owners_user(&f->owners, 2), "");
}

/* What is remembered is not looked up again, until another takes its place. */
static void so_many_are_remembered(void **state)
{
	struct fixture *f = *state;
	FILE *file = write_to(f, "etc/passwd");

	for (unsigned id = 0; id <= OWNERS_KEPT; id++)
		fprintf(file, "user%u:x:%u:1:\n", id, id);
	fclose(file);
	for (unsigned id = 0; id < OWNERS_KEPT; id++)
		owners_user(&f->owners, id);
	write_passwd(f, "");
	assert_string_equal(owners_user(&f->owners, 0), "user0");
	assert_string_equal(owners_user(&f->owners, OWNERS_KEPT - 1), "user31");
	assert_string_equal(owners_user(&f->owners, OWNERS_KEPT), "");
	assert_string_equal(owners_user(&f->owners, 0), "");
	assert_string_equal(owners_user(&f->owners, 1), "user1");
}

static void files_have_an_end(void **state)
{
	struct fixture *f = *state;
	FILE *file = write_to(f, "etc/group");

	fputs("first:x:1:\n", file);
	for (size_t i = 0; i < OWNERS_FILE_BYTES; i += 1000)
		fprintf(file, "%0999u\n", 0);
	fputs("last:x:2:\n", file);
	fclose(file);
	assert_string_equal(owners_group(&f->owners, 1), "first");
	assert_string_equal(owners_group(&f->owners, 2), "");
}

/* The sandbox may have put anything there. */
static void what_is_no_file_has_no_names(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mkfifoat(f->slash, "etc/passwd", 0600), 0);
	assert_int_equal(symlinkat("passwd", f->slash, "etc/group"), 0);
	assert_string_equal(owners_user(&f->owners, 0), "");
	assert_string_equal(owners_group(&f->owners, 0), "");
}

#define FIXTURE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		FIXTURE(names_are_found),
		FIXTURE(names_have_a_length),
		FIXTURE(so_many_are_remembered),
		FIXTURE(files_have_an_end),
		FIXTURE(what_is_no_file_has_no_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
