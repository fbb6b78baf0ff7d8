#include "transfer/tree/tree_plain.h"

#include <archive.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

struct tree_plain {
	struct archive *a;
	tree_pull *pull;
	void *cookie;
	uint64_t packed;
	bool at_end;
	struct err err; /* of the pull */
};

static la_ssize_t on_read(struct archive *a, void *cookie, const void **bytes)
{
	struct tree_plain *p = cookie;
	ssize_t n = p->pull(p->cookie, bytes, &p->err);

	if (n < 0)
		archive_set_error(a, EIO, "%s", p->err.text);
	else
		p->packed += (uint64_t)n;
	return n;
}

static int failed(const struct tree_plain *p, struct err *err)
{
	if (p->err.code == GRPC_OK)
		return err_set(err, GRPC_INVALID_ARGUMENT, "the archive is damaged: %s",
		    archive_error_string(p->a));
	*err = p->err;
	return -1;
}

struct tree_plain *tree_plain_open(tree_pull *pull, void *cookie, struct err *err)
{
	struct tree_plain *p = calloc(1, sizeof(*p));
	struct archive_entry *e;

	if (p == NULL || (p->a = archive_read_new()) == NULL) {
		free(p);
		err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
		return NULL;
	}
	p->pull = pull;
	p->cookie = cookie;
	archive_read_support_filter_gzip(p->a);
	archive_read_support_filter_zstd(p->a);
	archive_read_support_format_raw(p->a);
	archive_read_support_format_empty(p->a);
	int r = archive_read_open(p->a, p, NULL, on_read, NULL);
	if (r == ARCHIVE_OK)
		r = archive_read_next_header(p->a, &e);
	p->at_end = r == ARCHIVE_EOF;
	if (r >= ARCHIVE_WARN)
		return p;
	failed(p, err);
	tree_plain_free(p);
	return NULL;
}

ssize_t tree_plain_read(struct tree_plain *p, const void **bytes, struct err *err)
{
	la_int64_t offset;
	size_t len = 0;
	int r = ARCHIVE_OK;

	while (!p->at_end && len == 0 && r == ARCHIVE_OK) {
		r = archive_read_data_block(p->a, bytes, &len, &offset);
		p->at_end = r == ARCHIVE_EOF;
	}
	return r < ARCHIVE_OK ? failed(p, err) : (ssize_t)len;
}

uint64_t tree_plain_packed(const struct tree_plain *p)
{
	return p->packed;
}

void tree_plain_free(struct tree_plain *p)
{
	if (p == NULL)
		return;
	archive_read_free(p->a);
	free(p);
}
