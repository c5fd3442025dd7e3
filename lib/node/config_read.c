#include "config_int.h"

#include "settings.h"

#include "base/log.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_LEN 1024

/* What PEERCACHE_RDMA_OP_TIMEOUT_MS can raise op_timeout to. */
#define OP_TIMEOUT_ENV_MAX_MS 5000

/* Remember the first failure, go on with the rest. */
static void note(peercache_status_t *result, peercache_status_t status)
{
    if (*result == PEERCACHE_OK) {
        *result = status;
    }
}

/* The original's variable; what is more than 5 s counts as 5 s. */
static peercache_status_t set_op_timeout_ms(peercache_config_t *config)
{
    static const char variable[] = "PEERCACHE_RDMA_OP_TIMEOUT_MS";
    const char *value = getenv(variable);
    int64_t ms;
    char text[512];
    if (value == NULL) {
        return PEERCACHE_OK;
    }
    if (!pc_parse_int(value, &ms) || ms < 1) {
        (void)snprintf(text, sizeof(text),
                       "%s = \"%.300s\" is not allowed: milliseconds, 1 to %d",
                       variable, value, OP_TIMEOUT_ENV_MAX_MS);
        pc_config_add_error(config, "environment", text);
        return PEERCACHE_INVALID;
    }
    if (ms > OP_TIMEOUT_ENV_MAX_MS) {
        PC_WARN("config", "%s is %lld, %d is used", variable, (long long)ms,
                OP_TIMEOUT_ENV_MAX_MS);
        ms = OP_TIMEOUT_ENV_MAX_MS;
    }
    (void)snprintf(text, sizeof(text), "%dms", (int)ms);
    return pc_config_put(config, "op_timeout", text, "environment", variable);
}

/* Not settings, but ours. */
static bool is_known_otherwise(const char *name)
{
    return strcmp(name, "cluster_key") == 0 ||
           strcmp(name, "tls_module") == 0 || strcmp(name, "ucx_module") == 0;
}

/* A variable that is like a setting's is probably a slip of the pen. Only a
 * warning: the environment is not ours alone. */
static void warn_unknown_variables(void)
{
    static const char prefix[] = "PEERCACHE_";
    for (char **at = environ; at != NULL && *at != NULL; at++) {
        char name[64];
        size_t len = strcspn(*at, "=");
        if (strncmp(*at, prefix, strlen(prefix)) != 0 || len >= sizeof(name)) {
            continue;
        }
        len -= strlen(prefix);
        for (size_t i = 0; i < len; i++) {
            name[i] = (char)tolower((unsigned char)(*at)[strlen(prefix) + i]);
        }
        name[len] = '\0';
        const char *nearest = pc_setting_nearest(name);
        if (pc_setting_find(name) < 0 && nearest != NULL &&
            !is_known_otherwise(name)) {
            PC_WARN("config",
                    "the environment has %.*s, which is no setting; there is "
                    "a setting %s",
                    (int)(len + strlen(prefix)), *at, nearest);
        }
    }
}

peercache_status_t peercache_config_from_env(peercache_config_t *config)
{
    if (config == NULL) {
        return PEERCACHE_INVALID;
    }
    pc_config_clear_error(config);
    peercache_status_t result = PEERCACHE_OK;
    const struct pc_setting *setting;
    for (size_t i = 0; (setting = pc_setting_at(i)) != NULL; i++) {
        char variable[64];
        (void)snprintf(variable, sizeof(variable), "PEERCACHE_%s",
                       setting->public.name);
        for (char *c = variable; *c != '\0'; c++) {
            *c = (char)toupper((unsigned char)*c);
        }
        const char *value = getenv(variable);
        if (value != NULL) {
            note(&result, pc_config_put(config, setting->public.name, value,
                                        "environment", variable));
        }
    }
    pc_config_set_key_in_env(config, getenv("PEERCACHE_CLUSTER_KEY") != NULL);
    note(&result, set_op_timeout_ms(config));
    warn_unknown_variables();
    return result;
}

/* A # begins a comment where a word could begin; "a#b" is a value. */
static void cut_comment(char *line)
{
    for (char *at = line; *at != '\0'; at++) {
        if (*at == '#' && (at == line || isspace((unsigned char)at[-1]))) {
            *at = '\0';
            return;
        }
    }
}

/* One line of a file: blank, a comment, or "name = value". */
static peercache_status_t set_line(peercache_config_t *config, char *line,
                                   const char *path, unsigned number)
{
    char where[PEERCACHE_STR_MAX + 32];
    char origin[PEERCACHE_STR_MAX + 32];
    char name[LINE_MAX_LEN];
    (void)snprintf(where, sizeof(where), "%.255s:%u", path, number);
    (void)snprintf(origin, sizeof(origin), "file %.255s:%u", path, number);
    cut_comment(line);
    if (line[strspn(line, " \t\r\n")] == '\0') {
        return PEERCACHE_OK;
    }
    char *equals = strchr(line, '=');
    if (equals == NULL) {
        pc_config_add_error(config, where, "not a line \"name = value\"");
        return PEERCACHE_INVALID;
    }
    *equals = '\0';
    if (!pc_config_trim(line, name, sizeof(name)) || *name == '\0') {
        pc_config_add_error(config, where, "no name before \"=\"");
        return PEERCACHE_INVALID;
    }
    return pc_config_put(config, name, equals + 1, origin, where);
}

peercache_status_t peercache_config_load(peercache_config_t *config,
                                         const char *path)
{
    if (config == NULL || path == NULL) {
        return PEERCACHE_INVALID;
    }
    pc_config_clear_error(config);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        pc_config_set_error(config, "%s: %s", path, strerror(errno));
        return PEERCACHE_IO;
    }
    peercache_status_t result = PEERCACHE_OK;
    char line[LINE_MAX_LEN];
    for (unsigned number = 1; fgets(line, sizeof(line), file); number++) {
        if (strchr(line, '\n') == NULL && !feof(file)) {
            char where[PEERCACHE_STR_MAX + 32];
            (void)snprintf(where, sizeof(where), "%.255s:%u", path, number);
            pc_config_add_error(config, where, "line is too long");
            note(&result, PEERCACHE_INVALID);
            break;
        }
        note(&result, set_line(config, line, path, number));
    }
    if (ferror(file)) {
        pc_config_add_error(config, path, "cannot be read");
        note(&result, PEERCACHE_IO);
    }
    (void)fclose(file);
    return result;
}
