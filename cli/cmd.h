/*
 * cli/cmd.h: one row a verb, with its options. The command line is parsed, and help,
 * usage and the manual page are printed, from the rows alone.
 */
#ifndef CLI_CMD_H
#define CLI_CMD_H

#include <stddef.h>
#include <stdio.h>

#include "base/config.h"
#include "cli/cli.h"

#define CMD_WORDS_ANY 10000

/* What is left of a command line when the verb and the options are out. */
struct cmd_words {
	char **word;
	int count;
	char **command; /* behind "--"; ends with a NULL */
	int command_count;
};

/* What a verb does with "--" and the words behind it. */
enum cmd_tail {
	CMD_TAIL_NONE,    /* it takes none */
	CMD_TAIL_COMMAND, /* a command */
	CMD_TAIL_PROGRAM, /* a command, also without "--": from the first word on */
	CMD_TAIL_VERBATIM /* all that follows the verb, options too, is for another program */
};

struct cmd {
	const char *name;
	const char *alias; /* NULL: none */
	const char *args;  /* "NAME LOCAL [DEST]" */
	const char *help;  /* one line */
	const char *more;  /* further lines of its help, each with its newline; NULL: none */
	const char *const *examples; /* command lines; ends with a NULL; NULL: none */

	/* A verb: */
	const struct config_key *keys; /* NULL: no options of its own */
	size_t size;                   /* of the struct they are for */
	int words_min, words_max;
	enum cmd_tail tail;
	/* Returns the exit code. ${options} is of ${size} bytes, and lent. */
	int (*run)(const struct cli *, const void *options, const struct cmd_words *);

	/* A group of them; ends with a NULL: */
	const struct cmd *const *verbs;
};

/* Runs what a command line says; returns the exit code. ${argv} is not changed. */
int cmd_main(const struct cmd *root, int argc, char *argv[]);

/* The verb or group that words name, NULL if none. */
const struct cmd *cmd_find(const struct cmd *root, char *const *word, int count);

/* Its help. ${path} is what a person types to get there: "towline sandbox upload". */
void cmd_help(const struct cmd *, const char *path, FILE *);

#endif
