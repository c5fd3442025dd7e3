#include "host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define LINES_MAX 4096

/* UCX's tcp copies from an owner's pool while its threads write there, as a
 * network card would: the reader's look at the header finds out. What UCX calls
 * back is not hidden by this: it has frames of its own only at the very end. */
#if defined(__SANITIZE_THREAD__)
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(
    void);

const char *__tsan_default_suppressions(void)
{
    return "race:libucp.so\n";
}
#endif

/* A forked child cannot free what belongs to its parent's threads. */
static bool is_child;

void host_is_child(void)
{
    is_child = true;
}

#if defined(__SANITIZE_ADDRESS__)
__attribute__((visibility("default"))) int __lsan_is_turned_off(void);

int __lsan_is_turned_off(void)
{
    return is_child;
}
#endif

bool host_be_alone(void)
{
    return unshare(CLONE_NEWIPC | CLONE_NEWNS) == 0 &&
           mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=256m") == 0;
}

/* ---- Nodes -------------------------------------------------------------- */

int host_hold_port(uint16_t *port_p)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons(*port_p)};
    socklen_t len = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    *port_p = ntohs(address.sin_port);
    return fd;
}

uint16_t host_port(void)
{
    uint16_t port = 0;
    close(host_hold_port(&port));
    return port;
}

static void apply(peercache_config_t *config, const char *settings)
{
    char text[1024];
    char *rest = text;
    char *word;
    (void)snprintf(text, sizeof(text), "%s", settings);
    while ((word = strtok_r(rest, " \n", &rest)) != NULL) {
        char *value = strchr(word, '=');
        if (value == NULL) {
            continue;
        }
        *value = '\0';
        (void)peercache_config_set(config, word, value + 1);
    }
}

peercache_config_t *host_config(const char *settings)
{
    peercache_config_t *config = NULL;
    if (peercache_config_create(&config) != PEERCACHE_OK) {
        abort();
    }
    apply(config, "global_segment_size=16MiB region_size=16MiB "
                  "heartbeat_interval=100ms member_ttl=600ms settle=200ms "
                  "disk_enabled=false metrics_enabled=false");
    apply(config, settings);
    return config;
}

static peercache_node_t *node_of(const char *settings)
{
    peercache_config_t *config = host_config(settings);
    peercache_node_t *node = NULL;
    if (peercache_node_create(config, &node) != PEERCACHE_OK) {
        (void)fprintf(stderr, "no node: %s\n", peercache_config_error(config));
        node = NULL;
    }
    peercache_config_destroy(config);
    return node;
}

peercache_node_t *host_node(const char *settings, ...)
{
    char text[1024];
    va_list args;
    va_start(args, settings);
    (void)vsnprintf(text, sizeof(text), settings, args);
    va_end(args);
    peercache_node_t *node = node_of(text);
    assert_non_null(node);
    return node;
}

void host_ready(peercache_node_t *node)
{
    assert_int_equal(peercache_node_wait_ready(node, 10 * PC_S), PEERCACHE_OK);
}

static bool is_whole(peercache_node_t *node)
{
    char *text = NULL;
    assert_int_equal(peercache_node_info(node, &text), PEERCACHE_OK);
    bool whole = strstr(text, "\"registering\":false") != NULL;
    peercache_free(text);
    return whole;
}

void host_whole(peercache_node_t *node)
{
    WAIT_UNTIL(is_whole(node), 10);
}

/* Is this the line of that family, and has it that label, if one is asked for?
 */
static bool is_metric(const char *line, const char *family, size_t len,
                      const char *label)
{
    static const char prefix[] = "peercache_";
    size_t n = sizeof(prefix) - 1;
    return strncmp(line, prefix, n) == 0 &&
           strncmp(line + n, family, len) == 0 &&
           (line[n + len] == '{' || line[n + len] == ' ') &&
           (*label == '\0' || strstr(line + n + len, label) != NULL);
}

uint64_t host_metric(peercache_node_t *node, const char *name)
{
    char *text = NULL;
    uint64_t value = 0;
    char label[64] = "";
    size_t len = strcspn(name, "{");
    if (name[len] == '{') { /* Of {cause="x"} without the braces. */
        (void)snprintf(label, sizeof(label), "%.*s",
                       (int)strcspn(name + len + 1, "}"), name + len + 1);
    }
    if (peercache_node_metrics(node, &text) != PEERCACHE_OK) {
        return 0;
    }
    char *rest = text;
    char *line;
    while ((line = strtok_r(rest, "\n", &rest)) != NULL) {
        char *number = strrchr(line, ' ');
        if (number != NULL && is_metric(line, name, len, label)) {
            value = strtoull(number, NULL, 10);
            break;
        }
    }
    peercache_free(text);
    return value;
}

