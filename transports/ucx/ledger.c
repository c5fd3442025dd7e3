#include "ledger.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/rand.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER          PC_UCX_LEDGER_FOLDER
#define PREFIX          PC_UCX_LEDGER_PREFIX
#define UNLINKED_PREFIX "ucx_shm_posix_"
#define MAGIC           UINT64_C(0x72656764656c6370)
/* What UCX may round a length up by, and what it allocates for itself. */
#define ROUND_UP  ((uint64_t)2 << 20)
#define SMALL_MAX ((uint64_t)64 << 20)
/* Between what a file says and the segment's time: clocks in seconds. */
#define TIME_SLACK_S 2
#define TIME_MAX_S   5
/* A file of posix memory is unlinked at once; one that is empty for so long
 * was not. */
#define EMPTY_MAX_S 60
#define LEDGERS_MAX 256
#define FOUND_MAX   64
#define TRIES       8

struct look
{
    struct pc_ucx_ledger_page own; /* Who looks. */
    struct pc_ucx_ledger_page dead[LEDGERS_MAX];
    size_t n_dead;
    struct pc_ucx_ledger_page living[LEDGERS_MAX];
    size_t n_living;
    bool too_many; /* Living ones that were not taken down: remove nothing. */
};

/* ---- Pages ------------------------------------------------------------ */

static uint64_t space_id(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 ? (uint64_t)info.st_ino : 0;
}

static uint64_t boot_id(void)
{
    char text[64] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t len = fd >= 0 ? read(fd, text, sizeof(text)) : -1;
    if (fd >= 0) {
        close(fd);
    }
    return len > 0 ? pc_hash64(text, (size_t)len, 0) : 0;
}

static uint64_t checksum(const struct pc_ucx_ledger_page *page)
{
    return pc_hash64(page, offsetof(struct pc_ucx_ledger_page, checksum),
                     MAGIC);
}

static struct pc_ucx_ledger_page page_now(bool is_making, size_t len)
{
    struct pc_ucx_ledger_page page = {
        .magic = MAGIC,
        .boot = boot_id(),
        .pid_space = space_id("/proc/self/ns/pid"),
        .ipc_space = space_id("/proc/self/ns/ipc"),
        .pid = (uint64_t)getpid(),
        .is_making = is_making,
        .len = len,
        .time_s = pc_clock_wall() / PC_S};
    page.checksum = checksum(&page);
    return page;
}

static bool page_read(int fd, struct pc_ucx_ledger_page *page)
{
    return pread(fd, page, sizeof(*page), 0) == (ssize_t)sizeof(*page) &&
           page->magic == MAGIC && page->checksum == checksum(page);
}

static void page_write(const struct pc_ucx_ledger *ledger, bool is_making,
                       size_t len)
{
    struct pc_ucx_ledger_page page = page_now(is_making, len);
    if (pwrite(ledger->fd, &page, sizeof(page), 0) != (ssize_t)sizeof(page)) {
        PC_DEBUG("ucx", "no note of shared memory can be made: %s",
                 strerror(errno));
    }
}

/* ---- Segments --------------------------------------------------------- */

/* Whether the segment may be what the page speaks of, as far as its length and
 * its time go. */
static bool fits(const struct pc_ucx_ledger_page *page,
                 const struct shmid_ds *segment)
{
    uint64_t len = (uint64_t)segment->shm_segsz;
    uint64_t time_s = (uint64_t)segment->shm_ctime;
    bool is_len = page->len == 0
                      ? len <= SMALL_MAX
                      : len >= page->len && len - page->len < ROUND_UP;
    return page->is_making == 1 && is_len &&
           time_s + TIME_SLACK_S >= page->time_s &&
           time_s <= page->time_s + TIME_MAX_S;
}

/* The maker's number is as we see it: 0 for a process of another name space
 * that we do not see into. A number of another name space than ours means
 * nothing here. */
