/* Options of every type, and where a test of base/config.h stands with them. */
#ifndef BASE_TEST_OPTIONS_H
#define BASE_TEST_OPTIONS_H

#include "base/config.h"
#include "support/leak.h"

struct options {
	char *name;
	bool tls;
	unsigned loops;
	uint64_t size;
	uint64_t wait;
	struct config_list_value tags;
	bool dry;
};

/* --name (-n), --tls (-t), --loops (-l), --size (-s), --wait (-w), --tag (-g), --dry; but for
 * the last each has a name in the environment, such as TEST_NAME. */
extern const struct config_key options_keys[];

struct options_fixture {
	struct leak *leak;
	struct options o;
	struct config c;
	struct err e;
};

/* The state is a struct options_fixture *; a file "conf" in its folder is removed. */
int options_setup(void **state);
int options_teardown(void **state);

#define options_test(function)                                             \
	{                                                                  \
#function, function, options_setup, options_teardown, NULL \
	}

/* Nothing given, the environment included. */
void options_start_again(struct options_fixture *);

#define OPTIONS_WORDS_MAX 80

/* What config_flags() says to the words of ${line}, which stand between spaces; ${argv}, of
 * OPTIONS_WORDS_MAX + 1, gets them as they are left, good until the next call. */
int options_give_words(struct options_fixture *, const char *line, bool first_word, char **argv);
int options_give_flags(struct options_fixture *, const char *line);

/* The last error is an INVALID_ARGUMENT with this text. */
void options_assert_error(const struct options_fixture *, const char *text);

#endif
