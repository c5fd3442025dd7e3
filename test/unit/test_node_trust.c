/* Keys and certificates on their way from files and the environment. */
#include "test.h"

#include "base/mem.h"
#include "node/trust.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ONE "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"
#define TWO "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100"

static char folder[64];
static char path[128];

static int setup(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof(folder), "/tmp/peercache-trust-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        return -1;
    }
    (void)snprintf(path, sizeof(path), "%s/key", folder);
    return unsetenv(PC_KEY_ENV);
}

static int teardown(void **state)
{
    (void)state;
    (void)unlink(path);
    (void)rmdir(folder);
    return pc_mem_outstanding() == 0 ? 0 : -1;
}

static void write_key(const char *text, mode_t mode)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static struct pc_settings with_file(void)
{
    struct pc_settings settings = {.encrypt = true};
    (void)snprintf(settings.cluster_key_file, sizeof(settings.cluster_key_file),
                   "%s", path);
    (void)snprintf(settings.cluster_name, sizeof(settings.cluster_name),
                   "peercache");
    return settings;
}

static bool key_is(const struct pc_blob *key, const char *text)
{
    return key->len == strlen(text) && memcmp(key->data, text, key->len) == 0;
}

static void refused(const struct pc_settings *settings, const char *why)
{
    struct pc_trust trust;
    assert_int_equal(pc_trust_load(settings, &trust), PEERCACHE_INVALID);
    assert_false(trust.given);
    if (strstr(trust.reason, why) == NULL) {
        fail_msg("\"%s\" is not in \"%s\"", why, trust.reason);
    }
    assert_null(strstr(trust.reason, ONE));
}

static void without_settings_there_is_no_trust(void **state)
{
    struct pc_trust trust;
    struct pc_settings settings = {.encrypt = true};
    (void)state;
    assert_int_equal(pc_trust_load(&settings, &trust), PEERCACHE_OK);
    assert_false(trust.given);
}

static void a_file_with_one_key_is_read(void **state)
{
    struct pc_trust trust;
    struct pc_settings settings = with_file();
    (void)state;
    write_key("# the cluster's key, of last week\n\n  " ONE "  \r\n", 0600);
    assert_int_equal(pc_trust_load(&settings, &trust), PEERCACHE_OK);
    assert_true(trust.given);
    assert_int_equal(trust.tls.n_keys, 1);
    assert_true(key_is(&trust.tls.keys[0], ONE));
    pc_trust_wipe(&trust);
}

static void two_keys_are_read_in_their_order(void **state)
{
    struct pc_trust trust;
    struct pc_settings settings = with_file();
    (void)state;
    write_key(TWO "\n" ONE "\n", 0400);
    assert_int_equal(pc_trust_load(&settings, &trust), PEERCACHE_OK);
    assert_int_equal(trust.tls.n_keys, 2);
    assert_true(key_is(&trust.tls.keys[0], TWO));
    assert_true(key_is(&trust.tls.keys[1], ONE));
    pc_trust_wipe(&trust);
}

static void a_key_comes_from_the_environment_too(void **state)
{
    struct pc_trust trust;
    struct pc_settings settings = {.encrypt = true, .cluster_key_in_env = true};
    (void)state;
    assert_int_equal(setenv(PC_KEY_ENV, ONE "," TWO, 1), 0);
    assert_int_equal(pc_trust_load(&settings, &trust), PEERCACHE_OK);
    assert_int_equal(trust.tls.n_keys, 2);
    assert_true(key_is(&trust.tls.keys[0], ONE));
    pc_trust_wipe(&trust);
    assert_int_equal(setenv(PC_KEY_ENV, "short", 1), 0);
    refused(&settings, PC_KEY_ENV);
}

static void keys_that_anybody_could_read_are_refused(void **state)
{
    static const mode_t modes[] = {0640, 0604, 0660, 0666, 0644, 0610, 0601};
    struct pc_settings settings = with_file();
    (void)state;
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        write_key(ONE "\n", modes[i]);
        refused(&settings, "others than its owner");
        refused(&settings, path);
    }
}

static void a_key_of_another_user_is_refused(void **state)
{
    struct pc_settings settings = with_file();
    (void)state;
    if (geteuid() != 0) {
        skip();
    }
    write_key(ONE "\n", 0600);
    assert_int_equal(chown(path, 12345, 12345), 0);
    refused(&settings, "another user");
}

static void what_is_no_file_is_refused_at_once(void **state)
{
    struct pc_settings settings = with_file();
    (void)state;
    refused(&settings, "No such file");
    /* Nobody writes to it: opening must not wait. */
    assert_int_equal(mkfifo(path, 0600), 0);
    refused(&settings, "not a regular file");
    (void)unlink(path);
    (void)snprintf(settings.cluster_key_file, sizeof(settings.cluster_key_file),
                   "%s", folder);
    refused(&settings, "not a regular file");
}

static void keys_that_are_none_are_refused(void **state)
{
    static char many[20000];
    struct pc_settings settings = with_file();
    (void)state;
    write_key("", 0600);
    refused(&settings, "empty");
    write_key("# only a comment\n", 0600);
    refused(&settings, "no key");
    write_key("hunter2\n", 0600);
    refused(&settings, "32 to 1,024");
    write_key("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n", 0600);
    refused(&settings, "random");
    write_key(ONE "\n" TWO "\n" TWO "\n", 0600);
    refused(&settings, "more than two");
    write_key(ONE "\x01\n", 0600);
    refused(&settings, "printable");
    memset(many, 'x', sizeof(many) - 1);
    write_key(many, 0600);
    refused(&settings, "too large");
}

static void certificates_need_their_files(void **state)
{
    struct pc_trust trust;
    struct pc_settings settings = {.encrypt = true};
    (void)state;
    write_key("text", 0600);
    (void)snprintf(settings.tls_cert, sizeof(settings.tls_cert), "%s", path);
    (void)snprintf(settings.tls_key, sizeof(settings.tls_key), "%s", path);
    (void)snprintf(settings.tls_ca, sizeof(settings.tls_ca), "%s/no", folder);
    refused(&settings, "tls_ca");
    (void)snprintf(settings.tls_ca, sizeof(settings.tls_ca), "%s", path);
    assert_int_equal(pc_trust_load(&settings, &trust), PEERCACHE_OK);
    assert_int_equal(trust.tls.n_keys, 0);
    assert_true(key_is(&trust.tls.cert, "text"));
    pc_trust_wipe(&trust);
    /* The certificate may be read by all, its key may not. */
    write_key("text", 0644);
    refused(&settings, "tls_key");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(without_settings_there_is_no_trust,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_with_one_key_is_read, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(two_keys_are_read_in_their_order, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_key_comes_from_the_environment_too,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            keys_that_anybody_could_read_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_key_of_another_user_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_no_file_is_refused_at_once,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(keys_that_are_none_are_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(certificates_need_their_files, setup,
                                        teardown),
    };
    return cmocka_run_group_tests_name("trust", tests, NULL, NULL);
}
