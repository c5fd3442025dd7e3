#include "nodes.h"

#include "clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A port that is free just now, for the cluster to meet at; 0: none. */
static unsigned free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    unsigned port = 0;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, len) == 0 &&
        getsockname(fd, (struct sockaddr *)&address, &len) == 0) {
        port = ntohs(address.sin_port);
    }
    if (fd >= 0) {
        close(fd);
    }
    return port;
}

struct settings
{
    char texts[OPTIONS_SETTINGS_MAX][128];
    size_t n;
};

__attribute__((format(printf, 2, 3))) static void set(struct settings *s,
                                                      const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(s->texts[s->n++], sizeof(s->texts[0]), format, args);
    va_end(args);
}

static void settle(struct settings *s, const struct node *node,
                   const struct launch *launch)
{
    size_t most = (size_t)1 << 30;
    size_t pool = launch->pool_size;
    s->n = 0;
    set(s, "node_id=%s", node->name);
    set(s, "read_mode=%s", node->read_mode);
    set(s, "discovery_addr=127.0.0.1:%u", launch->port);
    set(s, "cluster_name=demo-%d", (int)getppid());
    set(s, "ucx_tcp=lo");
    set(s, "global_segment_size=%zu", pool);
    set(s, "region_size=%zu", pool < most ? pool : most);
    set(s, "disk_enabled=false");
    set(s, "metrics_enabled=false");
}

/* In the child: become a worker. */
static void become(struct node *node, const struct launch *launch,
                   const int to[2], const int from[2])
{
    const char *logs = launch->options->logs;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* Nobody outlives the driver. */
    dup2(to[0], STDIN_FILENO);
    dup2(from[1], STDOUT_FILENO);
    if (logs != NULL) {
        char path[1024];
        snprintf(path, sizeof(path), "%s/%s.log", logs, node->name);
        int log = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (log >= 0) {
            dup2(log, STDERR_FILENO);
        }
    }
    struct settings settings;
    settle(&settings, node, launch);
    char **args =
        calloc((size_t)launch->argc + 3 + 2 * settings.n, sizeof(*args));
    if (args == NULL) {
        _exit(1);
    }
    size_t n = 0;
    for (int i = 0; i < launch->argc; i++) {
        args[n++] = launch->argv[i];
    }
    args[n++] = (char *)"--worker";
    args[n++] = node->name;
    for (size_t i = 0; i < settings.n; i++) {
        args[n++] = (char *)"--set";
        args[n++] = settings.texts[i];
    }
    execv("/proc/self/exe", args);
    perror("exec");
    _exit(1);
}

static bool start(struct node *node, const struct launch *launch)
{
    int to[2], from[2];
    if (pipe2(to, O_CLOEXEC) != 0 || pipe2(from, O_CLOEXEC) != 0) {
        perror("pipe");
        return false;
    }
    fflush(NULL);
    node->pid = fork();
    if (node->pid < 0) {
        perror("fork");
        return false;
    }
    if (node->pid == 0) {
        become(node, launch, to, from);
    }
    close(to[0]);
    close(from[1]);
    node->to = to[1];
    node->from = from[0];
    return true;
}

static void name_nodes(struct node nodes[DEMO_NODES])
{
    static const char *const names[DEMO_NODES][2] = {
        {"auto-1", "auto"},
        {"auto-2", "auto"},
        {"one-sided", "one-sided"},
        {"served", "served"},
    };
    for (size_t i = 0; i < DEMO_NODES; i++) {
        nodes[i] =
            (struct node){.read_mode = names[i][1], .to = -1, .from = -1};
        snprintf(nodes[i].name, sizeof(nodes[i].name), "%s", names[i][0]);
    }
}

bool nodes_start(struct node nodes[DEMO_NODES], struct launch *launch)
{
    const char *logs = launch->options->logs;
    name_nodes(nodes);
    signal(SIGPIPE, SIG_IGN);
    launch->port = free_port();
    if (launch->port == 0) {
        perror("no free port");
        return false;
    }
    if (logs != NULL && mkdir(logs, 0755) != 0 && errno != EEXIST) {
        perror(logs);
        return false;
    }
    for (size_t i = 0; i < DEMO_NODES; i++) {
        if (!start(&nodes[i], launch)) {
            return false;
        }
    }
    return true;
}

