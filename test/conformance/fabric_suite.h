/*
 * fabric_suite.h - what every implementation of fabric.h must do.
 *
 * Two fabrics in one program: A owns memory, B reads it; their blobs are handed
 * over by the tests, as HELLO would. The suite asks neither the system nor the
 * clock: it steps the fixture until a condition holds, and the fixture says
 * when that has taken too long, in its own time.
 */
#ifndef PC_TEST_FABRIC_SUITE_H
#define PC_TEST_FABRIC_SUITE_H

#include "seam/fabric.h"

enum fabric_side { FABRIC_A, FABRIC_B, FABRIC_N_SIDES };

struct fabric_fixture
{
    const char *name; /* Of the group of tests. */
    const struct pc_fabric_ops *ops;
    /* What the way from B to A must be able to do. */
    bool expect_map;
    bool expect_get;
    void *arg;
    /* Before and after every test; may be NULL. */
    void (*begin)(struct fabric_fixture *fixture);
    void (*end)(struct fabric_fixture *fixture);
    /* Open one side: fill in what is the implementation's (devices, rdma, shm,
     * ucx_tcp, or a place in a simulation) and call ops->open; the upcalls and
     * arg are set. */
    peercache_status_t (*open)(struct fabric_fixture *fixture,
                               enum fabric_side side,
                               struct pc_fabric_params *params,
                               struct pc_fabric **fabric_p);
    /* Let some time pass and run progress of the fabrics that are not NULL.
     * False: the wait that began with step number 0 has taken too long. */
    bool (*step)(struct fabric_fixture *fixture,
                 struct pc_fabric *const fabrics[FABRIC_N_SIDES],
                 unsigned n_steps);
};

/* Runs the suite; the number of failed tests. */
int fabric_suite_run(struct fabric_fixture *fixture);

/* For further tests on the same ground: one side with what it was told. */
struct fabric_bench
{
    struct fabric_fixture *fixture;
    struct pc_fabric *fabrics[FABRIC_N_SIDES];
    struct pc_fabric_path path; /* The last one that was told. */
    unsigned n_attached;
    unsigned n_failed;
    unsigned n_detached;
    bool in_progress; /* Upcalls may come. */
    struct pc_fabric_mem *pool;
    struct pc_fabric_peer *peer; /* A, as B knows it. */
    struct pc_fabric_rkey *rkey;
};

struct fabric_read
{
    struct pc_fabric_get get;
    struct fabric_bench *bench;
    unsigned n_done;
    peercache_status_t status;
};

void fabric_bench_open(struct fabric_bench *bench,
                       struct fabric_fixture *fixture);
/* A pool of len patterned bytes on A, attached and unpacked on B. */
void fabric_bench_connect(struct fabric_bench *bench, size_t len);
void fabric_bench_close(struct fabric_bench *bench);
/* One turn, with the check of rule 3 around it. False: too late. */
bool fabric_bench_step(struct fabric_bench *bench, unsigned n_steps);
/* Detach and step until it has ended. */
void fabric_bench_detach(struct fabric_bench *bench);
/* A get from any address, ready to be posted. */
void fabric_read_init(struct fabric_bench *bench, struct fabric_read *read,
                      uint64_t remote_addr, void *local, size_t len);
/* Post a get of the pool's bytes at offset into local. */
peercache_status_t fabric_post(struct fabric_bench *bench,
                               struct fabric_read *read, uint64_t offset,
                               void *local, size_t len);
/* Byte `offset` of the pool as fabric_bench_connect writes it. */
unsigned char fabric_byte(uint64_t offset);
bool fabric_bytes_right(const void *data, uint64_t offset, size_t len);

/* Step until the condition; fails the test when it takes too long. */
#define FABRIC_WAIT(bench, condition)                                          \
    do {                                                                       \
        for (unsigned n_ = 0; !(condition); n_++) {                            \
            if (!fabric_bench_step((bench), n_)) {                             \
                fail_msg("no end of waiting for %s", #condition);              \
            }                                                                  \
        }                                                                      \
    } while (0)

#endif /* PC_TEST_FABRIC_SUITE_H */
