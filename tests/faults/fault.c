/* Makes a system call fail, for a program that it is loaded into by LD_PRELOAD: the FAULT_NTH call of FAULT_CALL on a
   path that begins with FAULT_PREFIX, and all later ones, give FAULT_ERRNO. The paths are added to the file FAULT_LOG. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int fails(const char *call, const char *path) {
    static int seen;
    const char *wanted = getenv("FAULT_CALL"), *prefix = getenv("FAULT_PREFIX"), *log = getenv("FAULT_LOG");
    if (!wanted || !prefix || !log || strcmp(wanted, call)) return 0;
    char full[8192];
    if (path[0] != '/') {
        if (!getcwd(full, 4096)) return 0;
        strcat(full, "/");
        strncat(full, path, 4000);
        path = full;
    }
    if (strncmp(path, prefix, strlen(prefix))) return 0;
    if (__sync_add_and_fetch(&seen, 1) < atoi(getenv("FAULT_NTH"))) return 0;
    int file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    char line[8200];
    int size = snprintf(line, sizeof line, "%s\n", path);
    syscall(SYS_write, file, line, size);
    syscall(SYS_close, file);
    errno = atoi(getenv("FAULT_ERRNO"));
    return 1;
}

static int fails_on(const char *call, int descriptor) {
    char name[64], path[4097];
    snprintf(name, sizeof name, "/proc/self/fd/%d", descriptor);
    ssize_t size = syscall(SYS_readlink, name, path, sizeof path - 1);
    if (size <= 0 || path[0] != '/') return 0; /* a pipe or socket */
    path[size] = 0;
    return fails(call, path);
}

#define NEXT(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))
#define ON_PATH(kind, name, call, parameters, arguments, path) \
    kind name parameters { return fails(call, path) ? (kind)-1 : NEXT(name) arguments; }
#define ON_FILE(kind, name, call, parameters, arguments, file) \
    kind name parameters { return fails_on(call, file) ? (kind)-1 : NEXT(name) arguments; }

#define OPENS(name, parameters, arguments) \
    int name parameters { \
        mode_t mode = 0; \
        va_list more; \
        va_start(more, flags); \
        if (flags & (O_CREAT | O_TMPFILE)) mode = va_arg(more, mode_t); \
        va_end(more); \
        if (fails(flags & O_CREAT ? "create" : "open", path)) return -1; \
        return NEXT(name) arguments; \
    }
OPENS(open, (const char *path, int flags, ...), (path, flags, mode))
OPENS(open64, (const char *path, int flags, ...), (path, flags, mode))
OPENS(openat, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))
OPENS(openat64, (int folder, const char *path, int flags, ...), (folder, path, flags, mode))

ON_FILE(ssize_t, read, "read", (int file, void *data, size_t size), (file, data, size), file)
ON_FILE(ssize_t, pread, "read", (int file, void *data, size_t size, off_t at), (file, data, size, at), file)
ON_FILE(ssize_t, pread64, "read", (int file, void *data, size_t size, off64_t at), (file, data, size, at), file)
ON_FILE(ssize_t, preadv, "read", (int file, const struct iovec *v, int n, off_t at), (file, v, n, at), file)
ON_FILE(ssize_t, preadv64, "read", (int file, const struct iovec *v, int n, off64_t at), (file, v, n, at), file)
ON_FILE(ssize_t, preadv2, "read", (int file, const struct iovec *v, int n, off_t at, int f), (file, v, n, at, f), file)
ON_FILE(ssize_t, preadv64v2, "read", (int file, const struct iovec *v, int n, off64_t at, int f), (file, v, n, at, f), file)
ON_FILE(ssize_t, write, "write", (int file, const void *data, size_t size), (file, data, size), file)
ON_FILE(ssize_t, pwrite, "write", (int file, const void *data, size_t size, off_t at), (file, data, size, at), file)
ON_FILE(ssize_t, pwrite64, "write", (int file, const void *data, size_t size, off64_t at), (file, data, size, at), file)
ON_FILE(int, fsync, "fsync", (int file), (file), file)
ON_FILE(int, fdatasync, "fsync", (int file), (file), file)
ON_FILE(int, ftruncate, "truncate", (int file, off_t size), (file, size), file)
ON_FILE(int, ftruncate64, "truncate", (int file, off64_t size), (file, size), file)
extern int flock(int file, int how);
ON_FILE(int, flock, "flock", (int file, int how), (file, how), file)
ON_FILE(int, fstat, "stat", (int file, struct stat *into), (file, into), file)
ON_FILE(int, fstat64, "stat", (int file, struct stat64 *into), (file, into), file)
ON_PATH(int, stat, "stat", (const char *path, struct stat *into), (path, into), path)
ON_PATH(int, stat64, "stat", (const char *path, struct stat64 *into), (path, into), path)
ON_PATH(int, rename, "rename", (const char *path, const char *to), (path, to), path)
ON_PATH(int, renameat, "rename", (int a, const char *path, int b, const char *to), (a, path, b, to), path)
ON_PATH(int, renameat2, "rename", (int a, const char *path, int b, const char *to, unsigned f), (a, path, b, to, f), path)
ON_PATH(int, link, "link", (const char *path, const char *to), (path, to), path)
ON_PATH(int, linkat, "link", (int a, const char *path, int b, const char *to, int f), (a, path, b, to, f), path)
ON_PATH(int, mkdir, "mkdir", (const char *path, mode_t mode), (path, mode), path)
ON_PATH(int, unlink, "unlink", (const char *path), (path), path)

void *mmap(void *at, size_t size, int how, int flags, int file, off_t offset) {
    if (file >= 0 && fails_on("mmap", file)) return MAP_FAILED;
    return NEXT(mmap)(at, size, how, flags, file, offset);
}
void *mmap64(void *at, size_t size, int how, int flags, int file, off64_t offset) {
    if (file >= 0 && fails_on("mmap", file)) return MAP_FAILED;
    return NEXT(mmap64)(at, size, how, flags, file, offset);
}
