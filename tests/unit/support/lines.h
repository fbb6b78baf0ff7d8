/*
 * support/lines.h: the log of a test, to be looked at.
 *
 *	int lines = lines_open();
 *	log_setup(lines, LOG_FORMAT_LOGFMT, LOG_LEVEL_INFO);
 *	...
 *	assert_int_equal(lines_count(lines, "event=flood"), 1);
 *	log_setup(STDERR_FILENO, LOG_FORMAT_LOGFMT, LOG_LEVEL_ERROR);
 *	close(lines);
 */
#ifndef SUPPORT_LINES_H
#define SUPPORT_LINES_H

/* A file without a name, for the log. Ends the test program when there is none. */
int lines_open(void);

/* How many lines so far have this in them. Also while the log is written. */
unsigned lines_count(int lines, const char *part);

#endif
