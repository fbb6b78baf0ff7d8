/* bench/bench.h: what the measuring programs share. */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"

/* What a client asks the service for, as the first byte of a connection. */
enum bench_command {
	BENCH_SINK = 'U', /* reads to the end, then answers with the count (8 bytes, big-endian) */
	BENCH_SOURCE = 'D', /* 8 bytes of count follow; sends so many and closes */
	BENCH_ECHO = 'E',
	BENCH_STALL = 'S' /* reads nothing any more */
};

/* A subcommand; argv[0] is its name. The exit code of the process. */
int bench_relay(int argc, char *argv[]);
int bench_service(int argc, char *argv[]);
int bench_load(int argc, char *argv[]);
int bench_exec(int argc, char *argv[]);
int bench_sessions(int argc, char *argv[]);
int bench_sftp(int argc, char *argv[]);

/* A listening socket of 127.0.0.1; ${port} 0 chooses one. Both exit on failure: there
 * is nothing to measure then. */
int bench_listen(uint16_t *port);
int bench_dial(uint16_t port);

/* Prints what went wrong and gives 1. */
int bench_fail(const struct err *);

/* A number of the command line; what is none ends the program. */
uint64_t bench_number(const char *text, uint64_t max);

/* The ${q}-quantile (0 to 1) of ${n} values, which are sorted in place. */
double bench_quantile(double *values, size_t n, double q);

#endif
