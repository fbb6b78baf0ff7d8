#include "flow.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "rig.h"

/* One direction of a relay: random bytes, cut at random, into one call and out of the other. */
struct flow {
	struct rig_call *from, *to;
	uint64_t left;       /* bytes to write */
	uint64_t sum, total; /* as rig_call's, of what was written */
	size_t piece_max;
	struct timer *timer;
	bool with_status; /* the sender's end carries one */
};

#define QUEUE_HIGH ((size_t)2 << 20) /* a flow waits at that much */

static void flow_end(struct flow *f)
{
	const struct err ok = { 0 };

	rpc_call_end(f->from->call, f->with_status ? &ok : NULL);
}

/* Writes some, stalls or resumes the receiver by chance, comes back a little later. */
static void flow_step(void *cookie)
{
	struct flow *f = cookie;

	if (f->from->call == NULL)
		return;
	for (unsigned i = 0; i < 8 && f->left > 0; i++) {
		uint8_t *piece;
		size_t n = 1 + (size_t)random_below(f->piece_max);

		if (rpc_call_queued(f->from->call) > QUEUE_HIGH)
			break;
		if (n > f->left)
			n = (size_t)f->left;
		piece = malloc(n);
		assert_non_null(piece);
		memset(piece, (int)random_below(256), n);
		for (size_t k = 0; k < n; k += 97)
			piece[k] = (uint8_t)(f->total + k);
		for (size_t k = 0; k < n; k++)
			f->sum = f->sum * 1099511628211u + piece[k];
		rig_write(f->from, piece, n);
		free(piece);
		f->total += n;
		f->left -= n;
	}
	if (random_below(4) == 0)
		f->to->stalled = true;
	else if (f->to->stalled && random_below(3) == 0)
		rig_resume(f->to);
	if (f->left == 0) {
		if (f->to->stalled)
			rig_resume(f->to);
		flow_end(f);
		return;
	}
	timer_start(f->timer, random_below(3));
}

static void flow_begin(struct rig *rig, struct flow *f)
{
	f->to->discard = true;
	f->timer = timer_create_on(rig->loop, flow_step, f);
	assert_non_null(f->timer);
	timer_start(f->timer, 0);
}

static void flow_check(struct flow *f)
{
	assert_true(rig_closed(f->to));
	assert_int_equal(f->to->why.code, GRPC_OK);
	assert_int_equal(f->to->status.code, GRPC_OK);
	assert_int_equal(f->to->total, f->total);
	assert_int_equal(f->to->sum, f->sum);
	timer_free(f->timer);
}

void flow_pattern(size_t loops, uint64_t up, uint64_t down, size_t piece_max)
{
	struct rig *rig = rig_create(loops, NULL);
	struct rpc_client *clients[RIG_LOOPS_MAX];
	struct rig_supervisor super;
	struct rig_pair pairs[RIG_LOOPS_MAX] = { 0 };
	struct flow flows[RIG_LOOPS_MAX][2];
	struct tunnel_stats stats;

	rig_greet(rig, &super, &(struct rig_hello){ .sandbox = "a" });
	assert_true(rig_accepted(&super));
	/* One client on each loop, all with the supervisor on one: every way to cross. */
	for (size_t i = 0; i < loops; i++) {
		clients[i] = rig_connect(rig);
		rig_join(&super, clients[i], &pairs[i]);
		flows[i][0] = (struct flow){ .from = &pairs[i].client, .to = &pairs[i].tunnel };
		flows[i][1] = (struct flow){ .from = &pairs[i].tunnel, .to = &pairs[i].client };
		flows[i][0].left =
		    up + 4; /* rig_route() has sent "first" as a message of its own */
		flows[i][1].left = down + 1;
		flows[i][1].with_status = true;
		flows[i][0].piece_max = flows[i][1].piece_max = piece_max;
		pairs[i].client.sent = 0;
	}
	assert_true(rig_settled(rig, 1, 0, (uint32_t)loops));
	for (size_t i = 0; i < loops; i++) {
		pairs[i].client.sent = 0;
		pairs[i].tunnel.sent = 0;
		flow_begin(rig, &flows[i][0]);
		flow_begin(rig, &flows[i][1]);
	}
	for (size_t i = 0; i < loops; i++) {
		flow_check(&flows[i][0]);
		flow_check(&flows[i][1]);
	}
	tunnels_stats(rig->tunnels, &stats);
	assert_true(rig_settled(rig, 1, 0, 0));
	tunnels_stats(rig->tunnels, &stats);
	assert_int_equal(stats.cross_loop, loops - 1);
	for (size_t i = 0; i < loops; i++) {
		rig_pair_free(&pairs[i]);
		rpc_client_close(clients[i]);
	}
	rig_supervisor_free(&super);
	rig_free(rig);
}
