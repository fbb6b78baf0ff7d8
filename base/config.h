/*
 * base/config.h: options from a file, the environment and the command line,
 * through one table and one parser. No I/O but config_file().
 *
 * Precedence: flag, then environment, then file, then the default. The table
 * also prints --help and the man page's option list.
 */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

/* Parses ${value} into ${field}; on failure leaves the field as it was. */
typedef int config_parse(void *field, const char *value, struct err *);

/* One option: --name VALUE, NAME in the environment as ${env}, "name = value" in a file. */
struct config_key {
	const char *name; /* "listen", as in --listen */
	char letter;      /* "-n", 0 for none */
	const char *env;  /* "OPENSHELL_GATEWAY", NULL for none */
	const char
	    *arg; /* "ADDR" in the help text; NULL: a switch without a value (parsed as "true") */
	config_parse *parse;
	size_t offset;    /* of the field in the options struct */
	const char *dflt; /* NULL: stays zero; CONFIG_REQUIRED: must be given */
	const char *help;
	bool flag_only; /* not accepted in a file */
};

extern const char CONFIG_REQUIRED[];

/* The field types: char * (malloc'd copy; config_free() frees), bool, unsigned,
 * uint64_t bytes with K/M/G, uint64_t milliseconds with ms/s/m/h, and a list. */
config_parse config_string, config_bool, config_uint, config_size, config_duration, config_list;

#define CONFIG_LIST_MAX 64
struct config_list_value {
	char *item[CONFIG_LIST_MAX];
	size_t count;
};

/* Which keys have been set, so that a weaker source does not overwrite a stronger. */
struct config {
	const struct config_key *keys; /* ends with a NULL name */
	void *target;
	uint8_t
	    set[64]; /* strength of the source, by index of key; list keys of one source add up */
};

void config_begin(struct config *, const struct config_key *, void *target);

/* Flags; stops at "--", or at the first word that is none if ${first_word}.
 * Accepts --name value, --name=value, -n value, --no-name and -abc for switches. Returns
 * the index of the first word not used, -1 on error. Words among flags are left
 * in place for the caller by moving them behind the flags (argv is permuted). */
int config_flags(struct config *, int argc, char *argv[], bool first_word, struct err *);

int config_environment(struct config *, struct err *);

/* One line of a file ("key = value", "# comment", blank); ${where} is "file:line"
 * and stands in front of an error. An unknown key is an error. */
int config_line(struct config *, const char *where, const char *line, struct err *);
int config_file(struct config *, const char *path, struct err *);

/* Fills defaults; says what is missing. */
int config_finish(struct config *, struct err *);

/* Frees what config_string and config_list stored in the target. */
void config_free(struct config *);

/* "  --listen ADDR   help (default X; env Y)" for each key. */
void config_help(const struct config_key *, FILE *);

#endif
