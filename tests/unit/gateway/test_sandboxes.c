/*
 * Sandboxes over a driver that does as it is told: the way up and down, what goes wrong
 * on it, and a gateway that is killed at each step and started again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_driver.h"
#include "gateway/sandboxes.h"
#include "support/leak.h"

#define WAIT_MS 5000

struct rig {
	struct leak *leak;
	struct loop *loop;
	struct store *store;
	struct tokens *tokens;
	struct directory *directory;
	struct sandboxes *all;
	struct fake_driver driver;
	uint64_t ready_ms;
};

/* A gateway's state comes up: everything but the loop and the driver's places is new. */
static void rig_start(struct rig *r)
{
	struct sandboxes_options opt = { .loop = r->loop, .ready_ms = r->ready_ms };
	struct err err = { 0 };

	opt.store = r->store = store_open(leak_path(r->leak, "gateway.db"), &err);
	opt.tokens = r->tokens = tokens_create(&err);
	opt.directory = r->directory = directory_create(&err);
	assert_non_null(r->store);
	r->all = sandboxes_create(&opt, &err);
	if (sandboxes_load(r->all, &err) != 0)
		fail_msg("%s", err.text);
	sandboxes_reconcile(r->all, &fake_driver, &r->driver, NULL);
}

/* It is gone from one moment to the next. */
static void rig_kill(struct rig *r)
{
	sandboxes_free(r->all);
	directory_free(r->directory);
	tokens_free(r->tokens);
	store_close(r->store);
	r->all = NULL;
}

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct err err;

	r->leak = leak_begin();
	r->loop = loop_create(0, &err);
	r->driver.loop = r->loop;
	r->ready_ms = SANDBOXES_READY_MS;
	rig_start(r);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;
	static const char *const names[] = { "gateway.db", "gateway.db-wal", "gateway.db-shm" };
	int result;

	rig_kill(r);
	loop_free(r->loop);
	for (size_t i = 0; i < 3; i++)
		unlink(leak_path(r->leak, names[i]));
	result = leak_end(r->leak);
	free(r);
	return result;
}

/* Waiting. */

struct wait {
	struct rig *rig;
	struct timer *timer;
	bool (*done)(struct rig *, const void *);
	const void *what;
	uint64_t deadline;
	bool late;
};

static void on_tick(void *cookie)
{
	struct wait *w = cookie;

	w->late = loop_now_ms(w->rig->loop) > w->deadline;
	if (w->late || w->done(w->rig, w->what))
		loop_stop(w->rig->loop);
	else
		timer_start(w->timer, 1);
}

static void wait_until(struct rig *r, bool (*done)(struct rig *, const void *), const void *what)
{
	struct wait w = { .rig = r, .done = done, .what = what };

	w.deadline = loop_now_ms(r->loop) + WAIT_MS;
	w.timer = timer_create_on(r->loop, on_tick, &w);
	timer_start(w.timer, 1);
	loop_run(r->loop);
	timer_free(w.timer);
	assert_false(w.late);
}

static struct sandbox *find(struct rig *r, const char *name)
{
	struct err err;

	return sandboxes_find(r->all, name, NULL, &err);
}

/* The phase as it is stored, which the view shows unless the supervisor is away. */
static bool is_in(struct rig *r, const void *phase)
{
	struct sandbox *s = find(r, "web");

	return s != NULL && strcmp(phase_name(sandbox_phase(s)), phase) == 0;
}

static bool is_gone(struct rig *r, const void *unused)
{
	(void)unused;
	return find(r, "web") == NULL;
}

static bool is_waiting(struct rig *r, const void *unused)
{
	(void)unused;
	return r->driver.waiting != NULL;
}

static bool has_counted(struct rig *r, const void *kind)
{
	return r->driver.count[*(const enum fake_kind *)kind] > 0 && r->driver.waiting == NULL;
}

static void wait_phase(struct rig *r, const char *phase)
{
	wait_until(r, is_in, phase);
}

/* Lets everything happen that happens at once. */
static bool never(struct rig *r, const void *rounds)
{
	(void)r;
	return --*(int *)(uintptr_t)rounds < 0;
}

