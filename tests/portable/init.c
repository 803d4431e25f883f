/* SPDX-License-Identifier: MIT */
/* The first and only process of a virtual machine that machine starts: runs the programs in the folders of /tests
 * one after the other, says how each ended, and switches the machine off. */
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void provide(const char *folder, const char *type)
{
    mkdir(folder, 0755);
    if (mount(type, folder, type, 0, NULL) != 0)
        perror(folder);
}

static void run(const char *path)
{
    pid_t child = fork();
    int status = -1;

    if (child == 0) {
        execl(path, path, (char *)NULL);
        _exit(127);
    }
    waitpid(child, &status, 0);
    printf("== %s: %s %d\n", path, WIFEXITED(status) ? "exit status" : "signal",
           WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

static void run_all(const char *folder, bool programs)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, alphasort);

    for (int i = 0; i < count; i++) {
        char path[4096];
        if (entries[i]->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name);
        if (programs)
            run(path);
        else
            run_all(path, true);
    }
}

int main(void)
{
    provide("/proc", "proc");
    provide("/sys", "sysfs");
    provide("/dev", "devtmpfs");
    provide("/tmp", "tmpfs");
    int console = open("/dev/console", O_RDWR);
    for (int file = 0; file <= 2; file++)
        dup2(console, file);
    setvbuf(stdout, NULL, _IOLBF, 0);
    run_all("/tests", false);
    puts("== all have run");
    reboot(RB_POWER_OFF);
    return 1;
}
