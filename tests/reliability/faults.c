/* Fails the Nth call of a process that changes a disk. Preloaded by faults.py.
 *
 *   FAULT_CALLS   names, separated by commas: write fsync rename mkdir link truncate create
 *   FAULT_AT      which of these calls fails, from 1; 0 counts only
 *   FAULT_ERRNO   what it fails with
 *   FAULT_REST    if set, all calls after it fail too, as on a full disk
 *   FAULT_LOG     file for the number of calls that were seen, and of those that failed
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long seen, failed;

static int is_watched(const char *name) {
    const char *calls = getenv("FAULT_CALLS");
    size_t length = strlen(name);
    for (const char *at = calls; at && (at = strstr(at, name)); at += length) {
        char end = at[length];
        if ((at == calls || at[-1] == ',') && (end == 0 || end == ',')) return 1;
    }
    return 0;
}

/* Whether this call of the kind fails; errno is set then. */
static int fails(const char *kind) {
    const char *which = getenv("FAULT_AT");
    if (!which || !is_watched(kind)) return 0;
    long at = atol(which), now = atomic_fetch_add(&seen, 1) + 1;
    if (at == 0 || now < at || (now > at && !getenv("FAULT_REST"))) return 0;
    atomic_fetch_add(&failed, 1);
    errno = atoi(getenv("FAULT_ERRNO"));
    return 1;
}

/* Only what lies on a disk: not pipes, sockets, event counters or a terminal. */
static int is_file(int fd) {
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("FAULT_LOG");
    if (!path) return;
    char text[64];
    int length = snprintf(text, sizeof text, "%ld %ld\n", (long)seen, (long)failed);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd >= 0) syscall(SYS_write, fd, text, length);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRAP(kind, result, name, parameters, arguments, condition) \
    result name parameters { \
        if ((condition) && fails(kind)) return -1; \
        return REAL(name) arguments; \
    }

WRAP("write", ssize_t, write, (int fd, const void *b, size_t n), (fd, b, n), is_file(fd))
WRAP("write", ssize_t, writev, (int fd, const struct iovec *v, int n), (fd, v, n), is_file(fd))
WRAP("write", ssize_t, pwrite, (int fd, const void *b, size_t n, off_t o), (fd, b, n, o), is_file(fd))
WRAP("write", ssize_t, pwrite64, (int fd, const void *b, size_t n, off64_t o), (fd, b, n, o), is_file(fd))
WRAP("write", ssize_t, copy_file_range,
     (int in, off64_t *a, int out, off64_t *b, size_t n, unsigned f), (in, a, out, b, n, f), is_file(out))
WRAP("fsync", int, fsync, (int fd), (fd), is_file(fd))
WRAP("fsync", int, fdatasync, (int fd), (fd), is_file(fd))
WRAP("rename", int, rename, (const char *a, const char *b), (a, b), 1)
WRAP("rename", int, renameat, (int f, const char *a, int g, const char *b), (f, a, g, b), 1)
WRAP("rename", int, renameat2, (int f, const char *a, int g, const char *b, unsigned x), (f, a, g, b, x), 1)
WRAP("mkdir", int, mkdir, (const char *p, mode_t m), (p, m), 1)
WRAP("mkdir", int, mkdirat, (int f, const char *p, mode_t m), (f, p, m), 1)
WRAP("link", int, link, (const char *a, const char *b), (a, b), 1)
WRAP("link", int, linkat, (int f, const char *a, int g, const char *b, int x), (f, a, g, b, x), 1)
WRAP("link", int, symlink, (const char *a, const char *b), (a, b), 1)
WRAP("link", int, symlinkat, (const char *a, int f, const char *b), (a, f, b), 1)
WRAP("truncate", int, ftruncate, (int fd, off_t n), (fd, n), is_file(fd))
WRAP("truncate", int, ftruncate64, (int fd, off64_t n), (fd, n), is_file(fd))

#define OPEN(name, parameters, arguments) \
    int name parameters { \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest); \
        if ((flags & O_CREAT) && fails("create")) return -1; \
        return REAL(name) arguments; \
    }

OPEN(open, (const char *path, int flags, ...), (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))
OPEN(openat64, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))
