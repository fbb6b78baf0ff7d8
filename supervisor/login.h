/*
 * supervisor/login.h: what a login shell makes of the environment.
 *
 * Commands run with the environment a login shell would give them, but without the
 * shell: it is asked once, when the supervisor starts, and an argv stays an argv.
 */
#ifndef SUPERVISOR_LOGIN_H
#define SUPERVISOR_LOGIN_H

#define LOGIN_TIMEOUT_MS 2000 /* for the shell to read its profile */

/* The user as /etc/passwd has it; read once. */
struct login {
	char *shell; /* if it is there; else /bin/sh */
	char *name;  /* "", and so ${home}, if there is no entry */
	char *home;
};
const struct login *login_user(void);

/* The environment after a login shell started with ${envp} in ${workdir}, with what
 * ${envp} itself sets; or a copy of ${envp} if there is no shell or it does not answer in time. Blocks: before the loop
 * runs. The caller owns it (login_environment_free). NULL: no memory. */
char **login_environment(char *const *envp, const char *workdir);
void login_environment_free(char **);

#endif
