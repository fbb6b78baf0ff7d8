/*
 * relay/foreign.h: a gateway that is not ours: it knows sessions and tcp channels, and
 * sends no heartbeats.
 */
#ifndef TESTS_RELAY_FOREIGN_H
#define TESTS_RELAY_FOREIGN_H

#include <stdbool.h>

#include "rig.h"

struct foreign {
	struct rig *rig;
	struct rpc_server *server;
	struct loop *loop;
	char url[256];
	struct rpc_call *control, *relay;
	struct rpc_reader reader, relay_reader;
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