bool node_tell(struct node *node, const char *text)
{
    size_t len = strlen(text);
    while (len > 0) {
        ssize_t n = write(node->to, text, len);
        if (n < 0 && errno != EINTR) {
            return false;
        }
        text += n > 0 ? n : 0;
        len -= n > 0 ? (size_t)n : 0;
    }
    return true;
}

void node_kill(struct node *node)
{
    node->killed = true;
    kill(node->pid, SIGKILL);
}

static void hand_over(struct node *node, node_line_fn fn, void *arg)
{
    char *line = node->text;
    for (;;) {
        char *end =
            memchr(line, '\n', node->text_len - (size_t)(line - node->text));
        if (end == NULL) {
            break;
        }
        *end = '\0';
        fn(arg, node, line);
        line = end + 1;
    }
    node->text_len -= (size_t)(line - node->text);
    memmove(node->text, line, node->text_len);
}

static void listen_to(struct node *node, node_line_fn fn, void *arg)
{
    if (node->text_size - node->text_len < 4096) {
        char *more = realloc(node->text, node->text_size + 65536);
        if (more == NULL) {
            return;
        }
        node->text = more;
        node->text_size += 65536;
    }
    ssize_t n = read(node->from, node->text + node->text_len,
                     node->text_size - node->text_len);
    if (n > 0) {
        node->text_len += (size_t)n;
        hand_over(node, fn, arg);
    } else if (n == 0 || errno != EINTR) {
        close(node->from);
        node->from = -1;
        node->left = true;
    }
}

void nodes_listen(struct node nodes[DEMO_NODES], int max_ms, node_line_fn fn,
                  void *arg)
{
    struct pollfd fds[DEMO_NODES];
    for (size_t i = 0; i < DEMO_NODES; i++) {
        fds[i] = (struct pollfd){.fd = nodes[i].from, .events = POLLIN};
    }
    if (poll(fds, DEMO_NODES, max_ms) <= 0) {
        return;
    }
    for (size_t i = 0; i < DEMO_NODES; i++) {
        if (fds[i].revents != 0) {
            listen_to(&nodes[i], fn, arg);
        }
    }
}

/* How the process ended; true: as it should. */
static bool reap(struct node *node)
{
    int status = 0;
    if (node->pid <= 0) {
        return true;
    }
    if (!node->left) { /* Still there after all that time. */
        kill(node->pid, SIGKILL);
    }
    waitpid(node->pid, &status, 0);
    if (node->killed ||
        (node->left && WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
        return true;
    }
    if (!node->left) {
        printf("%s did not leave in time\n", node->name);
    } else if (WIFSIGNALED(status)) {
        printf("%s ended by signal %d\n", node->name, WTERMSIG(status));
    } else {
        printf("%s ended with status %d\n", node->name, WEXITSTATUS(status));
    }
    return false;
}

unsigned nodes_stop(struct node nodes[DEMO_NODES], uint64_t ms, node_line_fn fn,
                    void *arg)
{
    uint64_t end = clock_ns() + ms * 1000000u;
    unsigned n_bad = 0;
    for (size_t i = 0; i < DEMO_NODES; i++) {
        if (nodes[i].to >= 0) {
            close(nodes[i].to);
            nodes[i].to = -1;
        }
    }
    for (;;) {
        bool all = true;
        for (size_t i = 0; i < DEMO_NODES; i++) {
            all = all && nodes[i].from < 0;
        }
        if (all || clock_ns() > end) {
            break;
        }
        nodes_listen(nodes, 50, fn, arg);
    }
    for (size_t i = 0; i < DEMO_NODES; i++) {
        n_bad += !reap(&nodes[i]);
        if (nodes[i].from >= 0) {
            close(nodes[i].from);
        }
        free(nodes[i].text);
        nodes[i].text = NULL;
    }
    return n_bad;
}
