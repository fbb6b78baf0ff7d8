/*
 * base/log.h: one line an event, for people (logfmt) and for machines (JSON).
 *
 *	log_info(&area, "relay_close", LOG_STR("relay", id), LOG_U64("bytes", n));
 *
 * Values are escaped as the format in use needs, so text of a peer can be passed
 * as it is. The same event of an area more than LOG_BURST times a second is
 * counted instead, and summed up in one line. Never log tokens, keys or payload.
 * Any thread. The arguments are not evaluated when the level is off.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_TRACE
};
enum log_format { LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON };

#define LOG_BURST 20 /* lines of one event a second */

/* A named part of the program: `static const struct log_area area = {"rpc"};` */
struct log_area {
	const char *name;
};

enum log_type { LOG_TYPE_STR, LOG_TYPE_I64, LOG_TYPE_U64 };

struct log_field {
	const char *key;
	enum log_type type;
	const char *str; /* NULL is left out */
	int64_t i64;
	uint64_t u64;
};

#define LOG_STR(k, v) ((struct log_field){ .key = (k), .type = LOG_TYPE_STR, .str = (v) })
#define LOG_I64(k, v) ((struct log_field){ .key = (k), .type = LOG_TYPE_I64, .i64 = (v) })
#define LOG_U64(k, v) ((struct log_field){ .key = (k), .type = LOG_TYPE_U64, .u64 = (v) })
/* Two fields in one: the code's name and the text, of a struct err *. */
#define LOG_ERR(e) LOG_STR("code", err_code_name((e)->code)), LOG_STR("error", (e)->text)

/* Once, from main, before threads start; ${fd} is not owned. Until then WARN and
 * above go to descriptor 2. */
void log_setup(int fd, enum log_format, enum log_level);
int log_level_parse(const char *text, enum log_level *, struct err *);
bool log_enabled(enum log_level);

void log_write(const struct log_area *, enum log_level, const char *event, const struct log_field *,
    size_t count);

/* clang-format off */
#define log_at(area, level, event, ...)                                                           \
	do {                                                                                      \
		if (log_enabled(level)) {                                                         \
			const struct log_field log_fields_[] = {__VA_ARGS__};                     \
			log_write((area), (level), (event), log_fields_,                          \
			    sizeof(log_fields_) / sizeof(log_fields_[0]));                        \
		}                                                                                 \
	} while (0)
/* clang-format on */

#define log_fail(area, event, ...)  log_at(area, LOG_LEVEL_ERROR, event, __VA_ARGS__)
#define log_warn(area, event, ...)  log_at(area, LOG_LEVEL_WARN, event, __VA_ARGS__)
#define log_info(area, event, ...)  log_at(area, LOG_LEVEL_INFO, event, __VA_ARGS__)
#define log_debug(area, event, ...) log_at(area, LOG_LEVEL_DEBUG, event, __VA_ARGS__)
#define log_trace(area, event, ...) log_at(area, LOG_LEVEL_TRACE, event, __VA_ARGS__)

#endif
