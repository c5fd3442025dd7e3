#include "config_int.h"

#include "settings.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define N_SETTINGS_MAX 128

/* What somebody gave for one setting. */
struct given
{
    char *value; /* NULL: the default. */
    char *origin;
    char *complaint; /* The last value given was refused, and why. */
};

struct peercache_config
{
    struct given given[N_SETTINGS_MAX]; /* By row of the table. */
    struct pc_text error;
    bool key_in_env;
};

peercache_status_t peercache_config_create(peercache_config_t **config_p)
{
    if (config_p == NULL) {
        return PEERCACHE_INVALID;
    }
    PC_ASSERT(pc_setting_at(N_SETTINGS_MAX) == NULL);
    peercache_config_t *config = pc_alloc(1, sizeof(*config));
    if (config == NULL) {
        return PEERCACHE_NO_MEMORY;
    }
    pc_text_init(&config->error);
    *config_p = config;
    return PEERCACHE_OK;
}

void peercache_config_destroy(peercache_config_t *config)
{
    if (config == NULL) {
        return;
    }
    for (size_t i = 0; i < N_SETTINGS_MAX; i++) {
        pc_free(config->given[i].value);
        pc_free(config->given[i].origin);
        pc_free(config->given[i].complaint);
    }
    pc_text_fini(&config->error);
    pc_free(config);
}

/* Replace value and origin of a row, or nothing. */
static bool give(struct given *given, const char *value, const char *origin)
{
    char *new_value = pc_strndup(value, strlen(value));
    char *new_origin = pc_strndup(origin, strlen(origin));
    if (new_value == NULL || new_origin == NULL) {
        pc_free(new_value);
        pc_free(new_origin);
        return false;
    }
    pc_free(given->value);
    pc_free(given->origin);
    given->value = new_value;
    given->origin = new_origin;
    pc_free(given->complaint);
    given->complaint = NULL;
    return true;
}

/* Keep why a value was refused: the check says it again. */
static bool complain(struct given *given, const char *text)
{
    char *complaint = pc_strndup(text, strlen(text));
    if (complaint == NULL) {
        return false;
    }
    pc_free(given->complaint);
    given->complaint = complaint;
    return true;
}

peercache_config_t *pc_config_clone(const peercache_config_t *config)
{
    peercache_config_t *clone;
    if (peercache_config_create(&clone) != PEERCACHE_OK) {
        return NULL;
    }
    for (size_t i = 0; i < N_SETTINGS_MAX; i++) {
        const struct given *given = &config->given[i];
        if ((given->value != NULL &&
             !give(&clone->given[i], given->value, given->origin)) ||
            (given->complaint != NULL &&
             !complain(&clone->given[i], given->complaint))) {
            peercache_config_destroy(clone);
            return NULL;
        }
    }
    clone->key_in_env = config->key_in_env;
    return clone;
}

void pc_config_set_key_in_env(peercache_config_t *config, bool given)
{
    config->key_in_env = given;
}

void pc_config_set_error(peercache_config_t *config, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    pc_text_clear(&config->error);
    pc_text_add(&config->error, "%s", text);
}

const char *peercache_config_error(const peercache_config_t *config)
{
    if (config == NULL || config->error.data == NULL) {
        return "";
    }
    return config->error.data;
}

void pc_config_clear_error(peercache_config_t *config)
{
    pc_text_clear(&config->error);
}

void pc_config_add_error(peercache_config_t *config, const char *where,
                         const char *text)
{
    pc_text_add(&config->error, "%s%s%s%s", config->error.len > 0 ? "\n" : "",
                where, *where != '\0' ? ": " : "", text);
}

static void add_unknown(peercache_config_t *config, const char *where,
                        const char *name)
{
    const char *nearest = pc_setting_nearest(name);
    char text[512];
    if (nearest != NULL) {
        (void)snprintf(text, sizeof(text),
                       "unknown setting \"%.100s\"; did you mean \"%s\"?", name,
                       nearest);
    } else {
        (void)snprintf(text, sizeof(text), "unknown setting \"%.100s\"", name);
    }
    pc_config_add_error(config, where, text);
}

/* INVALID, or NO_MEMORY if that cannot be remembered. */
static peercache_status_t refuse(peercache_config_t *config, const char *where,
                                 size_t row, const char *value)
{
    const peercache_setting_t *setting = &pc_setting_at(row)->public;
    char text[1024];
    (void)snprintf(text, sizeof(text),
                   "%.300s%s%s = \"%.300s\" is not allowed: %s, %s", where,
                   *where != '\0' ? ": " : "", setting->name, value,
                   setting->type, setting->range);
    pc_config_add_error(config, "", text);
    return complain(&config->given[row], text) ? PEERCACHE_INVALID
                                               : PEERCACHE_NO_MEMORY;
}