static void pause_a_little(struct rig *r)
{
	int rounds = 5;

	wait_until(r, never, &rounds);
}

/* Acting. */

static struct sandbox *add(struct rig *r, const char *name, struct err *err)
{
	Openshell__V1__CreateSandboxRequest request = OPENSHELL__V1__CREATE_SANDBOX_REQUEST__INIT;

	request.name = (char *)name;
	return sandboxes_add(r->all, &request, "default", NULL, err);
}

static struct sandbox *add_web(struct rig *r)
{
	struct err err = { 0 };
	struct sandbox *s = add(r, "web", &err);

	if (s == NULL)
		fail_msg("%s", err.text);
	return s;
}

static void connect_web(struct rig *r)
{
	sandboxes_session_up(r->all, sandbox_id(find(r, "web")), "instance", "0");
}

static void bring_up(struct rig *r)
{
	add_web(r);
	pause_a_little(r);
	connect_web(r);
	wait_phase(r, "READY");
}

static const char *refusal(struct rig *r)
{
	static char text[ERR_TEXT_MAX + 32];
	char id[NAMES_ID_MAX + 1];
	struct err err = { 0 };

	if (directory_admit(r->directory, "web", NULL, id, &err) == 0)
		return "let in";
	snprintf(text, sizeof(text), "%s %s", err_code_name(err.code), err.text);
	return text;
}

static bool refuses_with(struct rig *r, const char *code, const char *phase)
{
	const char *text = refusal(r);

	return strncmp(text, code, strlen(code)) == 0 && strstr(text, phase) != NULL;
}

static const Openshell__V1__SandboxCondition *condition(
    const struct sandbox_view *v, const char *type)
{
	for (size_t i = 0; i < v->status.n_conditions; i++)
		if (strcmp(v->conditions[i].type, type) == 0)
			return &v->conditions[i];
	return NULL;
}

/* The way up. */

static void test_up(void **state)
{
	struct rig *r = *state;
	struct sandbox_view v;
	char id[NAMES_ID_MAX + 1];

	add_web(r);
	assert_true(refuses_with(r, "FAILED_PRECONDITION", "PROVISIONING"));
	pause_a_little(r);
	assert_int_equal(r->driver.count[FAKE_CREATE], 1);
	assert_int_equal(r->driver.count[FAKE_INSPECT], 0);
	sandbox_view(find(r, "web"), &v);
	assert_int_equal(v.status.phase, PHASE_PROVISIONING);
	assert_non_null(condition(&v, "SupervisorNotConnected"));
	assert_string_equal(condition(&v, "Ready")->status, "False");
	assert_string_equal(condition(&v, "Isolated")->status, "False");

	assert_true(tokens_verify(r->tokens, r->driver.token, id));
	assert_string_equal(id, sandbox_id(find(r, "web")));
	connect_web(r);
	wait_phase(r, "READY");
	assert_string_equal(refusal(r), "let in");
	sandbox_view(find(r, "web"), &v);
	assert_string_equal(condition(&v, "Ready")->status, "True");
	assert_null(condition(&v, "SupervisorNotConnected"));
	assert_true(v.meta.resource_version > 1);
	assert_int_equal(v.meta.created_time->seconds, v.meta.created_at_ms / 1000);
}

/* The session may be faster than the driver's answer. */
static void test_connects_early(void **state)
{
	struct rig *r = *state;

	r->driver.manual = true;
	add_web(r);
	connect_web(r);
	pause_a_little(r);
	assert_true(is_in(r, "PROVISIONING"));
	fake_finish(&r->driver);
	wait_phase(r, "READY");
}

static void test_names(void **state)
{
	struct rig *r = *state;
	struct sandbox *s;
	struct err err = { 0 };

	add_web(r);
	assert_null(add(r, "web", &err));
	assert_int_equal(err.code, GRPC_ALREADY_EXISTS);
	pause_a_little(r);
	s = add(r, "", &err);
	assert_non_null(s);
	assert_int_equal(names_check_sandbox(sandbox_name(s), &err), 0);
	pause_a_little(r);
	s = add(r, "api", &err);
	assert_ptr_equal(sandboxes_after(r->all, "default/apb"), s); /* sorted */
	assert_null(sandboxes_after(r->all, "default/web"));
	assert_int_equal(sandboxes_count(r->all), 3);
	assert_int_equal(sandboxes_count_in(r->all, "default"), 3);
	assert_int_equal(sandboxes_count_in(r->all, "team"), 0);
	pause_a_little(r);
}

