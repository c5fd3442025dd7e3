#include "mem_disk.h"

#include "base/rand.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SECTOR = 512,
    FILES = 512,
    HANDLES = 2048,
    CHANGES = 1 << 16,
    DIR_HANDLE = 1 << 20
};

struct file
{
    char name[96];
    bool used, linked; /* Linked: has its name now. */
    bool name_safe;    /* The name would be there after a crash. */
    unsigned n_open;
    unsigned char *data, *safe; /* Now, and as last synced. */
    uint64_t size, safe_size, capacity;
    bool *dirty; /* By sector. */
};

struct mem_disk
{
    struct pc_disk_io io;
    pthread_mutex_t lock;
    struct pc_rand random;
    struct file files[FILES];
    struct file *handles[HANDLES];
    bool locked, replaced, read_only, plain;
    bool quota; /* The bound on space is not told. */
    bool stopping, stopped;
    uint64_t n_changes, stop_at, stop_bytes, space;
    uint32_t lens[CHANGES];
    struct
    {
        int error;
        uint64_t skip, n, calls;
    } fault[MEM_DISK_N_OPS];
};

static struct mem_disk *enter(void *arg)
{
    struct mem_disk *disk = arg;
    (void)pthread_mutex_lock(&disk->lock);
    return disk;
}

static int leave(struct mem_disk *disk, int result)
{
    (void)pthread_mutex_unlock(&disk->lock);
    return result;
}

static int fault_of(struct mem_disk *disk, enum mem_disk_op op)
{
    disk->fault[op].calls++;
    if (disk->stopped) {
        return EIO;
    }
    if (disk->fault[op].n == 0) {
        return 0;
    }
    if (disk->fault[op].skip > 0) {
        disk->fault[op].skip--;
        return 0;
    }
    disk->fault[op].n--;
    return disk->fault[op].error;
}

/* A change: *bytes becomes what is still done when the disk stops here. */
static int change(struct mem_disk *disk, enum mem_disk_op op, uint64_t *bytes)
{
    int error = fault_of(disk, op);
    if (error == 0 && disk->read_only) {
        error = EROFS;
    }
    if (error != 0) {
        return error;
    }
    if (disk->stopping && disk->n_changes == disk->stop_at) {
        disk->stopped = true;
        if (bytes == NULL || disk->stop_bytes == 0) {
            return EIO;
        }
        *bytes = disk->stop_bytes < *bytes ? disk->stop_bytes : *bytes;
    }
    if (disk->n_changes < CHANGES) {
        disk->lens[disk->n_changes] = bytes != NULL ? (uint32_t)*bytes : 0;
    }
    disk->n_changes++;
    return 0;
}

static struct file *find(struct mem_disk *disk, const char *name)
{
    for (size_t i = 0; i < FILES; i++) {
        struct file *file = &disk->files[i];
        if (file->used && file->linked && strcmp(file->name, name) == 0) {
            return file;
        }
    }
    return NULL;
}

static void forget(struct file *file)
{
    free(file->data);
    free(file->safe);
    free(file->dirty);
    memset(file, 0, sizeof(*file));
}

static void forget_if_gone(struct file *file)
{
    if (!file->linked && !file->name_safe && file->n_open == 0) {
        forget(file);
    }
}

static void grow(struct file *file, uint64_t size)
{
    if (size <= file->capacity) {
        return;
    }
    uint64_t capacity = (size + SECTOR - 1) / SECTOR * SECTOR;
    file->data = realloc(file->data, capacity);
    file->safe = realloc(file->safe, capacity);
    file->dirty = realloc(file->dirty, capacity / SECTOR * sizeof(bool));
    if (file->data == NULL || file->safe == NULL || file->dirty == NULL) {
        abort();
    }
    memset(file->data + file->capacity, 0, capacity - file->capacity);
    memset(file->safe + file->capacity, 0, capacity - file->capacity);
    memset(file->dirty + file->capacity / SECTOR, 0,
           (capacity - file->capacity) / SECTOR * sizeof(bool));
    file->capacity = capacity;
}

