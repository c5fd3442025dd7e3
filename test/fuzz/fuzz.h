/*
 * fuzz.h - the entry of every fuzz target, as libFuzzer names it.
 */
#ifndef PC_FUZZ_H
#define PC_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Aborts if something that must hold does not. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif /* PC_FUZZ_H */
