/*
 * `peercache drain NODE` with real processes: who is drained may end, and what
 * the others hold is found before, meanwhile and afterwards.
 */
#include "host.h"

#include <sys/wait.h>

#define SETTINGS                                                               \
    "heartbeat_interval=200ms member_ttl=2 settle=1 directory_replicas=1 "     \
    "location_cache=0 "
#define N_KEYS 200

struct fixture
{
    peercache_node_t *node;
    struct peer far, third;
    uint16_t port;
    char out[8192];
};

static int run_cli(struct fixture *f, const char *words)
{
    char command[512];
    (void)snprintf(command, sizeof(command),
                   "%s --discovery-addr 127.0.0.1:%u --directory-replicas 1 "
                   "--heartbeat-interval 0.2 --member-ttl 2 %s 2>&1",
                   getenv("PEERCACHE_CLI"), f->port, words);
    FILE *out = popen(command, "r");
    assert_non_null(out);
    size_t n = fread(f->out, 1, sizeof(f->out) - 1, out);
    f->out[n] = '\0';
    int status = pclose(out);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void assert_said(const struct fixture *f, const char *part)
{
    if (strstr(f->out, part) == NULL) {
        fail_msg("no \"%s\" in\n%s", part, f->out);
    }
}

static void start_peer(struct fixture *f, struct peer *peer, const char *name)
{
    peer_start(peer);
    (void)peer_tell(peer, "ok",
                    "start discovery_addr=127.0.0.1:%u node_id=%s " SETTINGS,
                    f->port, name);
    (void)peer_tell(peer, "OK", "ready");
    (void)peer_tell(peer, "OK", "put %s %d 1000", name, N_KEYS);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    f->port = host_port();
    f->node = host_node("discovery_addr=127.0.0.1:%u node_id=near " SETTINGS,
                        f->port);
    host_ready(f->node);
    start_peer(f, &f->far, "far");
    start_peer(f, &f->third, "third");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    peer_end(&f->third);
    peercache_node_destroy(f->node);
    free(f);
    return 0;
}

/* Of the third one's values, here; their records lie anywhere. */
static void find_all(struct fixture *f, const char *prefix)
{
    struct batch batch;
    size_t n_wrong;
    batch_init(&batch, N_KEYS, 1000);
    batch_name(&batch, prefix, 0);
    assert_int_equal(batch_do(&batch, f->node, PC_VERB_GET, 0), PEERCACHE_OK);
    assert_int_equal(batch_count_ok(&batch, &n_wrong), N_KEYS);
    assert_int_equal(n_wrong, 0);
    batch_fini(&batch);
}

static void a_drained_process_ends_and_nobody_notices(void **state)
{
    struct fixture *f = *state;
    uint64_t until_ns;
    assert_int_equal(run_cli(f, "drain nobody"), 1);
    assert_said(f, "no member is called nobody");
    assert_int_equal(run_cli(f, "drain"), 2);
    assert_said(f, "a node is missing");
    assert_int_equal(run_cli(f, "drain far --wait 0"), 0);
    assert_said(f, "far drains");
    find_all(f, "third");
    find_all(f, "far"); /* What it holds is read until it ends. */
    assert_int_equal(run_cli(f, "--json drain far --wait 30"), 0);
    assert_said(f, "\"drained\": true");
    assert_int_equal(run_cli(f, "members"), 0);
    assert_said(f, "draining");
    find_all(f, "far");
    find_all(f, "third");
    peer_end(&f->far);
    until_ns = pc_clock_monotonic() + 2 * PC_S;
    while (pc_clock_monotonic() < until_ns) {
        find_all(f, "third");
    }
    assert_int_equal(run_cli(f, "drain far --wait 1"), 1);
}

int main(int argc, char **argv)
{
    if (argc == 2) {
        return host_alone(argv[1], NULL, 0, NULL);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_drained_process_ends_and_nobody_notices),
    };
    const char *cli = getenv("PEERCACHE_CLI");
    if (cli == NULL || access(cli, X_OK) != 0) {
        (void)fprintf(stderr, "skipped: the command peercache is not built\n");
        return 0;
    }
    host_log_keep();
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
