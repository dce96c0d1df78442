/* Forgets what was never synced: a library to be preloaded into a process, which keeps beside the process's files what of them is on
 * stable storage, by the letter of POSIX.
 *
 * Under one folder (POWER_LOSS_ROOT):
 *
 *  - a file's bytes and length are durable as they were at its last fsync or fdatasync (or write, with O_SYNC or O_DSYNC). O_DIRECT
 *    makes nothing durable, nor does sync_file_range.
 *  - a name is durable as it was at the last fsync of its folder: creations, renames and removals before that are not.
 *
 * What is durable is written to POWER_LOSS_STATE, outside of the folder and on the same filesystem: `file-INODE` with the bytes, and
 * `folder-INODE` with a line for each name. After the process was killed, replay.rs makes the folder anew out of that.
 *
 * What this library does not see (writes through mmap, stdio, or system calls made without libc) counts as not written, even when it is
 * synced: a blind spot makes a test fail, and never pass.
 *
 *  1. Every write notes the range that it changed, after it returned and before its caller hears so.
 *  2. A sync takes the range that was noted, copies it from the file to its durable copy, and then returns. A write that comes
 *     meanwhile is noted anew, for the next sync.
 *  3. What is unlinked, or replaced by a rename, keeps a name in `trash`, so that its inode number is not given to another file while
 *     a durable folder still names it.
 *
 * POWER_LOSS_SYNC_US is how long a sync takes before it counts, microseconds: the window in which a kill finds something unsynced.
 * POWER_LOSS_LIE_ABOUT is the end of the names of files (".log") whose syncs are answered and not performed, as by a disk that lies or a
 * program that does not wait, from the moment on at which there is a file POWER_LOSS_LIE_FROM.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_FDS 65536
#define MAX_FILES 65536 /* inodes that a process may have had in the folder, a power of two */
#define COPY_BYTES (1 << 20)

enum { UNKNOWN = 0, ELSEWHERE, INSIDE };

/* What of a file was written since it was synced last. */
struct dirty {
    ino_t inode;
    int64_t from, until; /* nothing if until <= from */
    pthread_mutex_t syncing;
};

struct open_file {
    _Atomic int where;
    int synchronous;
    int lies;
    struct dirty *dirty;
};

