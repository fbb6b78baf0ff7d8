#include "stand_in.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool stand_in_is_meant(int argc, char *argv[])
{
	return argc > 1 && strcmp(argv[1], "--gateway") == 0;
}

static void on_term(int sig)
{
	(void)sig;
	_exit(0);
}

static void on_late_term(int sig)
{
	(void)sig;
	_exit(creat("ended", 0600) >= 0 ? 0 : 2);
}

/* It is blocked until then. */
static void on_sigterm(void (*handler)(int))
{
	const struct sigaction action = { .sa_handler = handler };
	sigset_t one;

	sigaction(SIGTERM, &action, NULL);
	sigemptyset(&one);
	sigaddset(&one, SIGTERM);
	sigprocmask(SIG_UNBLOCK, &one, NULL);
}

static _Noreturn void wait_for_end(void (*term)(int))
{
	on_sigterm(term);
	for (;;)
		pause();
}

/* The file appears whole. */
static FILE *begin_file(const char *name)
{
	FILE *f = fopen("unfinished", "we");

	if (f == NULL) {
		perror(name);
		exit(2);
	}
	return f;
}

static void end_file(FILE *f, const char *name)
{
	if (fclose(f) != 0 || rename("unfinished", name) != 0) {
		perror(name);
		exit(2);
	}
}

/* Report. */

static void report_token(FILE *f, const char *path)
{
	char token[256] = "";
	struct stat st = { 0 };
	FILE *in = fopen(path, "re");

	if (in != NULL) {
		(void)!fread(token, 1, sizeof(token) - 1, in);
		fstat(fileno(in), &st);
		fclose(in);
	}
	fprintf(f, "token=%s mode=%o\n", token, (unsigned)st.st_mode & 07777);
}

static void report_folder(FILE *f, const char *what, const char *path)
{
	DIR *dir = opendir(path);
	int count = 0;

	fprintf(f, "%s=", what);
	for (struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
		if (e->d_name[0] == '.' || strtol(e->d_name, NULL, 10) == dirfd(dir))
			continue;
		fprintf(f, "%s%s", count++ > 0 ? "," : "", e->d_name);
	}
	fputc('\n', f);
	if (dir != NULL)
		closedir(dir);
}

static void report_link(FILE *f, const char *what)
{
	char path[64], target[64] = "";

	snprintf(path, sizeof(path), "/proc/self/ns/%s", what);
	(void)!readlink(path, target, sizeof(target) - 1);
	fprintf(f, "%s=%s\n", what, target);
}

static void report(char *argv[])
{
	extern char **environ;
	char cwd[4096];
	const char *token = "";

	report_link(stderr, "mnt"); /* a line for the log */
	FILE *f = begin_file("report");
	report_folder(f, "fds", "/proc/self/fd"); /* with that of f in it */
	for (int i = 0; argv[i] != NULL; i++) {
		fprintf(f, "argv=%s\n", argv[i]);
		if (strcmp(argv[i], "--token-file") == 0 && argv[i + 1] != NULL)
			token = argv[i + 1];
	}
	for (char **e = environ; *e != NULL; e++)
		fprintf(f, "env=%s\n", *e);
	report_token(f, token);
	fprintf(f, "leader=%d\n", getsid(0) == getpid() && getpgrp() == getpid());
	report_link(f, "user");
	report_link(f, "mnt");
	report_link(f, "pid");
	fprintf(f, "cwd=%s\n", getcwd(cwd, sizeof(cwd)));
	report_folder(f, "beside", "..");
	end_file(f, "report");
}

/* Breed. */

static _Noreturn void hide(bool session, int again)
{
	if (session)
		setsid();
	if (again && fork() != 0)
		_exit(0);
	int fd = open("bred.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	(void)!write(fd, "x", 1);
	wait_for_end(SIG_IGN);
}

static void breed(void)
{
	struct stat st;

	for (int i = 0; i < STAND_IN_BRED; i++)
		if (fork() == 0)
			hide(i & 1, i & 2);
	while (stat("bred.log", &st) != 0 || st.st_size < STAND_IN_BRED)
		usleep(1000);
	end_file(begin_file("bred"), "bred");
}

/* Mess. */

static void make(const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0400);

	if (fd < 0) {
		perror(name);
		exit(2);
	}
	close(fd);
}

static void mess(void)
{
	static const char *const odd[] = { "new\nline", "\xff\xfe latin", "-rf", " ", "*",
		"\xf0\x9f\x90\xa2", "...", "back\\slash" };
	int work = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
		make(odd[i]);
	(void)!symlink("/", "to-root");
	(void)!symlink("nowhere", "dangling");
	(void)!mkfifo("pipe", 0);
	(void)!link("-rf", "hard");
	(void)!mkdir("sealed", 0700);
	(void)!mkdir("sealed/in", 0700);
	make("sealed/in/file");
	chmod("sealed/in", 0);
	chmod("sealed", 0500);
	for (int i = 0; i < STAND_IN_DEPTH; i++)
		if (mkdir("deep", 0700) != 0 || chdir("deep") != 0)
			exit(2);
	make("bottom");
	chmod("../deep", 0500);
	if (fchdir(work) != 0)
		exit(2);
	end_file(begin_file("messed"), "messed");
	chmod(".", 0500);
}

/* Listens when SIGTERM has come. */
static _Noreturn void be_late(void)
{
	sigset_t pending;

	do {
		usleep(1000);
		sigpending(&pending);
	} while (!sigismember(&pending, SIGTERM));
	wait_for_end(on_late_term);
}

static void be_stubborn(void)
{
	on_sigterm(SIG_IGN);
	end_file(begin_file("up"), "up");
}

int stand_in_main(int argc, char *argv[])
{
	const char *role = getenv("STAND_IN");

	(void)argc;
	if (role == NULL || strcmp(role, "short") == 0)
		return 7;
	if (strcmp(role, "report") == 0)
		report(argv);
	else if (strcmp(role, "breed") == 0)
		breed();
	else if (strcmp(role, "mess") == 0)
		mess();
	else if (strcmp(role, "late") == 0)
		be_late();
	else if (strcmp(role, "stubborn") == 0)
		be_stubborn();
	wait_for_end(strcmp(role, "stubborn") == 0 ? SIG_IGN : on_term);
}