static bool may_be_maker(const struct look *look,
                         const struct pc_ucx_ledger_page *page, pid_t maker)
{
    return page->pid_space != look->own.pid_space ||
           page->pid == (uint64_t)maker;
}

static bool is_dead_maker(const struct look *look,
                          const struct pc_ucx_ledger_page *page, pid_t maker)
{
    if (page->pid_space == look->own.pid_space) {
        return page->pid == (uint64_t)maker;
    }
    if (maker == 0) {
        /* Of whom, nobody can say: only a length of its own tells. */
        return page->len != 0;
    }
    return kill(maker, 0) != 0 && errno == ESRCH;
}

static bool is_left_behind(const struct look *look,
                           const struct shmid_ds *segment)
{
    const struct ipc_perm *perm = &segment->shm_perm;
    bool dead = false;
    if (segment->shm_nattch != 0 || perm->__key != IPC_PRIVATE ||
        perm->uid != geteuid() || perm->cuid != geteuid() ||
        (perm->mode & SHM_DEST) != 0) {
        return false;
    }
    for (size_t i = 0; i < look->n_living; i++) {
        if (fits(&look->living[i], segment) &&
            may_be_maker(look, &look->living[i], segment->shm_cpid)) {
            return false; /* It is about to be attached. */
        }
    }
    for (size_t i = 0; i < look->n_dead && !dead; i++) {
        dead = fits(&look->dead[i], segment) &&
               is_dead_maker(look, &look->dead[i], segment->shm_cpid);
    }
    return dead;
}

/* ---- Files ------------------------------------------------------------ */

/* A file of ours by name; -1: it is not, or gone. */
static int open_file(const char *path)
{
    struct stat info;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0 && (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) ||
                    info.st_uid != geteuid())) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* The path still names what fd has open. */
static bool is_at(int fd, const char *path)
{
    struct stat opened;
    struct stat named;
    return fstat(fd, &opened) == 0 && lstat(path, &named) == 0 &&
           opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
}

static bool is_of_here(const struct look *look,
                       const struct pc_ucx_ledger_page *page)
{
    return page->boot == look->own.boot &&
           page->ipc_space == look->own.ipc_space;
}

/* One ledger: of the dead, it is taken down and goes; of the living, taken
 * down. */
static void look_at_ledger(struct look *look, const char *path)
{
    struct pc_ucx_ledger_page page;
    int fd = open_file(path);
    if (fd < 0) {
        return;
    }
    bool is_dead = flock(fd, LOCK_EX | LOCK_NB) == 0;
    bool is_valid = page_read(fd, &page);
    bool is_known = is_valid && is_of_here(look, &page);
    if (is_valid && !is_known && page.is_making == 1 &&
        page.boot == look->own.boot) {
        close(fd); /* Whose segments are not seen from here. */
        return;
    }
    if (is_dead && is_known && page.is_making == 1) {
        if (look->n_dead == LEDGERS_MAX) {
            close(fd); /* For the next one who looks. */
            return;
        }
        look->dead[look->n_dead++] = page;
    }
    if (!is_dead && is_known) {
        look->too_many = look->too_many || look->n_living == LEDGERS_MAX;
        if (look->n_living < LEDGERS_MAX) {
            look->living[look->n_living++] = page;
        }
    }
    if (is_dead && is_at(fd, path)) {
        (void)unlink(path);
    }
    close(fd);
}

static void look_at_unlinked(const char *path)
{
    struct stat info;
    uint64_t now_s = pc_clock_wall() / PC_S;
    if (lstat(path, &info) == 0 && S_ISREG(info.st_mode) &&
        info.st_uid == geteuid() && info.st_size == 0 &&
        (uint64_t)info.st_ctime + EMPTY_MAX_S < now_s) {
        (void)unlink(path);
    }
}

