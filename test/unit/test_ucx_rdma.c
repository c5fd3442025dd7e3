/*
 * What UCX is told for RDMA, and the proof that its gets need no owner: over
 * tcp they are emulated, so there it must find that they do.
 */
#include "test.h"

#include "base/assert.h"
#include "base/clock.h"
#include "transports/ucx/ucx.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *value_of(const struct pc_ucx_setting *settings, size_t n,
                            const char *name)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(settings[i].name, name) == 0) {
            return settings[i].value;
        }
    }
    return NULL;
}

static void a_version_gets_the_settings_that_it_needs(void **state)
{
    (void)state;
    static const char *const workarounds[] = {
        "PROTO_ENABLE", "UD_ETH_DGID_CHECK", "IB_ASYNC_EVENTS"};
    static const unsigned versions[][3] = {
        {1, 13, 1}, {1, 18, 1}, {1, 22, 7}, {1, 23, 0}, {2, 0, 0}};
    for (size_t v = 0; v < PC_ARRAY_LEN(versions); v++) {
        struct pc_fabric fabric = {.get.context = NULL};
        struct pc_ucx_setting settings[PC_UCX_RDMA_SETTINGS];
        memcpy(fabric.ucx_version, versions[v], sizeof(versions[v]));
        size_t n = pc_ucx_rdma_settings(&fabric, settings);
        for (size_t i = 0; i < PC_ARRAY_LEN(workarounds); i++) {
            const char *value = value_of(settings, n, workarounds[i]);
            if (v < 3) {
                assert_string_equal(value, "n");
            } else {
                assert_null(value);
            }
        }
        assert_string_equal(value_of(settings, n, "RC_TIMEOUT"), "130ms");
        assert_string_equal(value_of(settings, n, "RC_RETRY_COUNT"), "6");
    }
}

static void what_the_user_set_is_left_alone(void **state)
{
    (void)state;
    /* UCX takes the short name for both kinds of RC. */
    static const char *const pairs[][2] = {
        {"UCX_PROTO_ENABLE", "PROTO_ENABLE"},
        {"UCX_RC_TIMEOUT", "RC_TIMEOUT"},
        {"UCX_RC_VERBS_TIMEOUT", "RC_TIMEOUT"},
        {"UCX_RC_MLX5_TIMEOUT", "RC_TIMEOUT"},
        {"UCX_UD_VERBS_ETH_DGID_CHECK", "UD_ETH_DGID_CHECK"}};
    struct pc_fabric fabric = {.ucx_version = {1, 18, 1}};
    for (size_t i = 0; i < PC_ARRAY_LEN(pairs); i++) {
        struct pc_ucx_setting settings[PC_UCX_RDMA_SETTINGS];
        size_t n = pc_ucx_rdma_settings(&fabric, settings);
        assert_non_null(value_of(settings, n, pairs[i][1]));
        assert_int_equal(setenv(pairs[i][0], "1", 1), 0);
        assert_int_equal(pc_ucx_rdma_settings(&fabric, settings), n - 1);
        assert_null(value_of(settings, n - 1, pairs[i][1]));
        assert_int_equal(unsetenv(pairs[i][0]), 0);
    }
}

static void gets_over_tcp_are_found_to_need_their_owner(void **state)
{
    (void)state;
    ucp_config_t *config;
    struct pc_fabric fabric = {.ucx_version = {1, 13, 1}};
    ucp_params_t params = {.field_mask = UCP_PARAM_FIELD_FEATURES,
                           .features = UCP_FEATURE_RMA | UCP_FEATURE_WAKEUP};
    assert_int_equal(ucp_config_read(NULL, NULL, &config), UCS_OK);
    assert_int_equal(ucp_config_modify(config, "TLS", "tcp"), UCS_OK);
    assert_int_equal(ucp_config_modify(config, "NET_DEVICES", "lo"), UCS_OK);
    assert_int_equal(ucp_init(&params, config, &fabric.get.context), UCS_OK);
    ucp_config_release(config);
    uint64_t began = pc_clock_monotonic();
    assert_int_equal(pc_ucx_rdma_prove(&fabric), UCS_ERR_UNSUPPORTED);
    assert_true(pc_clock_monotonic() - began < 7 * PC_S);
    assert_non_null(fabric.get.context); /* All of it has ended. */
    ucp_cleanup(fabric.get.context);
}

int main(int argc, char **argv)
{
    (void)argc;
    /* UCX reads these before main, as the loader of the module knows. */
    if (getenv("UCX_MEM_EVENTS") == NULL) {
        setenv("UCX_MEM_EVENTS", "n", 1);
        setenv("UCX_ERROR_SIGNALS", "", 1);
        setenv("UCX_VFS_ENABLE", "n", 1);
        setenv("UCX_WARN_UNUSED_ENV_VARS", "n", 1);
        execv("/proc/self/exe", argv);
        return 1;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_version_gets_the_settings_that_it_needs),
        cmocka_unit_test(what_the_user_set_is_left_alone),
        cmocka_unit_test(gets_over_tcp_are_found_to_need_their_owner),
    };
    return cmocka_run_group_tests_name("ucx rdma", tests, NULL, NULL);
}
