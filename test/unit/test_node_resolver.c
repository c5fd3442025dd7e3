/* Names of seeds: looked up again, and never waited for at the end. */
#include "test.h"

#include "base/clock.h"
#include "node/resolver.h"

#include <stdio.h>
#include <string.h>

/* What the name means, and whether the answer is held back. */
static struct
{
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool held;
    unsigned n_left;
    size_t n;
    const char *addresses[2];
} dns = {.lock = PTHREAD_MUTEX_INITIALIZER,
         .changed = PTHREAD_COND_INITIALIZER};

static void set_dns(bool held, const char *one, const char *two)
{
    (void)pthread_mutex_lock(&dns.lock);
    dns.held = held;
    dns.addresses[0] = one;
    dns.addresses[1] = two;
    dns.n = (size_t)(one != NULL) + (two != NULL);
    (void)pthread_cond_broadcast(&dns.changed);
    (void)pthread_mutex_unlock(&dns.lock);
}

static size_t resolve(const char *host, uint16_t port,
                      char (*addresses)[PC_ADDRESS_MAX], size_t max)
{
    (void)host;
    (void)port;
    (void)pthread_mutex_lock(&dns.lock);
    (void)pthread_cond_broadcast(&dns.changed);
    while (dns.held) {
        (void)pthread_cond_wait(&dns.changed, &dns.lock);
    }
    size_t n = dns.n < max ? dns.n : max;
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(addresses[i], PC_ADDRESS_MAX, "%s", dns.addresses[i]);
    }
    dns.n_left++;
    (void)pthread_cond_broadcast(&dns.changed);
    (void)pthread_mutex_unlock(&dns.lock);
    return n;
}

static struct pc_resolver *new_resolver(void)
{
    struct pc_resolver *r = pc_resolver_create();
    assert_non_null(r);
    r->resolve = resolve;
    (void)snprintf(r->names[0].host, sizeof(r->names[0].host), "seeds.test");
    r->names[0].port = 7000;
    r->n_names = 1;
    return r;
}

/* Take the next answer: how many addresses, and whether the name is known. */
static size_t next_answer(struct pc_resolver *r, bool *known_p)
{
    (void)pthread_mutex_lock(&r->lock);
    while (!r->fresh) {
        (void)pthread_cond_wait(&r->changed, &r->lock);
    }
    r->fresh = false;
    size_t n = r->n_found;
    *known_p = r->names[0].known;
    (void)pthread_mutex_unlock(&r->lock);
    return n;
}

static void a_name_that_means_others_now_gives_these(void **state)
{
    (void)state;
    bool known;
    set_dns(false, "10.0.0.1:7000", "10.0.0.2:7000");
    struct pc_resolver *r = new_resolver();
    pc_resolver_start(r);
    assert_int_equal(next_answer(r, &known), 2);
    assert_true(known);
    set_dns(false, "10.0.0.3:7000", NULL);
    pc_resolver_want(r);
    assert_int_equal(next_answer(r, &known), 1);
    assert_true(known);
    assert_string_equal(r->found[0].address, "10.0.0.3:7000");
    set_dns(false, NULL, NULL);
    pc_resolver_want(r);
    assert_int_equal(next_answer(r, &known), 0);
    assert_false(known);
    pc_resolver_stop(r);
}

static void a_look_up_that_hangs_holds_up_neither_start_nor_end(void **state)
{
    (void)state;
    set_dns(true, "10.0.0.1:7000", NULL);
    unsigned before = dns.n_left;
    struct pc_resolver *r = new_resolver();
    uint64_t start_ns = pc_clock_monotonic();
    pc_resolver_start(r);
    assert_false(r->fresh);
    pc_resolver_stop(r);
    assert_true(pc_clock_monotonic() - start_ns < 5 * PC_S);
    (void)pthread_mutex_lock(&dns.lock);
    assert_int_equal(dns.n_left, before); /* It hangs still. */
    (void)pthread_mutex_unlock(&dns.lock);
    set_dns(false, NULL, NULL);
    (void)pthread_mutex_lock(&dns.lock);
    while (dns.n_left == before) {
        (void)pthread_cond_wait(&dns.changed, &dns.lock);
    }
    (void)pthread_mutex_unlock(&dns.lock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_that_means_others_now_gives_these),
        cmocka_unit_test(a_look_up_that_hangs_holds_up_neither_start_nor_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
