/*
 * gateway/paging.h: lists in pages. A token says behind which element the next page
 * begins, so that a list that changes meanwhile neither repeats nor skips what stays.
 */
#ifndef GATEWAY_PAGING_H
#define GATEWAY_PAGING_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define PAGING_DEFAULT   100
#define PAGING_MAX       1000
#define PAGING_BYTES_MAX ((size_t)3 << 20) /* of one answer; clients commonly take 4 MiB */

/* How many elements a page has when ${asked} for: 0 means the default, more than the
 * most means the most, less than 0 is INVALID_ARGUMENT. */
int paging_size(int32_t asked, size_t *size, struct err *);

/* ${scope} says what is listed (kind, workspace, selector); a token is good for the
 * same only. ${last} is the key of the page's last element. The caller frees the
 * text. NULL: no memory. */
char *paging_token(const char *scope, const char *last);

/* The key out of a token; the caller frees it. "" for the empty token, which is the
 * first page. INVALID_ARGUMENT: no token of ours, or of another list. */
int paging_after(const char *token, const char *scope, char **last, struct err *);

#endif