static void test_environment(void **state)
{
	struct rig *r = *state;
	Openshell__V1__CreateSandboxRequest request = OPENSHELL__V1__CREATE_SANDBOX_REQUEST__INIT;
	Openshell__V1__SandboxSpec spec = OPENSHELL__V1__SANDBOX_SPEC__INIT;
	Openshell__V1__SandboxTemplate template = OPENSHELL__V1__SANDBOX_TEMPLATE__INIT;
	Openshell__V1__SandboxTemplate__EnvironmentEntry t[2] = {
		OPENSHELL__V1__SANDBOX_TEMPLATE__ENVIRONMENT_ENTRY__INIT,
		OPENSHELL__V1__SANDBOX_TEMPLATE__ENVIRONMENT_ENTRY__INIT
	};
	Openshell__V1__SandboxSpec__EnvironmentEntry e =
	    OPENSHELL__V1__SANDBOX_SPEC__ENVIRONMENT_ENTRY__INIT;
	Openshell__V1__SandboxTemplate__EnvironmentEntry *from_template[] = { &t[0], &t[1] };
	Openshell__V1__SandboxSpec__EnvironmentEntry *own[] = { &e };
	struct err err;

	t[0].key = (char *)"A";
	t[0].value = (char *)"1";
	t[1].key = (char *)"B";
	t[1].value = (char *)"1";
	e.key = (char *)"B";
	e.value = (char *)"2";
	template.n_environment = 2;
	template.environment = from_template;
	spec.n_environment = 1;
	spec.environment = own;
	spec.template_ = &template;
	request.spec = &spec;
	assert_non_null(sandboxes_add(r->all, &request, "default", NULL, &err));
	pause_a_little(r);
	assert_string_equal(r->driver.environment, "A=1;B=2;");
}

/* What goes wrong. */

static void test_launch_fails(void **state)
{
	struct rig *r = *state;
	struct sandbox_view v;
	char first[TOKENS_TEXT_SIZE], id[NAMES_ID_MAX + 1];
	struct err err;

	err_set(&r->driver.fail_next, GRPC_INTERNAL, "no such program");
	add_web(r);
	wait_phase(r, "ERROR");
	assert_true(refuses_with(r, "FAILED_PRECONDITION", "ERROR: no such program"));
	sandbox_view(find(r, "web"), &v);
	assert_string_equal(condition(&v, "Ready")->reason, "LaunchFailed");
	memcpy(first, r->driver.token, sizeof(first));

	assert_int_equal(sandbox_start(find(r, "web"), NULL, &err), 0);
	pause_a_little(r);
	assert_int_equal(r->driver.count[FAKE_START], 1);
	assert_false(tokens_verify(r->tokens, first, id));
	assert_true(tokens_verify(r->tokens, r->driver.token, id));
	connect_web(r);
	wait_phase(r, "READY");
}

/* The driver is busy: that passes. */
static void test_launch_is_put_off(void **state)
{
	struct rig *r = *state;

	err_set(&r->driver.refuse_next, GRPC_RESOURCE_EXHAUSTED, "too many operations");
	add_web(r);
	pause_a_little(r);
	assert_true(is_in(r, "PROVISIONING"));
	assert_int_equal(r->driver.count[FAKE_CREATE], 1);
	while (r->driver.count[FAKE_CREATE] < 2)
		pause_a_little(r);
	connect_web(r);
	wait_phase(r, "READY");
}

static void supervisor_ends(struct rig *r, const char *id)
{
	struct driver_status status = { .state = DRIVER_STATE_FAILED, .exit_code = 137 };

	fake_place(&r->driver, id)->state = DRIVER_STATE_FAILED;
	sandboxes_driver_changed(r->all, id, &status);
}

