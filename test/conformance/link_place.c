#include "link_place.h"

#include "test.h"

#include "base/clock.h"
#include "transports/socket/socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define STEP_NS     PC_MS
#define ADDRESS_MAX 256

static peercache_status_t place_open(struct link_fixture *fixture,
                                     const struct pc_link_params *params,
                                     struct pc_link **link_p)
{
    const struct link_place *place = fixture->arg;
    struct pc_link_params with_tls = *params;
    with_tls.tls = place->tls;
    return fixture->ops->open(&with_tls, link_p);
}

static void place_address(struct link_fixture *fixture, struct pc_link *link,
                          char *text, size_t len)
{
    struct link_place *place = fixture->arg;
    (void)link;
    if (place->is_unix) {
        snprintf(text, len, "unix:%s/%u", place->folder, place->n_paths++);
    } else {
        snprintf(text, len, "127.0.0.1:0");
    }
}

/* A port is bound and given back: nobody else is likely to take it. */
static void place_nowhere(struct link_fixture *fixture, char *text, size_t len)
{
    struct link_place *place = fixture->arg;
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t in_len = sizeof(in);

    if (place->is_unix) {
        snprintf(text, len, "unix:%s/nobody", place->folder);
        return;
    }
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &in_len), 0);
    snprintf(text, len, "127.0.0.1:%u", ntohs(in.sin_port));
    close(fd);
}

static socklen_t silent_address(struct link_place *place,
                                struct sockaddr_storage *storage)
{
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};

    memset(storage, 0, sizeof(*storage));
    if (!place->is_unix) {
        memcpy(storage, &in, sizeof(in));
        return sizeof(in);
    }
    snprintf(un.sun_path, sizeof(un.sun_path), "%s/silent", place->folder);
    memcpy(storage, &un, sizeof(un));
    return sizeof(un);
}

/* A listener that accepts nobody and whose backlog is full. */
static bool place_silent(struct link_fixture *fixture, char *text, size_t len)
{
    struct link_place *place = fixture->arg;
    struct sockaddr_storage storage;
    socklen_t storage_len = silent_address(place, &storage);
    int family = storage.ss_family;
    int fd = socket(family, SOCK_STREAM, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&storage, storage_len), 0);
    assert_int_equal(listen(fd, 0), 0);
    place->crowd[place->n_crowd++] = fd;
    if (place->is_unix) {
        snprintf(text, len, "unix:%s/silent", place->folder);
    } else {
        struct sockaddr_in in;
        storage_len = sizeof(in);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &storage_len),
                         0);
        memcpy(&storage, &in, sizeof(in));
        snprintf(text, len, "127.0.0.1:%u", ntohs(in.sin_port));
    }
    for (int i = 0; i < LINK_PLACE_CROWD; i++) {
        int guest = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(guest, (struct sockaddr *)&storage, storage_len);
        place->crowd[place->n_crowd++] = guest;
    }
    return true;
}

static void place_teardown(struct link_fixture *fixture)
{
    struct link_place *place = fixture->arg;
    char path[ADDRESS_MAX];

    while (place->n_crowd > 0) {
        close(place->crowd[--place->n_crowd]);
    }
    snprintf(path, sizeof(path), "%s/silent", place->folder);
    (void)unlink(path);
}

static void place_step(struct link_fixture *fixture, struct pc_link **links,
                       size_t n_links)
{
    unsigned work = 0;
    for (size_t i = 0; i < n_links; i++) {
        work += fixture->ops->progress(links[i], -1, 0);
    }
    if (work == 0 && n_links > 0) {
        fixture->ops->progress(links[0], -1, STEP_NS);
    }
}

static uint64_t place_now(struct link_fixture *fixture)
{
    (void)fixture;
    return pc_clock_monotonic();
}

int link_place_run(const char *name, struct link_place *place)
{
    struct link_fixture fixture = {
        .name = name,
        .ops = pc_socket_link(),
        .arg = place,
        .streams = true,
        .teardown = place_teardown,
        .open = place_open,
        .address = place_address,
        .nowhere = place_nowhere,
        .silent = place_silent,
        .step = place_step,
        .now = place_now,
    };
    return link_suite_run(&fixture);
}
