/* transfer/fetch_stream.h: what fetch.c and fetch_stream.c share: the fetch, and one call
 * of it with its writing. Private to the room. */
#ifndef TRANSFER_FETCH_STREAM_H
#define TRANSFER_FETCH_STREAM_H

#include "base/buf.h"
#include "openshell/v1/openshell.pb-c.h"
#include "relay/framed.h"
#include "transfer/fetch.h"
#include "transfer/stash.h"

#define FETCH_SLICES_MAX 65536             /* that wait; more are too small to be honest */
#define FETCH_AHEAD      ((size_t)1 << 20) /* bytes that wait while more may come */

/* One range. It is over when it has no call, no job and nothing that waits. */
struct fetch_stream {
	struct job job; /* first; with the workers while ${busy} */
	struct fetch *fetch;
	size_t range;
	bool active; /* begun and not over */
	bool busy;
	bool complete; /* all of it has come, and is what was sent */

	struct framed *call; /* NULL: none, or over */
	bool has_header;
	uint64_t to_come;  /* bytes that the header has promised */
	uint64_t progress; /* bytes that came with this call */
	bool has_trailer;
	uint8_t expected[DIGEST_SIZE];

	/* The digest is of the range's first ${digested} bytes. */
	struct digest *digest;
	uint64_t digested, begun_at;
	uint64_t there;    /* bytes of the range that are in the stash, as far as the loop knows */
	bool used_earlier; /* bytes that an earlier command left are in it */

	struct bufq waiting, batch; /* a hole is a slice of nobody's memory */
	size_t held, batch_held;    /* bytes of them that are in memory */
	size_t uncredited;
	uint64_t wire;

	struct err err;      /* how the call ended */
	struct err file_err; /* of the job, while that runs */
	unsigned tries;
	struct timer *timer; /* before the next try */
	bool resting;
};

struct fetch {
	struct job job; /* first; with the workers while ${busy} */
	struct fetch_options opt;
	bool busy;
	bool asking; /* the first stream's header is to say what there is */
	bool restart;
	bool over;
	unsigned restarts;
	struct stash *stash; /* while asking it is of what was there before */
	struct stash_source source;
	size_t count; /* ranges of a stash that is to be made */
	bool is_sparse;
	mode_t mode;
	bool has_mtime;
	struct timespec mtime;
	struct fetch_stream streams[STASH_RANGES_MAX]; /* one for each range */
	struct fetch_result result;
	struct err err;     /* why it fails */
	struct err job_err; /* of the job, while that runs */
	struct post post;
};

/* A call for what is missing of the range, or while asking for all there is; the stream
 * is active then. -1: it could not be made, ${err} of the stream says why. */
int fetch_stream_start(struct fetch_stream *);

/* Goes on with what can be done. */
void fetch_stream_step(struct fetch_stream *);

/* No more comes; what has come is still written. */
void fetch_stream_stop(struct fetch_stream *, const struct err *why);

/* The call is not wanted any more, and what came with it neither. */
void fetch_stream_drop(struct fetch_stream *);

void fetch_stream_free(struct fetch_stream *);

/* Of fetch.c, told by a stream: */

/* Each header that is right. */
void fetch_header(struct fetch *, const Openshell__V1__DownloadFileHeader *);

/* More has been written. */
void fetch_moved(struct fetch *);

/* A stream is over: complete, or ${err} says why not. */
void fetch_stream_over(struct fetch *, struct fetch_stream *);

#endif
