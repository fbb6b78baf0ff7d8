#include "transfer/tree/tree_notes.h"

#include <stdlib.h>
#include <string.h>

void tree_notes_add(struct tree_notes *n, const char *text)
{
	size_t len = strlen(text);

	if (n->count == TREE_NOTES_MAX || len > TREE_NOTES_BYTES_MAX - n->bytes)
		return;
	char *copy = strdup(text);
	if (copy == NULL)
		return;
	n->text[n->count++] = copy;
	n->bytes += len;
}

void tree_notes_free(struct tree_notes *n)
{
	for (size_t i = 0; i < n->count; i++)
		free(n->text[i]);
	*n = (struct tree_notes){ 0 };
}

void tree_notes_report(
    const struct tree_notes *n, const struct flow_result *result, Towline__V1__TreeReport *r)
{
	towline__v1__tree_report__init(r);
	r->files = result->files;
	r->skipped = result->skipped;
	r->ignored = result->ignored;
	r->failed = result->failed;
	r->n_notes = n->count;
	r->notes = (char **)n->text;
}
