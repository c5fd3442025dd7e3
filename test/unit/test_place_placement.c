/*
 * Plans of placement: 1, 2 and 8 NUMA nodes, with no, one and eight NICs, as
 * settings wish, and where a container allows less.
 */
#include "test/lib/test.h"
#include "test/lib/topo_xml.h"

#include "place/placement.h"

#include <stdio.h>
#include <string.h>

#define GIB ((uint64_t)1 << 30)

static const struct topo_device eight_nics[] = {
    {"mlx5_0", true, 0}, {"mlx5_1", true, 1}, {"mlx5_2", true, 2},
    {"mlx5_3", true, 3}, {"mlx5_4", true, 4}, {"mlx5_5", true, 5},
    {"mlx5_6", true, 6}, {"mlx5_7", true, 7}};

struct machine
{
    unsigned n_nodes;
    const struct topo_device *devices;
    size_t n_devices;
    const char *allowed_cpus, *allowed_nodes;
    bool not_ours; /* As hwloc reads it from a file. */
};

static void plan_on(const struct machine *m, const char *numa_node,
                    const char *engine_cpus, const char *devices,
                    const char *thread_cpus, struct pc_placement *plan)
{
    struct pc_text xml;
    struct pc_topology t;
    struct pc_placement_wish wish = {
        .numa_node = numa_node, .engine_cpus = engine_cpus, .devices = devices};
    pc_text_init(&xml);
    topo_xml(&xml, m->n_nodes, m->devices, m->n_devices);
    struct pc_topology_source source = {.xml = xml.data,
                                        .allowed_cpus = m->allowed_cpus,
                                        .allowed_nodes = m->allowed_nodes};
    assert_true(pc_topology_load(&source, &t));
    t.is_this_machine = !m->not_ours;
    if (thread_cpus[0] != '\0') {
        assert_true(pc_cpus_parse(thread_cpus, &wish.thread));
    }
    pc_placement_make(&t, &wish, plan);
    pc_topology_fini(&t);
    pc_text_fini(&xml);
}

static void assert_nodes(const struct pc_placement *plan, const char *nodes)
{
    char text[64];
    pc_placement_nodes(plan, text, sizeof(text));
    assert_string_equal(text, nodes);
}

static void assert_engine(const struct pc_placement *plan, const char *cpus)
{
    char text[64];
    if (cpus == NULL) {
        assert_false(plan->bind_engine);
        return;
    }
    assert_true(plan->bind_engine);
    pc_cpus_write(&plan->engine_cpus, text, sizeof(text));
    assert_string_equal(text, cpus);
}

static void one_node_leaves_nothing_to_place(void **state)
{
    struct machine m = {1, eight_nics, 1, NULL, NULL, false};
    struct pc_placement plan;
    (void)state;
    plan_on(&m, "", "", "mlx5_0:1", "", &plan);
    assert_nodes(&plan, "any");
    assert_engine(&plan, NULL);
    assert_int_equal(pc_placement_next(&plan, GIB), -1);
    assert_string_equal(plan.unmet, "");
}

static void one_nic_draws_pool_and_engine_to_its_node(void **state)
{
    static const struct topo_device nic = {"mlx5_0", true, 1};
    struct machine m = {2, &nic, 1, NULL, NULL, false};
    struct pc_placement plan;
    (void)state;
    plan_on(&m, "", "", "mlx5_0:1", "0-7", &plan);
    assert_nodes(&plan, "1");
    assert_engine(&plan, "4-7");
    assert_true(plan.may_bind);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pc_placement_next(&plan, GIB), 1);
    }
    assert_non_null(strstr(plan.why, "mlx5_0 is at NUMA node 1"));
}

static void eight_nics_on_eight_nodes_split_the_pool(void **state)
{
    struct machine m = {8, eight_nics, 8, NULL, NULL, false};
    struct pc_placement plan;
    unsigned seen[8] = {0};
    (void)state;
    plan_on(&m, "", "",
            "mlx5_0:1,mlx5_1:1,mlx5_2:1,mlx5_3:1,mlx5_4:1,mlx5_5:1,mlx5_6:1,"
            "mlx5_7:1",
            "", &plan);
    assert_nodes(&plan, "0-7");
    assert_engine(&plan, NULL); /* All CPUs: nothing to bind. */
    for (int i = 0; i < 32; i++) {
        int node = pc_placement_next(&plan, GIB);
        assert_in_range(node, 0, 7);
        seen[node]++;
    }
    for (int i = 0; i < 8; i++) {
        assert_int_equal(seen[i], 4);
    }
}

