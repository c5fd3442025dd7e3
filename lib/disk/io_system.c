#include "io.h"

#include "base/assert.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* All of it, like mkdir -p; parents that are there need not be writable. */
static int make_dirs(const char *path)
{
    char part[PATH_MAX];
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof(part)) {
        return len == 0 ? ENOENT : ENAMETOOLONG;
    }
    memcpy(part, path, len + 1);
    for (char *at = part + 1; *at != '\0'; at++) {
        if (*at == '/') {
            *at = '\0';
            (void)mkdir(part, 0700); /* The last one tells what is wrong. */
            *at = '/';
        }
    }
    return mkdir(part, 0700) == 0 || errno == EEXIST ? 0 : errno;
}

static int system_open_dir(void *arg, const char *path, int *dir_p)
{
    (void)arg;
    int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    int dir = open(path, flags);
    if (dir < 0 && errno == ENOENT) {
        int error = make_dirs(path);
        if (error != 0) {
            return error;
        }
        dir = open(path, flags);
    }
    if (dir < 0) {
        return errno;
    }
    *dir_p = dir;
    return 0;
}

static int64_t read_pid(int file)
{
    char text[24];
    ssize_t n = pread(file, text, sizeof(text) - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    return n > 0 ? (int64_t)strtoll(text, NULL, 10) : 0;
}

/* flock() ends with the last descriptor of this open: also when the process is
 * killed, and not when somebody else in it opens and closes the file, as
 * fcntl() locks would. A child that was forked without exec keeps it as long as
 * it lives, if its parent is killed: the next start works without a disk then,
 * and says so. The directory is locked too, for somebody may delete the file;
 * file systems of a network may not be able to. */
static int system_lock(void *arg, int dir, const char *name, int *file_p,
                       int64_t *pid_p)
{
    (void)arg;
    int file = openat(dir, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    bool writable = file >= 0;
    if (!writable && (errno == EROFS || errno == EACCES)) {
        file = openat(dir, name, O_RDONLY | O_CLOEXEC);
    }
    if (file < 0) {
        return errno;
    }
    if (flock(file, LOCK_EX | LOCK_NB) != 0) {
        int error = errno;
        *pid_p = error == EWOULDBLOCK ? read_pid(file) : 0;
        (void)close(file);
        return error;
    }
    if (flock(dir, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        *pid_p = 0; /* It had another file. */
        (void)close(file);
        return EWOULDBLOCK;
    }
    char text[24];
    int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    /* For people only: a full disk must not keep the node from starting. */
    if (writable && ftruncate(file, 0) == 0) {
        ssize_t ignored = pwrite(file, text, (size_t)n, 0);
        (void)ignored;
    }
    *file_p = file;
    return 0;
}

static int system_check_dir(void *arg, int dir, const char *path)
{
    (void)arg;
    struct stat was;
    struct stat is;
    if (fstat(dir, &was) != 0 || stat(path, &is) != 0) {
        return errno;
    }
    return was.st_dev == is.st_dev && was.st_ino == is.st_ino ? 0 : ENOENT;
}

static int system_list(void *arg, int dir,
                       void (*each)(void *to, const char *name), void *to)
{
    (void)arg;
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy >= 0 ? fdopendir(copy) : NULL;
    if (list == NULL) {
        int error = errno;
        if (copy >= 0) {
            (void)close(copy);
        }
        return error;
    }
    int error = 0;
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(list);
        if (entry == NULL) {
            error = errno;
            break;
        }
        each(to, entry->d_name);
    }
    (void)closedir(list);
    return error;
}

static int system_open(void *arg, int dir, const char *name, unsigned flags,
                       int *file_p)
{
    (void)arg;
    int how = O_CLOEXEC | O_NOFOLLOW;
    how |= flags & PC_DISK_OPEN_WRITE ? O_RDWR : O_RDONLY;
    how |= flags & PC_DISK_OPEN_CREATE ? O_CREAT | O_EXCL : 0;
    how |= flags & PC_DISK_OPEN_DIRECT ? O_DIRECT : 0;
    int file = openat(dir, name, how, 0600);
    if (file < 0) {
        return errno;
    }
    *file_p = file;
    return 0;
}

static void system_close(void *arg, int file)
{
    (void)arg;
    (void)flock(file, LOCK_UN); /* A forked child may have it open as well. */
    (void)close(file);
}

static int system_size(void *arg, int file, uint64_t *size_p)
{
    (void)arg;
    struct stat stat;
    if (fstat(file, &stat) != 0) {
        return errno;
    }
    if (!S_ISREG(stat.st_mode)) {
        return EINVAL; /* Somebody put a pipe or a device there. */
    }
    *size_p = (uint64_t)stat.st_size;
    return 0;
}

static int system_pread(void *arg, int file, void *to, size_t len, uint64_t at,
                        size_t *n_p)
{
    (void)arg;
    ssize_t n = pread(file, to, len, (off_t)at);
    if (n < 0) {
        return errno;
    }
    *n_p = (size_t)n;
    return 0;
}

static int system_pwrite(void *arg, int file, const void *from, size_t len,
                         uint64_t at, size_t *n_p)
{
    (void)arg;
    ssize_t n = pwrite(file, from, len, (off_t)at);
    if (n < 0) {
        return errno;
    }
    *n_p = (size_t)n;
    return 0;
}

static int system_allocate(void *arg, int file, uint64_t len)
{
    (void)arg;
    /* Not posix_fallocate(), which writes to every block where the file system
     * cannot do better. */
    return fallocate(file, 0, 0, (off_t)len) == 0 ? 0 : errno;
}

static int system_truncate(void *arg, int file, uint64_t len)
{
    (void)arg;
    return ftruncate(file, (off_t)len) == 0 ? 0 : errno;
}

static int system_sync(void *arg, int file)
{
    (void)arg;
    return fdatasync(file) == 0 ? 0 : errno;
}

static int system_sync_dir(void *arg, int dir)
{
    (void)arg;
    return fsync(dir) == 0 ? 0 : errno;
}

static int system_unlink(void *arg, int dir, const char *name)
{
    (void)arg;
    return unlinkat(dir, name, 0) == 0 ? 0 : errno;
}

static int system_rename(void *arg, int dir, const char *from, const char *to)
{
    (void)arg;
    char folder[NAME_MAX + 1];
    const char *slash = strchr(to, '/');
    if (slash != NULL && (size_t)(slash - to) < sizeof(folder)) {
        memcpy(folder, to, (size_t)(slash - to));
        folder[slash - to] = '\0';
        if (mkdirat(dir, folder, 0700) != 0 && errno != EEXIST) {
            return errno;
        }
    }
    return renameat(dir, from, dir, to) == 0 ? 0 : errno;
}

static int system_free_bytes(void *arg, int dir, uint64_t *bytes_p)
{
    (void)arg;
    struct statvfs stat;
    if (fstatvfs(dir, &stat) != 0) {
        return errno;
    }
    *bytes_p = (uint64_t)stat.f_bavail * stat.f_frsize;
    return 0;
}

static int system_folder(void *arg, int dir, const char *name,
                         uint64_t *n_files_p, uint64_t *bytes_p)
{
    (void)arg;
    int folder =
        openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *list = folder >= 0 ? fdopendir(folder) : NULL;
    if (list == NULL) {
        int error = errno;
        if (folder >= 0) {
            (void)close(folder);
        }
        return error;
    }
    uint64_t n_files = 0;
    uint64_t bytes = 0;
    struct dirent *entry;
    while ((entry = readdir(list)) != NULL) {
        struct stat stat;
        if (fstatat(folder, entry->d_name, &stat, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(stat.st_mode)) {
            n_files++;
            bytes += (uint64_t)stat.st_size;
        }
    }
    (void)closedir(list);
    *n_files_p = n_files;
    *bytes_p = bytes;
    return 0;
}

/* The rest is for the program we live in, and for its other tiers. */
uint32_t pc_disk_io_files(void)
{
    const rlim_t least = 16;
    const rlim_t most = 4096;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return (uint32_t)least;
    }
    rlim_t n = limit.rlim_cur == RLIM_INFINITY ? most : limit.rlim_cur / 8;
    n = n < least ? least : n;
    return (uint32_t)(n < most ? n : most);
}

const struct pc_disk_io *pc_disk_io_system(void)
{
    static const struct pc_disk_io io = {
        .open_dir = system_open_dir,
        .lock = system_lock,
        .check_dir = system_check_dir,
        .list = system_list,
        .open = system_open,
        .close = system_close,
        .size = system_size,
        .pread = system_pread,
        .pwrite = system_pwrite,
        .allocate = system_allocate,
        .truncate = system_truncate,
        .sync = system_sync,
        .sync_dir = system_sync_dir,
        .unlink = system_unlink,
        .rename = system_rename,
        .free_bytes = system_free_bytes,
        .folder = system_folder,
    };
    return &io;
}