static void set_size(struct file *file, uint64_t size)
{
    grow(file, size);
    if (size < file->size) {
        memset(file->data + size, 0, file->size - size);
        for (uint64_t i = size / SECTOR; i * SECTOR < file->size; i++) {
            file->dirty[i] = true;
        }
    }
    file->size = size;
}

static uint64_t bytes_used(const struct mem_disk *disk)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < FILES; i++) {
        bytes += disk->files[i].used && disk->files[i].linked
                     ? disk->files[i].size
                     : 0;
    }
    return bytes;
}

static struct file *make(struct mem_disk *disk, const char *name)
{
    for (size_t i = 0; i < FILES; i++) {
        struct file *file = &disk->files[i];
        if (!file->used) {
            file->used = true;
            file->linked = true;
            (void)snprintf(file->name, sizeof(file->name), "%s", name);
            return file;
        }
    }
    abort();
}

/* ---- The functions of the io ----------------------------------------------
 */

static int md_open_dir(void *arg, const char *path, int *dir_p)
{
    (void)path;
    struct mem_disk *disk = enter(arg);
    int error = disk->stopped ? EIO : 0;
    *dir_p = DIR_HANDLE;
    return leave(disk, error);
}

static int md_lock(void *arg, int dir, const char *name, int *file_p,
                   int64_t *pid_p)
{
    (void)dir;
    (void)name;
    struct mem_disk *disk = enter(arg);
    if (disk->locked) {
        *pid_p = 77;
        return leave(disk, EWOULDBLOCK);
    }
    disk->locked = true;
    *file_p = DIR_HANDLE + 1;
    return leave(disk, 0);
}

static int md_check_dir(void *arg, int dir, const char *path)
{
    (void)dir;
    (void)path;
    struct mem_disk *disk = enter(arg);
    return leave(disk, disk->replaced ? ENOENT : 0);
}

static int md_list(void *arg, int dir, void (*each)(void *to, const char *name),
                   void *to)
{
    (void)dir;
    struct mem_disk *disk = enter(arg);
    each(to, ".");
    each(to, "..");
    each(to, "lock");
    for (size_t i = 0; i < FILES; i++) {
        if (disk->files[i].used && disk->files[i].linked) {
            each(to, disk->files[i].name);
        }
    }
    return leave(disk, 0);
}

static int md_open(void *arg, int dir, const char *name, unsigned flags,
                   int *file_p)
{
    (void)dir;
    struct mem_disk *disk = enter(arg);
    struct file *file = find(disk, name);
    int error = (flags & PC_DISK_OPEN_DIRECT) && disk->plain ? EINVAL
                : flags & PC_DISK_OPEN_CREATE
                    ? change(disk, MEM_DISK_OPEN, NULL)
                    : fault_of(disk, MEM_DISK_OPEN);
    if (error == 0 && (flags & PC_DISK_OPEN_WRITE) && disk->read_only) {
        error = EROFS;
    }
    if (error == 0) {
        bool create = flags & PC_DISK_OPEN_CREATE;
        error = create && file != NULL    ? EEXIST
                : !create && file == NULL ? ENOENT
                                          : 0;
    }
    if (error != 0) {
        return leave(disk, error);
    }
    file = file != NULL ? file : make(disk, name);
    for (int i = 0; i < HANDLES; i++) {
        if (disk->handles[i] == NULL) {
            disk->handles[i] = file;
            file->n_open++;
            *file_p = i;
            return leave(disk, 0);
        }
    }
    abort();
}

static void md_close(void *arg, int handle)
{
    struct mem_disk *disk = enter(arg);
    if (handle == DIR_HANDLE + 1) {
        disk->locked = false;
    } else if (handle < DIR_HANDLE && disk->handles[handle] != NULL) {
        struct file *file = disk->handles[handle];
        disk->handles[handle] = NULL;
        file->n_open--;
        forget_if_gone(file);
    }
    (void)leave(disk, 0);
}

static int md_size(void *arg, int handle, uint64_t *size_p)
{
    struct mem_disk *disk = enter(arg);
    *size_p = disk->handles[handle]->size;
    return leave(disk, 0);
}

