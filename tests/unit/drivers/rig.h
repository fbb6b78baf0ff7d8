/*
 * rig.h: a local driver on a folder of its own, and the operations as calls that wait.
 */
#ifndef DRIVERS_RIG_H
#define DRIVERS_RIG_H

#include <sys/types.h>

#include "drivers/driver.h"

#define RIG_TOKEN "a-token-that-nobody-may-see"

struct rig {
	struct leak *leak;
	struct driver_env env;
	const struct driver_ops *ops;
	void *driver;
	char id[37]; /* the sandbox's, which no other test's is */

	/* How the last operation ended. */
	bool done;
	struct driver_status status;
	struct err err;

	/* What changed() said last. */
	unsigned changes;
	struct driver_status change;
};

int rig_setup_group(void **state);
/* For cmocka: *state is the rig. Supervisors are this program as stand_in.h has it. */
int rig_setup(void **state);
/* Fails when a process of the folder, a file, a block or a descriptor is left. */
int rig_teardown(void **state);

/* Opens the driver, with workers. rig_setup() has done so already. */
void rig_open(struct rig *);
/* Ends the driver and opens another on the same folder. */
void rig_reopen(struct rig *);

/* The rig's sandbox as a stand-in that does ${role}, or with the real supervisor if NULL. */
struct sandbox_spec rig_spec(struct rig *, const char *role);

/* Waits for the end; the code, and more in ${status} and ${err}. */
enum grpc_code rig_create(struct rig *, const char *role);
enum grpc_code rig_start(struct rig *, const char *role);
enum grpc_code rig_stop(struct rig *);
enum grpc_code rig_destroy(struct rig *);
enum grpc_code rig_inspect(struct rig *);

/* What is to be given as ${done} and ${cookie} where a test calls the driver itself. */
void rig_done(void *cookie, const struct driver_status *, const struct err *);
/* Runs the loop until ${flag}; fails when it takes too long. */
void rig_wait(struct rig *, const bool *flag);
/* Waits for changed() to be called for the ${n}-th time. */
void rig_wait_changes(struct rig *, unsigned n);
/* Waits for a file in the sandbox's working directory, and reads it. */
void rig_read(struct rig *, const char *name, char *out, size_t size);
/* A path in the sandbox's directory. Good until the eighth call after it. */
const char *rig_path(struct rig *, const char *name);

/* The supervisor's number, from supervisor.pid. */
pid_t rig_pid(struct rig *);
/* Processes with the folder in environment or current directory. */
unsigned rig_processes(const struct rig *);

#endif