static char root[PATH_MAX], state[PATH_MAX];
static size_t root_length;
static const char *lie_about, *lie_from;
static long sync_us;
static struct open_file fds[MAX_FDS];
static struct dirty files[MAX_FILES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void die(const char *what) {
    dprintf(2, "power-loss shim: %s: %s\n", what, strerror(errno));
    abort();
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int real_open(const char *path, int flags, mode_t mode) {
    static int (*real)(const char *, int, ...);
    if (!real) real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64");
    return real(path, flags, mode);
}

static int real_close(int fd) { REAL(close); return real(fd); }
static ssize_t real_write(int fd, const void *bytes, size_t count) { REAL(write); return real(fd, bytes, count); }
static ssize_t real_pwrite(int fd, const void *bytes, size_t count, off_t at) {
    REAL(pwrite);
    return real(fd, bytes, count, at);
}
static int real_ftruncate(int fd, off_t length) { REAL(ftruncate); return real(fd, length); }
static int real_rename(const char *from, const char *to) { REAL(rename); return real(from, to); }

static int is_inside(const char *path) {
    return root_length && !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

/* The record of an inode; `lock` is held. */
static struct dirty *dirty_of(ino_t inode) {
    for (size_t step = 0, at = inode; step < MAX_FILES; step++, at++) {
        struct dirty *found = &files[at % MAX_FILES];
        if (found->inode == inode) return found;
        if (!found->inode) {
            found->inode = inode;
            pthread_mutex_init(&found->syncing, NULL);
            return found;
        }
    }
    die("too many files");
    return NULL;
}

static int path_of(int fd, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return -1;
    path[length] = 0;
    return 0;
}

static int ends_with(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && !strcmp(text + length - tail, end);
}

/* Whether an open descriptor is one of the folder's, found out once. NULL if it is not. */
static struct open_file *inside(int fd) {
    if (!root_length || fd < 0 || fd >= MAX_FDS) return NULL;
    struct open_file *file = &fds[fd];
    int where = atomic_load(&file->where);
    if (where == UNKNOWN) {
        char path[PATH_MAX];
        struct stat status;
        int error = errno;
        if (path_of(fd, path) || !is_inside(path) || fstat(fd, &status)) {
            where = ELSEWHERE;
        } else {
            pthread_mutex_lock(&lock);
            file->dirty = dirty_of(status.st_ino);
            pthread_mutex_unlock(&lock);
            int flags = fcntl(fd, F_GETFL);
            file->synchronous = flags >= 0 && (flags & O_DSYNC); /* O_SYNC holds that bit, too */
            file->lies = lie_about && ends_with(path, lie_about);
            where = INSIDE;
        }
        atomic_store(&file->where, where);
        errno = error;
    }
    return where == INSIDE ? file : NULL;
}

static void note(struct open_file *file, int64_t from, int64_t until) {
    struct dirty *dirty = file->dirty;
    pthread_mutex_lock(&lock);
    if (dirty->until <= dirty->from) {
        dirty->from = from;
        dirty->until = until;
    } else {
        if (from < dirty->from) dirty->from = from;
        if (until > dirty->until) dirty->until = until;
    }
    pthread_mutex_unlock(&lock);
}

/* Brings the durable copy of a file up to date. */
static void sync_file(int fd, struct open_file *file) {
    static _Thread_local char *buffer;
    if (!buffer && !(buffer = malloc(COPY_BYTES))) die("no memory");
    struct dirty *dirty = file->dirty;
    pthread_mutex_lock(&dirty->syncing);
    pthread_mutex_lock(&lock);
    int64_t at = dirty->from, until = dirty->until;
    dirty->from = dirty->until = 0;
    pthread_mutex_unlock(&lock);

    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int from = real_open(path, O_RDONLY | O_CLOEXEC, 0);
    snprintf(path, sizeof path, "%s/file-%lu", state, (unsigned long)dirty->inode);
    int to = real_open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    struct stat status;
    if (from < 0 || to < 0 || fstat(from, &status)) die(path);
    while (at < until) {
        size_t wanted = until - at < COPY_BYTES ? (size_t)(until - at) : COPY_BYTES;
        ssize_t count = pread(from, buffer, wanted, at);
        if (count < 0) die("reading what is synced");
        if (count == 0) break;
        if (real_pwrite(to, buffer, (size_t)count, at) != count) die("keeping what is synced");
        at += count;
    }
    if (real_ftruncate(to, status.st_size)) die("keeping a length");
    real_close(from);
    real_close(to);
    pthread_mutex_unlock(&dirty->syncing);
}

/* Takes down a folder's names as they are now. */
static void sync_folder(int fd, ino_t inode) {
    static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
    char path[PATH_MAX + 64], aside[PATH_MAX + 64];
    if (path_of(fd, path)) die("a folder without a path");
    pthread_mutex_lock(&one);
    DIR *folder = opendir(path);
    snprintf(aside, sizeof aside, "%s/new", state);
    snprintf(path, sizeof path, "%s/folder-%lu", state, (unsigned long)inode);
    int to = real_open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (!folder || to < 0) die(path);
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        dprintf(to, "%c %lu %s\n", entry->d_type == DT_DIR ? 'd' : 'f', (unsigned long)entry->d_ino, entry->d_name);
    }
    closedir(folder);
    real_close(to);
    if (real_rename(aside, path)) die(path);
    pthread_mutex_unlock(&one);
}

static int sync_fd(int fd, struct open_file *file) {
    struct stat status;
    if (fstat(fd, &status)) return -1;
    if (file->lies && lie_from && !access(lie_from, F_OK)) return 0;
    if (sync_us) usleep((useconds_t)sync_us);
    if (S_ISDIR(status.st_mode)) {
        sync_folder(fd, status.st_ino);
    } else {
        sync_file(fd, file);
    }
    return 0;
}

/* After a write of `count` bytes that ended at `end`. */
static void wrote(int fd, struct open_file *file, ssize_t count, int64_t end) {
    if (count <= 0) return;
    int error = errno;
    note(file, end - count, end);
    if (file->synchronous) sync_fd(fd, file);
    errno = error;
}

/* Keeps the inode of a name that is about to go. */
static void keep(int folder, const char *name) {
    static _Atomic unsigned long number;
    struct stat status;
    char link[PATH_MAX + 64];
    int error = errno;
    if (!fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) && S_ISREG(status.st_mode)) {
        snprintf(link, sizeof link, "%s/trash/%lu-%lu", state, (unsigned long)status.st_ino, number++);
        if (linkat(folder, name, AT_FDCWD, link, 0)) die("keeping what is unlinked");
    }
    errno = error;
}

/* Whether a name lies in the folder. Names are resolved by their folder, which exists. */
static int names_inside(int folder, const char *name) {
    if (!root_length) return 0;
    char path[PATH_MAX], resolved[PATH_MAX];
    if (name[0] == '/') {
        snprintf(path, sizeof path, "%s", name);
    } else {
        char base[PATH_MAX];
        if (folder == AT_FDCWD ? !getcwd(base, sizeof base) : path_of(folder, base)) return 0;
        if (snprintf(path, sizeof path, "%s/%s", base, name) >= (int)sizeof path) return 0;
    }
    char *last = strrchr(path, '/');
    if (!last) return 0;
    *last = 0;
    return realpath(path[0] ? path : "/", resolved) && is_inside(resolved);
}

static void snapshot(const char *path) {
    int fd = real_open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    struct stat status;
    if (fd < 0 || fstat(fd, &status)) die(path);
    sync_folder(fd, status.st_ino);
    DIR *folder = fdopendir(fd);
    for (struct dirent *entry; (entry = readdir(folder));) {
        char inner[PATH_MAX];
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        if (entry->d_type == DT_DIR) {
            snapshot(inner);
            continue;
        }
        int file = real_open(inner, O_RDONLY | O_CLOEXEC, 0);
        if (file < 0 || fstat(file, &status)) die(inner);
        struct open_file *known = inside(file);
        if (!known) die(inner);
        note(known, 0, status.st_size);
        sync_file(file, known);
        atomic_store(&known->where, UNKNOWN);
        real_close(file);
    }
    closedir(folder);
}

/* What is there when the process starts is durable. */
__attribute__((constructor)) static void begin(void) {
    const char *given = getenv("POWER_LOSS_ROOT"), *beside = getenv("POWER_LOSS_STATE");
    if (!given || !beside) return;
    char path[PATH_MAX + 16];
    struct stat status;
    if (!realpath(given, root) || !realpath(beside, state)) die(given);
    snprintf(path, sizeof path, "%s/trash", state);
    if (!stat(path, &status)) {
        errno = EEXIST;
        die("a process died here, and its folder was not made anew");
    }
    if (mkdir(path, 0700)) die(path);
    lie_about = getenv("POWER_LOSS_LIE_ABOUT");
    lie_from = getenv("POWER_LOSS_LIE_FROM");
    const char *duration = getenv("POWER_LOSS_SYNC_US");
    sync_us = duration ? atol(duration) : 0;
    root_length = strlen(root);
    snapshot(root);
    unsetenv("LD_PRELOAD"); /* what this process starts is its own business */
}

/* ---- opening and closing ---- */

static int opened(int fd, int flags) {
    if (fd >= 0 && fd < MAX_FDS) {
        atomic_store(&fds[fd].where, UNKNOWN);
        if (flags & O_TRUNC) {
            struct open_file *file = inside(fd);
            /* Whatever was durable of it changes with the next sync. */
            if (file) note(file, 0, INT64_MAX);
        }
    }
    return fd;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) { MODE(flags) return opened(real_open(path, flags, mode), flags); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(real_open(path, flags, mode), flags); }
int openat(int folder, const char *path, int flags, ...) {
    MODE(flags)
    static int (*real)(int, const char *, int, ...);
    if (!real) real = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat64");
    return opened(real(folder, path, flags, mode), flags);
}
int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags)
    return openat(folder, path, flags, mode);
}
int creat(const char *path, mode_t mode) {
    int flags = O_CREAT | O_WRONLY | O_TRUNC;
    return opened(real_open(path, flags, mode), flags);
}
int creat64(const char *path, mode_t mode) { return creat(path, mode); }
int close(int fd) {
    if (fd >= 0 && fd < MAX_FDS) atomic_store(&fds[fd].where, UNKNOWN);
    return real_close(fd);
}

