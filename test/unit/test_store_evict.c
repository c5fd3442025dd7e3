#include "test.h"

#include "base/mem.h"
#include "store/evict.h"

enum { N = 4 };

struct fixture
{
    const struct pc_evict_ops *ops;
    struct pc_evict *evict;
    struct pc_evict_entry entries[N];
};

static void set_up(struct fixture *f)
{
    f->ops = pc_evict_lru();
    f->evict = f->ops->create();
    assert_non_null(f->evict);
    for (int i = 0; i < N; i++) {
        pc_list_init(&f->entries[i].link);
        f->ops->insert(f->evict, &f->entries[i]);
    }
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

static void the_oldest_goes_first(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    expect_order(&f, (int[]){0, 1, 2, 3}, 4);
    f.ops->destroy(f.evict);
}

static void a_touch_makes_an_entry_the_youngest(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    f.ops->touch(f.evict, &f.entries[0]);
    f.ops->touch(f.evict, &f.entries[2]);
    f.ops->touch(f.evict, &f.entries[2]);
    expect_order(&f, (int[]){1, 3, 0, 2}, 4);
    f.ops->destroy(f.evict);
}

static void what_is_removed_is_no_victim(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    f.ops->remove(f.evict, &f.entries[0]);
    f.ops->remove(f.evict, &f.entries[2]);
    expect_order(&f, (int[]){1, 3}, 2);
    f.ops->insert(f.evict, &f.entries[0]);
    expect_order(&f, (int[]){1, 3, 0}, 3);
    f.ops->destroy(f.evict);
}

static void an_empty_policy_has_no_victim(void **state)
{
    (void)state;
    const struct pc_evict_ops *ops = pc_evict_lru();
    struct pc_evict *evict = ops->create();
    assert_null(ops->victim(evict, NULL));
    assert_string_equal(ops->name, "lru");
    ops->destroy(evict);
    pc_mem_fail_after(0);
    assert_null(ops->create());
    pc_mem_fail_after(-1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_oldest_goes_first),
        cmocka_unit_test(a_touch_makes_an_entry_the_youngest),
        cmocka_unit_test(what_is_removed_is_no_victim),
        cmocka_unit_test(an_empty_policy_has_no_victim),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
