#include "script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { NO_ERROR = 0, CANCEL = 8 };

void script_open(struct pair *p, uint64_t seed)
{
	struct rpc_options o = pair_options(SCRIPT_WINDOW, 65535);

	pair_open(p, seed, &o, &o);
	pair_run(p);
}

void script_open_by_hand(struct pair *p, uint64_t seed)
{
	struct rpc_options o = pair_options(SCRIPT_WINDOW, 65535);

	pair_open(p, seed, NULL, &o);
	pair_put_preface(p);
	pair_put_frame(p, PAIR_SETTINGS, 0, 0, NULL, 0);
	pair_put_frame(p, PAIR_SETTINGS, PAIR_ACK, 0, NULL, 0);
	pair_run(p);
}

struct pair_stream *script_begin(struct pair *p)
{
	struct pair_stream *c = pair_request(p);

	pair_run(p);
	assert_non_null(pair_find(&p->server, c->id));
	return c;
}

bool script_is_over(const struct pair_stream *s)
{
	return s->closes > 0 || s->let_go;
}

void script_act(struct pair_stream *s, char what)
{
	if (script_is_over(s))
		return;
	switch (what) {
	case 'h':
		pair_respond(s, false);
		break;
	case 'o': /* headers only */
		pair_respond(s, true);
		break;
	case 'w':
		assert_int_equal(pair_write(s, 1 + pair_random(s->end->pair, 9000)), 0);
		break;
	case 'e':
		h2_stream_end(s->h2, false);
		break;
	case 't': /* with trailers */
		h2_stream_end(s->h2, true);
		break;
	case 'a':
		h2_stream_reset_after(s->h2);
		break;
	case 'd':
		h2_stream_drop(s->h2);
		break;
	case 'r':
		pair_reset(s, CANCEL);
		break;
	case 'x':
		pair_detach(s);
		break;
	default:
		fail_msg("no such act: %c", what);
	}
}

void script_play(struct pair *p, struct pair_stream *c, const char *client, const char *server)
{
	while (*client != '\0' || *server != '\0') {
		struct pair_stream *s = pair_find(&p->server, c->id);
		uint64_t choice = pair_random(p, 8);

		if (choice == 0 && *client != '\0')
			script_act(c, *client++);
		else if (choice == 1 && *server != '\0' && s != NULL && s->heads > 0)
			script_act(s, *server++);
		else if (!pair_step(p) && *client == '\0' && s == NULL)
			return; /* it has never got there */
	}
	pair_run(p);
}

void script_check_whole(const struct pair_stream *s, const struct pair_stream *peer)
{
	assert_int_equal(s->ends, 1);
	assert_int_equal(s->closes, 1);
	assert_int_equal(s->code, NO_ERROR);
	assert_int_equal(s->received, peer->written);
	assert_int_equal(s->sent, s->written);
	assert_int_equal(s->releases, 1);
}
