/* gateway/options.h: what towline-gateway can be told, by flag, environment or file. */
#ifndef GATEWAY_OPTIONS_H
#define GATEWAY_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/err.h"
#include "base/log.h"

struct ssh_options {
	char *workers_text;
	unsigned workers;  /* 0: none of our own */
	char *listen;      /* never NULL once options_read() is done */
	bool listen_given; /* by name, not by default */
	char *host;        /* for clients; NULL: of ${listen} */
	unsigned port;     /* 0: of ${listen} */
	char *host_key;    /* NULL: in the data directory */
	char *program;     /* absolute; NULL: there is none */
	char *endpoints;   /* a file of tokens; NULL: none */
	unsigned session_connections, sandbox_connections;
};

struct options {
	char *data_dir;
	struct config_list_value listen;
	char *driver;
	char *supervisor; /* absolute once options_read() is done */
	char *ready_file; /* NULL: none */
	char *config_file;
	unsigned loops; /* 0 only before options_read() is done */
	char *log_level_text, *log_format_text;
	enum log_level log_level;
	enum log_format log_format;
	uint64_t provision_ms;
	struct ssh_options ssh;
	bool help, version, man;

	struct config config; /* what frees the texts */
};

/* Reads all sources and checks each value. -1: a mistake of whoever started the
 * program. With ${help}, ${version} or ${man} set, nothing else has been looked at. */
int options_read(struct options *, int argc, char *argv[], struct err *);
void options_free(struct options *);

void options_help(void);
void options_man(void);

#endif
