#include "transfer/tree/tree_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

static void say(struct tree_report *r, const char *verb, const char *path, const char *what)
{
	struct text t;

	if (r->note == NULL)
		return;
	text_init(&t, 4 * TREE_PATH_MAX + 2 * ERR_TEXT_MAX); /* a byte may become \xNN */
	text_addf(&t, "%s", verb);
	text_add_plain(&t, path, strlen(path));
	text_addf(&t, "%s%s", path[0] != '\0' ? ": " : "", what);
	if (!t.failed)
		r->note(r->cookie, t.data);
	text_free(&t);
}

void tree_report_skip(struct tree_report *r, const char *path, const char *why)
{
	r->result->skipped++;
	say(r, "skipped ", path, why);
}

void tree_report_fail(struct tree_report *r, const struct err *why)
{
	if (r->result->failed++ == 0)
		r->first = *why;
	say(r, "failed ", "", why->text);
}

void tree_report_say(struct tree_report *r, const char *path, const char *what)
{
	say(r, "", path, what);
}

int tree_report_end(const struct tree_report *r, struct err *err)
{
	if (r->result->failed == 0)
		return 0;
	*err = r->first;
	return err_wrap(err, "%" PRIu64 " of %" PRIu64 " entries failed%s", r->result->failed,
	    r->result->entries, r->result->failed > 1 ? ", the first" : "");
}
