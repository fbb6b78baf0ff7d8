#include "local_cases.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "drivers/local/launch.h"
#include "drivers/local/local.h"
#include "rig.h"
#include "stand_in.h"
#include "support/leak.h"

#define REPORT_MAX 65536

static const struct driver_condition *condition(const struct rig *r, const char *type)
{
	for (size_t i = 0; i < r->status.condition_count; i++)
		if (strcmp(r->status.conditions[i].type, type) == 0)
			return &r->status.conditions[i];
	fail_msg("no condition %s", type);
	return NULL;
}

static bool has(const struct rig *r, const char *type)
{
	return strcmp(condition(r, type)->status, "True") == 0;
}

/* The rest of the line of ${report} that begins with ${key}. */
static void value_of(const char *report, const char *key, char out[static 512])
{
	const char *at = report;
	size_t len = strlen(key);

	while (at != NULL && strncmp(at, key, len) != 0)
		if ((at = strchr(at, '\n')) != NULL)
			at++;
	if (at == NULL)
		fail_msg("no %s in the report:\n%s", key, report);
	else
		snprintf(out, 512, "%.*s", (int)strcspn(at + len, "\n"), at + len);
}

static void assert_value(const char *report, const char *key, const char *want)
{
	char value[512];

	value_of(report, key, value);
	assert_string_equal(value, want);
}

static void assert_gone(struct rig *r)
{
	assert_int_equal(rig_destroy(r), GRPC_OK);
	assert_int_equal(r->status.state, DRIVER_STATE_ABSENT);
	assert_int_equal(access(rig_path(r, "."), F_OK), -1);
	assert_int_equal(rig_processes(r), 0);
}

