#include "driver.h"

uint64_t driver_count_read(const struct account *a)
{
    const uint64_t *n = a->by_mode;
    return n['l'] + n['m'] + n['o'] + n['s'] + n['d'];
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static void show_speed(const char *what, double speed, const char *limit,
                       double of)
{
    printf("    %-22s %8.2f GB/s", what, speed);
    if (limit != NULL) {
        printf("   %.2f of %s", ratio(speed, of), limit);
    }
    printf("\n");
}

void driver_table(const struct driver *d)
{
    const struct account *a = &d->account;
    double asked = (double)a->n_asked;
    printf("\n");
    printf("  requests               %10" PRIu64 "   in %.1f s, %zu sent again "
           "after the kill\n",
           a->n_requests, d->replay_s, d->n_again);
    printf("  pages asked for        %10" PRIu64 "\n", a->n_asked);
    printf("  pages put              %10" PRIu64
           "   %zu different ones, %" PRIu64 " puts failed\n",
           a->n_put, d->workload.n_keys, a->n_put_failed);
    printf("  pages found            %10" PRIu64 "\n", driver_count_read(a));
    printf("    in the own pool      %10" PRIu64 "\n", a->by_mode['l']);
    printf("    mapped               %10" PRIu64 "   by auto-1 and auto-2\n",
           a->by_mode['m']);
    printf("    one-sided            %10" PRIu64 "   by one-sided\n",
           a->by_mode['o']);
    printf("    served               %10" PRIu64 "   by served\n",
           a->by_mode['s']);
    printf("  wrong bytes            %10" PRIu64 "   every page was checked\n",
           a->wrong_bytes);
    printf("  hit rate               %10.3f   bound of an infinite cache that "
           "loses nothing %.3f\n",
           ratio((double)a->n_hit, asked),
           ratio((double)d->workload.n_seen, (double)d->workload.n_asked));
    printf("  with a live holder     %10" PRIu64 "   found %" PRIu64 ", %.4f\n",
           a->n_live, a->n_live_found,
           ratio((double)a->n_live_found, (double)a->n_live));
    printf("  slowest call           %7.1f ms   %s on %s; %" PRIu64
           " calls, %" PRIu64 " late\n",
           (double)a->slowest_ns / 1e6, a->slowest,
           d->nodes[a->slowest_node].name, a->n_calls, a->n_late);
    printf("  speed of the bytes, %d pages of %zu KiB at a time\n",
           DEMO_MEASURE_BATCH, d->options.page_size >> 10);
    show_speed("mapped", d->measured[0].speed, "memcpy", d->memcpy_speed);
    show_speed("one-sided (UCX TCP)", d->measured[2].speed, "raw TCP",
               d->tcp_speed);
    show_speed("served", d->measured[3].speed, "raw TCP", d->tcp_speed);
    show_speed("memcpy", d->memcpy_speed, NULL, 0);
    show_speed("raw TCP", d->tcp_speed, NULL, 0);
    printf("\n");
}

static void blame(char *text, size_t size, bool failed, const char *why)
{
    if (failed) {
        size_t len = strlen(text);
        snprintf(text + len, size - len, "%s%s", len > 0 ? "; " : "", why);
    }
}

bool driver_judge(const struct driver *d, unsigned n_left_badly, char *why,
                  size_t size)
{
    const struct account *a = &d->account;
    const uint64_t *by = a->by_mode;
    bool killed = d->nodes[VICTIM].killed;
    why[0] = '\0';
    blame(why, size, d->broken, "a node failed");
    blame(why, size, a->n_requests < d->workload.n_requests,
          "not all was replayed");
    blame(why, size, a->wrong_bytes > 0, "wrong bytes");
    blame(why, size, a->n_late > 0, "late calls");
    blame(why, size, a->n_errors > 0, "calls were refused");
    blame(why, size, by['m'] < PAGES_PER_MODE, "too few mapped reads");
    blame(why, size, by['o'] < PAGES_PER_MODE, "too few one-sided reads");
    blame(why, size, by['s'] < PAGES_PER_MODE, "too few served reads");
    blame(why, size, (double)a->n_live_found < 0.98 * (double)a->n_live,
          "pages with a live holder were not found");
    blame(why, size, d->options.kill && !killed, "nobody was killed");
    blame(why, size, n_left_badly > 0, "a node did not leave well");
    return why[0] == '\0';
}
