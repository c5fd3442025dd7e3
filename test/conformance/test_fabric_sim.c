/* The fabric's suite over the simulated network. */
#include "test.h"

#include "base/clock.h"
#include "fabric_suite.h"
#include "transports/sim/sim.h"

#define PATIENCE_NS (20 * PC_S)

struct ground
{
    struct pc_sim *sim;
    uint64_t seed;
    bool shm;
    bool can_get;
    bool native;
    uint64_t since_ns;
};

static uint64_t now(const struct ground *ground)
{
    struct pc_clock clock = pc_sim_clock(ground->sim);
    return pc_clock_now(&clock);
}

static void ground_begin(struct fabric_fixture *fixture)
{
    struct ground *ground = fixture->arg;
    struct pc_sim_path path = pc_sim_path_default();
    ground->sim = pc_sim_create(ground->seed++);
    path.native = ground->native;
    pc_sim_set_path(ground->sim, NULL, NULL, &path);
}

static void ground_end(struct fabric_fixture *fixture)
{
    struct ground *ground = fixture->arg;
    pc_sim_destroy(ground->sim);
    ground->sim = NULL;
}

static peercache_status_t ground_open(struct fabric_fixture *fixture,
                                      enum fabric_side side,
                                      struct pc_fabric_params *params,
                                      struct pc_fabric **fabric_p)
{
    struct ground *ground = fixture->arg;
    bool is_a = side == FABRIC_A;
    struct pc_sim_host *host =
        pc_sim_host_add(ground->sim, is_a ? "a" : "b",
                        is_a || ground->shm ? "machine" : "other");
    pc_sim_set_gets(host, ground->can_get);
    params->shm = ground->shm;
    params->world = host;
    return fixture->ops->open(params, fabric_p);
}

static bool ground_step(struct fabric_fixture *fixture,
                        struct pc_fabric *const fabrics[FABRIC_N_SIDES],
                        unsigned n_steps)
{
    struct ground *ground = fixture->arg;
    unsigned work = 0;
    if (n_steps == 0) {
        ground->since_ns = now(ground);
    }
    for (int i = 0; i < FABRIC_N_SIDES; i++) {
        work += fabrics[i] == NULL ? 0 : fixture->ops->progress(fabrics[i]);
    }
    if (work == 0) {
        uint64_t due_ns;
        bool any = pc_sim_next(ground->sim, &due_ns);
        pc_sim_advance_to(ground->sim, any ? due_ns : now(ground) + PC_MS);
    }
    return now(ground) - ground->since_ns < PATIENCE_NS;
}

int main(void)
{
    struct ground grounds[] = {
        {.seed = 1, .shm = true},
        {.seed = 100, .can_get = true},
        {.seed = 200, .can_get = true, .native = true},
        {.seed = 300, .shm = true, .can_get = true, .native = true},
    };
    static const char *const names[] = {
        "fabric, simulated shared memory", "fabric, simulated software gets",
        "fabric, simulated native gets", "fabric, simulated, both"};
    int failed = 0;
    for (int i = 0; i < 4; i++) {
        struct fabric_fixture fixture = {
            .name = names[i],
            .ops = pc_sim_fabric(),
            .expect_map = grounds[i].shm,
            .expect_get = grounds[i].can_get,
            .arg = &grounds[i],
            .begin = ground_begin,
            .end = ground_end,
            .open = ground_open,
            .step = ground_step,
        };
        failed += fabric_suite_run(&fixture);
    }
    return failed;
}
