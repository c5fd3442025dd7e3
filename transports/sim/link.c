#include "conn.h"

#include "base/assert.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Addresses ----------------------------------------------------------- */

static bool is_unix(const char *address)
{
    return strncmp(address, "unix:", 5) == 0;
}

/* Bring "ip:port" into its one form; false if it is malformed. */
static bool normalize(const struct pc_sim_host *host, const char *address,
                      char *ip, size_t ip_len, unsigned *port_p)
{
    const char *colon = strrchr(address, ':');
    if (colon == NULL || colon == address ||
        (size_t)(colon - address) >= ip_len) {
        return false;
    }
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (colon[1] < '0' || colon[1] > '9' || *end != '\0' || port > 65535) {
        return false;
    }
    memcpy(ip, address, (size_t)(colon - address));
    ip[colon - address] = '\0';
    if (strcmp(ip, "0.0.0.0") == 0 || strcmp(ip, "[::]") == 0) {
        snprintf(ip, ip_len, "%s", host->machine->ip);
    }
    *port_p = (unsigned)port;
    return true;
}

static bool is_loopback(const char *ip)
{
    return strncmp(ip, "127.", 4) == 0 || strcmp(ip, "[::1]") == 0;
}

/* Whether somebody listens there already. */
static bool is_taken(const struct pc_sim_host *host,
                     const struct pc_sim_listener *wanted)
{
    const struct pc_list *listeners =
        pc_sim_listeners(host->sim, wanted->bound);
    for (struct pc_list *at = listeners->next; at != listeners; at = at->next) {
        const struct pc_sim_listener *other =
            PC_CONTAINER_OF(at, struct pc_sim_listener, in_sim);
        if (!other->host->dead && strcmp(other->bound, wanted->bound) == 0 &&
            (!wanted->local || other->host->machine == host->machine)) {
            return true;
        }
    }
    return false;
}

/* The text to listen on in *listener. */
static peercache_status_t bind_address(struct pc_sim_host *host,
                                       const char *address,
                                       struct pc_sim_listener *listener)
{
    char ip[PC_SIM_NAME_MAX];
    unsigned port;

    if (strlen(address) >= sizeof(listener->bound)) {
        return PEERCACHE_INVALID;
    }
    if (is_unix(address)) {
        listener->local = true;
        snprintf(listener->bound, sizeof(listener->bound), "%s", address);
        return is_taken(host, listener) ? PEERCACHE_IO : PEERCACHE_OK;
    }
    if (!normalize(host, address, ip, sizeof(ip), &port)) {
        return PEERCACHE_INVALID;
    }
    listener->local = is_loopback(ip);
    snprintf(listener->bound, sizeof(listener->bound), "%s:%u", ip, port);
    const struct pc_sim_host *owner =
        pc_sim_host_at(host->sim, listener->bound);
    if (owner != NULL && owner->machine != host->machine) {
        return PEERCACHE_IO; /* Another machine's address. */
    }
    for (bool picks = port == 0; picks; picks = is_taken(host, listener)) {
        snprintf(listener->bound, sizeof(listener->bound), "%s:%u", ip,
                 (unsigned)pc_sim_machine_port(host->machine));
    }
    return is_taken(host, listener) ? PEERCACHE_IO : PEERCACHE_OK;
}

/* ---- Operations ---------------------------------------------------------- */

