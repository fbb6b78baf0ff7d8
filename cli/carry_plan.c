/* Where copies go: the rules of cli/copy.h, asked of what is there. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/carry.h"
#include "cli/copy.h"
#include "cli/paths.h"
#include "cli/remote.h"

static bool is_stream(const char *word)
{
	return word != NULL && strcmp(word, "-") == 0;
}

static enum copy_kind kind_of(mode_t mode)
{
	return S_ISDIR(mode) ? COPY_KIND_DIRECTORY : COPY_KIND_FILE;
}

static int take_target(struct carry_item *item, const struct copy_case *c, struct err *err)
{
	item->is_tree = c->source_kind == COPY_KIND_DIRECTORY;
	item->target = copy_target(c, err);
	return item->target != NULL ? 0 : -1;
}

/* Up. */

static int look_at_source(const struct carry_item *item, struct copy_case *c, struct err *err)
{
	struct stat st;

	if (is_stream(item->source)) {
		if (c->dest == NULL || copy_is_folder_name(c->dest))
			return err_set(err, GRPC_INVALID_ARGUMENT,
			    "standard input has no name: name the file to make");
		c->exact = true;
		return 0;
	}
	if (stat(item->source, &st) != 0)
		return err_sys(err, errno, "%s", item->source);
	c->source_kind = kind_of(st.st_mode);
	return 0;
}

/* DEST, which is in ${sandbox}. */
static int look_at_dest(
    struct carry_plan *plan, const char *sandbox, struct copy_case *c, struct err *err)
{
	enum copy_kind kind;

	if (copy_asks(c) && !plan->asked) {
		if (remote_kind(plan->session, sandbox, c->dest, &kind, err) != 0)
			return -1;
		plan->dest_kind = (int)kind;
		plan->asked = true;
	}
	c->dest_kind = (enum copy_kind)plan->dest_kind;
	return 0;
}

static int plan_upload(
    struct carry_plan *plan, struct carry_item *item, struct copy_case *c, struct err *err)
{
	if (look_at_source(item, c, err) != 0 || look_at_dest(plan, item->sandbox, c, err) != 0)
		return -1;
	return take_target(item, c, err);
}

/* Down. */

static enum copy_kind local_kind(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? kind_of(st.st_mode) : COPY_KIND_NONE;
}

/* What is above it is made if it is not there, as the sandbox does with uploads. */
static int make_folder_of(const char *target, struct err *err)
{
	char *copy = strdup(target);
	char *slash = copy != NULL ? strrchr(copy, '/') : NULL;
	int r = 0;

	if (copy == NULL)
		return err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	if (slash != NULL && slash != copy) {
		*slash = '\0';
		r = paths_make_folders(copy, 0777, err);
	}
	free(copy);
	return r;
}

static int look_at_remote_source(const struct carry_plan *plan, const struct carry_item *item,
    struct copy_case *c, struct err *err)
{
	if (remote_kind(plan->session, item->sandbox, item->source, &c->source_kind, err) != 0)
		return -1;
	if (c->source_kind == COPY_KIND_NONE)
		return err_set(err, GRPC_NOT_FOUND, "there is no %s in sandbox %s", item->source,
		    item->sandbox);
	return 0;
}

static int plan_download(
    struct carry_plan *plan, struct carry_item *item, struct copy_case *c, struct err *err)
{
	if (look_at_remote_source(plan, item, c, err) != 0)
		return -1;
	if (is_stream(c->dest)) {
		item->is_tree = c->source_kind == COPY_KIND_DIRECTORY;
		item->target = strdup("-");
		return item->target != NULL
		    ? 0
		    : err_set(err, GRPC_RESOURCE_EXHAUSTED, "out of memory");
	}
	if (copy_asks(c))
		c->dest_kind = local_kind(c->dest);
	if (take_target(item, c, err) != 0)
		return -1;
	return make_folder_of(item->target, err);
}

/* Across. */

/* The next name in a path, of which "." is none; NULL: there is no more. */
static const char *next_name(const char **at, size_t *len)
{
	const char *name;

	do {
		name = *at + strspn(*at, "/");
		*len = strcspn(name, "/");
		*at = name + *len;
	} while (*len == 1 && name[0] == '.');
	return *len > 0 ? name : NULL;
}

/* Whether ${path} is ${top} or in it, as far as names tell. */
static bool is_within(const char *path, const char *top)
{
	const char *a, *b;
	size_t a_len, b_len;

	if ((path[0] == '/') != (top[0] == '/'))
		return false;
	while ((a = next_name(&top, &a_len)) != NULL) {
		b = next_name(&path, &b_len);
		if (b == NULL || a_len != b_len || memcmp(a, b, a_len) != 0)
			return false;
	}
	return true;
}

/* In one sandbox. */
static int refuse_itself(const struct carry_item *item, struct err *err)
{
	if (!is_within(item->target, item->source))
		return 0;
	if (item->is_tree)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "%s: a directory cannot be copied into itself, %s", item->source, item->target);
	if (!is_within(item->source, item->target))
		return 0;
	return err_set(
	    err, GRPC_INVALID_ARGUMENT, "%s and %s are the same file", item->source, item->target);
}

static int plan_across(
    struct carry_plan *plan, struct carry_item *item, struct copy_case *c, struct err *err)
{
	if (look_at_remote_source(plan, item, c, err) != 0 ||
	    look_at_dest(plan, item->to, c, err) != 0 || take_target(item, c, err) != 0)
		return -1;
	return strcmp(item->sandbox, item->to) == 0 ? refuse_itself(item, err) : 0;
}

int carry_plan(struct carry_plan *plan, struct carry_item *item, struct err *err)
{
	struct copy_case c = { .source = item->source,
		.source_kind = COPY_KIND_FILE,
		.dest = plan->options->dest,
		.exact = plan->options->exact,
		.several = plan->several };

	int r = item->to != NULL ? plan_across(plan, item, &c, err)
	    : item->up           ? plan_upload(plan, item, &c, err)
				 : plan_download(plan, item, &c, err);
	if (r == 0 && item->is_tree && plan->options->exists != TRANSFER_EXISTS_REPLACE)
		return err_set(err, GRPC_INVALID_ARGUMENT,
		    "%s is a directory: --if-exists is for files; 'towline sandbox sync' leaves "
		    "out what is the same",
		    item->source);
	return r;
}