static void test_supervisor_ends(void **state)
{
	struct rig *r = *state;
	struct err err;

	bring_up(r);
	sandboxes_session_down(r->all, sandbox_id(find(r, "web")), NULL);
	/* Away, and calls are let through to the tunnels, who know. */
	assert_true(is_in(r, "PROVISIONING"));
	assert_string_equal(refusal(r), "let in");
	supervisor_ends(r, sandbox_id(find(r, "web")));
	assert_true(is_in(r, "ERROR"));
	assert_true(refuses_with(r, "UNAVAILABLE", "ERROR"));
	assert_int_equal(sandbox_start(find(r, "web"), NULL, &err), 0);
	pause_a_little(r);
	connect_web(r);
	wait_phase(r, "READY");
}

static void test_supervisor_never_comes(void **state)
{
	struct rig *r = *state;
	struct err err;

	rig_kill(r);
	r->ready_ms = 30;
	rig_start(r);
	add_web(r);
	wait_phase(r, "ERROR");
	assert_true(refuses_with(r, "FAILED_PRECONDITION", "did not connect in time"));
	connect_web(r); /* after all */
	wait_phase(r, "READY");
	sandboxes_session_down(r->all, sandbox_id(find(r, "web")), NULL);
	assert_int_equal(sandbox_stop(find(r, "web"), NULL, &err), 0);
	wait_phase(r, "STOPPED");

	/* Started anew while the one that did not come still runs: that one goes first. */
	assert_int_equal(sandbox_start(find(r, "web"), NULL, &err), 0);
	wait_phase(r, "ERROR");
	r->driver.count[FAKE_STOP] = 0;
	assert_int_equal(sandbox_start(find(r, "web"), NULL, &err), 0);
	pause_a_little(r);
	assert_int_equal(r->driver.count[FAKE_STOP], 1);
	connect_web(r);
	wait_phase(r, "READY");
}

/* The way down. */

static void test_stop_and_start(void **state)
{
	struct rig *r = *state;
	char token[TOKENS_TEXT_SIZE], id[NAMES_ID_MAX + 1];
	struct err err;

	bring_up(r);
	memcpy(token, r->driver.token, sizeof(token));
	assert_int_equal(sandbox_stop(find(r, "web"), NULL, &err), 0);
	assert_true(refuses_with(r, "FAILED_PRECONDITION", "STOPPING"));
	assert_false(tokens_verify(r->tokens, token, id));
	assert_int_equal(sandbox_stop(find(r, "web"), NULL, &err), 0);
	assert_int_equal(sandbox_start(find(r, "web"), NULL, &err), -1);
	assert_int_equal(err.code, GRPC_FAILED_PRECONDITION);
	wait_phase(r, "STOPPED");
	assert_true(refuses_with(r, "FAILED_PRECONDITION", "STOPPED"));
	assert_int_equal(r->driver.count[FAKE_STOP], 1);
	assert_int_equal(sandbox_start(find(r, "web"), NULL, &err), 0);
	assert_int_equal(sandbox_start(find(r, "web"), NULL, &err), 0);
	assert_true(refuses_with(r, "FAILED_PRECONDITION", "STARTING"));
	pause_a_little(r);
	connect_web(r);
	wait_phase(r, "READY");
	assert_int_equal(r->driver.count[FAKE_START], 1);
}

static void test_stop_during_launch(void **state)
{
	struct rig *r = *state;
	struct err err;

	r->driver.manual = true;
	add_web(r);
	wait_until(r, is_waiting, NULL);
	assert_int_equal(sandbox_stop(find(r, "web"), NULL, &err), 0);
	pause_a_little(r);
	assert_true(is_in(r, "STOPPING"));
	r->driver.manual = false;
	fake_finish(&r->driver);
	wait_phase(r, "STOPPED");
	assert_int_equal(r->driver.count[FAKE_STOP], 1);
}

struct listener {
	struct sandbox_listener base;
	unsigned changed, gone;
};

static void count_changed(struct sandbox_listener *l)
{
	((struct listener *)l)->changed++;
}

static void count_gone(struct sandbox_listener *l)
{
	((struct listener *)l)->gone++;
}