static int md_pread(void *arg, int handle, void *to, size_t len, uint64_t at,
                    size_t *n_p)
{
    struct mem_disk *disk = enter(arg);
    struct file *file = disk->handles[handle];
    int error = fault_of(disk, MEM_DISK_READ);
    if (error == 0) {
        uint64_t left = at < file->size ? file->size - at : 0;
        *n_p = left < len ? (size_t)left : len;
        if (*n_p > 0) {
            memcpy(to, file->data + at, *n_p);
        }
    }
    return leave(disk, error);
}

static int md_pwrite(void *arg, int handle, const void *from, size_t len,
                     uint64_t at, size_t *n_p)
{
    struct mem_disk *disk = enter(arg);
    struct file *file = disk->handles[handle];
    uint64_t n = len;
    int error = change(disk, MEM_DISK_WRITE, &n);
    uint64_t used = bytes_used(disk);
    uint64_t more = at + len > file->size ? at + len - file->size : 0;
    if (error == 0 && disk->space > 0 && used + more > disk->space) {
        error = disk->quota ? EDQUOT : ENOSPC;
    }
    if (error != 0) {
        return leave(disk, error);
    }
    if (!disk->plain && (at % PC_DISK_BLOCK != 0 || len % PC_DISK_BLOCK != 0 ||
                         (uintptr_t)from % PC_DISK_BLOCK != 0)) {
        abort(); /* Direct I/O would not take it. */
    }
    if (at + n > file->size) {
        set_size(file, at + n);
    }
    memcpy(file->data + at, from, n);
    for (uint64_t i = at / SECTOR; i * SECTOR < at + n; i++) {
        file->dirty[i] = true;
    }
    *n_p = (size_t)n;
    return leave(disk, disk->stopped ? EIO : 0);
}

static int md_allocate(void *arg, int handle, uint64_t len)
{
    struct mem_disk *disk = enter(arg);
    struct file *file = disk->handles[handle];
    int error =
        disk->plain ? EOPNOTSUPP : change(disk, MEM_DISK_ALLOCATE, NULL);
    if (error == 0 && disk->space > 0 &&
        bytes_used(disk) - file->size + len > disk->space) {
        error = disk->quota ? EDQUOT : ENOSPC;
    }
    if (error == 0 && len > file->size) {
        set_size(file, len);
    }
    return leave(disk, error);
}

static int md_truncate(void *arg, int handle, uint64_t len)
{
    struct mem_disk *disk = enter(arg);
    int error = change(disk, MEM_DISK_TRUNCATE, NULL);
    if (error == 0) {
        set_size(disk->handles[handle], len);
    }
    return leave(disk, error);
}

static int md_sync(void *arg, int handle)
{
    struct mem_disk *disk = enter(arg);
    struct file *file = disk->handles[handle];
    int error = change(disk, MEM_DISK_SYNC, NULL);
    for (uint64_t i = 0; error == 0 && i < file->capacity / SECTOR; i++) {
        if (file->dirty[i]) {
            memcpy(file->safe + i * SECTOR, file->data + i * SECTOR, SECTOR);
            file->dirty[i] = false;
        }
    }
    if (error == 0) {
        file->safe_size = file->size;
    }
    return leave(disk, error);
}

static int md_sync_dir(void *arg, int dir)
{
    (void)dir;
    struct mem_disk *disk = enter(arg);
    int error = change(disk, MEM_DISK_SYNC_DIR, NULL);
    for (size_t i = 0; error == 0 && i < FILES; i++) {
        if (disk->files[i].used) {
            disk->files[i].name_safe = disk->files[i].linked;
            forget_if_gone(&disk->files[i]);
        }
    }
    return leave(disk, error);
}

static int md_unlink(void *arg, int dir, const char *name)
{
    (void)dir;
    struct mem_disk *disk = enter(arg);
    struct file *file = find(disk, name);
    int error = change(disk, MEM_DISK_UNLINK, NULL);
    if (error == 0 && file == NULL) {
        error = ENOENT;
    }
    if (error == 0) {
        file->linked = false;
        forget_if_gone(file);
    }
    return leave(disk, error);
}

