/* cli/man.h: the manual page, towline(1), made from the table of verbs. */
#ifndef CLI_MAN_H
#define CLI_MAN_H

#include <stdio.h>

#include "cli/cmd.h"

/* In the format of man(7). */
void man_print(const struct cmd *root, FILE *);

#endif