/* The real supervisor, and a gateway that nobody reaches. */
static void lives_stops_starts_and_goes(void **state)
{
	struct rig *r = *state;
	char instance[64];
	struct stat st;

	assert_int_equal(rig_create(r, NULL), GRPC_OK);
	assert_int_equal(r->status.state, DRIVER_STATE_RUNNING);
	snprintf(instance, sizeof(instance), "%s", r->status.instance_id);
	assert_int_equal(strlen(instance), 36);
	assert_int_equal(stat(rig_path(r, "."), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(rig_path(r, "supervisor.log"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	close(open(rig_path(r, "work/kept"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));

	assert_int_equal(rig_stop(r), GRPC_OK);
	assert_int_equal(r->status.state, DRIVER_STATE_STOPPED);
	assert_int_equal(r->status.condition_count, 0);
	assert_int_equal(rig_processes(r), 0);
	assert_int_equal(rig_stop(r), GRPC_OK);

	assert_int_equal(rig_start(r, NULL), GRPC_OK);
	assert_int_equal(r->status.state, DRIVER_STATE_RUNNING);
	assert_string_not_equal(r->status.instance_id, instance);
	assert_int_equal(access(rig_path(r, "work/kept"), F_OK), 0);
	assert_int_equal(r->changes, 0);
	assert_gone(r);
	assert_gone(r);
}

/* Neither /proc/PID/cmdline nor environ has it, and the descriptor is not inherited. */
static void token_is_only_a_descriptor(void **state)
{
	struct rig *r = *state;
	char report[REPORT_MAX];
	const char *token;

	assert_int_equal(rig_create(r, "report"), GRPC_OK);
	rig_read(r, "report", report, sizeof(report));
	assert_value(report, "token=", RIG_TOKEN " mode=600");
	token = strstr(report, RIG_TOKEN);
	assert_null(strstr(token + 1, RIG_TOKEN));
	assert_value(report, "fds=", "0,1,2,3,4"); /* 3 is the token, 4 the report */
	assert_gone(r);
}

static void nothing_of_ours_is_passed_on(void **state)
{
	struct rig *r = *state;
	char report[REPORT_MAX], want[512];

	setenv("SECRET_OF_THE_GATEWAY", "x", 1);
	assert_int_equal(rig_create(r, "report"), GRPC_OK);
	rig_read(r, "report", report, sizeof(report));
	assert_null(strstr(report, "SECRET_OF_THE_GATEWAY"));
	snprintf(want, sizeof(want), "%s", rig_path(r, "work"));
	assert_value(report, "cwd=", want);
	assert_value(report, "env=HOME=", want);
	assert_value(report, "env=OPENSHELL_SANDBOX_ID=", r->id);
	assert_value(report, "env=OPENSHELL_SANDBOX=", "box");
	assert_value(report, "leader=", "1");
	assert_gone(r);
}

static bool own_namespace(const char *report, const char *kind)
{
	char key[16], path[32], ours[64] = "", theirs[512];

	snprintf(key, sizeof(key), "%s=", kind);
	value_of(report, key, theirs);
	snprintf(path, sizeof(path), "/proc/self/ns/%s", kind);
	assert_true(readlink(path, ours, sizeof(ours) - 1) > 0);
	return strcmp(theirs, ours) != 0;
}

/* The conditions say what is, and why not. */
static void conditions_are_true(void **state)
{
	struct rig *r = *state;
	char report[REPORT_MAX], beside[512];

	assert_int_equal(rig_create(r, "report"), GRPC_OK);
	rig_read(r, "report", report, sizeof(report));
	assert_int_equal(own_namespace(report, "user"), has(r, "UserNamespace"));
	assert_int_equal(own_namespace(report, "mnt"), has(r, "MountNamespace"));
	assert_int_equal(own_namespace(report, "pid"), has(r, "PidNamespace"));
	value_of(report, "beside=", beside);
	assert_int_equal(strcmp(beside, "work") == 0, has(r, "GatewayStateHidden"));
	for (size_t i = 0; i < r->status.condition_count; i++) {
		const struct driver_condition *c = &r->status.conditions[i];
		bool good = strcmp(c->status, "True") == 0;
		assert_string_equal(c->reason, good ? "Isolated" : "NotIsolated");
		assert_int_equal(c->message[0] == '\0', good);
	}
	assert_gone(r);
}

static void survives_its_driver(void **state)
{
	struct rig *r = *state;
	struct driver_status before;
	pid_t pid;

	assert_int_equal(rig_create(r, "quiet"), GRPC_OK);
	before = r->status;
	pid = rig_pid(r);
	rig_reopen(r);
	assert_int_equal(kill(pid, 0), 0);
	assert_int_equal(rig_inspect(r), GRPC_OK);
	assert_memory_equal(&r->status, &before, sizeof(before));

	/* It is under watch again. */
	assert_int_equal(kill(pid, SIGKILL), 0);
	rig_wait_changes(r, 1);
	assert_int_equal(r->change.state, DRIVER_STATE_FAILED);
	assert_int_equal(r->change.exit_code, 128 + SIGKILL);
	assert_gone(r);
}

/* Whatever is called first of a driver that has not looked yet. */
static void is_found_without_inspection(void **state)
{
	struct rig *r = *state;
	char instance[64];

	assert_int_equal(rig_create(r, "quiet"), GRPC_OK);
	snprintf(instance, sizeof(instance), "%s", r->status.instance_id);
	rig_reopen(r);
	assert_int_equal(rig_create(r, "quiet"), GRPC_OK);
	assert_string_equal(r->status.instance_id, instance);
	rig_reopen(r);
	assert_int_equal(rig_stop(r), GRPC_OK);
	assert_int_equal(r->status.state, DRIVER_STATE_STOPPED);
	assert_int_equal(rig_processes(r), 0);
	assert_int_equal(rig_start(r, "quiet"), GRPC_OK);
	rig_reopen(r);
	assert_gone(r);
	assert_int_equal(r->changes, 0);
}

static void create_is_repeatable(void **state)
{
	struct rig *r = *state;
	pid_t pid;

	assert_int_equal(rig_create(r, "quiet"), GRPC_OK);
	pid = rig_pid(r);
	assert_int_equal(rig_create(r, "quiet"), GRPC_OK);
	assert_int_equal(r->status.state, DRIVER_STATE_RUNNING);
	assert_int_equal(rig_pid(r), pid);
	assert_gone(r);
}

/* Own sessions, orphans, and both, all of which take no notice of SIGTERM. */
static void no_process_gets_away(void **state)
{
	struct rig *r = *state;
	char text[16];

	assert_int_equal(rig_create(r, "breed"), GRPC_OK);
	rig_read(r, "bred", text, sizeof(text));
	assert_int_equal(rig_processes(r), 1 + STAND_IN_BRED);
	assert_int_equal(rig_stop(r), GRPC_OK);
	assert_int_equal(rig_processes(r), 0);
	assert_int_equal(unlink(rig_path(r, "work/bred")), 0);
	assert_int_equal(unlink(rig_path(r, "work/bred.log")), 0);

	assert_int_equal(rig_start(r, "breed"), GRPC_OK);
	rig_read(r, "bred", text, sizeof(text));
	assert_gone(r);
}

/* Also when the supervisor ends first, and when nobody has watched it do so. */
static void orphans_end_with_the_supervisor(void **state)
{
	struct rig *r = *state;
	char text[16];

	assert_int_equal(rig_create(r, "breed"), GRPC_OK);
	rig_read(r, "bred", text, sizeof(text));
	assert_int_equal(kill(rig_pid(r), SIGKILL), 0);
	rig_wait_changes(r, 1);
	assert_int_equal(unlink(rig_path(r, "work/bred")), 0);
	assert_int_equal(unlink(rig_path(r, "work/bred.log")), 0);

	assert_int_equal(rig_start(r, "breed"), GRPC_OK);
	rig_read(r, "bred", text, sizeof(text));
	assert_int_equal(kill(rig_pid(r), SIGKILL), 0);
	rig_reopen(r);
	assert_gone(r);
}

static void no_file_is_too_odd(void **state)
{
	struct rig *r = *state;
	char text[16];

	assert_int_equal(rig_create(r, "mess"), GRPC_OK);
	rig_read(r, "messed", text, sizeof(text));
	assert_gone(r);
}

static void is_not_killed_before_it_can_listen(void **state)
{
	struct rig *r = *state;

	assert_int_equal(rig_create(r, "late"), GRPC_OK);
	assert_int_equal(rig_stop(r), GRPC_OK);
	assert_int_equal(unlink(rig_path(r, "work/ended")), 0);
	assert_gone(r);
}

static void is_killed_when_it_does_not_listen(void **state)
{
	struct rig *r = *state;
	char text[16];
	uint64_t began;

	assert_int_equal(rig_create(r, "stubborn"), GRPC_OK);
	rig_read(r, "up", text, sizeof(text));
	assert_int_equal(
	    rig_inspect(r), GRPC_OK); /* the loop has not looked at its clock meanwhile */
	began = loop_now_us();
	assert_gone(r);
	assert_in_range((loop_now_us() - began) / 1000, LOCAL_STOP_MS - 100, LOCAL_STOP_MS * 3);
}

static void an_end_of_its_own_is_told(void **state)
{
	struct rig *r = *state;

	assert_int_equal(rig_create(r, "short"), GRPC_OK);
	rig_wait_changes(r, 1);
	assert_int_equal(r->change.state, DRIVER_STATE_FAILED);
	assert_int_equal(r->change.exit_code, 7);
	assert_int_equal(rig_start(r, "quiet"), GRPC_OK);
	assert_int_equal(r->status.state, DRIVER_STATE_RUNNING);
	assert_gone(r);
	assert_int_equal(r->changes, 1);
}

static void missing_ones_are_absent(void **state)
{
	struct rig *r = *state;

	assert_int_equal(rig_inspect(r), GRPC_OK);
	assert_int_equal(r->status.state, DRIVER_STATE_ABSENT);
	assert_int_equal(rig_stop(r), GRPC_OK);
	assert_int_equal(r->status.state, DRIVER_STATE_ABSENT);
	assert_gone(r);
}

static void ids_are_names(void **state)
{
	static const char *const bad[] = { "", ".", "..", "../x", "a/b", "/etc", ".hidden",
		"a-name-of-more-than-63-bytes-a-name-of-more-than-63-bytes-a-name" };
	struct rig *r = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct sandbox_spec spec = rig_spec(r, "quiet");
		struct err err = { 0 };
		spec.id = bad[i];
		assert_null(r->ops->create(r->driver, &spec, rig_done, r, &err));
		assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
		assert_null(r->ops->destroy(r->driver, bad[i], rig_done, r, &err));
		assert_int_equal(err.code, GRPC_INVALID_ARGUMENT);
	}
}

static void open_fails(struct rig *r, const char *state_dir, enum grpc_code code)
{
	struct driver_env env = r->env;
	struct err err = { 0 };
	void *driver;

	env.state_dir = state_dir;
	assert_int_equal(r->ops->open(&driver, &env, &err), -1);
	assert_int_equal(err.code, code);
	assert_non_null(strstr(err.text, state_dir));
}

static void folders_are_checked(void **state)
{
	struct rig *r = *state;

	open_fails(r, leak_path(r->leak, "no/such"), GRPC_NOT_FOUND);
	open_fails(r, TOWLINE_SUPERVISOR, GRPC_FAILED_PRECONDITION);
}

static void create_fails(struct rig *r, const char *supervisor, enum grpc_code code)
{
	struct sandbox_spec spec = rig_spec(r, "quiet");

	r->env.supervisor_path = supervisor;
	rig_reopen(r);
	r->done = false;
	r->err.code = GRPC_OK;
	assert_non_null(r->ops->create(r->driver, &spec, rig_done, r, &r->err));
	rig_wait(r, &r->done);
	assert_int_equal(r->err.code, code);
	assert_int_equal(rig_inspect(r), GRPC_OK);
	assert_int_equal(rig_processes(r), 0);
	assert_gone(r);
}

static void programs_are_checked(void **state)
{
	struct rig *r = *state;
	const char *plain = leak_path(r->leak, "plain");

	create_fails(r, "/no/such/supervisor", GRPC_NOT_FOUND);
	close(open(plain, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	create_fails(r, plain, GRPC_PERMISSION_DENIED);
	assert_int_equal(unlink(plain), 0);
}

static void one_thing_at_a_time(void **state)
{
	struct rig *r = *state;
	struct sandbox_spec spec = rig_spec(r, "quiet");
	struct err err = { 0 };

	assert_non_null(r->ops->create(r->driver, &spec, rig_done, r, &err));
	assert_null(r->ops->destroy(r->driver, r->id, rig_done, r, &err));
	assert_int_equal(err.code, GRPC_ABORTED);
	rig_wait(r, &r->done);
	assert_gone(r);
}

/* Nobody is told, but it happens. */
static void cancelled_is_not_undone(void **state)
{
	struct rig *r = *state;
	struct sandbox_spec spec = rig_spec(r, "quiet");
	struct driver_op *op = r->ops->create(r->driver, &spec, rig_done, r, &r->err);

	assert_non_null(op);
	r->ops->cancel(r->driver, op);
	rig_reopen(r);
	assert_false(r->done);
	assert_int_equal(rig_inspect(r), GRPC_OK);
	assert_int_equal(r->status.state, DRIVER_STATE_RUNNING);
	assert_gone(r);
}

/* As when a gateway ends in the middle of something. */
static void waiting_operations_end_with_the_driver(void **state)
{
	struct rig *r = *state;
	char text[16];

	assert_int_equal(rig_create(r, "stubborn"), GRPC_OK);
	rig_read(r, "up", text, sizeof(text));
	r->done = false;
	assert_non_null(r->ops->destroy(r->driver, r->id, rig_done, r, &r->err));
	rig_reopen(r);
	assert_false(r->done);
	assert_int_equal(rig_inspect(r), GRPC_OK);
	assert_int_equal(r->status.state, DRIVER_STATE_RUNNING);
	assert_int_equal(kill(rig_pid(r), SIGKILL), 0);
	rig_wait_changes(r, 1);

	/* One that is over, but has not said so yet. */
	r->done = false;
	assert_int_equal(rig_start(r, "quiet"), GRPC_OK);
	r->done = false;
	assert_non_null(r->ops->inspect(r->driver, r->id, rig_done, r, &r->err));
	workers_free(r->env.workers);
	r->env.workers = NULL;
	r->ops->close(r->driver);
	rig_open(r);
	assert_false(r->done);
	assert_gone(r);
}

static void kill_it(struct rig *r)
{
	unsigned changes = r->changes + 1;

	assert_int_equal(kill(rig_pid(r), SIGKILL), 0);
	rig_wait_changes(r, changes);
}

/* Its log's length after another start. */
static off_t log_after_start(struct rig *r, off_t before)
{
	struct stat st;

	assert_int_equal(truncate(rig_path(r, "supervisor.log"), before), 0);
	assert_int_equal(rig_start(r, "quiet"), GRPC_OK);
	kill_it(r);
	assert_int_equal(stat(rig_path(r, "supervisor.log"), &st), 0);
	return st.st_size;
}

/* A log is begun anew when it has grown too long, and goes on otherwise. */
static void a_long_log_is_begun_anew(void **state)
{
	struct rig *r = *state;

	assert_int_equal(rig_create(r, "quiet"), GRPC_OK);
	kill_it(r);
	assert_true(log_after_start(r, LOCAL_LOG_MAX) >= LOCAL_LOG_MAX);
	assert_true(log_after_start(r, LOCAL_LOG_MAX + 1) < LOCAL_LOG_MAX);
	assert_gone(r);
}

static void variables_are_counted(void **state)
{
	struct rig *r = *state;
	struct sandbox_spec spec = rig_spec(r, "quiet");
	struct driver_pair pairs[LAUNCH_ENVIRONMENT_MAX + 1];

	for (size_t i = 0; i <= LAUNCH_ENVIRONMENT_MAX; i++)
		pairs[i] = (struct driver_pair){ "A", "b" };
	pairs[0] = spec.environment[0];
	spec.environment = pairs;
	spec.environment_count = LAUNCH_ENVIRONMENT_MAX + 1;
	assert_null(r->ops->create(r->driver, &spec, rig_done, r, &r->err));
	assert_int_equal(r->err.code, GRPC_INVALID_ARGUMENT);
	assert_non_null(strstr(r->err.text, "512 environment variables"));
	spec.environment_count--;
	assert_non_null(r->ops->create(r->driver, &spec, rig_done, r, &r->err));
	rig_wait(r, &r->done);
	assert_int_equal(r->status.state, DRIVER_STATE_RUNNING);
	kill_it(r);
	assert_gone(r);
}

static void count_place(void *cookie, const char *id)
{
	assert_int_equal(strlen(id), 36);
	(*(unsigned *)cookie)++;
}

static void places_are_listed(void **state)
{
	struct rig *r = *state;
	unsigned count = 0;
	struct err err;

	assert_int_equal(r->ops->list(r->driver, count_place, &count, &err), 0);
	assert_int_equal(count, 0);
	assert_int_equal(rig_create(r, "quiet"), GRPC_OK);
	assert_int_equal(r->ops->list(r->driver, count_place, &count, &err), 0);
	assert_int_equal(count, 1);
	assert_gone(r);
}

int local_cases_main(int argc, char *argv[], const char *name, bool (*enter)(void))
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
		    lives_stops_starts_and_goes, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(
		    token_is_only_a_descriptor, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(
		    nothing_of_ours_is_passed_on, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(conditions_are_true, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(survives_its_driver, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(
		    is_found_without_inspection, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(create_is_repeatable, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(no_process_gets_away, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(
		    orphans_end_with_the_supervisor, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(no_file_is_too_odd, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(
		    is_not_killed_before_it_can_listen, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(
		    is_killed_when_it_does_not_listen, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(an_end_of_its_own_is_told, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(missing_ones_are_absent, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(ids_are_names, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(folders_are_checked, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(programs_are_checked, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(one_thing_at_a_time, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(cancelled_is_not_undone, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(
		    waiting_operations_end_with_the_driver, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(a_long_log_is_begun_anew, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(variables_are_counted, rig_setup, rig_teardown),
		cmocka_unit_test_setup_teardown(places_are_listed, rig_setup, rig_teardown),
	};

	if (stand_in_is_meant(argc, argv))
		return stand_in_main(argc, argv);
	if (enter != NULL && !enter()) {
		print_message("%s: not possible on this machine\n", name);
		return 0;
	}
	return _cmocka_run_group_tests(
	    name, tests, sizeof(tests) / sizeof(tests[0]), rig_setup_group, NULL);
}
