// What a process does to the files below one folder, in the order in which it does it.
//
// Loaded with LD_PRELOAD, it stands between the process and libc, and does nothing until rec_begin.
// From then on each call that changes a file, a name or what is durable becomes a record in a
// mapped file, which a kill does not take away. One mutex is held over the call and its record, so
// that the order of the records is the order of the calls; a sync has two records, for what is
// written while it runs need not be durable by it. rec_mark puts a text of the test's in between.
// Calls that change files in a way that is not modelled are recorded as UNKNOWN, and refused by
// whoever reads the record.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum kind {
    OPENED = 1, CREATED, MADE, WRITTEN, RESIZED, PUNCHED, CLONED, SYNC_BEGINS, SYNC_ENDS,
    RENAMED, LINKED, UNLINKED, REMOVED, LOCKED, MARK, UNKNOWN
};
// Classes of calls that a fault can be put into; 0 is any of them.
enum class { ANY, WRITES, SYNCS, NAMES, SIZES, FOLDER_SYNCS };
enum { SHORT = 10001, KILL = 10002, DELAY = 10003 };  // in the place of an errno

struct record {
    uint32_t kind, thread;
    uint64_t node, offset, length;
    int64_t result;
    uint32_t first, second;  // bytes of what follows: a path or data, another path
};
struct head { uint64_t used, overflowed, calls, fired; };

#define DESCRIPTORS 4096
static struct head *log_head;
static uint8_t *log_bytes;
static uint64_t log_room;
static char root[PATH_MAX];
static size_t root_length;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static uint8_t tracked[DESCRIPTORS];  // 1 file, 2 folder
static uint64_t node_of[DESCRIPTORS];
static uint64_t dice = 88172645463325252ull;
static int pause_us;
static struct { int class, error; long at, count, seen; } fault = {0, 0, -1, 0, 0};

static void *next(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) { fprintf(stderr, "recorder: no %s\n", name); abort(); }
    return found;
}
#define NEXT(result, name, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__))next(name)

static int on(void) { return log_head != NULL; }

static void put(enum kind kind, uint64_t node, uint64_t offset, uint64_t length, int64_t result,
                const void *one, size_t first, const void *two, size_t second)
{
    struct record r = {kind, (uint32_t)syscall(SYS_gettid), node, offset, length, result,
                       (uint32_t)first, (uint32_t)second};
    uint64_t room = (sizeof r + first + second + 7) & ~7ull;
    if (log_head->used + room > log_room) { log_head->overflowed = 1; return; }
    uint8_t *at = log_bytes + log_head->used;
    memcpy(at, &r, sizeof r);
    if (first) memcpy(at + sizeof r, one, first);
    if (second) memcpy(at + sizeof r + first, two, second);
    log_head->used += room;
}

// What the test calls.

int rec_begin(const char *log, const char *folder, uint64_t bytes, uint64_t seed, int pause)
{
    int fd = open(log, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)bytes)) return errno;
    uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (memory == MAP_FAILED) return errno;
    snprintf(root, sizeof root, "%s", folder);
    root_length = strlen(root);
    dice ^= seed * 0x9E3779B97F4A7C15ull;
    pause_us = pause;
    log_bytes = memory + 64;
    log_room = bytes - 64;
    log_head = (struct head *)memory;
    return 0;
}

void rec_fault(int class, int error, long at, long count)
{
    pthread_mutex_lock(&mutex);
    fault.class = class; fault.error = error; fault.at = at; fault.count = count; fault.seen = 0;
    pthread_mutex_unlock(&mutex);
}

void rec_mark(const char *text, uint32_t length)
{
    if (!on()) return;
    pthread_mutex_lock(&mutex);
    put(MARK, 0, 0, 0, 0, text, length, NULL, 0);
    pthread_mutex_unlock(&mutex);
}

// Nothing changes any more: whoever is at a call has finished it, with its record, and a kill that
// comes now does not fall between the two.
void rec_stop(void)
{
    if (on()) pthread_mutex_lock(&mutex);
}

