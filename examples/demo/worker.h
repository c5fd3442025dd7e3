/*
 * worker.h - one node of the demo: what an inference server does with a cache.
 *
 *     driver ── "request 17" ──► worker: exists, get, check, put
 *            ◄── {"event":"done","request":17,...} ──
 *
 * Lines of the driver: "request N"; "measure MS PAGE ...", read these pages
 * again and again for so long; the end of the input means leave. Events of the
 * worker: started, ready (all nodes of the demo are members), done, measured,
 * left, failed.
 *
 * "read" of a done request has a letter for each page of the prompt: how it
 * came (l local, m mapped, o one-sided, s served, d disk), x it was there but
 * the get failed, + it is there behind a page that is not, - it is not there.
 * "put" has one for each page: . not put, 1 stored or there, 0 failed.
 */
#ifndef DEMO_WORKER_H
#define DEMO_WORKER_H

#include "options.h"

enum { DEMO_NODES = 4, DEMO_BATCH = 64, DEMO_MEASURE_BATCH = 32 };

/* op_timeout (2 s) and what the machine's scheduler may add: a call that took
 * longer is late. */
#define DEMO_LATE_NS UINT64_C(2500000000)

/* The exit status of the process. */
int worker_main(const struct options *options);

#endif /* DEMO_WORKER_H */
