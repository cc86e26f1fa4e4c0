/* Whether the processes that took rooms still live. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "rooms.h"

struct stat_line {
    char state;
    unsigned long threads;
    unsigned long long born;
};

/* Of a process, from /proc. False: there is none, or it is not to be seen. */
static bool read_stat(uint32_t pid, struct stat_line *its) {
    char path[32], text[1024];
    snprintf(path, sizeof path, "/proc/%u/stat", (unsigned)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *rest = strrchr(text, ')'); /* its name may have anything in it */
    return rest && sscanf(rest + 1,
                          " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %lu "
                          "%*d %llu",
                          &its->state, &its->threads, &its->born) == 3;
}

uint64_t gs_taker_born(uint32_t taker) {
    struct stat_line its;
    return read_stat(taker, &its) ? its.born : 0;
}

bool gs_taker_is_dead(uint32_t taker, uint64_t born) {
    struct stat_line its;
    if (taker == GS_TAKER_ELSEWHERE)
        return false;
    if (kill((pid_t)taker, 0) && errno == ESRCH)
        return true;
    if (!read_stat(taker, &its))
        return false;
    bool zombie = its.state == 'Z' || its.state == 'X';
    return (born && its.born != born) || (zombie && its.threads <= 1);
}

bool gs_taker_maps(uint32_t pid, int fd) {
    char path[32], line[512];
    struct stat file;
    snprintf(path, sizeof path, "/proc/%u/maps", (unsigned)pid);
    FILE *maps = fstat(fd, &file) == 0 ? fopen(path, "re") : NULL;
    bool found = false;
    while (maps && !found && fgets(line, sizeof line, maps)) {
        unsigned major_number, minor_number;
        unsigned long long inode;
        found = sscanf(line, "%*s %*s %*s %x:%x %llu", &major_number, &minor_number, &inode) == 3 &&
                inode == file.st_ino && major_number == major(file.st_dev) &&
                minor_number == minor(file.st_dev);
    }
    if (maps)
        fclose(maps);
    return found;
}
