/*
 * link_world.h - two nodes with a link each, for the suite: they post, count
 * what happens, and check in each callback that it may run now.
 */
#ifndef PC_TEST_LINK_WORLD_H
#define PC_TEST_LINK_WORLD_H

#include "base/assert.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/mem.h"
#include "link_suite.h"
#include "test.h"

#define PATIENCE_NS (60 * PC_S) /* A condition that takes longer fails. */
#define NEVER       UINT64_MAX
#define ADDRESS_MAX 256
#define LONG_BODY   ((size_t)64 << 20) /* More than any buffer between. */
#define LONG_PIECE  ((size_t)1 << 20)
#define SIDES       2

struct world;

/* A message that is posted, with its memory. */
struct parcel
{
    struct pc_link_send send;
    struct pc_list node;
    struct side *side;
    uint8_t *head;
    uint8_t *body;
    peercache_piece_t *pieces;
    int n_done;
    peercache_status_t status;
};

/* A message that came, with its memory. */
struct landing
{
    struct pc_link_sink sink;
    struct pc_list node;
    struct side *side;
    uint8_t *head;
    size_t head_len;
    uint8_t *body;
    size_t body_len;
    peercache_piece_t *pieces;
    int n_done;
    peercache_status_t status;
};

/* Lengths of pieces, repeated until the body is full. */
struct cut
{
    const size_t *lens;
    size_t n_lens;
};

/* One node with at most one connection; also its connection's argument. */
struct side
{
    struct world *world;
    struct pc_link *link;
    struct pc_link_conn *conn;
    enum pc_link_class cls;
    int n_accepted;
    int n_connected;
    int n_closed;
    peercache_status_t connected;
    peercache_status_t why;
    size_t n_messages;
    size_t n_landed;
    size_t n_sent;
    size_t n_pending; /* Posted or offered, not yet done. */
    struct pc_list parcels;
    struct pc_list landings;

    /* How it behaves. */
    bool frozen;     /* Its process stands still. */
    bool refuses;    /* In accepted. */
    bool no_sink;    /* In message. */
    bool drops;      /* A sink without pieces. */
    bool shares;     /* Every megabyte of a body lands in the same place. */
    struct cut cut;  /* How its sinks are cut; {0}: one piece. */
    size_t n_echoes; /* Answer so many messages with one. */
    bool (*hangs_up)(struct side *side); /* Asked in each callback. */
};

struct world
{
    struct link_fixture *fixture;
    struct side sides[SIDES]; /* 0 connects, 1 listens. */
    char bound[ADDRESS_MAX];
    bool posting;
    bool stepping;
};

/* Step until the condition holds; fail when patience ends. */
#define UNTIL(world, condition)                                                \
    do {                                                                       \
        uint64_t until_ns = now(world) + PATIENCE_NS;                          \
        while (!(condition)) {                                                 \
            if (now(world) > until_ns) {                                       \
                fail_msg("never happened: %s", #condition);                    \
            }                                                                  \
            step(world);                                                       \
        }                                                                      \
    } while (0)

/* Fail unless these are the bytes that `seed` makes. */
void check(const uint8_t *data, size_t len, uint64_t seed);
/* A message without a body, not yet posted. */
struct parcel *parcel_new(struct side *side, size_t head_len);
/* ops->send, with the rules looked at. */
peercache_status_t post(struct parcel *parcel);
/* Post a message: its head has the bytes of seed, its body of seed + 1. */
struct parcel *send_cut(struct side *side, size_t head_len, size_t body_len,
                        uint64_t seed, const struct cut *cut);
struct parcel *send_plain(struct side *side, size_t head_len, size_t body_len,
                          uint64_t seed);
/* LONG_BODY bytes, from one megabyte of memory. */
struct parcel *send_long(struct side *side);
/* Let both nodes run that have a link and are not frozen. */
void step(struct world *world);
void few_steps(struct world *world);
uint64_t now(struct world *world);
/* Two links, the second one listens. */
void world_init_limits(struct world *world, struct link_fixture *fixture,
                       size_t head_max_0, size_t head_max_1);
void world_init(struct world *world, struct link_fixture *fixture);
/* From the first to the second; ends in a callback. */
void begin_connect_to(struct world *world, const char *address,
                      enum pc_link_class cls, uint64_t deadline_ns);
void begin_connect(struct world *world);
void connect_both(struct world *world);
void world_connected(struct world *world, struct link_fixture *fixture);
/* No connection, and nothing posted. */
bool is_quiet(const struct side *side);
void hang_up(struct world *world, int index);
/* Disconnect, wait until all is quiet, close, free. */
void world_fini(struct world *world);
struct landing *last_landing(struct side *side);
/* Send one message from the first to the second and compare every byte. */
void exchange(struct world *world, size_t head_len, size_t body_len,
              const struct cut *cut);

/* The two halves of the suite; the number of failures. */
int link_suite_exchanges(struct link_fixture *fixture);
int link_suite_ends(struct link_fixture *fixture);

#endif /* PC_TEST_LINK_WORLD_H */