static void a_region_that_was_given_back_does_not_count(void **state)
{
    struct machine m = {8, eight_nics, 8, NULL, NULL, false};
    struct pc_placement plan;
    (void)state;
    plan_on(&m, "", "", "mlx5_0:1,mlx5_1:1", "", &plan);
    int node = pc_placement_next(&plan, GIB);
    assert_int_not_equal(pc_placement_next(&plan, GIB), node);
    pc_placement_give_back(&plan, node, GIB);
    assert_int_equal(pc_placement_next(&plan, GIB / 2), node);
    assert_int_equal(pc_placement_next(&plan, GIB / 2), node);
    pc_placement_give_back(&plan, -1, GIB); /* It was anywhere. */
}

static void more_nics_at_a_node_draw_more_of_the_pool(void **state)
{
    static const struct topo_device devices[] = {{"mlx5_0", true, 0},
                                                 {"mlx5_1", true, 1},
                                                 {"mlx5_2", true, 1},
                                                 {"mlx5_3", true, 1}};
    struct machine m = {2, devices, 4, NULL, NULL, false};
    struct pc_placement plan;
    uint64_t bytes[2] = {0};
    (void)state;
    plan_on(&m, "", "", "mlx5_0,mlx5_1,mlx5_2,mlx5_3", "", &plan);
    /* A short first region does not turn the order around. */
    int node = pc_placement_next(&plan, GIB / 16);
    bytes[node] += GIB / 16;
    for (int i = 0; i < 64; i++) {
        node = pc_placement_next(&plan, GIB);
        assert_in_range(node, 0, 1);
        bytes[node] += GIB;
    }
    assert_in_range(bytes[0], 15 * GIB, 17 * GIB);
    assert_in_range(bytes[1], 47 * GIB, 49 * GIB);
}

static void only_nics_in_use_count(void **state)
{
    struct machine m = {8, eight_nics, 8, NULL, NULL, false};
    struct pc_placement plan;
    (void)state;
    plan_on(&m, "", "", "mlx5_2:1, mlx5_5", "", &plan);
    assert_nodes(&plan, "2,5");
    assert_engine(&plan, "8-11,20-23");
}

static void without_a_nic_memory_goes_where_the_process_is_bound(void **state)
{
    struct machine m = {2, NULL, 0, NULL, NULL, false};
    struct pc_placement plan;
    (void)state;
    plan_on(&m, "", "", "", "0-7", &plan);
    assert_nodes(&plan, "any");
    assert_engine(&plan, NULL);
    plan_on(&m, "", "", "", "5,6", &plan);
    assert_nodes(&plan, "1");
    assert_engine(&plan, NULL); /* It is there already. */
}

static void unknown_and_nodeless_nics_are_named(void **state)
{
    static const struct topo_device devices[] = {{"mlx5_0", true, -1},
                                                 {"mlx5_1", true, 1}};
    struct machine m = {2, devices, 2, NULL, NULL, false};
    struct pc_placement plan;
    (void)state;
    plan_on(&m, "", "", "mlx5_0:1,mlx5_9:1", "", &plan);
    assert_nodes(&plan, "any");
    assert_non_null(strstr(plan.unmet, "mlx5_0 is at no NUMA node"));
    assert_non_null(strstr(plan.unmet, "mlx5_9 is not in the topology"));
    plan_on(&m, "", "", "mlx5_0:1,mlx5_1:1", "", &plan);
    assert_nodes(&plan, "1");
}

static void settings_win_over_nics(void **state)
{
    static const struct topo_device nic = {"mlx5_0", true, 1};
    struct machine m = {2, &nic, 1, NULL, NULL, false};
    struct pc_placement plan;
    (void)state;
    plan_on(&m, "0", "", "mlx5_0", "", &plan);
    assert_nodes(&plan, "0");
    assert_engine(&plan, "0-3");
    plan_on(&m, "0,1", "2", "mlx5_0", "", &plan);
    assert_nodes(&plan, "0-1");
    assert_engine(&plan, "2");
    plan_on(&m, "none", "none", "mlx5_0", "", &plan);
    assert_nodes(&plan, "any");
    assert_engine(&plan, NULL);
    plan_on(&m, "", "none", "mlx5_0", "", &plan);
    assert_nodes(&plan, "1");
    assert_engine(&plan, NULL);
}