static int md_rename(void *arg, int dir, const char *from, const char *to)
{
    (void)dir;
    struct mem_disk *disk = enter(arg);
    struct file *file = find(disk, from);
    int error = change(disk, MEM_DISK_RENAME, NULL);
    if (error == 0 && file == NULL) {
        error = ENOENT;
    }
    if (error == 0) {
        (void)snprintf(file->name, sizeof(file->name), "%s", to);
    }
    return leave(disk, error);
}

static int md_folder(void *arg, int dir, const char *name, uint64_t *n_files_p,
                     uint64_t *bytes_p)
{
    (void)dir;
    struct mem_disk *disk = enter(arg);
    size_t len = strlen(name);
    uint64_t n_files = 0;
    uint64_t bytes = 0;
    for (size_t i = 0; i < FILES; i++) {
        const struct file *file = &disk->files[i];
        if (file->used && file->linked && strncmp(file->name, name, len) == 0 &&
            file->name[len] == '/') {
            n_files++;
            bytes += file->size;
        }
    }
    *n_files_p = n_files;
    *bytes_p = bytes;
    return leave(disk, n_files > 0 ? 0 : ENOENT);
}

static int md_free_bytes(void *arg, int dir, uint64_t *bytes_p)
{
    (void)dir;
    struct mem_disk *disk = enter(arg);
    uint64_t used = bytes_used(disk);
    *bytes_p = disk->space == 0 || disk->quota ? UINT64_MAX / 2
               : used < disk->space            ? disk->space - used
                                               : 0;
    return leave(disk, 0);
}

/* ---- The test's side --------------------------------------------------------
 */

struct mem_disk *mem_disk_create(uint64_t seed)
{
    struct mem_disk *disk = calloc(1, sizeof(*disk));
    if (disk == NULL) {
        abort();
    }
    disk->io = (struct pc_disk_io){.arg = disk,
                                   .open_dir = md_open_dir,
                                   .lock = md_lock,
                                   .check_dir = md_check_dir,
                                   .list = md_list,
                                   .open = md_open,
                                   .close = md_close,
                                   .size = md_size,
                                   .pread = md_pread,
                                   .pwrite = md_pwrite,
                                   .allocate = md_allocate,
                                   .truncate = md_truncate,
                                   .sync = md_sync,
                                   .sync_dir = md_sync_dir,
                                   .unlink = md_unlink,
                                   .rename = md_rename,
                                   .free_bytes = md_free_bytes,
                                   .folder = md_folder};
    (void)pthread_mutex_init(&disk->lock, NULL);
    pc_rand_init(&disk->random, seed);
    return disk;
}

void mem_disk_destroy(struct mem_disk *disk)
{
    for (size_t i = 0; i < FILES; i++) {
        forget(&disk->files[i]);
    }
    (void)pthread_mutex_destroy(&disk->lock);
    free(disk);
}

const struct pc_disk_io *mem_disk_io(struct mem_disk *disk)
{
    return &disk->io;
}

uint64_t mem_disk_n_changes(const struct mem_disk *disk)
{
    return disk->n_changes;
}

uint64_t mem_disk_change_len(const struct mem_disk *disk, uint64_t n)
{
    return n < CHANGES ? disk->lens[n] : 0;
}

void mem_disk_stop_at(struct mem_disk *disk, uint64_t n, uint64_t bytes)
{
    disk->stopping = true;
    disk->stop_at = disk->n_changes + n;
    disk->stop_bytes = bytes;
}

bool mem_disk_has_stopped(const struct mem_disk *disk)
{
    return disk->stopped;
}

/* One sector or name of those that were not synced: does it survive? */
static bool survives(struct mem_disk *disk, enum mem_disk_crash how)
{
    return how == MEM_DISK_KILLED ||
           (how == MEM_DISK_POWER_SOME && pc_rand_below(&disk->random, 2) == 0);
}

