/*
 * sim.h - a network of simulated processes: link and fabric on a virtual clock.
 *
 * A world (pc_sim) holds hosts. A host is one process; hosts with the same
 * machine text can map each other's pools. Both seams take a host as their
 * `world`. Everything runs on one thread, nothing blocks, and a run is a
 * function of its seed. Who drives a cluster loops: let every node run its
 * progress(); when none did any work, advance the clock to the earliest of
 * pc_sim_next() and the nodes' own timers.
 *
 * Connections are streams: nothing in them is lost or reordered, they break.
 * A message leaves in chunks, each with its own arrival time, through a window
 * that holds a bounded number of bytes the receiver has not read. One-sided
 * gets copy their chunks at different times and in any order, so that what
 * the owner changes meanwhile tears them.
 *
 *   fault       connections             gets                  mapped memory
 *   kill        reset after a latency   fail after a latency  stays readable
 *   freeze      window fills, silence   native: go on,        stays readable
 *                                       others: stall
 *   cut / heal  stall / go on           stall / go on         stays readable
 *   one way     as a cut for what       stall / go on         stays readable
 *               goes that way; what
 *               goes the other way
 *               lands, unconfirmed
 *   break       reset, data lost        -                     -
 *   break late  one end learns at once, -                     -
 *               the other takes in what
 *               was under way, later
 *   loss        a chunk and all behind  -                     -
 *               it wait for a resend
 *
 * As with TCP's user timeout, a sender that is cut off for longer than the
 * link's stall_ns gives its connection up (TIMED_OUT), and so does one whose
 * window stays full for that long.
 *
 * The world's own memory is not the node's: it comes from the C library, is
 * not counted, and does not fail. One thread.
 */
#ifndef PC_SIM_SIM_H
#define PC_SIM_SIM_H

#include "base/clock.h"
#include "seam/fabric.h"
#include "seam/link.h"

/* The clock's first value; no program has ever seen a small one. Times in the
 * trace count from here. */
#define PC_SIM_START_NS PC_S

struct pc_sim;
struct pc_sim_host;

struct pc_sim *pc_sim_create(uint64_t seed);
/* When no link and no fabric of its hosts is open any more. */
void pc_sim_destroy(struct pc_sim *sim);
struct pc_clock pc_sim_clock(struct pc_sim *sim);
/* The clock of one host: it begins anywhere and goes wrong by so many parts in
 * a million. */
struct pc_clock pc_sim_host_clock(struct pc_sim_host *host);
void pc_sim_set_clock(struct pc_sim_host *host, uint64_t now_ns, int32_t ppm);
/* The world's time at which the host's clock will show this. */
uint64_t pc_sim_world_time(const struct pc_sim_host *host, uint64_t time_ns);
/* A number below bound from the world's seed, for whoever drives the nodes. */
uint64_t pc_sim_rand_below(struct pc_sim *sim, uint64_t bound);

/* Time of the next event in the network; false: nothing will happen. */
bool pc_sim_next(const struct pc_sim *sim, uint64_t *due_ns_p);
/* Let everything happen that is due until then, and set the clock. */
void pc_sim_advance_to(struct pc_sim *sim, uint64_t now_ns);

/* A process, until the world is destroyed. Names need not be unique: one that
 * is restarted is a new host with the old name and machine. */
struct pc_sim_host *pc_sim_host_add(struct pc_sim *sim, const char *name,
                                    const char *machine);
const char *pc_sim_host_name(const struct pc_sim_host *host);
/* The address of its machine, "10.0.0.1" for the first one. Listening works on
 * it, on "0.0.0.0" (means the same), on "127.0.0.1" and "unix:path" (seen on
 * the machine only), and on any other text that is no machine's address. */
const char *pc_sim_host_ip(const struct pc_sim_host *host);
/* Whether progress() of its link or fabric would find work now. */
bool pc_sim_host_is_ready(const struct pc_sim_host *host);
/* *ready becomes true whenever there is new work for its progress(). */
void pc_sim_host_watch(struct pc_sim_host *host, bool *ready);

/* Both seams. Their deadlines are times of the host's clock, which is the
 * world's until it is set. What link.h leaves open is as in transports/socket.
 */
const struct pc_link_ops *pc_sim_link(void);
const struct pc_fabric_ops *pc_sim_fabric(void);

/* ---- The network between two hosts --------------------------------------- */