/* ---- writing ---- */

static int64_t position(int fd) {
    int error = errno;
    int64_t at = lseek(fd, 0, SEEK_CUR);
    errno = error;
    return at;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    struct open_file *file = inside(fd);
    ssize_t done = real_write(fd, bytes, count);
    if (file) wrote(fd, file, done, position(fd));
    return done;
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    struct open_file *file = inside(fd);
    ssize_t done = real(fd, parts, count);
    if (file) wrote(fd, file, done, position(fd));
    return done;
}
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    struct open_file *file = inside(fd);
    ssize_t done = real_pwrite(fd, bytes, count, at);
    if (file) wrote(fd, file, done, at + done);
    return done;
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) { return pwrite(fd, bytes, count, at); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    REAL(pwritev);
    struct open_file *file = inside(fd);
    ssize_t done = real(fd, parts, count, at);
    if (file) wrote(fd, file, done, at + done);
    return done;
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) { return pwritev(fd, parts, count, at); }
int ftruncate(int fd, off_t length) {
    struct open_file *file = inside(fd);
    struct stat before;
    if (file && fstat(fd, &before)) return -1;
    int done = real_ftruncate(fd, length);
    /* What is cut off and written again later is zeros in between. */
    if (file && !done && length < before.st_size) note(file, length, before.st_size);
    return done;
}
int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }
int fallocate(int fd, int mode, off_t at, off_t length) {
    REAL(fallocate);
    struct open_file *file = inside(fd);
    int done = real(fd, mode, at, length);
    if (file && !done && (mode & ~FALLOC_FL_KEEP_SIZE)) note(file, at, INT64_MAX);
    return done;
}
int fallocate64(int fd, int mode, off64_t at, off64_t length) { return fallocate(fd, mode, at, length); }

/* ---- syncing ---- */

int fsync(int fd) {
    REAL(fsync);
    struct open_file *file = inside(fd);
    return file ? sync_fd(fd, file) : real(fd);
}
int fdatasync(int fd) {
    REAL(fdatasync);
    struct open_file *file = inside(fd);
    return file ? sync_fd(fd, file) : real(fd);
}

/* ---- names ---- */

int rename(const char *from, const char *to) {
    if (names_inside(AT_FDCWD, to)) keep(AT_FDCWD, to);
    return real_rename(from, to);
}
int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    REAL(renameat);
    if (names_inside(to_folder, to)) keep(to_folder, to);
    return real(from_folder, from, to_folder, to);
}
int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    REAL(renameat2);
    if (names_inside(to_folder, to)) keep(to_folder, to);
    return real(from_folder, from, to_folder, to, flags);
}
int unlink(const char *path) {
    REAL(unlink);
    if (names_inside(AT_FDCWD, path)) keep(AT_FDCWD, path);
    return real(path);
}
int unlinkat(int folder, const char *path, int flags) {
    REAL(unlinkat);
    if (!(flags & AT_REMOVEDIR) && names_inside(folder, path)) keep(folder, path);
    return real(folder, path, flags);
}