/* ---- Values ------------------------------------------------------------- */

static uint64_t seed_of(const char *key)
{
    uint64_t hash = 1469598103934665603u;
    for (; *key != '\0'; key++) {
        hash = (hash ^ (unsigned char)*key) * 1099511628211u;
    }
    return hash | 1;
}

static uint64_t next_word(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

void value_fill(const char *key, void *bytes, size_t len)
{
    uint64_t state = seed_of(key) + len;
    unsigned char *at = bytes;
    while (len > 0) {
        uint64_t word = next_word(&state);
        size_t part = len < sizeof(word) ? len : sizeof(word);
        memcpy(at, &word, part);
        at += part;
        len -= part;
    }
}

bool value_is(const char *key, const void *bytes, size_t len)
{
    uint64_t state = seed_of(key) + len;
    const unsigned char *at = bytes;
    while (len > 0) {
        uint64_t word = next_word(&state);
        size_t part = len < sizeof(word) ? len : sizeof(word);
        if (memcmp(at, &word, part) != 0) {
            return false;
        }
        at += part;
        len -= part;
    }
    return true;
}

bool bytes_are(const void *bytes, int byte, size_t len)
{
    const unsigned char *at = bytes;
    return len == 0 ||
           (at[0] == (unsigned char)byte && memcmp(at, at + 1, len - 1) == 0);
}

/* ---- Batches ------------------------------------------------------------ */

void batch_init(struct batch *batch, size_t n, size_t len)
{
    *batch = (struct batch){.n = n, .len = len};
    batch->bytes = malloc(n * len + 1);
    batch->keys = calloc(n, sizeof(*batch->keys));
    batch->pieces = calloc(n, sizeof(*batch->pieces));
    batch->items = calloc(n, sizeof(*batch->items));
    if (batch->bytes == NULL || batch->keys == NULL || batch->pieces == NULL ||
        batch->items == NULL) {
        abort();
    }
    batch->params.struct_size = sizeof(batch->params);
    batch->params.item_size = sizeof(*batch->items);
    for (size_t i = 0; i < n; i++) {
        batch->pieces[i] = (peercache_piece_t){batch->bytes + i * len, len};
        batch->items[i].pieces = &batch->pieces[i];
        batch->items[i].n_pieces = 1;
    }
}

void batch_fini(struct batch *batch)
{
    free(batch->bytes);
    free(batch->keys);
    free(batch->pieces);
    free(batch->items);
}

void batch_name(struct batch *batch, const char *prefix, size_t first)
{
    for (size_t i = 0; i < batch->n; i++) {
        (void)snprintf(batch->keys[i], sizeof(batch->keys[i]), "%.40s%zu",
                       prefix, first + i);
        batch->items[i].key = batch->keys[i];
        batch->items[i].key_len = strlen(batch->keys[i]);
    }
}

void batch_fill(struct batch *batch)
{
    for (size_t i = 0; i < batch->n; i++) {
        value_fill(batch->keys[i], batch->pieces[i].addr, batch->len);
    }
}

void batch_poison(struct batch *batch, int byte)
{
    memset(batch->bytes, byte, batch->n * batch->len);
}

bool batch_is_poison(const struct batch *batch, int byte)
{
    return bytes_are(batch->bytes, byte, batch->n * batch->len);
}

peercache_status_t batch_do(struct batch *batch, peercache_node_t *node,
                            enum pc_verb verb, uint64_t timeout_ns)
{
    batch->params.timeout_ns = timeout_ns;
    switch (verb) {
    case PC_VERB_PUT:
        return peercache_put(node, batch->items, batch->n, &batch->params,
                             NULL);
    case PC_VERB_GET:
        return peercache_get(node, batch->items, batch->n, &batch->params,
                             NULL);
    case PC_VERB_EXISTS:
        return peercache_exists(node, batch->items, batch->n, &batch->params,
                                NULL);
    default:
        return peercache_remove(node, batch->items, batch->n, &batch->params,
                                NULL);
    }
}

size_t batch_count_ok(const struct batch *batch, size_t *n_wrong_p)
{
    size_t n = 0;
    *n_wrong_p = 0;
    for (size_t i = 0; i < batch->n; i++) {
        if (batch->items[i].status == PEERCACHE_OK) {
            n++;
            *n_wrong_p +=
                !value_is(batch->keys[i], batch->pieces[i].addr, batch->len);
        }
    }
    return n;
}

/* ---- Log ---------------------------------------------------------------- */

struct line
{
    peercache_log_level_t level;
    char *text;
};

static struct
{
    pthread_mutex_t lock;
    struct line lines[LINES_MAX];
    size_t n;
} kept = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void keep(void *arg, peercache_log_level_t level, const char *where,
                 const char *message)
{
    (void)arg;
    (void)where;
    (void)pthread_mutex_lock(&kept.lock);
    if (kept.n < LINES_MAX) {
        kept.lines[kept.n].text = strdup(message);
        kept.lines[kept.n].level = level;
        kept.n += kept.lines[kept.n].text != NULL;
    }
    (void)pthread_mutex_unlock(&kept.lock);
}

static void forget(void)
{
    (void)pthread_mutex_lock(&kept.lock);
    while (kept.n > 0) {
        free(kept.lines[--kept.n].text);
    }
    (void)pthread_mutex_unlock(&kept.lock);
}

void host_log_keep(void)
{
    static bool registered;
    if (!registered) {
        registered = true;
        (void)atexit(forget);
        peercache_log_set(PEERCACHE_LOG_INFO, keep, NULL);
    }
    forget();
}

unsigned host_log_count(peercache_log_level_t level, const char *one,
                        const char *other)
{
    unsigned n = 0;
    (void)pthread_mutex_lock(&kept.lock);
    for (size_t i = 0; i < kept.n; i++) {
        n += kept.lines[i].level <= level &&
             strstr(kept.lines[i].text, one) != NULL &&
             strstr(kept.lines[i].text, other) != NULL;
    }
    (void)pthread_mutex_unlock(&kept.lock);
    return n;
}

void host_log_show(void)
{
    (void)pthread_mutex_lock(&kept.lock);
    for (size_t i = 0; i < kept.n; i++) {
        print_message("%d %s\n", (int)kept.lines[i].level, kept.lines[i].text);
    }
    (void)pthread_mutex_unlock(&kept.lock);
}

/* ---- Other processes: here ---------------------------------------------- */

void peer_start(struct peer *peer)
{
    int to[2];
    int from[2];
    assert_int_equal(pipe2(to, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from, O_CLOEXEC), 0);
    pid_t parent = getpid();
    peer->pid = fork();
    if (peer->pid == 0) {
        dup2(to[0], STDIN_FILENO);
        dup2(from[1], STDOUT_FILENO);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent) {
            execl("/proc/self/exe", "peer", "peer", (char *)NULL);
        }
        _exit(127);
    }
    assert_true(peer->pid > 0);
    close(to[0]);
    close(from[1]);
    peer->to = fdopen(to[1], "w");
    peer->from = fdopen(from[0], "r");
    assert_true(peer->to != NULL && peer->from != NULL);
}

