/*
 * relay/foreign.h: a gateway that is not ours: it knows sessions and tcp channels, and
 * sends no heartbeats.
 */
#ifndef TESTS_RELAY_FOREIGN_H
#define TESTS_RELAY_FOREIGN_H

#include <stdbool.h>

#include "rig.h"

/* What it does with a RelayStream. */
enum foreign_manner {
	FOREIGN_RELAYS,
	FOREIGN_HOLDS, /* takes it, and says nothing */
	FOREIGN_PLACES /* answers that the connection is on its loop 1 */
};

/* Before somebody dials it: how it behaves. */
struct foreign_ways {
	enum foreign_manner manner;
	bool mute;          /* does not answer hello */
	bool deaf;          /* gives the control stream no credit */
	uint32_t streams;   /* it allows on the control stream's connection; 0: as many as any */
	uint32_t lines;     /* data connections it asks for */
	uint32_t beat_secs; /* 0: a second; UINT32_MAX: it says none */
	int64_t beat_ms;    /* said besides, if not 0 */
};

struct foreign {
	struct rig *rig;
	struct foreign_ways ways;
	struct rpc_server *server;
	struct loop *loop;
	char url[256];
	struct rpc_call *control, *relay;
	struct rpc_reader reader, relay_reader;
	unsigned connects, relays;
	unsigned heartbeats, results, inits, ended, unsupported, closed;
	bool stalled;          /* gives a relay no credit */
	struct err closed_why; /* of a relay */
	char error[256], got[64], channel_id[64];
	struct err status;
	bool drained;
};

void foreign_create(struct foreign *, struct rig *);
void foreign_free(struct foreign *);
void foreign_send_open(struct foreign *, Openshell__V1__RelayOpen *);

/* Asks for a channel "tcp-1" to 127.0.0.1:8080. */
void foreign_open_tcp(struct foreign *);

#endif
