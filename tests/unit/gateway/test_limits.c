/* How many labels, how long, how many workspaces and sandboxes: the last taken, and one more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "gateway/sandboxes.h"
#include "gateway/store.h"
#include "gateway/validate.h"
#include "gateway/workspaces.h"
#include "support/leak.h"

typedef Openshell__V1__CreateSandboxRequest__LabelsEntry label;
typedef Openshell__V1__CreateSandboxRequest__AnnotationsEntry annotation;

static void check(const Openshell__V1__CreateSandboxRequest *r, const char *refusal)
{
	struct err err = { 0 };

	if (refusal == NULL) {
		assert_int_equal(validate_create(r, &err), 0);
		return;
	}
	assert_int_equal(validate_create(r, &err), -1);
	assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
	assert_non_null(strstr(err.text, refusal));
}

static char *text_of(size_t len)
{
	char *text = malloc(len + 1);

	assert_non_null(text);
	memset(text, 'a', len);
	text[len] = '\0';
	return text;
}

static void test_number_of_labels(void **state)
{
	Openshell__V1__CreateSandboxRequest r = OPENSHELL__V1__CREATE_SANDBOX_REQUEST__INIT;
	label l = OPENSHELL__V1__CREATE_SANDBOX_REQUEST__LABELS_ENTRY__INIT;
	label *list[VALIDATE_LABELS_MAX + 1];

	(void)state;
	l.key = (char *)"key";
	for (size_t i = 0; i <= VALIDATE_LABELS_MAX; i++)
		list[i] = &l;
	r.labels = list;
	r.n_labels = VALIDATE_LABELS_MAX;
	check(&r, NULL);
	r.n_labels++;
	check(&r, "labels");
}

static void test_length_of_labels(void **state)
{
	Openshell__V1__CreateSandboxRequest r = OPENSHELL__V1__CREATE_SANDBOX_REQUEST__INIT;
	label l = OPENSHELL__V1__CREATE_SANDBOX_REQUEST__LABELS_ENTRY__INIT;
	label *list[] = { &l };

	(void)state;
	l.key = text_of(VALIDATE_LABEL_KEY_MAX + 1);
	l.value = text_of(VALIDATE_LABEL_VALUE_MAX + 1);
	r.labels = list;
	r.n_labels = 1;
	check(&r, "key");
	l.key[VALIDATE_LABEL_KEY_MAX] = '\0';
	check(&r, "the value of");
	l.value[VALIDATE_LABEL_VALUE_MAX] = '\0';
	check(&r, NULL);
	free(l.key);
	free(l.value);
}

static void test_annotations(void **state)
{
	Openshell__V1__CreateSandboxRequest r = OPENSHELL__V1__CREATE_SANDBOX_REQUEST__INIT;
	annotation a = OPENSHELL__V1__CREATE_SANDBOX_REQUEST__ANNOTATIONS_ENTRY__INIT;
	annotation *list[] = { &a };

	(void)state;
	a.key = (char *)"k";
	a.value = text_of(VALIDATE_ANNOTATION_BYTES);
	r.annotations = list;
	r.n_annotations = 1;
	check(&r, "annotations");
	a.value[VALIDATE_ANNOTATION_BYTES - 1] = '\0';
	check(&r, NULL);
	free(a.value);
}

static void test_workspaces(void **state)
{
	struct leak *leak = leak_begin();
	const char *path = leak_path(leak, "gateway.db");
	Openshell__V1__CreateWorkspaceRequest r = OPENSHELL__V1__CREATE_WORKSPACE_REQUEST__INIT;
	char name[16];
	struct err err;
	struct store *store = store_open(path, &err);
	struct workspaces *all = workspaces_create(store, &err);

	(void)state;
	log_setup(STDERR_FILENO, LOG_FORMAT_LOGFMT, LOG_LEVEL_ERROR);
	r.name = name;
	for (int i = 1; i < WORKSPACES_MAX; i++) { /* one is there */
		snprintf(name, sizeof(name), "w%d", i);
		assert_non_null(workspaces_add(all, &r, NULL, &err));
	}
	snprintf(name, sizeof(name), "one-more");
	assert_null(workspaces_add(all, &r, NULL, &err));
	assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
	workspaces_free(all);
	store_close(store);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(leak_end(leak), 0);
}

static int add_sandbox(struct sandboxes *all, unsigned n, struct err *err)
{
	Openshell__V1__CreateSandboxRequest r = OPENSHELL__V1__CREATE_SANDBOX_REQUEST__INIT;
	Openshell__V1__SandboxSpec spec = OPENSHELL__V1__SANDBOX_SPEC__INIT;
	char name[16];

	snprintf(name, sizeof(name), "box-%u", n);
	r.name = name;
	r.spec = &spec;
	return sandboxes_add(all, &r, WORKSPACES_DEFAULT, NULL, err) != NULL ? 0 : -1;
}

/* Before there is a driver, so that nothing comes of them. A restart brings them all back. */
static void test_sandboxes(void **state)
{
	struct err err = { 0 };
	struct loop *loop = loop_create(0, &err);
	struct leak *leak = leak_begin();
	const char *path = leak_path(leak, "gateway.db");
	struct sandboxes_options opt = { .loop = loop, .ready_ms = SANDBOXES_READY_MS };

	(void)state;
	opt.store = store_open(path, &err);
	for (int start = 0; start < 2; start++) {
		opt.tokens = tokens_create(&err);
		opt.directory = directory_create(&err);
		struct sandboxes *all = sandboxes_create(&opt, &err);
		assert_int_equal(sandboxes_load(all, &err), 0);
		for (unsigned n = 0; start == 0 && n < SANDBOXES_MAX; n++)
			assert_int_equal(add_sandbox(all, n, &err), 0);
		assert_int_equal(sandboxes_count(all), SANDBOXES_MAX);
		assert_int_equal(add_sandbox(all, SANDBOXES_MAX, &err), -1);
		assert_int_equal(err.code, GRPC_RESOURCE_EXHAUSTED);
		assert_non_null(strstr(err.text, "there are 10000 sandboxes"));
		sandboxes_free(all);
		directory_free(opt.directory);
		tokens_free(opt.tokens);
	}
	store_close(opt.store);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(leak_end(leak), 0);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_number_of_labels),
		cmocka_unit_test(test_length_of_labels),
		cmocka_unit_test(test_annotations),
		cmocka_unit_test(test_workspaces),
		cmocka_unit_test(test_sandboxes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
