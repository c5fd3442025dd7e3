/*
 * raw_main.c - peercache-bench-raw: the limits that peercache-bench divides
 * by. It links neither the library nor UCX and is started by peercache-bench.
 */
#include "system.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    static const struct bench_system *const systems[BENCH_N_SYSTEMS] = {
        [BENCH_MEMCPY] = &bench_memcpy,
        [BENCH_COPY_HASH] = &bench_copy_hash,
        [BENCH_TCP] = &bench_tcp,
        [BENCH_KEYS] = &bench_keys,
    };
    if (argc != 2 || strcmp(argv[1], "actor") != 0) {
        (void)fprintf(stderr, "%s: is started by peercache-bench\n", argv[0]);
        return 2;
    }
    return bench_actor_main(systems, BENCH_N_SYSTEMS);
}
