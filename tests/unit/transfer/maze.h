/*
 * A folder in which somebody keeps exchanging directories and files for links that lead out,
 * for tests of what works on paths. Relative to it:
 *
 *	in/			the root of all paths
 *	in/d			one moment a directory, the next a link to ../out
 *	in/d/sub		likewise, to ../../out/sub
 *	in/d/t			likewise, to ../../out/t, once somebody has made it
 *	in/d/f0, in/d/sub/f0	one moment a file, the next a link to a file in out
 *	out/			the same names, and "secret"; nothing here may change or be told
 *
 * What is exchanged for "d" is called "x", for "sub" "away", for
 * "t" "y", and for "f0" "c0".
 */
#ifndef TRANSFER_TEST_MAZE_H
#define TRANSFER_TEST_MAZE_H

#include "support/leak.h"

#define MAZE_MARK      "canary"                       /* content of the files outside */
#define MAZE_SECRET    "secret"                       /* a name that is outside alone */
#define MAZE_SIZE      (sizeof(MAZE_MARK) - 1 + 4090) /* bytes, of the files outside alone */
#define MAZE_LINK_DOWN "../../out/sub"                /* from in/d: out */

struct stirrer;

struct maze {
	struct leak *leak;
	int folder, root; /* what in and out are in; in */
	char *outside;    /* all there is to say of out */
	struct stirrer *stirrer;
};

/* The stirring begins and ends with these. */
void maze_make(struct maze *);
void maze_clear(struct maze *); /* the leak is ended: -1 fails the test */
unsigned long maze_swaps(const struct maze *);

/* Fails the test if something outside is not as it was: names, content, modes, owners,
 * times of change, inodes and numbers of links. */
void maze_check(const struct maze *);

#endif
