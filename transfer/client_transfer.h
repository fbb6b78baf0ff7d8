/* transfer/client_transfer.h: a transfer as client.c, put.c and get.c share it. Private
 * to the room. */
#ifndef TRANSFER_CLIENT_TRANSFER_H
#define TRANSFER_CLIENT_TRANSFER_H

#include <sys/stat.h>

#include "towline/v1/files.pb-c.h"
#include "transfer/across.h"
#include "transfer/client.h"
#include "transfer/etag.h"
#include "transfer/fetch.h"
#include "transfer/flow.h"
#include "transfer/put_state.h"
#include "transfer/tree/twins.h"
#include "transfer/ranges.h"

#define PUT_ID_SIZE 33

#define TRY_AGAIN_MS     15000 /* since bytes were last stored; of a file that is resumed */
#define TRY_ANEW_MS      3000  /* of a small one */
#define ABORTED_AGAIN_MS 15000 /* for an upload whose client is gone to be noticed, and synced */
#define FIRST_DELAY_MS   100
#define LAST_DELAY_MS    2000
#define RESUMABLE_SIZE   ((uint64_t)8 << 20) /* bytes; a smaller file is sent again */
#define RESTARTS_MAX     3                   /* since it was another file each time */

/* Of an upload of a file: what it takes to try again, and, of either, to see whether there
 * is any need. */
struct put_pieces;
struct transfer_put {
	char id[PUT_ID_SIZE];      /* "": it cannot be resumed */
	bool known;                /* ${st} is the file as it was at first */
	struct stat st;            /* its size less ${base} */
	uint64_t base;             /* where in the file what is sent begins */
	uint64_t from;             /* where this attempt begins, from ${base} */
	struct ranges durable;     /* what is there already */
	struct put_pieces *pieces; /* under way, before what is left goes up in one stream */
	uint64_t writer;           /* of them; 0: there were none */
	bool compared;             /* each byte is of a piece whose digest was compared */
	bool one_stream;           /* pieces were refused */
	bool knows_pieces;         /* the supervisor does */
	bool knows_none;           /* or what it says shows that it does not */
	bool doubtful;             /* neither is known, and a piece was refused */
	bool whole;                /* the digests of pieces alone were, too */
	struct rpc_unary *query;   /* while ${working} */
	struct timer *again;       /* likewise */
	uint64_t until_ms;         /* no more attempts after; 0: none has failed */
	unsigned delay_ms;
	bool taken;   /* an attempt has got as far as the sandbox */
	bool refused; /* ${err} came from the other end: another attempt may do better */
	bool asking;  /* to the question how much is there */
	bool tried;

	/* Of a copy between sandboxes. */
	char etag[ETAG_SIZE]; /* of the source's file, while it goes in pieces */
	bool in_pieces;       /* all has gone so, and nothing has failed since */
	bool resumable;
	bool by_target;    /* it failed there */
	bool matched;      /* what was asked for had to be as it had been told to be */
	bool forget;       /* what is there is of another file, and goes first */
	bool forgot;       /* that has been done */
	unsigned restarts; /* from the beginning */

	enum transfer_exists exists;
	bool probing, differs; /* SKIP_IF_SAME */
	bool hashed;           /* the local file is, ${promised} */
	bool promises;         /* that digest; what was there already is verified with it */
	bool promise_refused;  /* by a supervisor that knows no adds_digest */
	bool renamed;          /* ${id} is of what is in the file */
	uint64_t hashed_to;
	struct digest *hash;
	uint8_t promised[DIGEST_SIZE];
	uint8_t theirs[DIGEST_SIZE]; /* of a download: of what is in the sandbox */
};

struct transfer {
	struct job job; /* first; opens the local side, while ${working} */
	struct loop *loop;
	struct rpc_client *client;
	struct workers *workers;
	char *sandbox, *workspace, *local, *remote;
	char *to_sandbox; /* where ${local} is, when it is not here */
	int user_fd;      /* borrowed; -1: ${local} */
	int fd;           /* opened here, until a flow takes it */
	bool recursive;
	uint32_t mode;
	bool git_ignore, follow_links, compress;
	struct ignore *exclude; /* of an upload; NULL: none, or the flow has it */
	uint64_t offset, length;
	size_t streams;
	bool fresh;
	const struct transfer_ops *ops;
	void *cookie;

	bool working;
	struct framed *call; /* NULL: over */
	struct transfer_put put;
	/* Asked when all has ended and ${err} is set; true: another attempt has begun. May be
	 * NULL. */
	bool (*try_again)(struct transfer *);
	struct outflow *out;
	struct inflow *in;
	struct fetch *fetch;   /* of a file's download, instead of a call and a flow */
	struct across *across; /* likewise, from one sandbox to another */
	struct twins *twins;   /* before that, with TRANSFER_EXISTS_SKIP_IF_SAME */
	struct timer *progress;
	uint64_t moved, total;
	uint64_t sent; /* bytes the far end says it has sent, of a download */
	bool answered; /* the message that says all went well has come */
	struct transfer_result result;
	struct err err; /* the first thing that went wrong */
	struct post post;
};

/* The request's strings are copied. */
struct transfer *transfer_create(struct loop *, const struct transfer_request *, struct err *);
void transfer_free_unstarted(struct transfer *);

/* Where what goes up is to be. */
struct across_place transfer_target(const struct transfer *);

int transfer_call(struct transfer *, const char *path, const struct framed_ops *, struct err *);

/* The first message of an upload; with ${piece} of that alone. */
int transfer_send_metadata(
    struct transfer *, struct framed *, const struct range *piece, struct err *);

/* Asks how much of the upload is there. */
struct rpc_unary *transfer_query(struct transfer *, struct rpc_client *,
    void (*done)(void *cookie, const uint8_t *reply, size_t len, const struct err *), void *cookie,
    struct err *);

/* What the answer says: put.knows_pieces or put.knows_none, and what is durable. False: nothing
 * of this file. The former alone of what was read elsewhere. */
bool transfer_read_state(struct transfer *, const uint8_t *reply, size_t len, struct ranges *);
void transfer_note_state(struct transfer *, const struct put_state *);

/* Whether the local file is as it was at first (ABORTED); on a worker. */
int transfer_check_unchanged(struct transfer *, struct err *);

/* Ends everything that still runs; done() comes when it has. */
void transfer_fail(struct transfer *, const struct err *);

/* A job of the transfer's, while ${working}. */
int transfer_submit(
    struct transfer *, void (*run)(struct job *), void (*done)(struct job *), struct err *);

/* Such a job: a share of put.hash, of ${fd}. */
void transfer_run_hash(struct job *);

/* Begins to compare the local file with the one in the sandbox. The transfer is over when
 * they are the same; else it has an error, and try_again() is asked. */
int transfer_compare(struct transfer *, struct err *);

/* The connection for what is next: the one before may have gone, and with it what stood for
 * it. False: not now. */
bool transfer_has_client(struct transfer *, struct err *);

/* again() runs later, with the transfer, which is ${working} until then; each time it is
 * waited for longer. False: ${worth_ms} have passed since the first failure, or of those
 * since put.until_ms was last cleared; or they are 0. */
bool transfer_try_later(struct transfer *, uint64_t worth_ms, void (*again)(void *));

/* To be called whenever one of the call, the job and the flows is over. */
void transfer_check_done(struct transfer *);

/* The far end's part of what became of a tree: counted, and told. */
void transfer_take_report(struct transfer *, const Towline__V1__TreeReport *);

/* flow_env.note, with the transfer as cookie. */
void transfer_note(void *cookie, const char *text);

#endif