static void test_delete(void **state)
{
	struct rig *r = *state;
	struct listener l = { .base = { .changed = count_changed, .gone = count_gone } };
	struct sandbox_view v;
	struct err err;

	bring_up(r);
	sandbox_listen(find(r, "web"), &l.base);
	assert_int_equal(sandbox_delete(find(r, "web"), NULL, &err), 0);
	assert_int_equal(sandbox_delete(find(r, "web"), NULL, &err), 0);
	assert_int_equal(sandbox_start(find(r, "web"), NULL, &err), -1);
	assert_true(refuses_with(r, "FAILED_PRECONDITION", "DELETING"));
	sandbox_view(find(r, "web"), &v);
	assert_non_null(v.meta.deletion_time);
	wait_until(r, is_gone, NULL);
	assert_int_equal(l.gone, 1);
	assert_true(l.changed > 0);
	sandbox_unlisten(&l.base);
	assert_true(refuses_with(r, "NOT_FOUND", ""));
	assert_int_equal(sandboxes_count(r->all), 0);
	add_web(r); /* the name is free again */
	pause_a_little(r);
}

static void test_delete_during_launch(void **state)
{
	struct rig *r = *state;
	struct err err;

	r->driver.manual = true;
	add_web(r);
	wait_until(r, is_waiting, NULL);
	assert_int_equal(sandbox_delete(find(r, "web"), NULL, &err), 0);
	pause_a_little(r);
	r->driver.manual = false;
	fake_finish(&r->driver);
	wait_until(r, is_gone, NULL);
	assert_int_equal(r->driver.count[FAKE_DESTROY], 1);
	assert_ptr_equal(sandboxes_after(r->all, ""), NULL);
}

static void test_destroy_is_tried_again(void **state)
{
	struct rig *r = *state;
	struct sandbox_view v;
	struct err err;

	bring_up(r);
	err_set(&r->driver.fail_next, GRPC_DEADLINE_EXCEEDED, "the processes do not end");
	assert_int_equal(sandbox_delete(find(r, "web"), NULL, &err), 0);
	pause_a_little(r);
	sandbox_view(find(r, "web"), &v);
	assert_string_equal(condition(&v, "OperationFailed")->message, "the processes do not end");
	wait_until(r, is_gone, NULL);
	assert_int_equal(r->driver.count[FAKE_DESTROY], 2);
}

/* Killed and started again, in each phase. */

static void restart(struct rig *r)
{
	rig_kill(r);
	pause_a_little(r); /* operations under way end unheard */
	memset(r->driver.count, 0, sizeof(r->driver.count));
	r->driver.manual = false;
	rig_start(r);
}

static void test_killed_when_ready(void **state)
{
	struct rig *r = *state;
	char id[NAMES_ID_MAX + 1];
	uint64_t version;

	bring_up(r);
	version = sandbox_version(find(r, "web"));
	restart(r);
	assert_string_equal(refusal(r), "let in"); /* the tunnels say that it is away */
	assert_true(is_in(r, "PROVISIONING"));
	assert_true(tokens_verify(r->tokens, r->driver.token, id));
	pause_a_little(r);
	assert_int_equal(r->driver.count[FAKE_INSPECT], 1);
	assert_int_equal(r->driver.count[FAKE_CREATE] + r->driver.count[FAKE_START], 0);
	connect_web(r);
	wait_phase(r, "READY");
	assert_true(sandbox_version(find(r, "web")) > version);
}

static void test_killed_and_the_supervisor_too(void **state)
{
	struct rig *r = *state;

	bring_up(r);
	fake_place(&r->driver, sandbox_id(find(r, "web")))->state = DRIVER_STATE_STOPPED;
	restart(r);
	wait_phase(r, "ERROR");
	assert_true(refuses_with(r, "UNAVAILABLE", "ERROR"));
}

/* Before, while and after the driver makes the place. */
static void test_killed_when_provisioning(void **state)
{
	struct rig *r = *state;
	char id[NAMES_ID_MAX + 1];

	r->driver.manual = true;
	add_web(r);
	wait_until(r, is_waiting, NULL);
	restart(r); /* the operation never happened */
	pause_a_little(r);
	assert_int_equal(r->driver.count[FAKE_CREATE], 1);
	assert_true(tokens_verify(r->tokens, r->driver.token, id));
	restart(r); /* it did, and the supervisor runs */
	pause_a_little(r);
	assert_int_equal(r->driver.count[FAKE_CREATE], 0);
	assert_true(tokens_verify(r->tokens, r->driver.token, id));
	connect_web(r);
	wait_phase(r, "READY");
}

