/*
 * A thousand nodes: what membership costs when nothing happens, how soon a
 * death is known, what a join moves, what a lookup costs, and that lookups
 * notice neither joins nor leaves.
 *
 *     test_sim_thousand [n_seeds] [first_seed] [n_nodes]
 *
 * Prints one line a seed. 1,000 nodes take four gigabytes while they all start
 * at once (each keeps 16 views of all others), so CI takes fewer.
 */
#include "test.h"

#include "fleet.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { NODES = 1000, WORDS = 8192 };

static void must(const struct fleet *f, bool holds, const char *what)
{
    if (!holds) {
        cluster_fail(f->cluster, "%s", what);
    }
}

static void exit_failed(struct cluster *c)
{
    fprintf(stderr, "FAILED: seed %" PRIu64 "\n", c->seed);
    exit(1);
}

static void run_seed(uint64_t seed, int n)
{
    struct fleet *f = fleet_create(seed, n, exit_failed);
    struct fleet_figures figures;
    fleet_measure(f, WORDS, &figures);
    printf("seed %" PRIu64 ", %d nodes: quiet %.0f B/s, master %.0f B/s a "
           "node; death known after %.2f s; join moved %.2f/N; %" PRIu64
           " lookups during join and leave, %" PRIu64
           " failed, slowest %.2f ms; 128 keys: %.2f round trips, %" PRIu64
           " messages, absent %.2f, %" PRIu64 "\n",
           seed, n, figures.quiet.ordinary, figures.quiet.master_per_node,
           (double)figures.death_ns / 1e9, figures.moved * n, f->n_lookups,
           f->n_lookups_failed, (double)f->slowest_lookup_ns / 1e6,
           figures.present.rounds, figures.present.n_messages,
           figures.absent.rounds, figures.absent.n_messages);
    const struct pc_settings *s = &f->cluster->nodes[0].node->settings;
    must(f, figures.quiet.ordinary <= 4096, "an ordinary node is too loud");
    must(f, figures.quiet.master_per_node <= 200, "a master is too loud");
    must(f, figures.death_ns <= s->member_ttl_ns + 2 * s->heartbeat_interval_ns,
         "a death was known too late");
    must(f, figures.moved * n <= 2, "a join moved too much");
    must(f, f->n_lookups_failed == 0, "a lookup failed");
    must(f, f->slowest_lookup_ns <= 5 * PC_MS, "a lookup was late");
    must(f, figures.present.all_found, "not all of 128 keys were found");
    must(f, figures.present.rounds < 1.1, "more than a round trip");
    must(f, figures.present.n_messages <= 128, "more than a message an owner");
    must(f, figures.absent.rounds < 2.1, "more than two round trips");
    must(f, figures.absent.n_messages <= 256, "more than two an owner");
    fleet_destroy(f);
}

int main(int argc, char **argv)
{
    uint64_t n_seeds = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    int n = argc > 3 ? atoi(argv[3]) : NODES;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    for (uint64_t seed = first; seed < first + n_seeds; seed++) {
        run_seed(seed, n);
    }
    return 0;
}
