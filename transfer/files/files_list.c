/* ListDirectory: batches of entries, as fast as they are taken. */
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "base/loop.h"
#include "transfer/files/files.h"
#include "transfer/tree/ignore.h"
#include "transfer/walk.h"

struct listing {
	bool begun;
	struct walk walk;
	struct ignore *exclude; /* NULL: nothing is */
	struct text batch;
	uint64_t failed;  /* directories and entries that could not be looked at */
	struct err first; /* of these */
};

static void end(void *state)
{
	struct listing *l = state;

	if (l->begun)
		walk_free(&l->walk);
	ignore_free(l->exclude);
	text_free(&l->batch);
}

static int begin(struct files_call *c, struct err *err)
{
	const Towline__V1__ListDirectoryRequest *q = c->request;
	struct listing *l = c->state;
	struct files_place p;

	if (files_place(c->transfers, q->path, "path", &p, err) != 0 ||
	    files_exclude(q->exclude, q->n_exclude, &l->exclude, err) != 0)
		return -1;
	int fd = beneath_open(p.root, p.rest, O_RDONLY | O_DIRECTORY, 0, p.links, err);
	if (fd < 0)
		return -1;
	text_init(&l->batch, 4 * FILES_BATCH_BYTES);
	l->begun = true;
	if (walk_begin(&l->walk, fd, q->path, err) == 0)
		return 0;
	close(fd);
	return -1;
}

/* What cannot be looked at does not keep the rest from being told. */
static void note(struct listing *l, const struct err *why)
{
	if (l->failed++ == 0)
		l->first = *why;
}

/* Gone since its name was read: then it was as good as never there. */
static int add(struct files_call *c, struct err *err)
{
	struct listing *l = c->state;
	Towline__V1__ListDirectoryResponse r = TOWLINE__V1__LIST_DIRECTORY_RESPONSE__INIT;
	Towline__V1__FileInfo *file = &c->info.message;
	struct err why = { 0 };

	if (file_info_read(&c->info, l->walk.dir, l->walk.name, l->walk.path.data, &why) != 0) {
		if (why.code == GRPC_NOT_FOUND)
			return 0;
		if (why.sys == 0) {
			*err = why;
			return -1;
		}
		note(l, &why);
		if (file_info_name(&c->info, l->walk.path.data, err) != 0)
			return -1;
	}
	r.n_entries = 1;
	r.entries = &file;
	return files_batch(&l->batch, &r.base, err);
}

static int take_entry(struct files_call *c, struct err *err)
{
	const Towline__V1__ListDirectoryRequest *q = c->request;
	struct listing *l = c->state;
	struct err why = { 0 };

	if (l->exclude != NULL &&
	    ignore_match(l->exclude, walk_below(&l->walk), l->walk.is_directory) == IGNORE_OUT)
		return 0;
	if (add(c, err) != 0)
		return -1;
	if (q->recursive && l->walk.is_directory && walk_enter(&l->walk, &why) < 0 &&
	    why.code != GRPC_NOT_FOUND)
		note(l, &why);
	return 0;
}

static enum files_result list(struct files_call *c, struct err *err)
{
	struct listing *l = c->state;
	uint64_t until = loop_now_us() + (uint64_t)FILES_SLICE_MS * 1000;

	while (l->batch.len < FILES_BATCH_BYTES && loop_now_us() < until) {
		struct err why = { 0 };

		switch (walk_next(&l->walk, &why)) {
		case WALK_ENTRY:
			if (take_entry(c, err) != 0)
				return FILES_FAILED;
			break;
		case WALK_FAILED:
			note(l, &why);
			break;
		case WALK_END:
			return FILES_DONE;
		}
	}
	return FILES_MORE;
}

static enum files_result run(struct files_call *c, struct err *err)
{
	struct listing *l = c->state;

	if (!l->begun && begin(c, err) != 0)
		return FILES_FAILED;
	enum files_result result = list(c, err);
	if (result == FILES_DONE && l->failed > 0) {
		*err = l->first;
		if (l->failed > 1)
			err_wrap(err, "%" PRIu64 " could not be looked at, the first", l->failed);
		result = FILES_FAILED;
	}
	return files_send(c, &l->batch, result, err);
}

const struct files_op files_list = {
	.request = &towline__v1__list_directory_request__descriptor,
	.state = sizeof(struct listing),
	.run = run,
	.end = end,
};