static void look_around(struct look *look)
{
    DIR *folder = opendir(FOLDER);
    look->n_living = 0;
    look->too_many = false;
    if (folder == NULL) {
        return;
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char path[sizeof(FOLDER) + sizeof(entry->d_name) + 1];
        snprintf(path, sizeof(path), FOLDER "/%s", entry->d_name);
        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) == 0) {
            look_at_ledger(look, path);
        } else if (strncmp(entry->d_name, UNLINKED_PREFIX,
                           strlen(UNLINKED_PREFIX)) == 0) {
            look_at_unlinked(path);
        }
    }
    closedir(folder);
}

/* Segments that fit, by their ids. */
static size_t find_segments(const struct look *look, int *ids)
{
    struct shmid_ds segment;
    struct shm_info info;
    size_t n = 0;
    int last = shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&info);
    for (int i = 0; i <= last && n < FOUND_MAX; i++) {
        int id = shmctl(i, SHM_STAT, &segment);
        if (id >= 0 && is_left_behind(look, &segment)) {
            ids[n++] = id;
        }
    }
    return n;
}

/* The living write down what they make before they make it: after the look at
 * segments, a look at them shows every maker of one that was seen. */
static void remove_segments(struct look *look)
{
    struct shmid_ds segment;
    int ids[FOUND_MAX];
    size_t n = find_segments(look, ids);
    if (n > 0) {
        look_around(look);
    }
    for (size_t i = 0; i < n && !look->too_many; i++) {
        if (shmctl(ids[i], IPC_STAT, &segment) == 0 &&
            is_left_behind(look, &segment) &&
            shmctl(ids[i], IPC_RMID, NULL) == 0) {
            PC_INFO("ucx",
                    "removed %zu bytes of shared memory that a killed process "
                    "left behind",
                    (size_t)segment.shm_segsz);
        }
    }
}

/* ---- Our own ---------------------------------------------------------- */

static bool make_file(struct pc_ucx_ledger *ledger)
{
    snprintf(ledger->path, sizeof(ledger->path), FOLDER "/" PREFIX "%016llx",
             (unsigned long long)pc_rand_entropy());
    ledger->fd = open(ledger->path,
                      O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (ledger->fd < 0) {
        return false;
    }
    /* Somebody who looked before the lock was taken may have removed it. */
    if (flock(ledger->fd, LOCK_EX | LOCK_NB) == 0 &&
        is_at(ledger->fd, ledger->path)) {
        return true;
    }
    close(ledger->fd);
    ledger->fd = -1;
    return false;
}

void pc_ucx_ledger_open(struct pc_ucx_ledger *ledger)
{
    struct look look = {.n_dead = 0};
    pthread_mutex_init(&ledger->lock, NULL);
    ledger->fd = -1;
    look.own = page_now(false, 0);
    look_around(&look);
    if (look.n_dead > 0) {
        remove_segments(&look);
    }
    for (int i = 0; i < TRIES && ledger->fd < 0; i++) {
        if (make_file(ledger)) {
            page_write(ledger, false, 0);
        }
    }
    if (ledger->fd < 0) {
        PC_DEBUG("ucx", "no note of shared memory can be kept in " FOLDER);
    }
}

void pc_ucx_ledger_close(struct pc_ucx_ledger *ledger)
{
    if (ledger->fd >= 0) {
        if (is_at(ledger->fd, ledger->path)) {
            (void)unlink(ledger->path);
        }
        close(ledger->fd);
    }
    pthread_mutex_destroy(&ledger->lock);
}

void pc_ucx_ledger_begin(struct pc_ucx_ledger *ledger, size_t len)
{
    pthread_mutex_lock(&ledger->lock);
    if (ledger->fd >= 0) {
        page_write(ledger, true, len);
    }
}

void pc_ucx_ledger_end(struct pc_ucx_ledger *ledger)
{
    if (ledger->fd >= 0) {
        page_write(ledger, false, 0);
    }
    pthread_mutex_unlock(&ledger->lock);
}