// Faults and pauses.

static void rest(long us)
{
    struct timespec t = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&t, NULL);
}

static void pause_some(void)
{
    if (!on() || !pause_us) return;
    dice ^= dice << 13; dice ^= dice >> 7; dice ^= dice << 17;
    uint64_t x = dice;
    if ((x & 3) == 0) rest((long)((x >> 8) % (uint64_t)pause_us));
    else if ((x & 127) == 1) rest(20000);  // somebody else had the disk, or the processor
}

static int failing(enum class class)  // an errno, SHORT, or 0
{
    if (!on()) return 0;
    int error = 0;
    pthread_mutex_lock(&mutex);
    log_head->calls++;
    if (fault.at >= 0 && (fault.class == ANY || fault.class == (int)class)) {
        long n = fault.seen++;
        if (n >= fault.at && (fault.count < 0 || n < fault.at + fault.count)) {
            error = fault.error;
            log_head->fired++;
            if (error == KILL) syscall(SYS_kill, getpid(), SIGKILL);
        }
    }
    pthread_mutex_unlock(&mutex);
    if (error == DELAY) { rest(20000); return 0; }
    return error;
}

// Which files.

static int is_ours(int fd) { return on() && fd >= 0 && fd < DESCRIPTORS && tracked[fd]; }

static const char *inside(const char *path)  // relative to the root; NULL elsewhere
{
    if (strncmp(path, root, root_length)) return NULL;
    path += root_length;
    return *path == '/' ? path + 1 : *path ? NULL : path;
}

static int resolve(int folder, const char *path, char *whole)
{
    char base[PATH_MAX], link[64];
    if (path[0] == '/') return snprintf(whole, PATH_MAX, "%s", path) < PATH_MAX;
    if (folder == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) return 0;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t n = readlink(link, base, sizeof base - 1);
        if (n < 0) return 0;
        base[n] = 0;
    }
    if (!strcmp(path, ".")) return snprintf(whole, PATH_MAX, "%s", base) < PATH_MAX;
    return snprintf(whole, PATH_MAX, "%s/%s", base, path) < PATH_MAX;
}

static const char *ours(int folder, const char *path, char *whole)
{
    return on() && resolve(folder, path, whole) ? inside(whole) : NULL;
}

static void track(int fd)
{
    struct stat st;
    if (fd < 0 || fstat(fd, &st)) return;
    if (fd >= DESCRIPTORS) { put(UNKNOWN, 0, 0, 0, 0, "descriptor", 10, NULL, 0); return; }
    tracked[fd] = S_ISDIR(st.st_mode) ? 2 : 1;
    node_of[fd] = st.st_ino;
}

// Opening.

static int open_as(int folder, const char *path, int flags, mode_t mode)
{
    NEXT(int, "openat64", int, const char *, int, ...);
    char whole[PATH_MAX];
    const char *name = ours(folder, path, whole);
    if (!name) return real(folder, path, flags, mode);
    int error = flags & O_CREAT ? failing(NAMES) : 0;
    if (error && error != SHORT) { errno = error; return -1; }
    pause_some();
    pthread_mutex_lock(&mutex);
    struct stat st;
    int new = (flags & O_CREAT) && fstatat(folder, path, &st, 0) != 0;
    int fd = real(folder, path, flags, mode), kept = errno;
    if (fd >= 0) {
        track(fd);
        uint64_t node = fd < DESCRIPTORS ? node_of[fd] : 0;
        put(new ? CREATED : OPENED, node, 0, 0, 0, name, strlen(name), NULL, 0);
        if (!new && (flags & O_TRUNC)) put(RESIZED, node, 0, 0, 0, NULL, 0, NULL, 0);
        if (flags & O_APPEND) put(UNKNOWN, node, 0, 0, 0, "append", 6, NULL, 0);
    }
    pthread_mutex_unlock(&mutex);
    errno = kept;
    return fd;
}

#define MODE \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list list; va_start(list, flags); mode = va_arg(list, mode_t); va_end(list); \
    }
