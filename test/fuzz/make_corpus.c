/*
 * make_corpus.c - writes the seeds in corpus/ from the golden messages, and
 * some that lie about lengths. Run by hand when a message is added:
 *
 *     fuzz_make_corpus test/fuzz/corpus
 */
#include "test/unit/golden_msg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void write_hex(const char *folder, const char *name, const char *hex)
{
    char path[4096];

    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    for (; hex[0] != '\0'; hex += 2) {
        char two[3] = {hex[0], hex[1], '\0'};
        (void)fputc((int)strtoul(two, NULL, 16), file);
    }
    (void)fclose(file);
}

#define HEADER(type, len) "50434d3101" type "00000100000000000000" len "000000"

int main(int argc, char **argv)
{
    char folder[4000];

    if (argc != 2) {
        fprintf(stderr, "usage: %s corpus-folder\n", argv[0]);
        return 2;
    }
    (void)snprintf(folder, sizeof(folder), "%s/msg", argv[1]);
#define WRITE(name, hex) write_hex(folder, "golden-" #name, hex);
    GOLDEN_MSG_MAP(WRITE)
#undef WRITE
    write_hex(folder, "nasty-array32", HEADER("11", "05") "ddffffffff");
    write_hex(folder, "nasty-extra-map32", HEADER("11", "07") "9201dfffffffff");
    write_hex(folder, "nasty-ext32", HEADER("11", "08") "9201c9ffffffff05");
    write_hex(folder, "nasty-bin32", HEADER("0a", "06") "91c6ffffffff");
    write_hex(folder, "nasty-members", HEADER("05", "09") "990101c2ddffffffff");
    write_hex(folder, "nasty-depth", HEADER("11", "0a") "92019191919191919190");
    write_hex(folder, "nasty-place",
              HEADER("05", "0f") "990101c29090919205c40400ffffff");
    write_hex(folder, "nasty-empty-found",
              HEADER("07", "09") "9501c2c400c4009000");
    write_hex(folder, "nasty-short-header", "50434d31");
    write_hex(folder, "nasty-version",
              "50434d31020600000100000000000000000000"
              "00");
    (void)snprintf(folder, sizeof(folder), "%s/record", argv[1]);
    write_hex(
        folder, "valid",
        "0807060504030201181716151413121100776655443322112800000000000000"
        "0000000000000000000001000000000058575655545352510700000001000000"
        "0907060504030201191716151413121100776655443322112a00000000000000"
        "0010000000000000010001000000000059575655545352510800000002000100");
    write_hex(
        folder, "odd-generation",
        "0807060504030201181716151413121100776655443322112900000000000000"
        "0000000000000000000001000000000058575655545352510700000001000000");
    return 0;
}
