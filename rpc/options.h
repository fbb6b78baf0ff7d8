/*
 * rpc/options.h: the numbers of rpc/limits.h as one connection or server uses them,
 * so that a test can shorten a wait or lower a limit. Inside of rpc only.
 */
#ifndef RPC_OPTIONS_H
#define RPC_OPTIONS_H

#include <stdint.h>

struct rpc_options {
	uint32_t max_connections;
	uint32_t max_streams;                           /* a connection */
	uint32_t stream_window, conn_window, frame_max; /* bytes */
	uint32_t window_max, window_budget;             /* bytes; of streams that grow */
	uint32_t near_us;
	uint32_t out_high, read_budget; /* bytes */
	uint32_t frames_per_turn;
	uint32_t flood_burst, flood_rate;
	uint32_t connect_ms, handshake_ms, preface_ms, headers_ms, stall_ms;
	uint32_t keepalive_ms, keepalive_timeout_ms;
	uint32_t linger_ms, sweep_ms, starve_ms;
};

/* Everything as rpc/limits.h has it. */
struct rpc_options rpc_options_default(void);

#endif
