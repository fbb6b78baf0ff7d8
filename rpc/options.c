#include "rpc/options.h"

#include "rpc/call.h"
#include "rpc/limits.h"

struct rpc_options rpc_options_default(void)
{
	return (struct rpc_options){
		.max_connections = RPC_MAX_CONNECTIONS,
		.max_streams = RPC_MAX_STREAMS,
		.stream_window = RPC_WINDOW,
		.window_max = RPC_WINDOW_MAX,
		.window_budget = RPC_WINDOW_BUDGET,
		.near_us = RPC_NEAR_US,
		.conn_window = RPC_CONN_WINDOW,
		.frame_max = RPC_FRAME_MAX,
		.out_high = RPC_OUT_HIGH,
		.read_budget = RPC_READ_BUDGET,
		.frames_per_turn = RPC_FRAMES_PER_TURN,
		.flood_burst = RPC_FLOOD_BURST,
		.flood_rate = RPC_FLOOD_RATE,
		.connect_ms = RPC_CONNECT_TIMEOUT_MS,
		.handshake_ms = RPC_HANDSHAKE_TIMEOUT_MS,
		.preface_ms = RPC_PREFACE_TIMEOUT_MS,
		.headers_ms = RPC_HEADERS_TIMEOUT_MS,
		.stall_ms = RPC_STALL_TIMEOUT_MS,
		.keepalive_ms = RPC_KEEPALIVE_MS,
		.keepalive_timeout_ms = RPC_KEEPALIVE_TIMEOUT_MS,
		.linger_ms = RPC_LINGER_MS,
		.sweep_ms = RPC_SWEEP_MS,
		.starve_ms = RPC_STARVE_MS,
	};
}
