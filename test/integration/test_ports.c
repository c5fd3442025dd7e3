/* A node opens its own ports, on loopback, and no other: also UCX, which could
 * open one that anybody may write to memory through, opens none. */
#include "host.h"

#include "base/assert.h"
#include "node/node.h"

#include <dirent.h>
#include <inttypes.h>

#define PORTS_MAX 64
#define LISTEN    0x0a

struct port
{
    char table[8]; /* "tcp", "udp" ... */
    char address[40];
    unsigned number, state;
    unsigned long inode;
};

/* Sockets of this process: their inodes. */
static size_t own_inodes(unsigned long *inodes, size_t max)
{
    size_t n = 0;
    struct dirent *entry;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while ((entry = readdir(folder)) != NULL && n < max) {
        char path[300];
        char text[64];
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%s", entry->d_name);
        ssize_t len = readlink(path, text, sizeof(text) - 1);
        if (len > 0) {
            text[len] = '\0';
            n += sscanf(text, "socket:[%lu]", &inodes[n]) == 1;
        }
    }
    closedir(folder);
    return n;
}

static bool is_own(unsigned long inode, const unsigned long *inodes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (inodes[i] == inode) {
            return true;
        }
    }
    return false;
}

/* TCP that listens, UDP that is bound, of this process. */
static size_t open_ports(struct port *ports)
{
    static const char *const tables[] = {"tcp", "tcp6", "udp", "udp6", "raw"};
    unsigned long inodes[512];
    size_t n_inodes = own_inodes(inodes, 512);
    size_t n = 0;
    for (size_t i = 0; i < PC_ARRAY_LEN(tables); i++) {
        char line[512];
        (void)snprintf(line, sizeof(line), "/proc/self/net/%s", tables[i]);
        FILE *file = fopen(line, "r");
        while (file != NULL && n < PORTS_MAX &&
               fgets(line, sizeof(line), file) != NULL) {
            struct port *port = &ports[n];
            if (sscanf(line,
                       " %*u: %39[0-9A-Fa-f]:%x %*s %x %*s %*s %*s %*u %*u %lu",
                       port->address, &port->number, &port->state,
                       &port->inode) != 4 ||
                !is_own(port->inode, inodes, n_inodes) ||
                (tables[i][0] == 't' && port->state != LISTEN)) {
                continue;
            }
            (void)snprintf(port->table, sizeof(port->table), "%s", tables[i]);
            n++;
        }
        if (file != NULL) {
            (void)fclose(file);
        }
    }
    return n;
}

static void assert_ports(const unsigned *expected, size_t n_expected)
{
    struct port ports[PORTS_MAX];
    size_t n = open_ports(ports);
    for (size_t i = 0; i < n; i++) {
        bool known = false;
        for (size_t k = 0; k < n_expected; k++) {
            known |= ports[i].number == expected[k];
        }
        if (!known || strcmp(ports[i].table, "tcp") != 0 ||
            strcmp(ports[i].address, "0100007F") != 0) {
            fail_msg("%s %s:%u is open", ports[i].table, ports[i].address,
                     ports[i].number);
        }
    }
    assert_int_equal(n, n_expected);
}

static unsigned port_of(const peercache_node_t *node)
{
    return (unsigned)atoi(strrchr(node->self.address, ':') + 1);
}

static peercache_node_t *plain_node(const char *discovery)
{
    peercache_config_t *config;
    peercache_node_t *node;
    assert_int_equal(peercache_config_create(&config), PEERCACHE_OK);
    assert_int_equal(
        peercache_config_set(config, "global_segment_size", "64MiB"),
        PEERCACHE_OK);
    assert_int_equal(peercache_config_set(config, "disk_enabled", "false"),
                     PEERCACHE_OK);
    assert_int_equal(peercache_config_set(config, "discovery_addr", discovery),
                     PEERCACHE_OK);
    assert_int_equal(peercache_node_create(config, &node), PEERCACHE_OK);
    peercache_config_destroy(config);
    return node;
}

static void use(peercache_node_t *from, peercache_node_t *to)
{
    struct batch batch;
    batch_init(&batch, 4, 64 * KIB);
    batch_name(&batch, "page", 0);
    batch_fill(&batch);
    assert_int_equal(batch_do(&batch, from, PC_VERB_PUT, 10 * PC_S),
                     PEERCACHE_OK);
    WAIT_UNTIL(batch_do(&batch, to, PC_VERB_GET, PC_S) == PEERCACHE_OK, 20);
    batch_fini(&batch);
}

static void a_node_alone_opens_one_port(void **state)
{
    (void)state;
    assert_ports(NULL, 0);
    peercache_node_t *node = plain_node("");
    use(node, node);
    unsigned port = port_of(node);
    assert_ports(&port, 1);
    peercache_node_destroy(node);
    assert_ports(NULL, 0);
}

static void nodes_of_a_cluster_open_theirs_and_the_seeds(void **state)
{
    char discovery[64];
    (void)state;
    unsigned seed = host_port();
    (void)snprintf(discovery, sizeof(discovery), "127.0.0.1:%u", seed);
    peercache_node_t *one = plain_node(discovery);
    host_ready(one);
    peercache_node_t *two = plain_node(discovery);
    host_ready(two);
    use(one, two);
    const unsigned ports[] = {port_of(one), port_of(two), seed};
    assert_ports(ports, 3);
    peercache_node_destroy(two);
    peercache_node_destroy(one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_alone_opens_one_port),
        cmocka_unit_test(nodes_of_a_cluster_open_theirs_and_the_seeds),
    };
    return cmocka_run_group_tests_name("ports", tests, NULL, NULL);
}
