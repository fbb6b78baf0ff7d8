/*
 * rpc/limits.h: every count a peer drives, and every wait for a peer.
 *
 * A limit here has a counter, a log line when it is crossed and a test that crosses
 * it; docs/limits.md says why each is what it is.
 */
#ifndef RPC_LIMITS_H
#define RPC_LIMITS_H

#define RPC_MAX_CONNECTIONS    4096
#define RPC_MAX_STREAMS        1024       /* a connection; supervisors get RPC_MAX_TUNNEL_STREAMS */
#define RPC_MAX_TUNNEL_STREAMS 8192       /* a supervisor's connection */
#define RPC_CONN_WINDOW        (64 << 20) /* bytes; connection receive window */
#define RPC_WINDOW_BUDGET      (256 << 20) /* bytes that the streams of a connection may have grown by */
#define RPC_FRAME_MAX          (256 << 10) /* bytes of DATA in one frame, sent or received */
#define RPC_OUT_HIGH           (1 << 20)   /* bytes framed and not written: no more is framed */
#define RPC_READ_BUDGET        (1 << 20)   /* bytes read of one connection in a turn */

#define RPC_CONNECT_TIMEOUT_MS   10000
#define RPC_HANDSHAKE_TIMEOUT_MS 10000 /* TLS */
#define RPC_PREFACE_TIMEOUT_MS   5000  /* preface and first SETTINGS */
#define RPC_HEADERS_TIMEOUT_MS   10000 /* a header block begun and not ended */
#define RPC_REQUEST_TIMEOUT_MS   30000 /* the one message of a call without a time limit */
#define RPC_STALL_TIMEOUT_MS     60000 /* framed output that the peer's TCP does not take */
#define RPC_KEEPALIVE_MS         20000
#define RPC_KEEPALIVE_TIMEOUT_MS 10000
#define RPC_LINGER_MS            1000 /* after a fault: until the peer has read why and closed */
#define RPC_SWEEP_MS             250 /* queued data that did not move: copied, so that it pins no block */
#define RPC_NEAR_US              5000 /* a peer so near needs no larger window than RPC_WINDOW */
#define RPC_STARVE_MS            10   /* until a read is tried again that found no receive block */

/* Floods. A bucket starts full and is refilled at the rate; empty: GOAWAY
 * ENHANCE_YOUR_CALM and the connection is closed. Counted: SETTINGS, empty DATA,
 * PRIORITY, unknown types, RST_STREAM received, and resets that the peer makes us
 * send (CVE-2019-9511..9518, CVE-2023-44487, CVE-2025-8671). PING and WINDOW_UPDATE
 * have a bucket that also grows with the payload we send: grpc-go answers each burst
 * of data with a PING, and honest credit follows data. Data that a window of a few
 * bytes made us cut small does not make it grow ("data dribble", CVE-2019-9511).
 * Small DATA that a peer sends is not counted; it is what typing looks like. The
 * budget of frames a turn keeps it from its neighbours' time. */
#define RPC_FLOOD_BURST      10000
#define RPC_FLOOD_RATE       330 /* a second */
#define RPC_FRAMES_PER_TURN  2048
#define RPC_HEADER_BYTES_MAX 65536 /* decoded, of one block: past this it is an attack */

#endif
