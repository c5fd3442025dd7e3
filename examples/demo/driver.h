/*
 * driver.h - the state of the driver, and its report.
 */
#ifndef DEMO_DRIVER_H
#define DEMO_DRIVER_H

#include "account.h"
#include "nodes.h"
#include "options.h"
#include "workload.h"

enum {
    VICTIM = 1,           /* An auto node. */
    WINDOW = 32,          /* Requests that wait for their server. */
    SILENCE_S = 30,       /* A node that answers nothing for so long is lost. */
    MEASURE_MS = 1500,    /* Reading of each mode. */
    LIMIT_MS = 600,       /* Measuring one limit, once before, once after. */
    MEASURE_PAGES = 2048, /* Different pages read there: 256 MiB. */
    PAGES_PER_MODE = 1000,
    LEAVE_MS = 10000
};

struct measured
{
    double speed; /* GB/s */
    uint64_t by_mode[256];
};

struct driver
{
    struct options options;
    struct workload workload;
    struct account account;
    struct node nodes[DEMO_NODES];
    bool *sent;   /* Request: somebody works on it, or has. */
    size_t first; /* All before it are sent. */
    size_t n_sent, n_again;
    uint64_t begin_ns, progress_ns;
    uint64_t n_read_then; /* At the last line of progress. */
    struct measured measured[DEMO_NODES];
    double memcpy_speed, tcp_speed;
    double replay_s;
    bool broken; /* A node failed that nobody killed. */
};

/* Pages that were delivered in the replay, whatever the way. */
uint64_t driver_count_read(const struct account *account);
void driver_table(const struct driver *driver);
/* Whether all is as it should be; why not, in words. */
bool driver_judge(const struct driver *driver, unsigned n_left_badly, char *why,
                  size_t why_size);

#endif /* DEMO_DRIVER_H */