static void say(struct peer *peer, const char *format, va_list args)
{
    (void)vfprintf(peer->to, format, args);
    (void)fputc('\n', peer->to);
    assert_int_equal(fflush(peer->to), 0);
}

void peer_say(struct peer *peer, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(peer, format, args);
    va_end(args);
}

const char *peer_hear(struct peer *peer, const char *expected)
{
    static char line[1024];
    if (fgets(line, sizeof(line), peer->from) == NULL) {
        fail_msg("the peer is gone, instead of saying %s", expected);
    }
    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, expected, strlen(expected)) != 0) {
        fail_msg("the peer says \"%s\" instead of \"%s\"", line, expected);
    }
    return line + strlen(expected);
}

const char *peer_tell(struct peer *peer, const char *expected,
                      const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(peer, format, args);
    va_end(args);
    return peer_hear(peer, expected);
}

void peer_signal(struct peer *peer, int signal)
{
    assert_int_equal(kill(peer->pid, signal), 0);
    if (signal == SIGSTOP) {
        int status;
        assert_int_equal(waitpid(peer->pid, &status, WUNTRACED), peer->pid);
        assert_true(WIFSTOPPED(status));
    }
}

static int reap(struct peer *peer)
{
    int status;
    while (waitpid(peer->pid, &status, 0) < 0 && errno == EINTR) {
    }
    (void)fclose(peer->to);
    (void)fclose(peer->from);
    peer->pid = 0;
    return status;
}

