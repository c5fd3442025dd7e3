/*
 * Pages behind memory: filled without a signal where nothing can be behind
 * them, by the kernel's advice.
 */
#include "test/lib/test.h"

#include "base/pages.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static void *map(size_t len, int prot)
{
    void *addr = mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(addr, MAP_FAILED);
    return addr;
}

static bool is_resident(void *addr, size_t len)
{
    static unsigned char pages[4096];
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    assert_true(len / page <= sizeof(pages));
    assert_int_equal(mincore(addr, len, pages), 0);
    for (size_t i = 0; i < len / page; i++) {
        if ((pages[i] & 1) == 0) {
            return false;
        }
    }
    return true;
}

static void filled_memory_is_there_and_zero(void **state)
{
    (void)state;
    size_t len = 9 * MIB; /* Not a whole number of steps. */
    char *addr = map(len, PROT_READ | PROT_WRITE);
    assert_false(is_resident(addr, len));
    assert_true(pc_pages_prepare(addr, len, false) == PC_PAGES_PLAIN);
    assert_int_equal(pc_pages_fill(addr, len, NULL, NULL), PEERCACHE_OK);
    assert_true(is_resident(addr, len));
    for (size_t i = 0; i < len; i += 512) {
        assert_int_equal(addr[i], 0);
    }
    assert_int_equal(munmap(addr, len), 0);
}

/* A file that ends too early: a store behind its end is a SIGBUS. */
static void memory_with_nothing_behind_it_is_an_error_and_no_signal(
    void **state)
{
    (void)state;
    int fd = memfd_create("short", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)(6 * MIB)), 0);
    void *addr = mmap(NULL, 8 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(addr, MAP_FAILED);
    assert_int_equal(pc_pages_fill(addr, 6 * MIB, NULL, NULL), PEERCACHE_OK);
    assert_int_equal(pc_pages_fill(addr, 8 * MIB, NULL, NULL),
                     PEERCACHE_NO_MEMORY);
    assert_int_equal(munmap(addr, 8 * MIB), 0);
    assert_int_equal(close(fd), 0);
    /* Memory that may not be written. */
    addr = map(MIB, PROT_READ);
    assert_int_equal(pc_pages_fill(addr, MIB, NULL, NULL), PEERCACHE_NO_MEMORY);
    assert_int_equal(munmap(addr, MIB), 0);
}

static bool stops_at_third(void *arg)
{
    return ++*(int *)arg == 3;
}

static void filling_ends_when_it_is_told_to(void **state)
{
    (void)state;
    int n_asked = 0;
    char *addr = map(64 * MIB, PROT_READ | PROT_WRITE);
    assert_int_equal(pc_pages_fill(addr, 64 * MIB, stops_at_third, &n_asked),
                     PEERCACHE_SHUTDOWN);
    assert_int_equal(n_asked, 3);
    assert_int_equal(munmap(addr, 64 * MIB), 0);
}

static void nodes_that_are_not_there_cannot_be_bound_to(void **state)
{
    (void)state;
    char *addr = map(MIB, PROT_READ | PROT_WRITE);
    assert_int_equal(pc_pages_bind(addr, MIB, -1), EINVAL);
    assert_int_equal(pc_pages_bind(addr, MIB, 1024), EINVAL);
    assert_int_not_equal(pc_pages_bind(addr, MIB, 1023), 0);
    assert_int_equal(munmap(addr, MIB), 0);
}

/* Locked memory refuses some advice as huge pages do, and is told apart. */
static void locked_memory_is_not_taken_for_huge_pages(void **state)
{
    (void)state;
    size_t len = 4 * (size_t)sysconf(_SC_PAGESIZE);
    char *addr = map(len, PROT_READ | PROT_WRITE);
    if (mlock(addr, len) == 0) {
        assert_true(pc_pages_prepare(addr, len, false) != PC_PAGES_HUGE);
    }
    assert_int_equal(munmap(addr, len), 0);
}

/* Also where the kernel gave a place that begins elsewhere. */
static void small_memory_of_our_own_begins_with_a_huge_page(void **state)
{
    enum { N = 8 };
    unsigned char *maps[N];
    (void)state;
    for (size_t i = 0; i < N; i++) {
        void *between = map((2 * i + 1) * (size_t)sysconf(_SC_PAGESIZE),
                            PROT_READ | PROT_WRITE);
        size_t len = i * MIB + 1;
        maps[i] = pc_pages_map(len, i % 2 == 0);
        assert_non_null(maps[i]);
        assert_int_equal((uintptr_t)maps[i] % (2 * MIB), 0);
        for (size_t at = 0; at < len; at += 4096) {
            assert_int_equal(maps[i][at], 0);
            maps[i][at] = (unsigned char)(i + 1);
        }
        assert_int_equal(
            munmap(between, (2 * i + 1) * (size_t)sysconf(_SC_PAGESIZE)), 0);
    }
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(maps[i][i * MIB / 4096 * 4096], i + 1);
        pc_pages_unmap(maps[i], i * MIB + 1);
    }
}

/* Nothing of it is left, and nothing else goes with it. */
static void memory_of_our_own_is_given_back_whole(void **state)
{
    unsigned char pages[1];
    (void)state;
    char *addr = pc_pages_map(3 * MIB, true);
    assert_non_null(addr);
    for (size_t at = 0; at < 4 * MIB; at += MIB) {
        assert_int_equal(mincore(addr + at, 1, pages), 0);
    }
    pc_pages_unmap(addr, 3 * MIB);
    for (size_t at = 0; at < 4 * MIB; at += MIB) {
        assert_int_equal(mincore(addr + at, 1, pages), -1);
        assert_int_equal(errno, ENOMEM);
    }
    pc_pages_unmap(NULL, 3 * MIB);
    assert_null(pc_pages_map(0, true));
    assert_null(pc_pages_map(SIZE_MAX, true));
    assert_null(pc_pages_map(SIZE_MAX / 2, false));
}

static void every_kind_of_pages_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(pc_pages_name(PC_PAGES_PLAIN), "plain");
    assert_string_equal(pc_pages_name(PC_PAGES_TRANSPARENT), "transparent");
    assert_string_equal(pc_pages_name(PC_PAGES_HUGE), "huge");
    assert_string_equal(pc_pages_name(PC_PAGES_N), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filled_memory_is_there_and_zero),
        cmocka_unit_test(
            memory_with_nothing_behind_it_is_an_error_and_no_signal),
        cmocka_unit_test(filling_ends_when_it_is_told_to),
        cmocka_unit_test(nodes_that_are_not_there_cannot_be_bound_to),
        cmocka_unit_test(locked_memory_is_not_taken_for_huge_pages),
        cmocka_unit_test(small_memory_of_our_own_begins_with_a_huge_page),
        cmocka_unit_test(memory_of_our_own_is_given_back_whole),
        cmocka_unit_test(every_kind_of_pages_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
