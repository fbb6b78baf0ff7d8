/*
 * sshd/scp_line.h: the command that an scp runs at the other end, when it does not speak SFTP:
 * `scp -r -p -t -- 'a file'`. It is served by the sandbox's supervisor, so that the sandbox's
 * image needs no scp.
 */
#ifndef SSHD_SCP_LINE_H
#define SSHD_SCP_LINE_H

#include <stdbool.h>
#include <stddef.h>

#define SCP_LINE_PATHS_MAX 256
#define SCP_LINE_BYTES     ((size_t)64 << 10) /* bytes; a longer one is the shell's */

struct scp_line {
	bool sink; /* -t, else -f */
	bool recursive, preserve, directory;
	/* The target as it is; or sources, with patterns, in which a "\" stands before what
	 * has no meaning of its own. */
	char *paths[SCP_LINE_PATHS_MAX];
	size_t count;
};

/*
 * Understands a line of plain words: quotes and backslashes as a shell does, but nothing that
 * a shell would have to work out (variables, substitutions, braces, redirections, lists).
 * False: it is not such a line, or not of an scp's other end, and the shell's business.
 */
bool scp_line_parse(const char *line, struct scp_line *);
void scp_line_free(struct scp_line *);

#endif