void peer_end(struct peer *peer)
{
    (void)peer_tell(peer, "ok", "end");
    assert_int_equal(reap(peer), 0);
}

void peer_kill(struct peer *peer)
{
    (void)kill(peer->pid, SIGKILL);
    (void)reap(peer);
}

int host_run(const char *argument)
{
    int status;
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() == parent) {
            execl("/proc/self/exe", argument, argument, (char *)NULL);
        }
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* ---- Other processes: there --------------------------------------------- */

static void do_batch(peercache_node_t *node, enum pc_verb verb, char *words,
                     char *out, size_t out_len)
{
    char prefix[64];
    size_t n = 0;
    size_t len = 0;
    size_t n_wrong = 0;
    struct batch batch;
    if (sscanf(words, "%63s %zu %zu", prefix, &n, &len) < 2 || n == 0) {
        (void)snprintf(out, out_len, "what?");
        return;
    }
    batch_init(&batch, n, len);
    batch_name(&batch, prefix, 0);
    if (verb == PC_VERB_PUT) {
        batch_fill(&batch);
    }
    peercache_status_t status = batch_do(&batch, node, verb, 5 * PC_S);
    size_t n_ok = batch_count_ok(&batch, &n_wrong);
    if (verb == PC_VERB_GET || verb == PC_VERB_PUT) {
        (void)snprintf(out, out_len, "%s %zu %zu",
                       peercache_status_name(status), n_ok, n_wrong);
    } else {
        (void)snprintf(out, out_len, "%s", peercache_status_name(status));
    }
    batch_fini(&batch);
}

static bool obey(peercache_node_t **node_p, char *line, char *out,
                 size_t out_len, peer_command_fn more)
{
    (void)snprintf(out, out_len, "ok");
    if (strncmp(line, "start ", 6) == 0) {
        *node_p = node_of(line + 6);
        if (*node_p == NULL) {
            (void)snprintf(out, out_len, "no node");
        }
    } else if (strcmp(line, "ready") == 0) {
        (void)snprintf(out, out_len, "%s",
                       peercache_status_name(
                           peercache_node_wait_ready(*node_p, 10 * PC_S)));
    } else if (strncmp(line, "put ", 4) == 0) {
        do_batch(*node_p, PC_VERB_PUT, line + 4, out, out_len);
    } else if (strncmp(line, "get ", 4) == 0) {
        do_batch(*node_p, PC_VERB_GET, line + 4, out, out_len);
    } else if (strncmp(line, "remove ", 7) == 0) {
        do_batch(*node_p, PC_VERB_REMOVE, line + 7, out, out_len);
    } else if (strcmp(line, "stop") == 0) {
        peercache_node_destroy(*node_p);
        *node_p = NULL;
    } else if (strcmp(line, "end") == 0) {
        peercache_node_destroy(*node_p);
        *node_p = NULL;
        return false;
    } else if (more == NULL || !more(*node_p, line, out, out_len)) {
        (void)snprintf(out, out_len, "what?");
    }
    return true;
}

int peer_main(peer_command_fn more)
{
    char line[1024];
    char out[1024];
    bool on = true;
    peercache_node_t *node = NULL;
    peercache_log_set(getenv("PEERCACHE_TEST_LOG") != NULL
                          ? PEERCACHE_LOG_DEBUG
                          : PEERCACHE_LOG_ERROR,
                      NULL, NULL);
    while (on && fgets(line, sizeof(line), stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        on = obey(&node, line, out, sizeof(out), more);
        (void)printf("%s\n", out);
        (void)fflush(stdout);
    }
    return node == NULL ? 0 : 1;
}

int host_alone(const char *argument, const struct CMUnitTest *tests, size_t n,
               peer_command_fn more)
{
    if (strcmp(argument, "peer") == 0) {
        return peer_main(more);
    }
    for (size_t i = 0; i < n; i++) {
        if (strcmp(tests[i].name, argument) == 0) {
            const struct CMUnitTest one[] = {tests[i]};
            return cmocka_run_group_tests_name("alone", one, NULL, NULL);
        }
    }
    return 127;
}
