/*
 * transfer/sftp/scp.h: the far end of an scp that does not speak SFTP: what `scp -t` and `scp -f`
 * do on a host. Private to the room.
 *
 *	the other end  --->  "T<mtime> 0 <atime> 0\n"     times of what comes next, with -p
 *	               --->  "C0644 <size> <name>\n"      a file; its bytes; "\0"
 *	               --->  "D0755 0 <name>\n" ... "E\n"  a directory and what is in it
 *	               <---  "\0" after each of them; or "\1scp: why\n", and the rest goes on
 *
 * A file that comes appears under its name complete and synced, or does not (transfer/place.h).
 *
 *	scp.c         lines and replies
 *	scp_sink.c    -t
 *	scp_file.c    a file that comes
 *	scp_source.c  -f
 *	scp_match.c   patterns in the names of sources
 *	scp_serve.c   the call
 */
#ifndef TRANSFER_SFTP_SCP_H
#define TRANSFER_SFTP_SCP_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/text.h"
#include "transfer/claims.h"
#include "transfer/sftp/talk.h"

#define SCP_LINE_MAX    4096   /* bytes of a line, with a name and a number */
#define SCP_DEPTH_MAX   256    /* directories in one another */
#define SCP_MATCHES_MAX 100000 /* names that one pattern may stand for in one directory */

struct scp_options {
	int workdir, slash; /* borrowed */
	const char *workdir_path;
	struct claims *claims;
	bool sink, recursive, preserve, directory;
	char *
	    *paths; /* the target; or the sources, in which "\" takes the meaning of what follows */
	size_t count;
};

/* Speaks until it is done. 0: ${exit_code} is what scp would leave with; the other end knows
 * why. -1: it is gone, or there is no memory. Blocks. */
int scp_run(const struct scp_options *, struct talk *, int *exit_code, struct err *);

/* Private to the scp_*.c. */

struct scp {
	const struct scp_options *options;
	struct talk *talk;
	struct text path;  /* the file or directory at hand */
	unsigned errors;   /* told by either end */
	bool over;         /* nothing more can be said */
	struct err *fatal; /* if that is not the end as it should be */
};

/* How a step went. */
enum scp_step {
	SCP_OVER = -1, /* see ${over} */
	SCP_FINE,
	SCP_REFUSED /* the other end said why not; the rest goes on */
};

int scp_sink(struct scp *);
int scp_source(struct scp *);

/* "\0". */
void scp_agree(struct scp *);

/* "\1scp: ...\n", printable; counts. */
void scp_complain(struct scp *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void scp_complain_sys(struct scp *, int sys); /* about ${path} */

/* The same, and nothing can follow: SCP_OVER. */
enum scp_step scp_give_up(struct scp *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Puts a line. */
void scp_say(struct scp *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The other end's "\0", or its complaint. */
enum scp_step scp_hear(struct scp *);

/* A line without its "\n". SCP_OVER also at the end of what comes. */
enum scp_step scp_line(struct scp *, char line[static SCP_LINE_MAX]);

/* Makes ${path} one component longer, and (${len} it had) as it was. */
void scp_enter(struct scp *, const char *name);
void scp_leave(struct scp *, size_t len);

/* Where a path of the options starts, as it is: the working directory, somebody's home or "".
 * ${rest} is what of it comes behind. False: told. */
bool scp_start_at(struct scp *, const char *path, char prefix[static PATH_MAX], const char **rest);

/* ${path} becomes that. False: told. */
bool scp_set_path(struct scp *, const char *prefix, const char *rest);

/* A file that comes. */
struct scp_times {
	bool known;
	struct timespec atime, mtime;
};
struct scp_record {
	mode_t mode;
	uint64_t size;
	char name[NAME_MAX + 1];
};
enum scp_step scp_take_file(struct scp *, const struct scp_record *, const struct scp_times *);

/* Calls ${found} with each path that ${pattern} stands for below ${prefix}, which is absolute or
 * empty, in order. False: with none. ${found} returns -1 to stop. */
bool scp_match(struct scp *, const char *prefix, const char *pattern,
    int (*found)(struct scp *, const char *path));

#endif
