/* rpc/status.h: how a struct err looks on the wire, and back (gRPC over HTTP2). */
#ifndef RPC_STATUS_H
#define RPC_STATUS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define STATUS_MESSAGE_MAX (3 * ERR_TEXT_MAX) /* percent-encoded, with the NUL */

/* grpc-message: bytes outside of 0x20..0x7E, and '%', become %XX. Decoding takes
 * bad escapes as they are. ${out} is NUL-terminated. */
void status_encode_message(const char *text, char out[static STATUS_MESSAGE_MAX]);
void status_decode_message(const char *value, size_t len, char out[static ERR_TEXT_MAX]);

/* grpc-status "5" and the message into ${e}; a value that is no code: UNKNOWN. */
void status_parse(const char *code, const char *message, struct err *e);

/* grpc-timeout: 1 to 8 digits and one of H M S m u n. Milliseconds, rounded up.
 * -1: malformed. Formatting picks the unit that keeps it within 8 digits. */
int status_parse_timeout(const char *value, uint64_t *ms);
void status_format_timeout(uint64_t ms, char out[static 16]);

/* The tables of "HTTP2 Transport Mapping" and "Errors" in the gRPC protocol. */
enum grpc_code status_from_http(int status);
enum grpc_code status_from_h2(uint32_t error_code);
uint32_t status_to_h2(enum grpc_code);

#endif
