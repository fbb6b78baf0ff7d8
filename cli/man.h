/* cli/man.h: manual pages of section 1, made from the table of verbs. */
#ifndef CLI_MAN_H
#define CLI_MAN_H

#include <stdio.h>

#include "cli/cmd.h"

/* Of ${c}, a verb, a group of them or the root. ${path} is what a person types to get there:
 * the page of "towline sandbox" is towline-sandbox(1). */
void man_print(const struct cmd *c, const char *path, FILE *);

#endif