int open(const char *p, int flags, ...) { MODE return open_as(AT_FDCWD, p, flags, mode); }
int open64(const char *p, int flags, ...) { MODE return open_as(AT_FDCWD, p, flags, mode); }
int openat(int d, const char *p, int flags, ...) { MODE return open_as(d, p, flags, mode); }
int openat64(int d, const char *p, int flags, ...) { MODE return open_as(d, p, flags, mode); }
int creat(const char *p, mode_t mode)
{
    return open_as(AT_FDCWD, p, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int close(int fd)
{
    NEXT(int, "close", int);
    if (fd >= 0 && fd < DESCRIPTORS) tracked[fd] = 0;
    return real(fd);
}

// Bytes and sizes. Every write gets to its file by one call here.

static ssize_t write_at(int fd, const void *bytes, size_t length, off64_t offset)
{
    NEXT(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    if (!is_ours(fd)) return real(fd, bytes, length, offset);
    int error = failing(WRITES);
    if (error == SHORT) length = length > 1024 ? length / 3 / 512 * 512 : (length + 1) / 2;
    else if (error) { errno = error; return -1; }
    pause_some();
    pthread_mutex_lock(&mutex);
    ssize_t done = real(fd, bytes, length, offset);
    int kept = errno;
    if (done > 0)
        put(WRITTEN, node_of[fd], (uint64_t)offset, (uint64_t)done, done, bytes, (size_t)done,
            NULL, 0);
    pthread_mutex_unlock(&mutex);
    errno = kept;
    return done;
}

ssize_t pwrite64(int fd, const void *b, size_t n, off64_t at) { return write_at(fd, b, n, at); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t at) { return write_at(fd, b, n, at); }

static ssize_t write_parts(int fd, const struct iovec *parts, int count, off64_t offset)
{
    NEXT(ssize_t, "pwritev64", int, const struct iovec *, int, off64_t);
    if (!is_ours(fd)) return real(fd, parts, count, offset);
    size_t length = 0, at = 0;
    for (int k = 0; k < count; k++) length += parts[k].iov_len;
    uint8_t *whole = malloc(length + 1);
    for (int k = 0; k < count; at += parts[k++].iov_len)
        memcpy(whole + at, parts[k].iov_base, parts[k].iov_len);
    ssize_t done = write_at(fd, whole, length, offset);
    int kept = errno;
    free(whole);
    errno = kept;
    return done;
}

#define PARTS int fd, const struct iovec *parts, int count, off64_t offset
ssize_t pwritev64(PARTS) { return write_parts(fd, parts, count, offset); }
ssize_t pwritev(PARTS) { return write_parts(fd, parts, count, offset); }
ssize_t pwritev64v2(PARTS, int flags)
{
    NEXT(ssize_t, "pwritev64v2", int, const struct iovec *, int, off64_t, int);
    return is_ours(fd) ? write_parts(fd, parts, count, offset)
                       : real(fd, parts, count, offset, flags);
}
ssize_t pwritev2(PARTS, int flags) { return pwritev64v2(fd, parts, count, offset, flags); }

ssize_t write(int fd, const void *bytes, size_t length)
{
    NEXT(ssize_t, "write", int, const void *, size_t);
    if (!is_ours(fd)) return real(fd, bytes, length);
    off64_t at = lseek64(fd, 0, SEEK_CUR);
    ssize_t done = write_at(fd, bytes, length, at);
    if (done > 0) lseek64(fd, at + done, SEEK_SET);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    NEXT(ssize_t, "writev", int, const struct iovec *, int);
    if (!is_ours(fd)) return real(fd, parts, count);
    off64_t at = lseek64(fd, 0, SEEK_CUR);
    ssize_t done = write_parts(fd, parts, count, at);
    if (done > 0) lseek64(fd, at + done, SEEK_SET);
    return done;
}

static int resize(int fd, off64_t size)
{
    NEXT(int, "ftruncate64", int, off64_t);
    if (!is_ours(fd)) return real(fd, size);
    int error = failing(SIZES);
    if (error && error != SHORT) { errno = error; return -1; }
    pause_some();
    pthread_mutex_lock(&mutex);
    int status = real(fd, size), kept = errno;
    if (!status) put(RESIZED, node_of[fd], (uint64_t)size, 0, 0, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&mutex);
    errno = kept;
    return status;
}

int ftruncate64(int fd, off64_t size) { return resize(fd, size); }
int ftruncate(int fd, off_t size) { return resize(fd, size); }

static int allocate(int fd, int mode, off64_t offset, off64_t length)
{
    NEXT(int, "fallocate64", int, int, off64_t, off64_t);
    if (!is_ours(fd)) return real(fd, mode, offset, length);
    int error = failing(SIZES);
    if (error && error != SHORT) { errno = error; return -1; }
    pthread_mutex_lock(&mutex);
    int status = real(fd, mode, offset, length), kept = errno;
    if (!status)
        put(PUNCHED, node_of[fd], (uint64_t)offset, (uint64_t)length, mode, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&mutex);
    errno = kept;
    return status;
}

int fallocate64(int fd, int mode, off64_t o, off64_t n) { return allocate(fd, mode, o, n); }
int fallocate(int fd, int mode, off_t o, off_t n) { return allocate(fd, mode, o, n); }

int ioctl(int fd, unsigned long request, ...)
{
    NEXT(int, "ioctl", int, unsigned long, ...);
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    if (!is_ours(fd) || request != 0x40049409) return real(fd, request, argument);
    int source = (int)(long)argument;
    pthread_mutex_lock(&mutex);
    int status = real(fd, request, argument), kept = errno;
    if (!status)
        put(CLONED, node_of[fd], is_ours(source) ? node_of[source] : 0, 0, 0, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&mutex);
    errno = kept;
    return status;
}

// What is durable.

static int sync_as(int fd, const char *name)
{
    int (*real)(int) = (int (*)(int))next(name);
    if (!is_ours(fd)) return real(fd);
    int error = failing(tracked[fd] == 2 ? FOLDER_SYNCS : SYNCS), status = -1, kept;
    pause_some();
    pthread_mutex_lock(&mutex);
    put(SYNC_BEGINS, node_of[fd], 0, 0, 0, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&mutex);
    pause_some();
    if (error && error != SHORT) kept = error;
    else { status = real(fd); kept = errno; }
    pthread_mutex_lock(&mutex);
    put(SYNC_ENDS, node_of[fd], 0, 0, status, NULL, 0, NULL, 0);
    pthread_mutex_unlock(&mutex);
    errno = kept;
    return status;
}

int fsync(int fd) { return sync_as(fd, "fsync"); }
int fdatasync(int fd) { return sync_as(fd, "fdatasync"); }

// Names.

static int renamed(int from, const char *old, int to, const char *new, unsigned flags)
{
    NEXT(int, "renameat2", int, const char *, int, const char *, unsigned);
    char one[PATH_MAX], two[PATH_MAX];
    const char *first = ours(from, old, one), *second = ours(to, new, two);
    if (!first || !second) return real(from, old, to, new, flags);
    int error = failing(NAMES);
    if (error && error != SHORT) { errno = error; return -1; }
    pause_some();
    pthread_mutex_lock(&mutex);
    int status = real(from, old, to, new, flags), kept = errno;
    if (!status) {
        put(flags & 2 ? UNKNOWN : RENAMED, 0, 0, 0, 0, first, strlen(first), second,
            strlen(second));
    }
    pthread_mutex_unlock(&mutex);
    errno = kept;
    return status;
}

int renameat2(int a, const char *b, int c, const char *d, unsigned flags)
{
    return renamed(a, b, c, d, flags);
}
int renameat(int a, const char *b, int c, const char *d) { return renamed(a, b, c, d, 0); }
int rename(const char *b, const char *d) { return renamed(AT_FDCWD, b, AT_FDCWD, d, 0); }

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    NEXT(int, "linkat", int, const char *, int, const char *, int);
    char one[PATH_MAX], two[PATH_MAX];
    const char *first = ours(from, old, one), *second = ours(to, new, two);
    if (!second) return real(from, old, to, new, flags);
    pthread_mutex_lock(&mutex);
    int status = real(from, old, to, new, flags), kept = errno;
    if (!status)
        put(first ? LINKED : UNKNOWN, 0, 0, 0, 0, first ? first : "link",
            first ? strlen(first) : 4, second, strlen(second));
    pthread_mutex_unlock(&mutex);
    errno = kept;
    return status;
}
int link(const char *a, const char *b) { return linkat(AT_FDCWD, a, AT_FDCWD, b, 0); }

int unlinkat(int folder, const char *path, int flags)
{
    NEXT(int, "unlinkat", int, const char *, int);
    char whole[PATH_MAX];
    const char *name = ours(folder, path, whole);
    if (!name) return real(folder, path, flags);
    int error = failing(NAMES);
    if (error && error != SHORT) { errno = error; return -1; }
    pause_some();
    pthread_mutex_lock(&mutex);
    int status = real(folder, path, flags), kept = errno;
    if (!status)
        put(flags & AT_REMOVEDIR ? REMOVED : UNLINKED, 0, 0, 0, 0, name, strlen(name), NULL, 0);
    pthread_mutex_unlock(&mutex);
    errno = kept;
    return status;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int folder, const char *path, mode_t mode)
{
    NEXT(int, "mkdirat", int, const char *, mode_t);
    char whole[PATH_MAX];
    const char *name = ours(folder, path, whole);
    if (!name) return real(folder, path, mode);
    int error = failing(NAMES);
    if (error && error != SHORT) { errno = error; return -1; }
    pthread_mutex_lock(&mutex);
    int status = real(folder, path, mode), kept = errno;
    if (!status) put(MADE, 0, 0, 0, 0, name, strlen(name), NULL, 0);
    pthread_mutex_unlock(&mutex);
    errno = kept;
    return status;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int flock(int fd, int operation)
{
    NEXT(int, "flock", int, int);
    int status = real(fd, operation), kept = errno;
    if (is_ours(fd)) {
        pthread_mutex_lock(&mutex);
        put(LOCKED, node_of[fd], (uint64_t)operation, 0, status, NULL, 0, NULL, 0);
        pthread_mutex_unlock(&mutex);
    }
    errno = kept;
    return status;
}

// What nothing here is expected to do: whoever reads the record refuses it.

static void unknown(int fd, const char *name)
{
    if (!is_ours(fd)) return;
    pthread_mutex_lock(&mutex);
    put(UNKNOWN, node_of[fd], 0, 0, 0, name, strlen(name), NULL, 0);
    pthread_mutex_unlock(&mutex);
}

int sync_file_range(int fd, off64_t offset, off64_t length, unsigned flags)
{
    NEXT(int, "sync_file_range", int, off64_t, off64_t, unsigned);
    return real(fd, offset, length, flags);  // it makes nothing durable that can be relied on
}
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t n, unsigned flags)
{
    NEXT(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
    unknown(out, "copy_file_range");
    return real(in, from, out, to, n, flags);
}
ssize_t sendfile64(int out, int in, off64_t *offset, size_t count)
{
    NEXT(ssize_t, "sendfile64", int, int, off64_t *, size_t);
    unknown(out, "sendfile");
    return real(out, in, offset, count);
}
ssize_t sendfile(int out, int in, off_t *offset, size_t count)
{
    return sendfile64(out, in, offset, count);
}
int dup2(int old, int new)
{
    NEXT(int, "dup2", int, int);
    unknown(old, "dup2");
    return real(old, new);
}
void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset)
{
    NEXT(void *, "mmap64", void *, size_t, int, int, int, off64_t);
    if ((flags & MAP_SHARED) && (protection & PROT_WRITE)) unknown(fd, "mmap");
    return real(address, length, protection, flags, fd, offset);
}
