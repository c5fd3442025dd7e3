/* popen() */
#define _POSIX_C_SOURCE 200809L

#include "disk_fio.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Fields of fio's terse format, version 3, counted from 0. */
enum { TERSE_ERROR = 4, TERSE_READ = 6, TERSE_WRITE = 47 };

const char *const fio_engine_names[FIO_N_ENGINES] = {"psync", "libaio",
                                                     "io_uring"};

bool fio_is_there(void)
{
    return system("command -v fio >/dev/null 2>&1") == 0;
}

static double field(const char *line, int n)
{
    for (; n > 0 && line != NULL; n--) {
        line = strchr(line, ';');
        line = line != NULL ? line + 1 : NULL;
    }
    return line != NULL ? strtod(line, NULL) : 0;
}

static double read_result(FILE *from, bool write)
{
    char line[8192];
    double kib_s = 0;
    while (fgets(line, sizeof(line), from) != NULL) {
        if (strncmp(line, "3;", 2) == 0 && field(line, TERSE_ERROR) == 0) {
            kib_s = field(line, write ? TERSE_WRITE : TERSE_READ);
        }
    }
    return kib_s / 1024;
}

/* Each of psync's threads has a part of its own; reads go over all files. */
double fio_run(const struct fio_job *job)
{
    static char command[65536];
    bool threads = job->engine == FIO_PSYNC;
    uint64_t n_jobs = threads ? job->depth : 1;
    uint64_t each = job->bytes / n_jobs / job->block * job->block;
    int n = snprintf(
        command, sizeof(command),
        "fio --name=bench --filename='%s' --direct=1 --bs=%zu --ioengine=%s "
        "--iodepth=%u --numjobs=%" PRIu64 " --thread --group_reporting "
        "--invalidate=0 --minimal --terse-version=3 --io_size=%" PRIu64 " %s ",
        job->files, job->block, fio_engine_names[job->engine],
        threads ? 1 : job->depth, n_jobs, each,
        !job->proves ? ""
        : job->write ? "--verify=crc32c --do_verify=0 --verify_state_save=0"
                     : "--verify=crc32c --verify_state_save=0");
    if (job->write) {
        n += snprintf(command + n, sizeof(command) - (size_t)n,
                      "--rw=write --end_fsync=1 --size=%" PRIu64
                      " --offset_increment=%" PRIu64,
                      threads ? each : job->bytes, threads ? each : 0);
    } else {
        n += snprintf(command + n, sizeof(command) - (size_t)n,
                      "--rw=randread --readonly --file_service_type=random "
                      "--norandommap --randrepeat=0 --blockalign=%zu",
                      job->align > 0 ? job->align : job->block);
    }
    if ((size_t)n + 16 > sizeof(command)) {
        return 0;
    }
    memcpy(command + n, " 2>/dev/null", 13);
    FILE *from = popen(command, "r");
    if (from == NULL) {
        return 0;
    }
    double result = read_result(from, job->write);
    return pclose(from) == 0 ? result : 0;
}
