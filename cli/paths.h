/*
 * cli/paths.h: where things are kept (XDG Base Directory Specification), and small files
 * there. All is in a folder "openshell", which OpenShell's own tools share.
 *
 *	config  which gateways there are       $XDG_CONFIG_HOME  ~/.config
 *	state   gateways' data, logs, records  $XDG_STATE_HOME   ~/.local/state
 *
 * Folders are made with mode 0700 and files with 0600. Everything here may block.
 */
#ifndef CLI_PATHS_H
#define CLI_PATHS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

#define PATHS_MAX      PATH_MAX
#define PATHS_FILE_MAX ((size_t)64 << 10) /* bytes of a small file */

/* The path of ${name} (which may have slashes) in that place. -1: there is no home
 * directory, or the path is too long. */
int paths_config(char out[static PATHS_MAX], const char *name, struct err *);
int paths_state(char out[static PATHS_MAX], const char *name, struct err *);

/* "${dir}/${name}". */
int paths_join(char out[static PATHS_MAX], const char *dir, const char *name, struct err *);

bool paths_exists(const char *path);

/* A name that may be a file's: 1 to 64 of [A-Za-z0-9._-], the first no dot. */
bool paths_is_name(const char *name);

/* A folder and those above it. What exists is fine. */
int paths_make_folders(const char *dir, mode_t, struct err *);

/* Content as text, which the caller frees. NULL: NOT_FOUND, RESOURCE_EXHAUSTED if it is more
 * than PATHS_FILE_MAX, or what else is wrong. */
char *paths_read(const char *path, struct err *);

/* Puts a file in place as one step, its folder too. */
int paths_write(const char *path, const char *text, struct err *);

#endif
