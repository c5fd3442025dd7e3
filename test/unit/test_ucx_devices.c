/*
 * The RDMA ports that a host's files tell of: a folder as the kernel lays it
 * out stands in for /sys/class/infiniband.
 */
#include "test.h"

#include "base/log.h"
#include "base/text.h"
#include "transports/ucx/devices.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct host
{
    char root[64];
    struct pc_text list;
    struct pc_text log;
};

static void note(void *arg, peercache_log_level_t level, const char *where,
                 const char *message)
{
    struct host *host = arg;
    (void)where;
    pc_text_add(&host->log, "%d %s\n", (int)level, message);
}

static int host_open(void **state)
{
    struct host *host = calloc(1, sizeof(*host));
    strcpy(host->root, "/tmp/peercache-devices-XXXXXX");
    if (mkdtemp(host->root) == NULL) {
        return 1;
    }
    pc_text_init(&host->list);
    pc_text_init(&host->log);
    pc_log_set(PEERCACHE_LOG_INFO, note, host);
    *state = host;
    return 0;
}

static int host_close(void **state)
{
    struct host *host = *state;
    char command[128];
    pc_log_set(PEERCACHE_LOG_INFO, NULL, NULL);
    snprintf(command, sizeof(command), "rm -rf %s", host->root);
    int status = system(command);
    pc_text_fini(&host->list);
    pc_text_fini(&host->log);
    free(host);
    return status;
}

static void write_line(const struct host *host, const char *port,
                       const char *name, const char *line)
{
    char path[256];
    snprintf(path, sizeof(path), "%s/%s/%s", host->root, port, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fprintf(file, "%s\n", line) > 0);
    assert_int_equal(fclose(file), 0);
}

static void add_port(const struct host *host, const char *device,
                     unsigned number, const char *state, const char *layer)
{
    char command[256];
    char port[64];
    snprintf(port, sizeof(port), "%s/ports/%u", device, number);
    snprintf(command, sizeof(command), "mkdir -p %s/%s/gids", host->root, port);
    assert_int_equal(system(command), 0);
    write_line(host, port, "state", state);
    write_line(host, port, "link_layer", layer);
    write_line(host, port, "gids/0", "fe80:0000:0000:0000:0000:0000:0000:0001");
    write_line(host, port, "gids/1", "0000:0000:0000:0000:0000:0000:0000:0000");
}

static const char *find(struct host *host, const char *names, unsigned port,
                        int gid_index)
{
    struct pc_ucx_wanted wanted = {names, port, gid_index};
    pc_text_clear(&host->list);
    pc_text_clear(&host->log);
    pc_ucx_devices_find(host->root, &wanted, &host->list);
    return host->list.len > 0 ? host->list.data : "";
}

static bool log_has(const struct host *host, const char *text)
{
    return host->log.data != NULL && strstr(host->log.data, text) != NULL;
}

static void a_host_without_devices_has_none(void **state)
{
    struct host *host = *state;
    assert_string_equal(find(host, "", 0, -1), "");
    strcpy(host->root + strlen(host->root) - 1, "?"); /* No such folder. */
    assert_string_equal(find(host, "", 0, -1), "");
    assert_int_equal(host->log.len, 0);
}

static void ports_that_are_up_are_taken_in_order(void **state)
{
    struct host *host = *state;
    add_port(host, "mlx5_10", 1, "4: ACTIVE", "InfiniBand");
    add_port(host, "mlx5_2", 1, "4: ACTIVE", "InfiniBand");
    add_port(host, "mlx5_2", 2, "1: DOWN", "InfiniBand");
    add_port(host, "mlx5_3", 2, "2: INIT", "Ethernet");
    assert_string_equal(find(host, "", 0, -1), "mlx5_2:1,mlx5_10:1");
    assert_true(log_has(host, "mlx5_2:2 is not used: its port is down"));
    assert_true(log_has(host, "mlx5_3:2 is not used: its port is down"));
    /* Nobody asked for these two. */
    assert_false(log_has(host, "1 RDMA"));
}

static void what_is_named_is_taken_or_warned_of(void **state)
{
    struct host *host = *state;
    add_port(host, "rxe0", 1, "4: ACTIVE", "Ethernet");
    add_port(host, "rxe0", 2, "4: ACTIVE", "Ethernet");
    add_port(host, "rxe1", 1, "1: DOWN", "Ethernet");
    assert_string_equal(find(host, "rxe0", 0, -1), "rxe0:1");
    assert_string_equal(find(host, "rxe0", 2, -1), "rxe0:2");
    assert_string_equal(find(host, "rxe0:2, rxe0", 0, -1), "rxe0:2,rxe0:1");
    assert_int_equal(host->log.len, 0);
    assert_string_equal(find(host, "rxe1,rxe0", 0, -1), "rxe0:1");
    assert_true(log_has(host, "rxe1:1 is not used: its port is down"));
    assert_string_equal(find(host, "rxe7", 0, -1), "");
    assert_true(log_has(host, "rxe7:1 is not used: there is no such"));
    assert_string_equal(find(host, "../rxe0", 0, -1), "");
    assert_true(log_has(host, "no device has such a name"));
    assert_string_equal(find(host, "rxe0:", 0, -1), "");
    assert_string_equal(find(host, ":", 0, -1), "");
    assert_string_equal(find(host, " , ,", 0, -1), "");
}

static void a_wanted_port_number_holds_for_all_devices(void **state)
{
    struct host *host = *state;
    add_port(host, "a", 1, "4: ACTIVE", "InfiniBand");
    add_port(host, "a", 2, "4: ACTIVE", "InfiniBand");
    add_port(host, "b", 1, "4: ACTIVE", "InfiniBand");
    assert_string_equal(find(host, "", 2, -1), "a:2");
    assert_string_equal(find(host, "", 1, -1), "a:1,b:1");
}

static void a_wrong_gid_index_leaves_an_ethernet_port_out(void **state)
{
    struct host *host = *state;
    add_port(host, "ib", 1, "4: ACTIVE", "InfiniBand");
    add_port(host, "roce", 1, "4: ACTIVE", "Ethernet");
    assert_string_equal(find(host, "", 0, 0), "ib:1,roce:1");
    assert_int_equal(host->log.len, 0);
    /* 1 is empty, 3 is not there; InfiniBand does not need it. */
    assert_string_equal(find(host, "", 0, 1), "ib:1");
    assert_string_equal(find(host, "", 0, 3), "ib:1");
    assert_true(log_has(host, "roce:1 is not used: it has no GID"));
    assert_string_equal(find(host, "roce", 0, 3), "");
}

static void endless_names_are_cut_and_not_found(void **state)
{
    struct host *host = *state;
    char names[1024];
    memset(names, 'x', sizeof(names) - 1);
    names[sizeof(names) - 1] = '\0';
    assert_string_equal(find(host, names, 0, -1), "");
    names[500] = ':';
    assert_string_equal(find(host, names, 0, -1), "");
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, host_open, host_close)
    const struct CMUnitTest tests[] = {
        CASE(a_host_without_devices_has_none),
        CASE(ports_that_are_up_are_taken_in_order),
        CASE(what_is_named_is_taken_or_warned_of),
        CASE(a_wanted_port_number_holds_for_all_devices),
        CASE(a_wrong_gid_index_leaves_an_ethernet_port_out),
        CASE(endless_names_are_cut_and_not_found),
    };
#undef CASE
    return cmocka_run_group_tests_name("ucx_devices", tests, NULL, NULL);
}
