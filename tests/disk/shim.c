/*
 * Stands between a process and its disk: counts what is done to the files of one folder, and has the N-th
 * of it fail as a full, broken or poor disk would. Loaded with LD_PRELOAD; for tests only.
 *
 *   SHIM_UNDER  the folder, as /proc says it; everything else is passed on untouched
 *   SHIM_BOOK   a file of 64-bit numbers in which each kind is counted, shared by all processes
 *   SHIM_KIND   which kind fails: write, sync, open, unlink, mmap, lock (fcntl), flock, read
 *   SHIM_AT     which one of that kind fails first, from 1
 *   SHIM_ERRNO  with what
 *   SHIM_MODE   once, or on: from then on
 *   SHIM_SHORT  the write that fails first writes half of its bytes
 *   SHIM_LOST   what was written since the last good sync is gone after one that fails
 *   SHIM_ROOM   by so many bytes files may grow before the disk is full
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { WRITE, SYNC, OPEN, UNLINK, MMAP, LOCK, FLOCK, READ, KINDS };
static const char *NAMES[KINDS] = {"write", "sync", "open", "unlink", "mmap", "lock", "flock", "read"};
/* Behind the counts: how often something was made to fail, and the bytes that files grew by. */
enum { FAILED = KINDS, GREW, SLOTS };

static const char *under;
static _Atomic uint64_t *book;
static int kind = -1, error_number, goes_on, is_short, is_lost;
static uint64_t at, room;

#define REAL(result, name, ...)                                                                    \
    static result (*real_##name)(__VA_ARGS__);

REAL(ssize_t, write, int, const void *, size_t)
REAL(ssize_t, writev, int, const struct iovec *, int)
REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t)
REAL(ssize_t, pread64, int, void *, size_t, off64_t)
REAL(int, ftruncate64, int, off64_t)
REAL(int, fsync, int)
REAL(int, fdatasync, int)
REAL(int, open64, const char *, int, ...)
REAL(int, unlink, const char *)
REAL(void *, mmap64, void *, size_t, int, int, int, off64_t)
REAL(int, fcntl64, int, int, ...)
REAL(int, flock, int, int)

static void find(void **real, const char *name, const char *other) {
    *real = dlsym(RTLD_NEXT, name);
    if (!*real && other) *real = dlsym(RTLD_NEXT, other);
    if (!*real) abort();
}

