/*
 * Programs that a gateway is given in place of towline-supervisor, by the name they are
 * run under:
 *
 *	silent	runs, and never connects
 *	leaky	leaves its token in the file named by its sandbox's id beside itself, then
 *		becomes the program "real" there
 *	shimmed	becomes "real" with what the file "environment" there says, NAME=VALUE a line
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *value_of(char *argv[], const char *flag)
{
	for (; argv[0] != NULL && argv[1] != NULL; argv++)
		if (strcmp(argv[0], flag) == 0)
			return argv[1];
	fprintf(stderr, "stand_in: %s is missing\n", flag);
	exit(2);
}

static void leak(const char *folder, char *argv[])
{
	char token[256], name[4200], hidden[4300];
	FILE *in = fopen(value_of(argv, "--token-file"), "r"), *out;

	snprintf(name, sizeof(name), "%s/%s", folder, value_of(argv, "--sandbox-id"));
	snprintf(hidden, sizeof(hidden), "%s.new", name);
	out = fopen(hidden, "w");
	if (in == NULL || out == NULL || fgets(token, sizeof(token), in) == NULL) {
		perror("stand_in");
		exit(2);
	}
	fputs(token, out);
	fclose(out);
	fclose(in);
	rename(hidden, name);
}

static void set_environment(const char *folder)
{
	char path[4200], line[1024];

	snprintf(path, sizeof(path), "%s/environment", folder);
	FILE *in = fopen(path, "re");
	while (in != NULL && fgets(line, sizeof(line), in) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		char *value = strchr(line, '=');
		if (value == NULL)
			continue;
		*value++ = '\0';
		setenv(line, value, 1);
	}
	if (in != NULL)
		fclose(in);
}

/* Without one the first process of a namespace does not hear of SIGTERM. */
static void leave(int sig)
{
	_exit(128 + sig);
}

int main(int argc, char *argv[])
{
	char folder[4096], real[4200], *slash;
	ssize_t len = readlink("/proc/self/exe", folder, sizeof(folder) - 1);

	(void)argc;
	if (len < 0 || (folder[len] = '\0', slash = strrchr(folder, '/')) == NULL)
		return 2;
	*slash = '\0';
	if (strcmp(slash + 1, "silent") == 0) {
		const struct sigaction action = { .sa_handler = leave };
		sigaction(SIGTERM, &action, NULL);
		for (;;)
			pause();
	}
	if (strcmp(slash + 1, "shimmed") == 0)
		set_environment(folder);
	else
		leak(folder, argv);
	snprintf(real, sizeof(real), "%s/real", folder);
	execv(real, argv);
	perror(real);
	return 2;
}
