#include "pages.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

/* Faulting in goes in steps, so that the kernel's lock on the address space is
 * free for others in between: a thread that allocates waits for the step, and
 * on a busy machine the step waits for a CPU. */
#define FILL_STEP  ((size_t)4 << 20)
#define HUGE_LEN   ((size_t)2 << 20)
#define NODES_MAX  1024
#define LONG_BITS  (8 * sizeof(unsigned long))
#define THP_FOLDER "/sys/kernel/mm/transparent_hugepage/"

const char *pc_pages_name(enum pc_pages pages)
{
    static const char *const names[] = {[PC_PAGES_PLAIN] = "plain",
                                        [PC_PAGES_TRANSPARENT] = "transparent",
                                        [PC_PAGES_HUGE] = "huge"};
    return pages < PC_PAGES_N ? names[pages] : "unknown";
}

static size_t page_len(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

int pc_pages_bind(void *addr, size_t len, int numa_node)
{
    unsigned long mask[NODES_MAX / LONG_BITS] = {0};
    if (numa_node < 0 || numa_node >= NODES_MAX) {
        return EINVAL;
    }
    mask[(size_t)numa_node / LONG_BITS] |= 1ul
                                           << ((size_t)numa_node % LONG_BITS);
    /* The kernel looks at one bit less than it is told of. */
    return syscall(SYS_mbind, addr, len, MPOL_PREFERRED, mask,
                   (unsigned long)NODES_MAX + 1, 0u) == 0
               ? 0
               : errno;
}

static bool is_refused(char *addr, size_t len, int advice)
{
    return madvise(addr, len, advice) != 0 && errno == EINVAL;
}

/* Memory from the pool of huge pages refuses advice on a part of a page. So
 * does locked memory; but that refuses the same advice on the whole, and takes
 * advice on transparent huge pages, which older kernels (before 5.18) refuse
 * where the pages are huge already. Nothing has been touched, so nothing is
 * lost by the advice. */
static bool is_huge(char *addr, size_t len)
{
    size_t page = page_len();
    return len >= 2 * page && is_refused(addr + page, page, MADV_DONTNEED) &&
           (madvise(addr, len, MADV_DONTNEED) == 0 ||
            is_refused(addr, len, MADV_HUGEPAGE));
}

/* The kernel takes the advice and does nothing where this file has [never]. */
static bool is_enabled(const char *name)
{
    char path[128];
    char text[128] = "";
    (void)snprintf(path, sizeof(path), THP_FOLDER "%s", name);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    bool read = fgets(text, sizeof(text), file) != NULL;
    (void)fclose(file);
    return read && strstr(text, "[never]") == NULL &&
           strstr(text, "[deny]") == NULL;
}

/* Shared memory (System V, posix) has a switch of its own. */
static bool is_shared(void *addr)
{
    /* Only a private mapping takes this advice. */
    return madvise(addr, page_len(), MADV_FREE) != 0 && errno == EINVAL;
}

enum pc_pages pc_pages_prepare(void *addr, size_t len, bool huge)
{
    enum pc_pages pages = PC_PAGES_PLAIN;
    if (is_huge(addr, len)) {
        pages = PC_PAGES_HUGE;
    } else if (huge && madvise(addr, len, MADV_HUGEPAGE) == 0 &&
               is_enabled(is_shared(addr) ? "shmem_enabled" : "enabled")) {
        pages = PC_PAGES_TRANSPARENT;
    }
    (void)madvise(addr, len, MADV_DONTDUMP);
    return pages;
}

/* By the kernel's own copy, which answers with an error where a store of ours
 * would be answered with a signal. */
static bool fill_by_read(int zero, char *addr, size_t len)
{
    size_t page = page_len();
    for (size_t at = 0; at < len; at += page) {
        if (read(zero, addr + at, 1) != 1) {
            return false;
        }
    }
    return true;
}

/* 0, or an errno: EINVAL, the kernel does not know how. */
static int fill_by_advice(char *addr, size_t len)
{
    int error;
    do {
        error = madvise(addr, len, MADV_POPULATE_WRITE) == 0 ? 0 : errno;
    } while (error == EINTR);
    return error;
}

peercache_status_t pc_pages_fill(void *addr, size_t len,
                                 bool (*is_stopping)(void *arg), void *arg)
{
    int zero = -1; /* Open: the kernel does not know the advice. */
    peercache_status_t status = PEERCACHE_OK;
    for (size_t at = 0; at < len && status == PEERCACHE_OK; at += FILL_STEP) {
        char *from = (char *)addr + at;
        size_t step = len - at < FILL_STEP ? len - at : FILL_STEP;
        if (is_stopping != NULL && is_stopping(arg)) {
            status = PEERCACHE_SHUTDOWN;
            break;
        }
        int error = zero < 0 ? fill_by_advice(from, step) : EINVAL;
        if (error == EINVAL && zero < 0) {
            zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
        }
        if (error != 0 && (zero < 0 || !fill_by_read(zero, from, step))) {
            status = PEERCACHE_NO_MEMORY;
        }
    }
    if (zero >= 0) {
        (void)close(zero);
    }
    return status;
}

/* Whole huge pages: 0 when there is no such length. */
static size_t map_len(size_t len)
{
    return len > 0 && len <= SIZE_MAX - 2 * HUGE_LEN
               ? (len + HUGE_LEN - 1) / HUGE_LEN * HUGE_LEN
               : 0;
}

void *pc_pages_map(size_t len, bool huge)
{
    size_t whole = map_len(len);
    if (whole == 0) {
        return NULL;
    }
    char *addr = mmap(NULL, whole + HUGE_LEN, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (addr == MAP_FAILED) {
        return NULL;
    }
    size_t skip = (HUGE_LEN - (uintptr_t)addr % HUGE_LEN) % HUGE_LEN;
    if (skip > 0) {
        (void)munmap(addr, skip);
    }
    addr += skip;
    (void)munmap(addr + whole, HUGE_LEN - skip);
    (void)pc_pages_prepare(addr, whole, huge);
    return addr;
}

void pc_pages_unmap(void *addr, size_t len)
{
    if (addr != NULL) {
        (void)munmap(addr, map_len(len));
    }
}
