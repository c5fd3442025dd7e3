/*
 * Shared memory after kill -9: processes that are really killed, at the very
 * points where a segment would stay for good, and at random ones. What they
 * leave is gone after the next start, and nothing of the living goes.
 */
#include "host.h"

#include "seam/fabric.h"
#include "transports/ucx/ledger.h"
#include "transports/ucx/loader.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* A length of our own: no other process makes such a segment by chance. */
#define LEN      ((size_t)7340032 + 3 * 4096)
#define LEDGER   PC_UCX_LEDGER_PREFIX
#define N_RANDOM 30

/* ---- A fabric, and what it leaves ---------------------------------------- */

static void on_attached(void *arg, void *peer,
                        const struct pc_fabric_path *path)
{
    (void)arg;
    (void)peer;
    (void)path;
}

static void on_failed(void *arg, void *peer, peercache_status_t why)
{
    (void)arg;
    (void)peer;
    (void)why;
}

static struct pc_fabric *fabric_open(const struct pc_fabric_ops **ops_p)
{
    struct pc_fabric_params params = {.devices = "",
                                      .shm = true,
                                      .attached = on_attached,
                                      .peer_failed = on_failed};
    struct pc_fabric *fabric = NULL;
    if (pc_fabric_load(NULL, ops_p) != PEERCACHE_OK ||
        (*ops_p)->open(&params, &fabric) != PEERCACHE_OK) {
        return NULL;
    }
    return fabric;
}

static struct pc_fabric_mem *make_pool(const struct pc_fabric_ops *ops,
                                       struct pc_fabric *fabric)
{
    struct pc_fabric_mem_params params = {
        .use = PC_MEM_POOL, .len = LEN, .numa_node = -1};
    struct pc_fabric_mem *mem = NULL;
    return ops->mem_register(fabric, &params, &mem) == PEERCACHE_OK ? mem
                                                                    : NULL;
}

/* What the next start of any node does. */
static void start_once(void)
{
    const struct pc_fabric_ops *ops;
    struct pc_fabric *fabric = fabric_open(&ops);
    assert_non_null(fabric);
    ops->close(fabric);
}

static bool segment_exists(int id)
{
    struct shmid_ds segment;
    return shmctl(id, IPC_STAT, &segment) == 0;
}

/* Segments of one maker. */
static unsigned segments_of(pid_t maker)
{
    struct shmid_ds segment;
    struct shm_info info;
    unsigned n = 0;
    int last = shmctl(0, SHM_INFO, (struct shmid_ds *)(void *)&info);
    for (int i = 0; i <= last; i++) {
        n += shmctl(i, SHM_STAT, &segment) >= 0 && segment.shm_cpid == maker;
    }
    return n;
}

/* Whether a file says that it is this process's. */
static bool has_ledger(pid_t owner)
{
    bool found = false;
    DIR *folder = opendir(PC_UCX_LEDGER_FOLDER);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        struct pc_ucx_ledger_page page;
        if (strncmp(entry->d_name, LEDGER, strlen(LEDGER)) != 0) {
            continue;
        }
        int fd = openat(dirfd(folder), entry->d_name, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            found = found || (read(fd, &page, sizeof(page)) == sizeof(page) &&
                              page.pid == (uint64_t)owner);
            close(fd);
        }
    }
    (void)closedir(folder);
    return found;
}

/* Nodes of other programs that start meanwhile would clean up, too. */
static bool is_alone;

/* ---- Killed at a certain point ------------------------------------------- */

enum point {
    BEFORE_ATTACH, /* The segment is made, */
    BEFORE_REMOVE  /* and attached. */
};

/* A child that stops for its tracer and then makes a pool; in a name space of
 * process numbers of its own, as in a container, or in ours. */
static pid_t start_child(bool in_container)
{
    pid_t pid = in_container ? (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD,
                                              NULL, NULL, NULL, NULL)
                             : fork();
    if (in_container && pid < 0) {
        skip();
    }
    assert_true(pid >= 0);
    if (pid == 0) {
        const struct pc_fabric_ops *ops;
        host_is_child();
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        struct pc_fabric *fabric = fabric_open(&ops);
        if (fabric == NULL || ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) {
            _exit(77);
        }
        raise(SIGSTOP);
        struct pc_fabric_mem *mem = make_pool(ops, fabric);
        if (mem == NULL) {
            _exit(1);
        }
        ops->mem_deregister(mem);
        ops->close(fabric);
        _exit(0);
    }
    return pid;
}

/* Let it run up to the point; the id of its segment, or -1: it has ended or
 * cannot be traced. */
