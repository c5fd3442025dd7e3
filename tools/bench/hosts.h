/*
 * hosts.h - peercache-bench serve and drive: the two sides of
 * ci/rdma/hardware.sh, one on each host.
 */
#ifndef PC_BENCH_HOSTS_H
#define PC_BENCH_HOSTS_H

/* argv[0] is "serve" or "drive"; serve ends by a signal only. */
int hosts_main(int argc, char **argv);

#endif /* PC_BENCH_HOSTS_H */
