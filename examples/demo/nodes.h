/*
 * nodes.h - the four processes: start, talk to, kill, wait for.
 */
#ifndef DEMO_NODES_H
#define DEMO_NODES_H

#include "account.h"

#include <sys/types.h>

struct node
{
    char name[16];
    const char *read_mode;
    pid_t pid;
    int to, from; /* Pipes; -1: closed. */
    char *text;   /* What came and is not a whole line yet. */
    size_t text_len, text_size;
    bool ready, left, killed;
    bool busy;         /* With flight, or with measuring. */
    uint64_t since_ns; /* Busy since then. */
    struct in_flight flight;
};

/* A line of a node; what it does with it is the driver's business. */
typedef void (*node_line_fn)(void *arg, struct node *node, const char *line);

struct launch
{
    const struct options *options;
    int argc; /* The command line of this process. */
    char **argv;
    size_t pool_size; /* Of each node, in bytes. */
    unsigned port;    /* Where they meet; set by nodes_start. */
};

/* Start one process each of this program, as worker of our command line with
 * settings on top. False: told why; nodes_stop cleans up. */
bool nodes_start(struct node nodes[DEMO_NODES], struct launch *launch);
/* False: the node does not take it. */
bool node_tell(struct node *node, const char *text);
void node_kill(struct node *node);
/* Wait for lines, at most so long, and hand them over. A node whose pipe has
 * ended is marked as left. */
void nodes_listen(struct node nodes[DEMO_NODES], int max_ms, node_line_fn fn,
                  void *arg);
/* Let them leave, at most for ms; the number of those that did it badly. */
unsigned nodes_stop(struct node nodes[DEMO_NODES], uint64_t ms, node_line_fn fn,
                    void *arg);

#endif /* DEMO_NODES_H */