static int run_to(pid_t pid, enum point point)
{
    int status;
    int id = -1;
    bool is_ours = false;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSTOPPED(status)) {
        return -1;
    }
    assert_int_equal(
        ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD), 0);
    for (;;) {
        struct __ptrace_syscall_info info;
        assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (!WIFSTOPPED(status)) {
            return -1;
        }
        if (WSTOPSIG(status) != (SIGTRAP | 0x80) ||
            ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof(info), &info) <=
                0) {
            continue;
        }
        if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
            is_ours = info.entry.nr == SYS_shmget && info.entry.args[1] >= LEN;
            if (point == BEFORE_REMOVE && id >= 0 &&
                info.entry.nr == SYS_shmctl &&
                (info.entry.args[1] & 0xff) == IPC_RMID) {
                return id;
            }
        } else if (info.op == PTRACE_SYSCALL_INFO_EXIT && is_ours &&
                   info.exit.rval >= 0) {
            is_ours = false;
            id = (int)info.exit.rval;
            if (point == BEFORE_ATTACH) {
                return id;
            }
        }
    }
}

static void kill_child(pid_t pid)
{
    int status;
    assert_int_equal(kill(pid, SIGKILL), 0);
    do {
        assert_int_equal(waitpid(pid, &status, 0), pid);
    } while (!WIFSIGNALED(status) && !WIFEXITED(status));
}

static void killed_at(enum point point, bool in_container)
{
    pid_t pid = start_child(in_container);
    int id = run_to(pid, point);
    if (id < 0) {
        kill(pid, SIGKILL);
        skip(); /* Processes cannot be traced here. */
    }
    /* While it lives, a start leaves it alone, however long it has stopped. */
    start_once();
    assert_true(segment_exists(id));
    kill_child(pid);
    /* That is what would stay for good. */
    assert_true(segment_exists(id) || !is_alone);
    start_once();
    assert_false(segment_exists(id));
    assert_int_equal(segments_of(pid), 0);
    assert_false(has_ledger(in_container ? 1 : pid) && is_alone);
}

static void a_segment_whose_maker_was_killed_before_it_attached_is_removed(
    void **state)
{
    (void)state;
    killed_at(BEFORE_ATTACH, false);
}

static void a_segment_whose_maker_was_killed_before_it_marked_it_is_removed(
    void **state)
{
    (void)state;
    killed_at(BEFORE_REMOVE, false);
}

static void a_segment_of_a_killed_container_is_removed(void **state)
{
    (void)state;
    killed_at(BEFORE_ATTACH, true);
    killed_at(BEFORE_REMOVE, true);
}

