/*
 * replay.c - runs a fuzz target without libFuzzer: every file of a folder as
 * it is, then mutations of it from a fixed seed.
 *
 *     fuzz_msg_replay <folder> [mutations of each file]
 */
#include "fuzz.h"

#include "base/rand.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX ((size_t)1 << 16)

/* In a block of its exact size, so that a sanitizer sees a read beyond. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);

    if (copy == NULL) {
        abort();
    }
    if (size > 0) {
        memcpy(copy, data, size);
    }
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

/* Messages say their own length: mostly tell the truth, or every mutation
 * that cuts would end at the header. */
static void mend_length(uint8_t *data, size_t size)
{
    if (size >= 20 && memcmp(data, "PCM1", 4) == 0) {
        for (unsigned i = 0; i < 4; i++) {
            data[16 + i] = (uint8_t)((size - 20) >> (8 * i));
        }
    }
}

/* One small change; returns the new size. */
static size_t mutate(struct pc_rand *r, uint8_t *data, size_t size)
{
    static const uint8_t nasty[] = {0x00, 0x7f, 0x80, 0x90, 0x91, 0xc0, 0xc1,
                                    0xc4, 0xc6, 0xc9, 0xcf, 0xd3, 0xd9, 0xdb,
                                    0xdc, 0xdd, 0xdf, 0xe0, 0xff};
    size_t at = (size_t)pc_rand_below(r, size);

    if (size == 0) {
        return 0;
    }
    switch (pc_rand_below(r, 5)) {
    case 0:
        data[at] ^= (uint8_t)(1u << pc_rand_below(r, 8));
        return size;
    case 1:
        data[at] = nasty[pc_rand_below(r, sizeof(nasty))];
        return size;
    case 2:
        return at; /* Cut. */
    case 3: {      /* Say a part twice. */
        size_t len = 1 + (size_t)pc_rand_below(r, size - at);
        if (size + len > FILE_MAX) {
            return size;
        }
        memmove(data + at + len, data + at, size - at);
        return size + len;
    }
    default: { /* Leave a part out. */
        size_t len = 1 + (size_t)pc_rand_below(r, size - at);
        memmove(data + at, data + at + len, size - at - len);
        return size - len;
    }
    }
}

static void run_file(const char *path, unsigned long n_mutations)
{
    static uint8_t seed[FILE_MAX];
    static uint8_t data[FILE_MAX];
    FILE *file = fopen(path, "rb");
    struct pc_rand r;

    if (file == NULL) {
        perror(path);
        exit(1);
    }
    size_t seed_size = fread(seed, 1, sizeof(seed), file);
    (void)fclose(file);
    run(seed, seed_size);
    pc_rand_init(&r, seed_size);
    for (unsigned long n = 0; n < n_mutations; n++) {
        size_t size = seed_size;
        memcpy(data, seed, seed_size);
        for (uint64_t k = 1 + pc_rand_below(&r, 4); k > 0; k--) {
            size = mutate(&r, data, size);
        }
        if (pc_rand_below(&r, 8) != 0) {
            mend_length(data, size);
        }
        run(data, size);
    }
}

int main(int argc, char **argv)
{
    struct dirent **names;
    unsigned long n_mutations = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    int n_run = 0;

    if (argc < 2) {
        fprintf(stderr, "usage: %s folder [mutations]\n", argv[0]);
        return 2;
    }
    /* Sorted, so that a failure can be repeated. */
    int n = scandir(argv[1], &names, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        char path[4096];
        if (names[i]->d_name[0] != '.') {
            (void)snprintf(path, sizeof(path), "%s/%s", argv[1],
                           names[i]->d_name);
            run_file(path, n_mutations);
            n_run++;
        }
        free(names[i]);
    }
    if (n >= 0) {
        free(names);
    }
    printf("%d files, %lu mutations each\n", n_run, n_mutations);
    return n_run > 0 ? 0 : 1; /* An empty corpus is a mistake. */
}
