/*
 * host.h - what the integration tests share: nodes with settings as words,
 * values that prove themselves, the log as a list, and peers that are other
 * processes.
 *
 * A peer is this same program with "peer" as its argument; it does what its
 * standard input says, line by line, and answers each line with one line. Its
 * own commands are added by the test.
 */
#ifndef PC_TEST_HOST_H
#define PC_TEST_HOST_H

#include "test.h"

#include "base/clock.h"
#include "base/text.h"
#include "node/op.h"

#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define KIB ((size_t)1024)
#define MIB (KIB * KIB)

/* What a call may need beyond its deadline: this machine has few cores, and
 * sanitizers take their part of them. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HOST_SLACK_NS (1500 * PC_MS)
#else
#define HOST_SLACK_NS (400 * PC_MS)
#endif

/* Look at a condition until it holds; fails after so many seconds. */
#define WAIT_UNTIL(condition, seconds)                                         \
    do {                                                                       \
        uint64_t until_ = pc_clock_monotonic() + (seconds)*PC_S;               \
        while (!(condition)) {                                                 \
            if (pc_clock_monotonic() > until_) {                               \
                fail_msg("in vain: %s", #condition);                           \
            }                                                                  \
            (void)poll(NULL, 0, 1);                                            \
        }                                                                      \
    } while (0)

/* Shared memory and a /dev/shm of our own, for us and the processes that we
 * start. False: that may not be had here. Before any thread is started. */
bool host_be_alone(void);

/* ---- Nodes -------------------------------------------------------------- */

/* A port that is free now. */
uint16_t host_port(void);
/* A socket that is bound to 127.0.0.1:port (0: any) but does not listen:
 * nobody else gets the port, and who connects is refused. */
int host_hold_port(uint16_t *port_p);
/* "name=value name=value"; small pool and quick heartbeats unless said. */
peercache_config_t *host_config(const char *settings);
/* Printf-like settings; the test fails if there is no node. */
peercache_node_t *host_node(const char *settings, ...)
    __attribute__((format(printf, 1, 2)));
void host_ready(peercache_node_t *node);
/* Until all of the pool is there. What is put before has to do with a part of
 * it, and evicts, or finds no room beside what others have pinned. */
void host_whole(peercache_node_t *node);
/* A number of the node's metrics, by its name, or of one of several by its
 * label too: name{cause="x"}. 0 if there is none. */
uint64_t host_metric(peercache_node_t *node, const char *name);

/* ---- Values ------------------------------------------------------------- */

void value_fill(const char *key, void *bytes, size_t len);
bool value_is(const char *key, const void *bytes, size_t len);
bool bytes_are(const void *bytes, int byte, size_t len);

/* ---- Batches: n keys "<prefix><number>" of one length -------------------- */

struct batch
{
    size_t n, len;
    unsigned char *bytes; /* Values, one after the other. */
    char (*keys)[64];
    peercache_piece_t *pieces;
    peercache_item_t *items;
    peercache_op_params_t params;
};

void batch_init(struct batch *batch, size_t n, size_t len);
void batch_fini(struct batch *batch);
void batch_name(struct batch *batch, const char *prefix, size_t first);
/* The bytes that belong to the keys, or none. */
void batch_fill(struct batch *batch);
void batch_poison(struct batch *batch, int byte);
bool batch_is_poison(const struct batch *batch, int byte);
peercache_status_t batch_do(struct batch *batch, peercache_node_t *node,
                            enum pc_verb verb, uint64_t timeout_ns);
/* Items that are OK; *n_wrong_p of them with other bytes than theirs. */
size_t batch_count_ok(const struct batch *batch, size_t *n_wrong_p);

/* ---- Log ---------------------------------------------------------------- */

/* From then on lines are kept, until the next host_log_keep(). */
void host_log_keep(void);
/* Lines of this level or worse that have both texts in them. */
unsigned host_log_count(peercache_log_level_t level, const char *one,
                        const char *other);
void host_log_show(void);

/* ---- Other processes ---------------------------------------------------- */

struct peer
{
    pid_t pid;
    FILE *to, *from;
};

void peer_start(struct peer *peer);
/* One line there, one line back, which must begin with `expected`; the rest
 * of the answer is returned and lives until the next call. */
const char *peer_tell(struct peer *peer, const char *expected,
                      const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void peer_say(struct peer *peer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
const char *peer_hear(struct peer *peer, const char *expected);
void peer_signal(struct peer *peer, int signal);
/* Ends in good order; its exit must be clean. */
void peer_end(struct peer *peer);
void peer_kill(struct peer *peer);

/* This program again with one argument; its exit status, or -signal. */
int host_run(const char *argument);

/* In a child that goes on without exec: nobody looks for its leaks. */
void host_is_child(void);

/*
 * Peers know: "start <settings>", "ready", "put <prefix> <n> <len>",
 * "get <prefix> <n> <len>", "remove <prefix> <n>", "stop" (its node ends, it
 * does not), "end". A test's own: the
 * answer goes to out, a line without its end.
 */
typedef bool (*peer_command_fn)(peercache_node_t *node, char *line, char *out,
                                size_t out_len);
int peer_main(peer_command_fn more);
/* What main() does with its argument: be a peer, or one of the tests that want
 * a process of their own. */
int host_alone(const char *argument, const struct CMUnitTest *tests, size_t n,
               peer_command_fn more);

#endif /* PC_TEST_HOST_H */
