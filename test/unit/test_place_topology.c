/*
 * Topologies by hwloc: made up, of files, restricted as in a container, and
 * the one of this machine.
 */
#include "test/lib/test.h"
#include "test/lib/topo_xml.h"

#include "base/mem.h"
#include "place/topology.h"

#include <stdio.h>

static void load(const struct pc_topology_source *source, struct pc_topology *t)
{
    assert_true(pc_topology_load(source, t));
    assert_true(t->n_nodes > 0);
}

static void assert_cpus(const struct pc_cpus *cpus, const char *expected)
{
    char text[128];
    pc_cpus_write(cpus, text, sizeof(text));
    assert_string_equal(text, expected);
}

static void made_up_machines_have_their_nodes(void **state)
{
    static const struct
    {
        const char *text;
        size_t n_nodes;
        const char *last_cpus;
    } cases[] = {{"node:1 pu:4", 1, "0-3"},
                 {"package:2 node:1 core:8 pu:2", 2, "16-31"},
                 {"package:2 node:4 core:2 pu:1", 8, "14-15"}};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct pc_topology_source source = {.synthetic = cases[i].text};
        struct pc_topology t;
        load(&source, &t);
        assert_int_equal(t.n_nodes, cases[i].n_nodes);
        assert_int_equal(t.n_devices, 0);
        assert_false(t.is_this_machine);
        const struct pc_place_node *last =
            pc_topology_node(&t, (unsigned)cases[i].n_nodes - 1);
        assert_non_null(last);
        assert_true(last->is_allowed && last->has_memory);
        assert_cpus(&last->cpus, cases[i].last_cpus);
        assert_null(pc_topology_node(&t, (unsigned)cases[i].n_nodes));
        pc_topology_fini(&t);
    }
}

static void devices_are_found_with_the_node_they_are_at(void **state)
{
    static const struct topo_device devices[] = {
        {"eth0", false, 0}, {"mlx5_0", true, 1}, {"mlx5_1", true, -1}};
    struct pc_text xml;
    struct pc_topology t;
    (void)state;
    pc_text_init(&xml);
    topo_xml(&xml, 2, devices, 3);
    struct pc_topology_source source = {.xml = xml.data};
    load(&source, &t);
    assert_int_equal(t.n_nodes, 2);
    assert_int_equal(t.n_devices, 3);
    const struct pc_place_device *nic = pc_topology_device(&t, "mlx5_0");
    assert_non_null(nic);
    assert_true(nic->is_rdma);
    assert_int_equal(nic->numa_node, 1);
    assert_string_equal(nic->bus, "0000:02:00.0");
    assert_int_equal(pc_topology_device(&t, "eth0")->numa_node, 0);
    assert_false(pc_topology_device(&t, "eth0")->is_rdma);
    assert_int_equal(pc_topology_device(&t, "mlx5_1")->numa_node, -1);
    assert_null(pc_topology_device(&t, "mlx5_2"));
    pc_topology_fini(&t);
    pc_text_fini(&xml);
}

static void a_container_s_cpuset_is_seen(void **state)
{
    struct pc_topology_source source = {.synthetic = "package:4 node:1 pu:4",
                                        .allowed_cpus = "4-6",
                                        .allowed_nodes = "1"};
    struct pc_topology t;
    (void)state;
    load(&source, &t);
    assert_int_equal(t.n_nodes, 4);
    assert_cpus(&t.allowed, "4-6");
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pc_topology_node(&t, i)->is_allowed, i == 1);
    }
    pc_topology_fini(&t);
}

static void this_machine_can_be_read(void **state)
{
    struct pc_topology_source source = {.synthetic = NULL};
    struct pc_topology t;
    struct pc_cpus mine;
    (void)state;
    load(&source, &t);
    pc_cpus_of_thread(&mine);
    assert_false(pc_cpus_is_empty(&mine));
    assert_true(pc_cpus_within(&mine, &t.allowed));
    pc_topology_fini(&t);
}

static void what_is_no_topology_is_refused(void **state)
{
    static const struct pc_topology_source bad[] = {
        {.synthetic = "what:2 is:this"},
        {.xml = "<topology"},
        {.synthetic = "node:2 pu:1", .allowed_cpus = "x"},
        {.synthetic = "node:2 pu:1", .allowed_nodes = "7"}};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct pc_topology t;
        assert_false(pc_topology_load(&bad[i], &t));
        assert_null(t.nodes);
        assert_null(t.devices);
        pc_topology_fini(&t);
    }
}

static void no_memory_is_no_topology(void **state)
{
    struct pc_topology_source source = {.synthetic = "node:2 pu:1"};
    struct pc_topology t;
    (void)state;
    for (int64_t n = 0; n < 2; n++) {
        pc_mem_fail_after(n);
        assert_false(pc_topology_load(&source, &t));
        pc_mem_fail_after(-1);
    }
    assert_int_equal(pc_mem_outstanding(), 0);
}

static void lists_of_cpus_are_read_and_written(void **state)
{
    struct pc_cpus cpus;
    char text[32];
    (void)state;
    assert_true(pc_cpus_parse(" 0-2, 5 ,7-7,8191", &cpus));
    assert_cpus(&cpus, "0-2,5,7,8191");
    assert_int_equal(pc_cpus_count(&cpus), 6);
    static const char *const bad[] = {"",
                                      "a",
                                      "1,",
                                      ",1",
                                      "3-1",
                                      "8192",
                                      "1-",
                                      "-1",
                                      "1 2",
                                      "1;2",
                                      "99999999999999999999"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(pc_cpus_parse(bad[i], &cpus));
    }
    assert_cpus(&cpus, "0-2,5,7,8191"); /* As it was. */
    assert_true(pc_cpus_parse("1,3,5,7,9,11,13,15,17,19,21,23", &cpus));
    pc_cpus_write(&cpus, text, sizeof(text));
    assert_string_equal(text, "1,3,5,7,9,11,13,15,17,19,21...");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(made_up_machines_have_their_nodes),
        cmocka_unit_test(devices_are_found_with_the_node_they_are_at),
        cmocka_unit_test(a_container_s_cpuset_is_seen),
        cmocka_unit_test(this_machine_can_be_read),
        cmocka_unit_test(what_is_no_topology_is_refused),
        cmocka_unit_test(no_memory_is_no_topology),
        cmocka_unit_test(lists_of_cpus_are_read_and_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
