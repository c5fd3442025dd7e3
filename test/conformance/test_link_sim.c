/* The link's suite over the simulated network. */
#include "test.h"

#include "base/clock.h"
#include "link_suite.h"
#include "transports/sim/sim.h"

#include <stdio.h>
#include <string.h>

struct ground
{
    struct pc_sim *sim;
    uint64_t seed;
    bool is_unix;
    bool one_machine;
    struct pc_sim_path path;
    unsigned n_hosts;
    unsigned n_paths;
    struct pc_sim_host *last;
};

static void ground_setup(struct link_fixture *fixture)
{
    struct ground *ground = fixture->arg;
    ground->sim = pc_sim_create(ground->seed++);
    ground->n_hosts = 0;
    pc_sim_set_path(ground->sim, NULL, NULL, &ground->path);
}

static void ground_teardown(struct link_fixture *fixture)
{
    struct ground *ground = fixture->arg;
    pc_sim_destroy(ground->sim);
    ground->sim = NULL;
}

static struct pc_sim_host *add_host(struct ground *ground)
{
    char name[16];
    snprintf(name, sizeof(name), "host%u", ground->n_hosts++);
    return pc_sim_host_add(ground->sim, name,
                           ground->one_machine ? "machine" : name);
}

static peercache_status_t ground_open(struct link_fixture *fixture,
                                      const struct pc_link_params *params,
                                      struct pc_link **link_p)
{
    struct ground *ground = fixture->arg;
    struct pc_link_params own = *params;
    ground->last = add_host(ground);
    own.world = ground->last;
    return fixture->ops->open(&own, link_p);
}

static void ground_address(struct link_fixture *fixture, struct pc_link *link,
                           char *text, size_t len)
{
    struct ground *ground = fixture->arg;
    (void)link;
    if (ground->is_unix) {
        snprintf(text, len, "unix:/run/%u", ground->n_paths++);
    } else {
        snprintf(text, len, "0.0.0.0:0");
    }
}

static void ground_nowhere(struct link_fixture *fixture, char *text, size_t len)
{
    struct ground *ground = fixture->arg;
    if (ground->is_unix) {
        snprintf(text, len, "unix:/run/nobody");
    } else {
        snprintf(text, len, "%s:9", pc_sim_host_ip(ground->last));
    }
}

static bool ground_silent(struct link_fixture *fixture, char *text, size_t len)
{
    struct ground *ground = fixture->arg;
    if (ground->one_machine) {
        return false;
    }
    struct pc_sim_host *host = add_host(ground);
    pc_sim_set_island(host, 1);
    snprintf(text, len, "%s:80", pc_sim_host_ip(host));
    return true;
}

static void ground_step(struct link_fixture *fixture, struct pc_link **links,
                        size_t n_links)
{
    struct ground *ground = fixture->arg;
    struct pc_clock clock = pc_sim_clock(ground->sim);
    unsigned work = 0;
    for (size_t i = 0; i < n_links; i++) {
        work += fixture->ops->progress(links[i], -1, PC_S);
    }
    if (work == 0) {
        uint64_t due_ns;
        uint64_t latest_ns = pc_clock_now(&clock) + PC_MS;
        bool soon = pc_sim_next(ground->sim, &due_ns) && due_ns < latest_ns;
        pc_sim_advance_to(ground->sim, soon ? due_ns : latest_ns);
    }
}

static uint64_t ground_now(struct link_fixture *fixture)
{
    struct ground *ground = fixture->arg;
    struct pc_clock clock = pc_sim_clock(ground->sim);
    return pc_clock_now(&clock);
}

static int run_suite(const char *name, struct ground *ground)
{
    struct link_fixture fixture = {
        .name = name,
        .ops = pc_sim_link(),
        .arg = ground,
        .streams = true,
        .setup = ground_setup,
        .teardown = ground_teardown,
        .open = ground_open,
        .address = ground_address,
        .nowhere = ground_nowhere,
        .silent = ground_silent,
        .step = ground_step,
        .now = ground_now,
    };
    return link_suite_run(&fixture);
}

int main(void)
{
    struct ground plain = {.seed = 1, .path = pc_sim_path_default()};
    struct ground far = {.seed = 1000,
                         .path = {.latency_min_ns = PC_MS,
                                  .latency_max_ns = 5 * PC_MS,
                                  .bandwidth = 1000ull * 1000 * 1000}};
    struct ground at_once = {.seed = 2000};
    struct ground local = {.seed = 3000,
                           .is_unix = true,
                           .one_machine = true,
                           .path = pc_sim_path_default()};
    return run_suite("link on a simulated network", &plain) +
           run_suite("link on a slow simulated network", &far) +
           run_suite("link on a simulated network without latency", &at_once) +
           run_suite("link between simulated processes", &local);
}