__attribute__((constructor)) static void begin(void) {
    find((void **)&real_write, "write", NULL);
    find((void **)&real_writev, "writev", NULL);
    find((void **)&real_pwrite64, "pwrite64", NULL);
    find((void **)&real_pread64, "pread64", NULL);
    find((void **)&real_ftruncate64, "ftruncate64", NULL);
    find((void **)&real_fsync, "fsync", NULL);
    find((void **)&real_fdatasync, "fdatasync", NULL);
    find((void **)&real_open64, "open64", NULL);
    find((void **)&real_unlink, "unlink", NULL);
    find((void **)&real_mmap64, "mmap64", NULL);
    find((void **)&real_fcntl64, "fcntl64", "fcntl");
    find((void **)&real_flock, "flock", NULL);
    const char *path = getenv("SHIM_BOOK"), *word = getenv("SHIM_KIND");
    const char *number = getenv("SHIM_AT"), *error = getenv("SHIM_ERRNO");
    const char *mode = getenv("SHIM_MODE"), *bytes = getenv("SHIM_ROOM");
    if (!path) return;
    int fd = real_open64(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    size_t size = SLOTS * sizeof(uint64_t);
    if (fd < 0 || real_ftruncate64(fd, size) != 0) abort();
    void *there = real_mmap64(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (there == MAP_FAILED) abort();
    close(fd);
    for (int i = 0; word && i < KINDS; i++)
        if (!strcmp(word, NAMES[i])) kind = i;
    at = number ? strtoull(number, NULL, 10) : 0;
    error_number = error ? atoi(error) : EIO;
    goes_on = mode && !strcmp(mode, "on");
    is_short = getenv("SHIM_SHORT") != NULL;
    is_lost = getenv("SHIM_LOST") != NULL;
    room = bytes ? strtoull(bytes, NULL, 10) : 0;
    /* A command that hangs is ended, and so is one that takes all memory that there is. */
    alarm(60);
    struct rlimit most = {(rlim_t)4 << 30, (rlim_t)4 << 30};
    setrlimit(RLIMIT_AS, &most);
    book = there;
    under = getenv("SHIM_UNDER");
}

static int is_ours(int fd) {
    char link[64], path[4096];
    if (!under || fd < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return !strncmp(path, under, strlen(under));
}

static int is_our_path(const char *path) {
    char folder[4096];
    if (!under) return 0;
    if (path[0] == '/') return !strncmp(path, under, strlen(under));
    return getcwd(folder, sizeof folder) && !strncmp(folder, under, strlen(under));
}

/* Counts one of a kind. Says whether it is to fail: 1 for the first that does, 2 for one after it. */
static int fails(enum kind of) {
    uint64_t number = atomic_fetch_add(&book[of], 1) + 1;
    if ((int)of != kind || !at || number < at || (number > at && !goes_on)) return 0;
    atomic_fetch_add(&book[FAILED], 1);
    return number == at ? 1 : 2;
}

static int refuse(int with) {
    errno = with;
    return -1;
}

/* What is not on the disk yet: the bytes that were there before each write since the last good sync. */
struct undo {
    struct undo *before;
    dev_t dev;
    ino_t ino;
    off64_t offset;
    size_t length;
    off64_t size;
    unsigned char bytes[];
};
static struct undo *undone;
static pthread_mutex_t undoing = PTHREAD_MUTEX_INITIALIZER;

static void remember(int fd, off64_t offset, size_t length) {
    struct stat now;
    if (!is_lost || fstat(fd, &now) != 0) return;
    struct undo *entry = calloc(1, sizeof *entry + length);
    if (!entry) abort();
    *entry = (struct undo){undone, now.st_dev, now.st_ino, offset, length, now.st_size};
    if (real_pread64(fd, entry->bytes, length, offset) < 0) abort();
    pthread_mutex_lock(&undoing);
    entry->before = undone;
    undone = entry;
    pthread_mutex_unlock(&undoing);
}

/* Forgets what is now on the disk, or takes it back, newest first. */
static void settle(int fd, int take_back) {
    struct stat now;
    if (!is_lost || fstat(fd, &now) != 0) return;
    pthread_mutex_lock(&undoing);
    for (struct undo **link = &undone; *link;) {
        struct undo *entry = *link;
        if (entry->dev != now.st_dev || entry->ino != now.st_ino) {
            link = &entry->before;
            continue;
        }
        if (take_back) {
            if (real_pwrite64(fd, entry->bytes, entry->length, entry->offset) < 0) abort();
            if (real_ftruncate64(fd, entry->size) != 0) abort();
        }
        *link = entry->before;
        free(entry);
    }
    pthread_mutex_unlock(&undoing);
}

/* Says how many bytes of a write are taken; -1 with errno where none is. */
static ssize_t taken(int fd, off64_t offset, size_t length) {
    int failing = fails(WRITE);
    if (failing == 1 && is_short && length > 1) return length / 2;
    if (failing) return refuse(error_number);
    struct stat now;
    if (room && fstat(fd, &now) == 0 && offset + (off64_t)length > now.st_size) {
        uint64_t more = offset + length - now.st_size;
        uint64_t grown = atomic_fetch_add(&book[GREW], more) + more;
        if (grown > room) {
            atomic_fetch_sub(&book[GREW], more);
            atomic_fetch_add(&book[FAILED], 1);
            return refuse(ENOSPC);
        }
    }
    return length;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    if (!is_ours(fd)) return real_write(fd, bytes, length);
    off64_t offset = lseek64(fd, 0, SEEK_CUR);
    ssize_t some = taken(fd, offset, length);
    if (some < 0) return some;
    remember(fd, offset, some);
    return real_write(fd, bytes, some);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!is_ours(fd) || count < 1) return real_writev(fd, parts, count);
    return write(fd, parts[0].iov_base, parts[0].iov_len);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    if (!is_ours(fd)) return real_pwrite64(fd, bytes, length, offset);
    ssize_t some = taken(fd, offset, length);
    if (some < 0) return some;
    remember(fd, offset, some);
    return real_pwrite64(fd, bytes, some, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) {
    return pwrite64(fd, bytes, length, offset);
}

ssize_t pread64(int fd, void *bytes, size_t length, off64_t offset) {
    if (is_ours(fd) && fails(READ)) return refuse(error_number);
    return real_pread64(fd, bytes, length, offset);
}

ssize_t pread(int fd, void *bytes, size_t length, off_t offset) {
    return pread64(fd, bytes, length, offset);
}

int ftruncate64(int fd, off64_t length) {
    if (is_ours(fd) && fails(WRITE)) return refuse(error_number);
    return real_ftruncate64(fd, length);
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int synced(int fd, int (*real)(int)) {
    if (!is_ours(fd)) return real(fd);
    if (fails(SYNC)) {
        settle(fd, 1);
        return refuse(error_number);
    }
    /* The disk of this machine is not what is tested: a sync that goes well costs nothing. */
    settle(fd, 0);
    return 0;
}

int fsync(int fd) { return synced(fd, real_fsync); }
int fdatasync(int fd) { return synced(fd, real_fdatasync); }

int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, int) : 0;
    va_end(more);
    /* Reading a folder's file is not refused: a disk that is read-only, full or without handles refuses to make or change. */
    if ((flags & (O_CREAT | O_WRONLY | O_RDWR)) && is_our_path(path) && fails(OPEN)) return refuse(error_number);
    return real_open64(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, int) : 0;
    va_end(more);
    return open64(path, flags, mode);
}

int unlink(const char *path) {
    if (is_our_path(path) && fails(UNLINK)) return refuse(error_number);
    return real_unlink(path);
}

void *mmap64(void *where, size_t length, int protection, int flags, int fd, off64_t offset) {
    if (fd >= 0 && (flags & MAP_SHARED) && is_ours(fd) && fails(MMAP)) {
        errno = error_number;
        return MAP_FAILED;
    }
    return real_mmap64(where, length, protection, flags, fd, offset);
}

void *mmap(void *where, size_t length, int protection, int flags, int fd, off_t offset) {
    if (!real_mmap64) find((void **)&real_mmap64, "mmap64", NULL);
    return mmap64(where, length, protection, flags, fd, offset);
}

int fcntl64(int fd, int command, ...) {
    va_list more;
    va_start(more, command);
    void *with = va_arg(more, void *);
    va_end(more);
    int is_lock = command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW;
    if (is_lock && ((struct flock *)with)->l_type != F_UNLCK && is_ours(fd) && fails(LOCK)) return refuse(error_number);
    return real_fcntl64(fd, command, with);
}

int fcntl(int fd, int command, ...) {
    va_list more;
    va_start(more, command);
    void *with = va_arg(more, void *);
    va_end(more);
    return fcntl64(fd, command, with);
}

int flock(int fd, int operation) {
    if (!(operation & LOCK_UN) && is_ours(fd) && fails(FLOCK)) return refuse(error_number);
    return real_flock(fd, operation);
}