static peercache_status_t sim_open(const struct pc_link_params *params,
                                   struct pc_link **link_p)
{
    struct pc_sim_host *host = params->world;
    if (host == NULL) {
        return PEERCACHE_INVALID;
    }
    if (params->tls != NULL) {
        return PEERCACHE_UNSUPPORTED;
    }
    struct pc_link *link = pc_alloc(1, sizeof(*link));
    if (link == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    link->host = host;
    link->params = *params;
    pc_list_init(&link->conns);
    pc_list_init(&link->ready);
    pc_list_init(&link->listeners);
    pc_list_push_back(&host->links, &link->in_host);
    *link_p = link;
    return PEERCACHE_OK;
}

static void listener_free(struct pc_sim_listener *listener)
{
    struct pc_link *link = listener->link;
    for (struct pc_list *at = link->conns.next; at != &link->conns;
         at = at->next) {
        struct pc_link_conn *conn =
            PC_CONTAINER_OF(at, struct pc_link_conn, in_conns);
        if (conn->listener == listener) {
            /* Nobody was told of it. */
            conn->listener = NULL;
            pc_sim_conn_fail(conn, PEERCACHE_CANCELED);
        }
    }
    pc_list_remove(&listener->in_link);
    pc_list_remove(&listener->in_sim);
    pc_free(listener);
}

static void sim_close(struct pc_link *link)
{
    if (link == NULL) {
        return;
    }
    link->closing = true;
    while (!pc_list_is_empty(&link->listeners)) {
        listener_free(PC_CONTAINER_OF(link->listeners.next,
                                      struct pc_sim_listener, in_link));
    }
    for (struct pc_list *at = link->conns.next; at != &link->conns;
         at = at->next) {
        pc_sim_conn_fail(PC_CONTAINER_OF(at, struct pc_link_conn, in_conns),
                         PEERCACHE_CANCELED);
    }
    while (!pc_list_is_empty(&link->conns)) {
        pc_sim_conn_run(
            PC_CONTAINER_OF(link->conns.next, struct pc_link_conn, in_conns));
    }
    pc_list_remove(&link->in_host);
    pc_free(link);
}

static peercache_status_t sim_listen(struct pc_link *link, const char *address,
                                     char *bound, size_t bound_len)
{
    if (link->closing || link->host->dead) {
        return PEERCACHE_SHUTDOWN;
    }
    struct pc_sim_listener *listener = pc_alloc(1, sizeof(*listener));
    if (listener == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    peercache_status_t status = bind_address(link->host, address, listener);
    if (status == PEERCACHE_OK && strlen(listener->bound) >= bound_len) {
        status = PEERCACHE_INVALID;
    }
    if (status != PEERCACHE_OK) {
        pc_free(listener);
        return status;
    }
    listener->link = link;
    listener->host = link->host;
    pc_list_push_back(&link->listeners, &listener->in_link);
    pc_list_push_back(pc_sim_listeners(link->host->sim, listener->bound),
                      &listener->in_sim);
    snprintf(bound, bound_len, "%s", listener->bound);
    pc_sim_trace(link->host->sim, "%s listens on %s", link->host->name, bound);
    return PEERCACHE_OK;
}

static void sim_unlisten(struct pc_link *link, const char *bound)
{
    for (struct pc_list *at = link->listeners.next; at != &link->listeners;
         at = at->next) {
        struct pc_sim_listener *listener =
            PC_CONTAINER_OF(at, struct pc_sim_listener, in_link);
        if (strcmp(listener->bound, bound) == 0) {
            listener_free(listener);
            return;
        }
    }
}

static peercache_status_t sim_connect(struct pc_link *link, const char *address,
                                      enum pc_link_class cls,
                                      uint64_t deadline_ns, void *conn_arg,
                                      struct pc_link_conn **conn_p)
{
    char ip[PC_SIM_NAME_MAX];
    char to[PC_SIM_ADDRESS_MAX];
    unsigned port;

    if (link->closing || link->host->dead) {
        return PEERCACHE_SHUTDOWN;
    }
    if (strlen(address) >= sizeof(to)) {
        return PEERCACHE_INVALID;
    }
    if (is_unix(address)) {
        snprintf(to, sizeof(to), "%s", address);
    } else if (normalize(link->host, address, ip, sizeof(ip), &port)) {
        snprintf(to, sizeof(to), "%s:%u", ip, port);
    } else {
        return PEERCACHE_INVALID;
    }
    struct pc_link_conn *conn =
        pc_sim_conn_connect(link, to, cls, deadline_ns, conn_arg);
    if (conn == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    *conn_p = conn;
    return PEERCACHE_OK;
}

static void sim_disconnect(struct pc_link_conn *conn)
{
    pc_sim_conn_fail(conn, PEERCACHE_CANCELED);
}

static unsigned sim_progress(struct pc_link *link, int fd, uint64_t max_wait_ns)
{
    struct pc_list batch;
    struct pc_list *node;
    unsigned work = 0;

    (void)fd;
    (void)max_wait_ns;
    link->woken = false;
    if (!pc_sim_host_is_running(link->host) && !link->host->buried) {
        return 0;
    }
    pc_list_init(&batch);
    pc_list_splice_back(&batch, &link->ready);
    while ((node = pc_list_pop_front(&batch)) != NULL) {
        work += pc_sim_conn_run(
            PC_CONTAINER_OF(node, struct pc_link_conn, in_ready));
    }
    return work;
}

static void sim_wake(struct pc_link *link)
{
    link->woken = true;
}

void pc_sim_links_host_buried(struct pc_sim_host *host)
{
    for (struct pc_list *at = host->links.next; at != &host->links;
         at = at->next) {
        struct pc_link *link = PC_CONTAINER_OF(at, struct pc_link, in_host);
        for (struct pc_list *c = link->conns.next; c != &link->conns;
             c = c->next) {
            struct pc_link_conn *conn =
                PC_CONTAINER_OF(c, struct pc_link_conn, in_conns);
            conn->listener = NULL;
            pc_sim_conn_fail(conn, PEERCACHE_UNREACHABLE);
        }
    }
}

bool pc_sim_links_are_ready(const struct pc_sim_host *host)
{
    for (struct pc_list *at = host->links.next; at != &host->links;
         at = at->next) {
        struct pc_link *link = PC_CONTAINER_OF(at, struct pc_link, in_host);
        if (!pc_list_is_empty(&link->ready)) {
            return true;
        }
    }
    return false;
}

const struct pc_link_ops *pc_sim_link(void)
{
    static const struct pc_link_ops ops = {
        .name = "sim",
        .open = sim_open,
        .close = sim_close,
        .listen = sim_listen,
        .unlisten = sim_unlisten,
        .connect = sim_connect,
        .disconnect = sim_disconnect,
        .send = pc_sim_conn_send,
        .cancel_send = pc_sim_conn_cancel_send,
        .cancel_sink = pc_sim_conn_cancel_sink,
        .pause = pc_sim_conn_pause,
        .progress = sim_progress,
        .wake = sim_wake,
    };
    return &ops;
}
