#include "test.h"

#include "base/mem.h"
#include "store/evict.h"
#include "store/ghost.h"

enum { N = 20, KIB4 = 4096 };

struct fixture
{
    const struct pc_evict_ops *ops;
    struct pc_evict *evict;
    struct pc_evict_entry entries[N];
    int n;
};

static void add(struct fixture *f, int i, uint64_t length)
{
    struct pc_evict_entry *entry = &f->entries[i];
    *entry = (struct pc_evict_entry){
        .digest = {(uint64_t)i, (uint64_t)i * 7919 + 1},
        .length = length & PC_EVICT_LENGTH_MAX,
    };
    pc_list_init(&entry->link);
    f->ops->insert(f->evict, entry);
}

static void set_up(struct fixture *f, const struct pc_evict_ops *ops, int n)
{
    *f = (struct fixture){.ops = ops, .n = n};
    f->evict = ops->create();
    assert_non_null(f->evict);
    for (int i = 0; i < n; i++) {
        add(f, i, KIB4);
    }
}

static void touch(struct fixture *f, int i)
{
    f->ops->touch(f->evict, &f->entries[i]);
}

/* The policy's choice goes; its number. */
static int evict(struct fixture *f)
{
    struct pc_evict_entry *entry = f->ops->victim(f->evict, NULL);
    assert_non_null(entry);
    f->ops->remove(f->evict, entry, true);
    return (int)(entry - f->entries);
}

static void expect_order(struct fixture *f, const int *order, int n)
{
    struct pc_evict_entry *at = NULL;
    for (int i = 0; i < n; i++) {
        at = f->ops->victim(f->evict, at);
        assert_ptr_equal(at, &f->entries[order[i]]);
    }
    assert_null(f->ops->victim(f->evict, at));
}

/* ---- LRU --------------------------------------------------------------- */

static void the_oldest_goes_first(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, pc_evict_lru(), 4);
    expect_order(&f, (int[]){0, 1, 2, 3}, 4);
    f.ops->destroy(f.evict);
}

static void a_touch_makes_an_entry_the_youngest(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, pc_evict_lru(), 4);
    touch(&f, 0);
    touch(&f, 2);
    touch(&f, 2);
    expect_order(&f, (int[]){1, 3, 0, 2}, 4);
    f.ops->destroy(f.evict);
}

static void what_is_removed_is_no_victim(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, pc_evict_lru(), 4);
    f.ops->remove(f.evict, &f.entries[0], false);
    f.ops->remove(f.evict, &f.entries[2], true);
    expect_order(&f, (int[]){1, 3}, 2);
    f.ops->insert(f.evict, &f.entries[0]);
    expect_order(&f, (int[]){1, 3, 0}, 3);
    f.ops->destroy(f.evict);
}

/* ---- Both -------------------------------------------------------------- */

static void an_empty_policy_has_no_victim(void **state)
{
    (void)state;
    const struct pc_evict_ops *all[] = {pc_evict_lru(), pc_evict_s3fifo()};
    const char *names[] = {"lru", "s3fifo"};
    for (int i = 0; i < 2; i++) {
        struct pc_evict *policy = all[i]->create();
        assert_null(all[i]->victim(policy, NULL));
        assert_string_equal(all[i]->name, names[i]);
        assert_true(all[i]->n_bytes(policy) > 0);
        all[i]->destroy(policy);
        pc_mem_fail_after(0);
        assert_null(all[i]->create());
        pc_mem_fail_after(-1);
    }
}

static void no_use_keeps_an_entry_for_ever(void **state)
{
    (void)state;
    const struct pc_evict_ops *all[] = {pc_evict_lru(), pc_evict_s3fifo()};
    for (int p = 0; p < 2; p++) {
        struct fixture f;
        set_up(&f, all[p], N);
        bool gone[N] = {false};
        for (int left = N; left > 0; left--) {
            for (int i = 0; i < N; i++) {
                for (int k = 0; !gone[i] && k < 5; k++) {
                    touch(&f, i);
                }
            }
            int i = evict(&f);
            assert_false(gone[i]);
            gone[i] = true;
        }
        assert_null(f.ops->victim(f.evict, NULL));
        f.ops->destroy(f.evict);
    }
}

/* A walk past entries that cannot go, as past pinned ones. */
static void a_walk_meets_every_entry(void **state)
{
    (void)state;
    const struct pc_evict_ops *all[] = {pc_evict_lru(), pc_evict_s3fifo()};
    for (int p = 0; p < 2; p++) {
        struct fixture f;
        set_up(&f, all[p], N);
        for (int i = 0; i < N; i += 3) {
            touch(&f, i);
        }
        bool met[N] = {false};
        int n_met = 0;
        for (struct pc_evict_entry *at = f.ops->victim(f.evict, NULL);
             at != NULL; at = f.ops->victim(f.evict, at)) {
            n_met += !met[at - f.entries];
            met[at - f.entries] = true;
        }
        assert_int_equal(n_met, N);
        f.ops->destroy(f.evict);
    }
}

/* ---- S3-FIFO ----------------------------------------------------------- */

static void what_is_never_used_leaves_in_the_order_it_came(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, pc_evict_s3fifo(), 6);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(evict(&f), i);
    }
    f.ops->destroy(f.evict);
}

static void what_was_used_stays_through_a_wave_of_new_ones(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, pc_evict_s3fifo(), 10);
    touch(&f, 0);
    touch(&f, 1);
    touch(&f, 2);
    /* New ones come and go; LRU would have dropped 0 to 2. */
    for (int i = 10; i < N; i++) {
        assert_int_equal(evict(&f), i - 7);
        add(&f, i, KIB4);
    }
    f.ops->destroy(f.evict);
}