bool pc_config_trim(const char *text, char *out, size_t out_len)
{
    while (isspace((unsigned char)*text)) {
        text++;
    }
    size_t len = strlen(text);
    while (len > 0 && isspace((unsigned char)text[len - 1])) {
        len--;
    }
    if (len >= out_len) {
        return false;
    }
    memcpy(out, text, len);
    out[len] = '\0';
    return true;
}

peercache_status_t pc_config_put(peercache_config_t *config, const char *name,
                                 const char *value, const char *origin,
                                 const char *where)
{
    int row = pc_setting_find(name);
    if (row < 0) {
        add_unknown(config, where, name);
        return PEERCACHE_INVALID;
    }
    const struct pc_setting *setting = pc_setting_at((size_t)row);
    char text[PEERCACHE_STR_MAX];
    if (!pc_config_trim(value, text, sizeof(text))) {
        return refuse(config, where, (size_t)row, value);
    }
    if (!pc_setting_parse(setting, text, NULL)) {
        return refuse(config, where, (size_t)row, text);
    }
    if (!give(&config->given[row], text, origin)) {
        pc_config_add_error(config, where, "out of memory");
        return PEERCACHE_NO_MEMORY;
    }
    return PEERCACHE_OK;
}

peercache_status_t peercache_config_set(peercache_config_t *config,
                                        const char *name, const char *value)
{
    if (config == NULL) {
        return PEERCACHE_INVALID;
    }
    pc_text_clear(&config->error);
    if (name == NULL || value == NULL) {
        pc_config_add_error(config, "", "a setting needs a name and a value");
        return PEERCACHE_INVALID;
    }
    return pc_config_put(config, name, value, "code", "");
}

static const char *value_of(const peercache_config_t *config, size_t row)
{
    const char *given = config->given[row].value;
    return given != NULL ? given : pc_setting_at(row)->public.value;
}

const char *peercache_config_get(const peercache_config_t *config,
                                 const char *name)
{
    int row = config == NULL || name == NULL ? -1 : pc_setting_find(name);
    return row < 0 ? NULL : value_of(config, (size_t)row);
}

static const char *origin_of(const peercache_config_t *config, size_t row)
{
    const char *origin = config->given[row].origin;
    return origin != NULL ? origin : "default";
}

const char *pc_config_origin(const peercache_config_t *config, const char *name)
{
    int row = pc_setting_find(name);
    return row < 0 ? NULL : origin_of(config, (size_t)row);
}

/* A rule between settings was broken: name, value, and what is allowed. */
static void add_broken(peercache_config_t *config, const char *name,
                       const char *allowed)
{
    char text[1024];
    (void)snprintf(text, sizeof(text), "%s = \"%s\" is not allowed: %s", name,
                   peercache_config_get(config, name), allowed);
    pc_config_add_error(config, "", text);
}

/* A key or certificates, and one source of each. */
static void check_trust(peercache_config_t *config,
                        const struct pc_settings *settings)
{
    bool file = settings->cluster_key_file[0] != '\0';
    int n_tls = (settings->tls_cert[0] != '\0') +
                (settings->tls_key[0] != '\0') + (settings->tls_ca[0] != '\0');
    if (file && settings->cluster_key_in_env) {
        add_broken(config, "cluster_key_file",
                   "PEERCACHE_CLUSTER_KEY is in the environment, too; keep one "
                   "of them");
    }
    if (n_tls != 0 && n_tls != 3) {
        add_broken(config, "tls_cert",
                   "tls_cert, tls_key and tls_ca belong together");
    }
    if (n_tls != 0 && (file || settings->cluster_key_in_env)) {
        add_broken(config, "tls_cert",
                   "a cluster key is given, too (cluster_key_file or "
                   "PEERCACHE_CLUSTER_KEY); keep one of the two");
    }
}

