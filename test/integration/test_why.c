/*
 * `peercache why KEY` and `peercache status` against real processes: what they
 * say of keys that are there, that are not, and whose holder hangs, and that
 * they say it in time.
 */
#include "host.h"

#include <signal.h>
#include <sys/wait.h>

struct fixture
{
    peercache_node_t *node; /* The seed; lives. */
    struct peer peer;       /* Holds "far0" to "far3"; may hang. */
    uint16_t port;
    char out[32768];
    int status;
    uint64_t took_ns;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct batch batch;
    f->port = host_port();
    f->node = host_node("discovery_addr=127.0.0.1:%u node_id=near "
                        "heartbeat_interval=1 member_ttl=60",
                        f->port);
    host_ready(f->node);
    peer_start(&f->peer);
    (void)peer_tell(&f->peer, "ok",
                    "start discovery_addr=127.0.0.1:%u node_id=far "
                    "heartbeat_interval=1 member_ttl=60",
                    f->port);
    (void)peer_tell(&f->peer, "OK", "ready");
    (void)peer_tell(&f->peer, "OK", "put far 4 1000");
    batch_init(&batch, 4, 1000);
    batch_name(&batch, "near", 0);
    batch_fill(&batch);
    assert_int_equal(batch_do(&batch, f->node, PC_VERB_PUT, 0), PEERCACHE_OK);
    batch_fini(&batch);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    peer_end(&f->peer);
    peercache_node_destroy(f->node);
    free(f);
    return 0;
}

static void run_cli(struct fixture *f, const char *words)
{
    char command[512];
    (void)snprintf(command, sizeof(command),
                   "%s --discovery-addr 127.0.0.1:%u %s 2>&1",
                   getenv("PEERCACHE_CLI"), f->port, words);
    uint64_t start_ns = pc_clock_monotonic();
    FILE *out = popen(command, "r");
    assert_non_null(out);
    size_t n = fread(f->out, 1, sizeof(f->out) - 1, out);
    f->out[n] = '\0';
    int status = pclose(out);
    assert_true(WIFEXITED(status));
    f->status = WEXITSTATUS(status);
    f->took_ns = pc_clock_monotonic() - start_ns;
}

static void assert_said(const struct fixture *f, const char *part)
{
    if (strstr(f->out, part) == NULL) {
        fail_msg("no \"%s\" in\n%s", part, f->out);
    }
}

static void a_value_is_explained_by_its_owners_and_holders(void **state)
{
    struct fixture *f = *state;
    run_cli(f, "why far0");
    assert_int_equal(f->status, 0);
    assert_said(f, "owners of its records\n  ");
    assert_said(f, ": present, ");
    assert_said(f, "    at far (");
    assert_said(f, "holders\n  far (");
    assert_said(f, "): held, ");
    assert_said(f, "usable\n");
    assert_said(f, "phases\n  local ");
    assert_said(f, "a get here  OK: it would be read from far, mode ");
}

static void an_absent_key_is_absent_at_every_owner(void **state)
{
    struct fixture *f = *state;
    run_cli(f, "why nowhere");
    assert_int_equal(f->status, 1);
    assert_said(f, ": absent, ");
    assert_said(f, "holders\n  none known\n");
    assert_said(f, "a get here  NOT_FOUND: no owner has a record of it");
}

static void programs_get_json(void **state)
{
    struct fixture *f = *state;
    run_cli(f, "--json why near1");
    assert_int_equal(f->status, 0);
    assert_int_equal(f->out[0], '{');
    assert_said(f, "\"owners\":[{");
    assert_said(f, "\"answer\":\"present\"");
    assert_said(f, "\"says\":\"held\"");
    assert_said(f, "\"phases\":[{\"name\":\"local\",\"us\":");
    assert_said(f, "\"result\":\"OK\"");
    run_cli(f, "--json status");
    assert_said(f, "\"breaker\":{\"state\":\"closed\"");
}

/* The record says that it is there, the owner that lives says so, and its
 * holder says nothing. */
static void a_holder_that_hangs_is_named_in_time(void **state)
{
    struct fixture *f = *state;
    peer_signal(&f->peer, SIGSTOP);
    run_cli(f, "why far1");
    peer_signal(&f->peer, SIGCONT);
    assert_int_equal(f->status, 1);
    assert_said(f, "near (");
    assert_said(f, ": present, ");
    assert_said(f, ": no answer in 200 ms, ");
    assert_said(f, "a get here  NOT_FOUND: ");
    /* To join, 200 ms a phase, and to wait for a way. */
    assert_true(f->took_ns < 3 * PC_S + HOST_SLACK_NS);
}

static void the_breaker_of_a_hung_peer_is_in_status_and_metrics(void **state)
{
    struct fixture *f = *state;
    char *text = NULL;
    struct batch batch;
    batch_init(&batch, 4, 1000);
    batch_name(&batch, "far", 0);
    peer_signal(&f->peer, SIGSTOP);
    (void)batch_do(&batch, f->node, PC_VERB_GET, PC_S);
    WAIT_UNTIL(host_metric(f->node, "peers_suspect") == 1, 10);
    assert_int_equal(peercache_node_info(f->node, &text), PEERCACHE_OK);
    assert_non_null(strstr(text, "\"breaker\":{\"state\":\"open\""));
    peercache_free(text);
    assert_true(host_metric(f->node, "peer_suspected_total") >= 1);
    WAIT_UNTIL(host_metric(f->node, "peer_probes_total") >= 1, 10);
    peer_signal(&f->peer, SIGCONT);
    WAIT_UNTIL(host_metric(f->node, "peers_suspect") == 0, 10);
    assert_true(host_metric(f->node, "peer_returned_total") >= 1);
    batch_fini(&batch);
}

int main(int argc, char **argv)
{
    if (argc == 2) {
        return host_alone(argv[1], NULL, 0, NULL);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_explained_by_its_owners_and_holders),
        cmocka_unit_test(an_absent_key_is_absent_at_every_owner),
        cmocka_unit_test(programs_get_json),
        cmocka_unit_test(a_holder_that_hangs_is_named_in_time),
        cmocka_unit_test(the_breaker_of_a_hung_peer_is_in_status_and_metrics),
    };
    const char *cli = getenv("PEERCACHE_CLI");
    if (cli == NULL || access(cli, X_OK) != 0) {
        (void)fprintf(stderr, "skipped: the command peercache is not built\n");
        return 0;
    }
    host_log_keep();
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