static void an_entry_that_comes_back_soon_is_kept_longer(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, pc_evict_s3fifo(), 10);
    assert_int_equal(evict(&f), 0);
    add(&f, 0, KIB4);
    for (int i = 1; i < 8; i++) {
        assert_int_equal(evict(&f), i);
        add(&f, i + 9, KIB4); /* 10 to 16 are new, 0 is older. */
    }
    assert_int_equal(evict(&f), 8);
    assert_int_equal(evict(&f), 9);
    assert_int_equal(evict(&f), 10);
    f.ops->destroy(f.evict);
}

static void what_comes_back_soon_is_counted_once_each_time(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, pc_evict_s3fifo(), 10);
    assert_int_equal(f.ops->n_back(f.evict), 0);
    assert_int_equal(evict(&f), 0);
    assert_int_equal(evict(&f), 1);
    add(&f, 10, KIB4);
    assert_int_equal(f.ops->n_back(f.evict), 0);
    add(&f, 1, KIB4);
    assert_int_equal(f.ops->n_back(f.evict), 1);
    f.ops->remove(f.evict, &f.entries[1], false);
    add(&f, 1, KIB4); /* It was removed, not evicted. */
    assert_int_equal(f.ops->n_back(f.evict), 1);
    for (int i = 2; i < 10; i++) {
        assert_int_equal(evict(&f), i);
    }
    add(&f, 0, KIB4); /* Too long ago: the pool was let go once since then. */
    assert_int_equal(f.ops->n_back(f.evict), 1);
    f.ops->destroy(f.evict);
}

static void an_entry_that_was_removed_is_not_remembered(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, pc_evict_s3fifo(), 10);
    f.ops->remove(f.evict, &f.entries[0], false);
    add(&f, 0, KIB4);
    for (int i = 1; i < 10; i++) {
        assert_int_equal(evict(&f), i);
    }
    assert_int_equal(evict(&f), 0);
    f.ops->destroy(f.evict);
}

/* One large value in the small queue is more than its share of the bytes,
 * however few it is among the values. */
static void shares_are_of_bytes_not_of_values(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, pc_evict_s3fifo(), 10);
    for (int i = 0; i < 9; i++) {
        touch(&f, i);
    }
    assert_int_equal(evict(&f), 0);
    assert_int_equal(evict(&f), 1);
    /* 2 to 8 are in the main queue, and 9 is one of eight in the small one. */
    add(&f, 10, 100 * KIB4);
    assert_int_equal(evict(&f), 9);
    assert_int_equal(evict(&f), 10);
    assert_int_equal(evict(&f), 2);
    f.ops->destroy(f.evict);
}

/* ---- Ghosts ------------------------------------------------------------ */

static void a_ghost_is_known_for_so_many_bytes(void **state)
{
    (void)state;
    struct pc_ghost ghost;
    pc_ghost_init(&ghost);
    assert_false(pc_ghost_take(&ghost, 1, 1 << 20));
    pc_ghost_add(&ghost, 1, KIB4, 1 << 20, 64);
    pc_ghost_add(&ghost, 2, KIB4, 1 << 20, 64);
    assert_true(pc_ghost_take(&ghost, 1, 2 * KIB4));
    assert_false(pc_ghost_take(&ghost, 1, 2 * KIB4));
    pc_ghost_add(&ghost, 3, 100 * KIB4, 1 << 20, 64);
    assert_false(pc_ghost_take(&ghost, 2, 50 * KIB4));
    pc_ghost_fini(&ghost);
}

static void ghosts_stay_within_their_memory(void **state)
{
    (void)state;
    struct pc_ghost ghost;
    pc_ghost_init(&ghost);
    for (uint32_t i = 0; i < 100000; i++) {
        pc_ghost_add(&ghost, i, KIB4, 768 * KIB4, i < 50000 ? 100 : 2000);
        assert_true(pc_ghost_n_bytes(&ghost) <= (i < 50000 ? 100 : 2000) * 8);
    }
    uint32_t n_known = 0;
    for (uint32_t i = 90000; i < 100000; i++) {
        n_known += pc_ghost_take(&ghost, i, 768 * KIB4);
    }
    /* All but very few: the table is three quarters full. */
    assert_in_range(n_known, 765, 769);
    pc_mem_fail_after(0);
    pc_ghost_add(&ghost, 5, KIB4, 1 << 20,
                 1 << 20); /* No memory: it goes on. */
    pc_mem_fail_after(-1);
    assert_true(pc_ghost_take(&ghost, 5, KIB4));
    pc_ghost_fini(&ghost);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_oldest_goes_first),
        cmocka_unit_test(a_touch_makes_an_entry_the_youngest),
        cmocka_unit_test(what_is_removed_is_no_victim),
        cmocka_unit_test(an_empty_policy_has_no_victim),
        cmocka_unit_test(no_use_keeps_an_entry_for_ever),
        cmocka_unit_test(a_walk_meets_every_entry),
        cmocka_unit_test(what_is_never_used_leaves_in_the_order_it_came),
        cmocka_unit_test(what_was_used_stays_through_a_wave_of_new_ones),
        cmocka_unit_test(an_entry_that_comes_back_soon_is_kept_longer),
        cmocka_unit_test(what_comes_back_soon_is_counted_once_each_time),
        cmocka_unit_test(an_entry_that_was_removed_is_not_remembered),
        cmocka_unit_test(shares_are_of_bytes_not_of_values),
        cmocka_unit_test(a_ghost_is_known_for_so_many_bytes),
        cmocka_unit_test(ghosts_stay_within_their_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
