/*
 * hung.h - what calls take while one of four nodes hangs.
 */
#ifndef BENCH_HUNG_H
#define BENCH_HUNG_H

/* Prints a table; the exit status: 0 if the bars of the design are met. */
int bench_hung(void);

#endif /* BENCH_HUNG_H */