struct pc_sim_path
{
    uint64_t latency_min_ns; /* One way. */
    uint64_t latency_max_ns;
    uint64_t bandwidth; /* Bytes a second of one connection; 0: no limit. */
    uint32_t break_ppm; /* Chunks in a million that break the connection. */
    uint32_t loss_ppm;  /* Items in a million that are sent again, 200 ms or
                         * more later; a stream loses nothing but time. */
    bool native;        /* Gets run without the owner's CPU. */
};

/* 20 to 60 us, 10 GB/s, no breaks, native. */
struct pc_sim_path pc_sim_path_default(void);
/* Both directions; for all pairs that have none of their own if a and b are
 * NULL. What is under way keeps its time. */
void pc_sim_set_path(struct pc_sim *sim, struct pc_sim_host *a,
                     struct pc_sim_host *b, const struct pc_sim_path *path);
/* Bytes of a chunk (16 KiB), and bytes that a connection holds between the
 * sender's done and the receiver's read (256 KiB, plus one chunk or head). */
void pc_sim_set_chunk(struct pc_sim *sim, size_t chunk);
void pc_sim_set_window(struct pc_sim *sim, size_t window);

/* Drop everything between two hosts, silently; heal() delivers what was sent
 * on connections that still live. */
void pc_sim_cut(struct pc_sim *sim, struct pc_sim_host *a,
                struct pc_sim_host *b);
/* Drop only what goes from one to the other: streams the other way go on until
 * their window is full or their sender gives up unheard. */
void pc_sim_cut_one_way(struct pc_sim *sim, struct pc_sim_host *from,
                        struct pc_sim_host *to);
void pc_sim_heal(struct pc_sim *sim, struct pc_sim_host *a,
                 struct pc_sim_host *b);
/* The same for groups: hosts on different islands (0 to begin with) do not
 * hear each other. */
void pc_sim_set_island(struct pc_sim_host *host, unsigned island);
/* Reset all connections between two hosts; what is under way is lost. */
void pc_sim_break(struct pc_sim *sim, struct pc_sim_host *a,
                  struct pc_sim_host *b);

/* The kernel of a gives all connections with b up, and what it has sent on them
 * arrives late_ns later, when new connections have long replaced them. */
void pc_sim_break_late(struct pc_sim *sim, struct pc_sim_host *a,
                       struct pc_sim_host *b, uint64_t late_ns);
/* When a connection of this host last broke, or will have what it lost; 0:
 * never. */
uint64_t pc_sim_host_broke_ns(const struct pc_sim_host *host);
/* Bytes that it sent on connections and received. */
uint64_t pc_sim_host_bytes(const struct pc_sim_host *host);

/* ---- Faults of a host ---------------------------------------------------- */

/* kill -9. The node's objects must still be destroyed by their owner; that is
 * not seen by anybody: bury() ends what they have open, and from then on
 * progress() hands out these ends and nothing else. */
void pc_sim_kill(struct pc_sim_host *host);
void pc_sim_bury(struct pc_sim_host *host);
/* SIGSTOP and SIGCONT: progress() does nothing meanwhile. */
void pc_sim_freeze(struct pc_sim_host *host);
void pc_sim_thaw(struct pc_sim_host *host);
bool pc_sim_host_is_running(const struct pc_sim_host *host);
/* So much is added to everything that leaves or reaches it. */
void pc_sim_set_slow(struct pc_sim_host *host, uint64_t slow_ns);
/* Whether gets from and by it work (true); for attaches from then on. */
void pc_sim_set_gets(struct pc_sim_host *host, bool can_get);
/* The next n times that somebody tries the way for gets to it, nothing comes
 * back; how many of them are left. */
void pc_sim_set_bad_tries(struct pc_sim_host *host, unsigned n);
unsigned pc_sim_bad_tries(const struct pc_sim_host *host);
/* Of fabrics that it opens from then on (1). */
void pc_sim_set_fabric_version(struct pc_sim_host *host, uint32_t version);

/* ---- Trace --------------------------------------------------------------- */

/* Add a line with the time in front, "12.345ms a -> b connect control". */
void pc_sim_trace(struct pc_sim *sim, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The newest lines, at most 1 MiB, each with its newline. Until the next line.
 */
const char *pc_sim_trace_text(const struct pc_sim *sim);
/* Hash of every line ever traced: equal runs have equal hashes. */
uint64_t pc_sim_trace_hash(const struct pc_sim *sim);
/* Also a line for each chunk that lands (off to begin with). */
void pc_sim_trace_chunks(struct pc_sim *sim, bool on);

#endif /* PC_SIM_SIM_H */
