#include "options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define KEY(n, l, e, a, p, field, d)                                                            \
	{                                                                                       \
		.name = (n), .letter = (l), .env = (e), .arg = (a), .parse = (p),               \
		.offset = offsetof(struct options, field), .dflt = (d), .help = "what " n " is" \
	}

const struct config_key options_keys[] = {
	KEY("name", 'n', "TEST_NAME", "NAME", config_string, name, "nobody"),
	KEY("tls", 't', "TEST_TLS", NULL, config_bool, tls, "true"),
	KEY("loops", 'l', "TEST_LOOPS", "N", config_uint, loops, "2"),
	KEY("size", 's', "TEST_SIZE", "BYTES", config_size, size, "64K"),
	KEY("wait", 'w', "TEST_WAIT", "TIME", config_duration, wait, "30s"),
	KEY("tag", 'g', "TEST_TAG", "TAG", config_list, tags, NULL),
	{ .name = "dry",
	    .parse = config_bool,
	    .offset = offsetof(struct options, dry),
	    .help = "what dry is",
	    .flag_only = true },
	{ .name = NULL },
};

static void unset_all(void)
{
	for (const struct config_key *k = options_keys; k->name != NULL; k++)
		if (k->env != NULL)
			unsetenv(k->env);
}

int options_setup(void **state)
{
	struct options_fixture *f = calloc(1, sizeof(*f));

	f->leak = leak_begin();
	config_begin(&f->c, options_keys, &f->o);
	*state = f;
	return 0;
}

int options_teardown(void **state)
{
	struct options_fixture *f = *state;
	int r;

	unset_all();
	config_free(&f->c);
	unlink(leak_path(f->leak, "conf"));
	r = leak_end(f->leak);
	free(f);
	return r;
}

void options_start_again(struct options_fixture *f)
{
	unset_all();
	config_free(&f->c);
	memset(&f->o, 0, sizeof(f->o));
	config_begin(&f->c, options_keys, &f->o);
}

int options_give_words(struct options_fixture *f, const char *line, bool first_word, char **argv)
{
	static char copy[4096], program[] = "program";
	int argc = 1;

	snprintf(copy, sizeof(copy), "%s", line);
	argv[0] = program;
	for (char *save, *word = strtok_r(copy, " ", &save); word != NULL;
	     word = strtok_r(NULL, " ", &save)) {
		assert_true(argc < OPTIONS_WORDS_MAX);
		argv[argc++] = word;
	}
	argv[argc] = NULL;
	return config_flags(&f->c, argc, argv, first_word, &f->e);
}

int options_give_flags(struct options_fixture *f, const char *line)
{
	char *argv[OPTIONS_WORDS_MAX + 1];

	return options_give_words(f, line, false, argv);
}

void options_assert_error(const struct options_fixture *f, const char *text)
{
	assert_int_equal(f->e.code, GRPC_INVALID_ARGUMENT);
	assert_string_equal(f->e.text, text);
}
