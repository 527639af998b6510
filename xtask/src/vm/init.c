// First program of a guest that has no other: does what the lines of /job say, then ends the machine.
//
//   mount TYPE PLACE        a file system
//   run NAME PROGRAM WORD.. a program; the report's lines around what it says
//   start NAME PROGRAM ..   the same in the background
//   wait                    for that one, and shows what it said
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SAID "/said"

static char *background;
static pid_t started, opener;

static pid_t launch(char **words, const char *output)
{
	pid_t pid = fork();
	if (pid)
		return pid;
	if (output) {
		int fd = open(output, O_CREAT | O_WRONLY | O_TRUNC, 0600);
		dup2(fd, 1);
		dup2(fd, 2);
	}
	execv(words[0], words);
	perror(words[0]);
	_exit(127);
}

static void ended(const char *name, pid_t pid, time_t start)
{
	int status = 0;
	waitpid(pid, &status, 0);
	if (start)
		start = time(NULL) - start;
	else {
		char bytes[4096];
		int fd = open(SAID, O_RDONLY);
		for (ssize_t n; (n = read(fd, bytes, sizeof(bytes))) > 0;)
			write(1, bytes, n);
		close(fd);
	}
	printf("== %s exit %d in %ld s\n", name, WIFEXITED(status) ? WEXITSTATUS(status) : -1, (long)start);
}

static void directories(const char *path)
{
	char part[256];
	for (size_t n = 1; n < sizeof(part) && path[n - 1]; n++)
		if (path[n] == '/' || !path[n]) {
			memcpy(part, path, n);
			part[n] = 0;
			mkdir(part, 0755);
		}
}

static void line(char *text)
{
	char *words[32] = { 0 };
	int n = 0;
	for (char *word = strtok(text, " "); word && n < 31; word = strtok(NULL, " "))
		words[n++] = word;
	if (n == 3 && !strcmp(words[0], "mount")) {
		directories(words[2]);
		if (mount(words[1], words[2], words[1], 0, NULL))
			perror(words[2]);
	} else if (n > 2 && !strcmp(words[0], "run")) {
		printf("== %s\n", words[1]);
		ended(words[1], launch(words + 2, NULL), time(NULL));
	} else if (n > 2 && !strcmp(words[0], "start")) {
		background = strdup(words[1]);
		started = launch(words + 2, SAID);
		sleep(4);
	} else if (n == 1 && !strcmp(words[0], "wait")) {
		printf("== %s\n", background);
		ended(background, started, 0);
	}
}

int main(void)
{
	static char job[65536];
	int console = open("/dev/ttyS1", O_RDWR), code = open("/dev/ttyS2", O_WRONLY);
	for (int fd = 0; fd < 3; fd++)
		dup2(console, fd);
	setvbuf(stdout, NULL, _IONBF, 0);
	dprintf(code, "up\n");
	// What `opens` shall see.
	opener = fork();
	if (!opener)
		for (;; usleep(20000))
			close(open("/hello", O_RDONLY));
	int fd = open("/job", O_RDONLY);
	read(fd, job, sizeof(job) - 1);
	close(fd);
	char *rest = job;
	for (char *next; (next = strsep(&rest, "\n"));)
		line(next);
	dprintf(code, "0\n");
	sync();
	reboot(RB_POWER_OFF);
}
