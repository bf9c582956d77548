/* Loaded before all libraries (LD_PRELOAD): counts what changes files below a folder, and dies in the middle of the
 * n-th change. A write is cut in half first, as a kill or a lost machine would leave it.
 *
 * arm(folder, n): count from now on; n 0 only counts. sites(): how many were passed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char place[PATH_MAX];
static size_t place_length;
static long seen, kill_at;

void arm(const char *folder, long number) {
    strncpy(place, folder, sizeof place - 1);
    place_length = strlen(place);
    seen = 0;
    kill_at = number;
}

long sites(void) { return seen; }

static int below(const char *path) {
    if (!place_length || !path) return 0;
    if (path[0] == '/') return strncmp(path, place, place_length) == 0;
    char here[PATH_MAX];
    return getcwd(here, sizeof here) && strncmp(here, place, place_length) == 0;
}

static int ours(int handle) {
    char link[64], path[PATH_MAX];
    if (!place_length || handle < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

static int due(int counted) { return counted && __sync_add_and_fetch(&seen, 1) == kill_at; }

static void die(void) {
    kill(getpid(), SIGKILL);
    pause();
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRITES(flags) ((flags) & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))

#define OPENING(name, head, pass, path)                                                                              \
    int name head {                                                                                                  \
        mode_t mode = 0;                                                                                             \
        if (flags & (O_CREAT | O_TMPFILE)) {                                                                         \
            va_list rest;                                                                                            \
            va_start(rest, flags);                                                                                   \
            mode = va_arg(rest, mode_t);                                                                             \
            va_end(rest);                                                                                            \
        }                                                                                                            \
        if (WRITES(flags) && due(below(path))) die();                                                                \
        return REAL(name) pass;                                                                                      \
    }
OPENING(open, (const char *path, int flags, ...), (path, flags, mode), path)
OPENING(open64, (const char *path, int flags, ...), (path, flags, mode), path)
OPENING(openat, (int at, const char *path, int flags, ...), (at, path, flags, mode), path)
OPENING(openat64, (int at, const char *path, int flags, ...), (at, path, flags, mode), path)

#define CHANGE(kind, name, head, pass, counted)                                                                      \
    kind name head {                                                                                                 \
        if (due(counted)) die();                                                                                     \
        return REAL(name) pass;                                                                                      \
    }
CHANGE(int, fsync, (int handle), (handle), ours(handle))
CHANGE(int, fdatasync, (int handle), (handle), ours(handle))
CHANGE(int, ftruncate, (int handle, off_t length), (handle, length), ours(handle))
CHANGE(int, ftruncate64, (int handle, off64_t length), (handle, length), ours(handle))
CHANGE(int, truncate, (const char *path, off_t length), (path, length), below(path))
CHANGE(int, rename, (const char *from, const char *to), (from, to), below(to))
CHANGE(int, renameat, (int one, const char *from, int other, const char *to), (one, from, other, to), below(to))
CHANGE(int, unlink, (const char *path), (path), below(path))
CHANGE(int, unlinkat, (int at, const char *path, int flags), (at, path, flags), below(path))
CHANGE(int, rmdir, (const char *path), (path), below(path))
CHANGE(int, mkdir, (const char *path, mode_t mode), (path, mode), below(path))
CHANGE(int, chmod, (const char *path, mode_t mode), (path, mode), below(path))
CHANGE(int, fchmod, (int handle, mode_t mode), (handle, mode), ours(handle))

#define WRITING(name, head, pass, half, size)                                                                        \
    ssize_t name head {                                                                                              \
        if (due(ours(handle))) {                                                                                     \
            if ((size) > 1) REAL(name) half;                                                                         \
            die();                                                                                                   \
        }                                                                                                            \
        return REAL(name) pass;                                                                                      \
    }
WRITING(write, (int handle, const void *data, size_t size), (handle, data, size), (handle, data, size / 2), size)
WRITING(pwrite, (int handle, const void *data, size_t size, off_t at), (handle, data, size, at),
        (handle, data, size / 2, at), size)
WRITING(pwrite64, (int handle, const void *data, size_t size, off64_t at), (handle, data, size, at),
        (handle, data, size / 2, at), size)
WRITING(writev, (int handle, const struct iovec *parts, int count), (handle, parts, count),
        (handle, parts, count / 2), count)