static void crash_file(struct mem_disk *disk, struct file *file,
                       enum mem_disk_crash how)
{
    if (file->size != file->safe_size && !survives(disk, how)) {
        file->size = file->safe_size;
    }
    for (uint64_t i = 0; i < file->capacity / SECTOR; i++) {
        if (file->dirty[i] && !survives(disk, how)) {
            memcpy(file->data + i * SECTOR, file->safe + i * SECTOR, SECTOR);
        }
    }
    if (file->capacity > file->size) {
        memset(file->data + file->size, 0, file->capacity - file->size);
    }
    if (file->linked != file->name_safe && !survives(disk, how)) {
        file->linked = file->name_safe;
    }
    file->n_open = 0;
    file->name_safe = file->linked;
    if (!file->linked) {
        forget(file);
        return;
    }
    if (file->capacity > 0) {
        memcpy(file->safe, file->data, file->capacity);
        memset(file->dirty, 0, file->capacity / SECTOR * sizeof(bool));
    }
    file->safe_size = file->size;
}

void mem_disk_crash(struct mem_disk *disk, enum mem_disk_crash how)
{
    for (size_t i = 0; i < FILES; i++) {
        if (disk->files[i].used) {
            crash_file(disk, &disk->files[i], how);
        }
    }
    memset(disk->handles, 0, sizeof(disk->handles));
    disk->locked = false;
    disk->stopping = false;
    disk->stopped = false;
}

void mem_disk_fail(struct mem_disk *disk, enum mem_disk_op op, int error,
                   uint64_t skip, uint64_t n)
{
    disk->fault[op].error = error;
    disk->fault[op].skip = skip;
    disk->fault[op].n = n;
}

void mem_disk_set_space(struct mem_disk *disk, uint64_t bytes)
{
    disk->space = bytes;
}

void mem_disk_set_quota(struct mem_disk *disk, uint64_t bytes)
{
    disk->space = bytes;
    disk->quota = true;
}

size_t mem_disk_n_open(struct mem_disk *disk)
{
    size_t n = 0;
    for (int i = 0; i < HANDLES; i++) {
        n += disk->handles[i] != NULL ? 1 : 0;
    }
    return n;
}

void mem_disk_set_read_only(struct mem_disk *disk, bool read_only)
{
    disk->read_only = read_only;
}

void mem_disk_set_plain(struct mem_disk *disk)
{
    disk->plain = true;
}

void mem_disk_replace(struct mem_disk *disk)
{
    disk->replaced = true;
}

uint64_t mem_disk_n_calls(const struct mem_disk *disk, enum mem_disk_op op)
{
    return disk->fault[op].calls;
}

bool mem_disk_file(struct mem_disk *disk, const char *prefix, size_t n,
                   struct mem_disk_view *view_p)
{
    struct file *found[FILES];
    size_t n_found = 0;
    for (size_t i = 0; i < FILES; i++) {
        struct file *file = &disk->files[i];
        if (!file->used || !file->linked ||
            strncmp(file->name, prefix, strlen(prefix)) != 0) {
            continue;
        }
        size_t at = n_found++;
        while (at > 0 && strcmp(found[at - 1]->name, file->name) > 0) {
            found[at] = found[at - 1];
            at--;
        }
        found[at] = file;
    }
    if (n >= n_found) {
        return false;
    }
    memcpy(view_p->name, found[n]->name, sizeof(view_p->name));
    view_p->data = found[n]->data;
    view_p->size = found[n]->size;
    return true;
}

void mem_disk_put(struct mem_disk *disk, const char *name, const void *data,
                  uint64_t size)
{
    struct file *file = find(disk, name);
    file = file != NULL ? file : make(disk, name);
    set_size(file, size);
    memcpy(file->data, data, size);
    memcpy(file->safe, file->data, file->capacity);
    file->safe_size = size;
    file->name_safe = true;
}

void mem_disk_wipe(struct mem_disk *disk)
{
    for (size_t i = 0; i < FILES; i++) {
        forget(&disk->files[i]);
    }
    memset(disk->handles, 0, sizeof(disk->handles));
}

void mem_disk_cut(struct mem_disk *disk, const char *name, uint64_t size)
{
    set_size(find(disk, name), size);
}

uint64_t mem_disk_bytes(struct mem_disk *disk)
{
    return bytes_used(disk);
}