/* What no setting can say alone. */
static void check_rules(peercache_config_t *config,
                        const struct pc_settings *settings)
{
    if (settings->member_ttl_ns / 2 < settings->heartbeat_interval_ns) {
        char text[128];
        (void)snprintf(text, sizeof(text),
                       "at least twice heartbeat_interval, %s",
                       peercache_config_get(config, "heartbeat_interval"));
        add_broken(config, "member_ttl", text);
    }
    check_trust(config, settings);
    if (settings->ucx_tcp[0] != '\0' && strcmp(settings->ucx_tcp, "lo") != 0 &&
        !settings->allow_insecure) {
        add_broken(config, "ucx_tcp",
                   "a device other than lo needs allow_insecure = true");
    }
    if (settings->role == PC_ROLE_WANTED_STORAGE &&
        (settings->mode == PC_MODE_P2P || settings->mode == PC_MODE_SLOTMAP)) {
        add_broken(config, "role",
                   "storage needs mode = hybrid or mode = centralized");
    }
    if (settings->evict_high < settings->evict_low) {
        add_broken(config, "evict_high", "at least evict_low");
    }
    if (settings->directory_read_cache_ttl_ns > 0 &&
        settings->location_cache == 0) {
        add_broken(config, "directory_read_cache_ttl",
                   "0, since location_cache is 0");
    }
}

/* Names that the original has, with nothing behind them here yet. */
static const char *const without_effect[] = {
    "data_replicas", "write_policy",         "rdma_bind_host",
    "rdma_port",     "meta_bind_host",       "metrics_bind_host",
    "metrics_port",  "max_channels_per_peer"};

/* Nobody shall believe in copies, or in an address, that are not there. */
static void warn_without_effect(const peercache_config_t *config)
{
    struct pc_text text;
    pc_text_init(&text);
    for (size_t i = 0; i < sizeof(without_effect) / sizeof(without_effect[0]);
         i++) {
        const char *name = without_effect[i];
        const char *value = peercache_config_get(config, name);
        size_t row = (size_t)pc_setting_find(name);
        if (strcmp(value, pc_setting_at(row)->public.value) != 0) {
            pc_text_add(&text, "%s%s = %s", text.len == 0 ? "" : ", ", name,
                        value);
        }
    }
    if (text.len > 0 && !text.failed) {
        PC_WARN("config", "without effect in this version: %s", text.data);
    }
    pc_text_fini(&text);
}

static void warn_rules(const peercache_config_t *config,
                       const struct pc_settings *settings)
{
    warn_without_effect(config);
    if (settings->mode == PC_MODE_SLOTMAP) {
        PC_WARN("config", "mode slotmap is run as p2p");
    }
    if (settings->mode == PC_MODE_HYBRID) {
        PC_WARN("config", "mode hybrid: in this version a put stays with the "
                          "node that makes it");
    }
}

/* All settings, or every reason why not. */
static peercache_status_t check(peercache_config_t *config,
                                struct pc_settings *settings)
{
    const struct pc_setting *setting;
    memset(settings, 0, sizeof(*settings));
    pc_text_clear(&config->error);
    for (size_t i = 0; (setting = pc_setting_at(i)) != NULL; i++) {
        if (config->given[i].complaint != NULL) {
            pc_config_add_error(config, "", config->given[i].complaint);
        }
        /* pc_config_put let only good values in, and defaults are good. */
        bool good = pc_setting_parse(setting, value_of(config, i), settings);
        PC_ASSERT(good);
        (void)good;
    }
    settings->cluster_key_in_env = config->key_in_env;
    check_rules(config, settings);
    return config->error.len > 0 ? PEERCACHE_INVALID : PEERCACHE_OK;
}

peercache_status_t peercache_config_check(peercache_config_t *config)
{
    struct pc_settings settings;
    return config == NULL ? PEERCACHE_INVALID : check(config, &settings);
}

peercache_status_t pc_config_resolve(peercache_config_t *config,
                                     struct pc_settings *out)
{
    struct pc_settings settings;
    peercache_status_t status = check(config, &settings);
    if (status != PEERCACHE_OK) {
        return status;
    }
    warn_rules(config, &settings);
    if (settings.mode == PC_MODE_SLOTMAP) {
        settings.mode = PC_MODE_P2P;
    }
    *out = settings;
    return PEERCACHE_OK;
}

void pc_config_json(const peercache_config_t *config, struct pc_text *text)
{
    const struct pc_setting *setting;
    pc_text_add(text, "{");
    for (size_t i = 0; (setting = pc_setting_at(i)) != NULL; i++) {
        const char *value = value_of(config, i);
        const char *origin = origin_of(config, i);
        pc_text_add(text, "%s\"%s\":{\"value\":", i > 0 ? "," : "",
                    setting->public.name);
        pc_text_add_json(text, value, strlen(value));
        pc_text_add(text, ",\"origin\":");
        pc_text_add_json(text, origin, strlen(origin));
        pc_text_add(text, "}");
    }
    pc_text_add(text, "}");
}