static void a_setting_that_cannot_be_followed_is_said(void **state)
{
    static const struct topo_device nic = {"mlx5_0", true, 1};
    struct machine m = {2, &nic, 1, NULL, NULL, false};
    struct pc_placement plan;
    (void)state;
    plan_on(&m, "5", "99", "mlx5_0", "", &plan);
    assert_nodes(&plan, "1"); /* As without the setting. */
    assert_engine(&plan, NULL);
    assert_non_null(strstr(plan.unmet, "there is no NUMA node 5"));
    assert_non_null(strstr(plan.unmet, "engine_cpus"));
}

static void a_restricted_cpuset_is_kept_to(void **state)
{
    static const struct topo_device devices[] = {{"mlx5_0", true, 0},
                                                 {"mlx5_1", true, 1}};
    struct machine m = {2, devices, 2, "4-5", "1", false};
    struct pc_placement plan;
    (void)state;
    /* The NIC is where this container may not be. */
    plan_on(&m, "", "", "mlx5_0", "4-5", &plan);
    assert_non_null(strstr(plan.unmet, "may not use NUMA node 0"));
    assert_nodes(&plan, "1"); /* Where it may run. */
    assert_engine(&plan, NULL);
    /* Two NICs, one of them within reach. */
    plan_on(&m, "", "", "mlx5_0,mlx5_1", "4-5", &plan);
    assert_nodes(&plan, "1");
    plan_on(&m, "0", "0", "", "4-5", &plan);
    assert_nodes(&plan, "1");
    assert_engine(&plan, NULL);
    assert_non_null(strstr(plan.unmet, "engine_cpus"));
    /* Memory of both, CPUs of one. */
    struct machine half = {2, devices, 2, "0-3", "0-1", false};
    plan_on(&half, "", "", "mlx5_1", "0-3", &plan);
    assert_nodes(&plan, "1");
    assert_engine(&plan, NULL);
    assert_non_null(strstr(plan.unmet, "none of the CPUs there"));
}

static void without_a_topology_nothing_is_bound(void **state)
{
    struct pc_placement_wish wish = {
        .numa_node = "1", .engine_cpus = "", .devices = "mlx5_0"};
    struct pc_placement plan;
    (void)state;
    pc_placement_make(NULL, &wish, &plan);
    assert_nodes(&plan, "any");
    assert_engine(&plan, NULL);
    assert_false(plan.may_bind);
    assert_non_null(strstr(plan.why, "not known"));
}

static void another_machine_s_topology_is_planned_and_not_bound(void **state)
{
    struct machine m = {8, eight_nics, 8, NULL, NULL, true};
    struct pc_placement plan;
    (void)state;
    /* The thread's CPUs are of this machine and mean nothing there. */
    plan_on(&m, "", "", "mlx5_6", "0-1", &plan);
    assert_nodes(&plan, "6");
    assert_engine(&plan, "24-27");
    assert_false(plan.may_bind);
}

static void long_lists_cut_the_text_and_nothing_else(void **state)
{
    struct topo_device many[32];
    char names[32][16];
    char list[1024] = "";
    struct machine m = {8, many, 32, NULL, NULL, false};
    struct pc_placement plan;
    (void)state;
    for (int i = 0; i < 32; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "mlx5_%d", i);
        many[i] = (struct topo_device){names[i], true, i % 8};
        size_t used = strlen(list);
        (void)snprintf(list + used, sizeof(list) - used, "%s:1,%s:2,", names[i],
                       "unknown_with_a_name");
    }
    plan_on(&m, "", "", list, "", &plan);
    assert_nodes(&plan, "0-7");
    assert_int_equal(strlen(plan.why), sizeof(plan.why) - 1);
    assert_int_equal(strlen(plan.unmet), sizeof(plan.unmet) - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_node_leaves_nothing_to_place),
        cmocka_unit_test(one_nic_draws_pool_and_engine_to_its_node),
        cmocka_unit_test(eight_nics_on_eight_nodes_split_the_pool),
        cmocka_unit_test(a_region_that_was_given_back_does_not_count),
        cmocka_unit_test(more_nics_at_a_node_draw_more_of_the_pool),
        cmocka_unit_test(only_nics_in_use_count),
        cmocka_unit_test(without_a_nic_memory_goes_where_the_process_is_bound),
        cmocka_unit_test(unknown_and_nodeless_nics_are_named),
        cmocka_unit_test(settings_win_over_nics),
        cmocka_unit_test(a_setting_that_cannot_be_followed_is_said),
        cmocka_unit_test(a_restricted_cpuset_is_kept_to),
        cmocka_unit_test(without_a_topology_nothing_is_bound),
        cmocka_unit_test(another_machine_s_topology_is_planned_and_not_bound),
        cmocka_unit_test(long_lists_cut_the_text_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