static void a_living_maker_is_left_to_finish(void **state)
{
    (void)state;
    int status;
    pid_t pid = start_child(false);
    int id = run_to(pid, BEFORE_ATTACH);
    if (id < 0) {
        kill(pid, SIGKILL);
        skip();
    }
    /* Beside one that was killed in the same moment, with the same length. */
    pid_t killed = start_child(false);
    int gone = run_to(killed, BEFORE_ATTACH);
    assert_true(gone >= 0);
    kill_child(killed);
    start_once();
    assert_true(segment_exists(id));
    assert_false(segment_exists(gone));
    assert_int_equal(ptrace(PTRACE_DETACH, pid, NULL, NULL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void segments_of_others_stay(void **state)
{
    (void)state;
    int ids[2];
    int pipes[2];
    /* Of a program that is no node and has died: nobody knows what for. */
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        host_is_child();
        ids[0] = shmget(IPC_PRIVATE, LEN, IPC_CREAT | 0660);
        (void)!write(pipes[1], ids, sizeof(ids[0]));
        _exit(0);
    }
    assert_int_equal(read(pipes[0], ids, sizeof(ids[0])), sizeof(ids[0]));
    close(pipes[0]);
    close(pipes[1]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_true(ids[0] >= 0);
    /* And one of the same length beside a node that was killed. */
    ids[1] = shmget(IPC_PRIVATE, LEN, IPC_CREAT | 0660);
    assert_true(ids[1] >= 0);
    pid_t killed = start_child(false);
    int id = run_to(killed, BEFORE_ATTACH);
    if (id >= 0) {
        kill_child(killed);
    }
    start_once();
    assert_true(segment_exists(ids[0]));
    assert_true(segment_exists(ids[1]));
    assert_true(id < 0 || !segment_exists(id));
    assert_int_equal(shmctl(ids[0], IPC_RMID, NULL), 0);
    assert_int_equal(shmctl(ids[1], IPC_RMID, NULL), 0);
}

/* A process that dies between its note and the use of its segment. */
static int die_making(size_t noted, size_t len)
{
    int pipes[2];
    int id = -1;
    int status;
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct pc_ucx_ledger ledger;
        host_is_child();
        pc_ucx_ledger_open(&ledger);
        pc_ucx_ledger_begin(&ledger, noted);
        id = shmget(IPC_PRIVATE, len, IPC_CREAT | 0660);
        _exit(ledger.fd < 0 ||
              write(pipes[1], &id, sizeof(id)) != (ssize_t)sizeof(id));
    }
    assert_int_equal(read(pipes[0], &id, sizeof(id)), sizeof(id));
    close(pipes[0]);
    close(pipes[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0 && id >= 0);
    return id;
}

/* A node starts where our process numbers cannot be seen. */
static void start_once_elsewhere(void)
{
    int status;
    pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWPID | SIGCHLD, NULL, NULL,
                               NULL, NULL);
    if (pid < 0) {
        skip();
    }
    if (pid == 0) {
        const struct pc_fabric_ops *ops;
        host_is_child();
        struct pc_fabric *fabric = fabric_open(&ops);
        if (fabric != NULL) {
            ops->close(fabric);
        }
        _exit(fabric == NULL);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void a_segment_of_an_unseen_maker_goes_by_its_length_only(void **state)
{
    (void)state;
    if (!is_alone) {
        skip(); /* Others see these processes, and may clean up. */
    }
    int any = die_making(0, (size_t)1 << 20);
    start_once_elsewhere();
    assert_true(segment_exists(any));
    assert_int_equal(shmctl(any, IPC_RMID, NULL), 0);
    /* Whoever sees that it was its maker needs no length, */
    any = die_making(0, (size_t)1 << 20);
    start_once();
    assert_false(segment_exists(any));
    /* and who does not see it knows the length of a pool. */
    int pool = die_making(LEN, LEN);
    start_once_elsewhere();
    assert_false(segment_exists(pool));
}

/* ---- Killed at random ---------------------------------------------------- */

/* Starts and ends nodes until it is killed. */
static void run_for_ever(void)
{
    for (;;) {
        peercache_node_t *node = host_node("region_size=4MiB");
        struct batch batch;
        batch_init(&batch, 4, 64 * KIB);
        batch_name(&batch, "again", 0);
        batch_fill(&batch);
        (void)batch_do(&batch, node, PC_VERB_PUT, 2 * PC_S);
        batch_fini(&batch);
        peercache_node_destroy(node);
    }
}

static void nothing_stays_of_nodes_that_are_killed_at_any_time(void **state)
{
    (void)state;
    pid_t pids[N_RANDOM];
    for (int i = 0; i < N_RANDOM; i++) {
        pids[i] = fork();
        assert_true(pids[i] >= 0);
        if (pids[i] == 0) {
            host_is_child();
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            run_for_ever();
        }
        /* Each a little later in its life. */
        (void)poll(NULL, 0, 3 + 4 * i);
        kill_child(pids[i]);
    }
    start_once();
    for (int i = 0; i < N_RANDOM; i++) {
        assert_int_equal(segments_of(pids[i]), 0);
        assert_false(has_ledger(pids[i]));
    }
}

/* ---- Files that are none ------------------------------------------------- */

static void a_broken_ledger_goes_and_does_no_harm(void **state)
{
    (void)state;
    static const char *const paths[] = {"/dev/shm/" LEDGER "0000",
                                        "/dev/shm/" LEDGER "0001",
                                        "/dev/shm/" LEDGER "0002"};
    char junk[4096];
    memset(junk, 0xee, sizeof(junk));
    for (int i = 0; i < 2; i++) {
        int fd = open(paths[i], O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, junk, i == 0 ? 0 : sizeof(junk)),
                         i == 0 ? 0 : sizeof(junk));
        close(fd);
    }
    assert_int_equal(symlink("/etc/passwd", paths[2]), 0);
    start_once();
    assert_int_equal(access(paths[0], F_OK), -1);
    assert_int_equal(access(paths[1], F_OK), -1);
    assert_int_equal(access("/etc/passwd", F_OK), 0);
    assert_int_equal(unlink(paths[2]), 0); /* A link is not followed. */
}

/* Names that UCX made and did not come to unlink are empty. */
static void empty_files_of_ucx_go_when_they_are_old(void **state)
{
    (void)state;
    const char *path = "/dev/shm/ucx_shm_posix_peercachetest";
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    start_once();
    assert_int_equal(access(path, F_OK), 0); /* Just made: it may be used. */
    assert_int_equal(unlink(path), 0);
}

int main(int argc, char **argv)
{
    if (argc == 2) {
        return host_alone(argv[1], NULL, 0, NULL);
    }
    is_alone = host_be_alone();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            a_segment_whose_maker_was_killed_before_it_attached_is_removed),
        cmocka_unit_test(
            a_segment_whose_maker_was_killed_before_it_marked_it_is_removed),
        cmocka_unit_test(a_segment_of_a_killed_container_is_removed),
        cmocka_unit_test(a_living_maker_is_left_to_finish),
        cmocka_unit_test(segments_of_others_stay),
        cmocka_unit_test(a_segment_of_an_unseen_maker_goes_by_its_length_only),
        cmocka_unit_test(nothing_stays_of_nodes_that_are_killed_at_any_time),
        cmocka_unit_test(a_broken_ledger_goes_and_does_no_harm),
        cmocka_unit_test(empty_files_of_ucx_go_when_they_are_old),
    };
    return cmocka_run_group_tests_name("leftovers", tests, NULL, NULL);
}