static void test_killed_when_stopping(void **state)
{
	struct rig *r = *state;
	struct err err;

	bring_up(r);
	r->driver.manual = true;
	assert_int_equal(sandbox_stop(find(r, "web"), NULL, &err), 0);
	wait_until(r, is_waiting, NULL);
	restart(r);
	wait_phase(r, "STOPPED");
	assert_int_equal(r->driver.count[FAKE_STOP], 1);
	restart(r);
	pause_a_little(r);
	assert_true(is_in(r, "STOPPED"));
	assert_true(refuses_with(r, "FAILED_PRECONDITION", "STOPPED"));
	r->driver.manual = true;
	assert_int_equal(sandbox_start(find(r, "web"), NULL, &err), 0);
	restart(r);
	pause_a_little(r);
	assert_int_equal(r->driver.count[FAKE_START], 1);
	connect_web(r);
	wait_phase(r, "READY");
}

static void test_killed_when_deleting(void **state)
{
	struct rig *r = *state;
	struct err err;

	bring_up(r);
	r->driver.manual = true;
	assert_int_equal(sandbox_delete(find(r, "web"), NULL, &err), 0);
	wait_until(r, is_waiting, NULL);
	restart(r);
	wait_until(r, is_gone, NULL);
	assert_int_equal(r->driver.count[FAKE_INSPECT], 1);
	assert_int_equal(r->driver.count[FAKE_DESTROY], 1);
	restart(r);
	assert_int_equal(sandboxes_count(r->all), 0);
}

static void test_killed_when_failed(void **state)
{
	struct rig *r = *state;

	err_set(&r->driver.fail_next, GRPC_INTERNAL, "no such program");
	add_web(r);
	wait_phase(r, "ERROR");
	restart(r);
	pause_a_little(r);
	assert_true(refuses_with(r, "FAILED_PRECONDITION", "no such program"));
}

/* A place that the store does not know is stopped, and its files stay. */
static void test_leftover(void **state)
{
	struct rig *r = *state;
	static const enum fake_kind stopped = FAKE_STOP;

	bring_up(r);
	rig_kill(r);
	unlink(leak_path(r->leak, "gateway.db"));
	unlink(leak_path(r->leak, "gateway.db-wal"));
	unlink(leak_path(r->leak, "gateway.db-shm"));
	rig_start(r);
	assert_int_equal(sandboxes_count(r->all), 0);
	wait_until(r, has_counted, &stopped);
	pause_a_little(r);
	assert_int_equal(r->driver.count[FAKE_DESTROY], 0);
	assert_true(r->driver.places[0].id[0] != '\0');
}

/* What libuv makes once and keeps is there before descriptors are counted. */
static int first_loop(void **state)
{
	struct err err;

	(void)state;
	loop_free(loop_create(0, &err));
	return 0;
}

#define RIGGED(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIGGED(test_up),
		RIGGED(test_connects_early),
		RIGGED(test_names),
		RIGGED(test_environment),
		RIGGED(test_launch_fails),
		RIGGED(test_launch_is_put_off),
		RIGGED(test_supervisor_ends),
		RIGGED(test_supervisor_never_comes),
		RIGGED(test_stop_and_start),
		RIGGED(test_stop_during_launch),
		RIGGED(test_delete),
		RIGGED(test_delete_during_launch),
		RIGGED(test_destroy_is_tried_again),
		RIGGED(test_killed_when_ready),
		RIGGED(test_killed_and_the_supervisor_too),
		RIGGED(test_killed_when_provisioning),
		RIGGED(test_killed_when_stopping),
		RIGGED(test_killed_when_deleting),
		RIGGED(test_killed_when_failed),
		RIGGED(test_leftover),
	};

	return cmocka_run_group_tests(tests, first_loop, NULL);
}
