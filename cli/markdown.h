/* cli/markdown.h: the reference of docs/cli.md, printed from the tables of the verbs. */
#ifndef CLI_MARKDOWN_H
#define CLI_MARKDOWN_H

#include <stdio.h>

#include "cli/cmd.h"

void markdown_print(const struct cmd *root, FILE *);

#endif
