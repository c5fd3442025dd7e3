/*
 * config_int.h - what the readers of settings (config_read.c: environment and
 * files) share with the configuration itself (config.c).
 */
#ifndef PC_NODE_CONFIG_INT_H
#define PC_NODE_CONFIG_INT_H

#include "config.h"

#include <stdbool.h>
#include <stddef.h>

/* Set one setting, or add a line to the error. `origin` is kept; `where` is
 * what errors begin with, "" for nothing. */
peercache_status_t pc_config_put(peercache_config_t *config, const char *name,
                                 const char *value, const char *origin,
                                 const char *where);

/* The environment holds a key, which this is to use. */
void pc_config_set_key_in_env(peercache_config_t *config, bool given);

void pc_config_clear_error(peercache_config_t *config);
/* One more line of errors. */
void pc_config_add_error(peercache_config_t *config, const char *where,
                         const char *text);

/* The text without surrounding blanks, in a buffer; false: too long. */
bool pc_config_trim(const char *text, char *out, size_t out_len);

#endif /* PC_NODE_CONFIG_INT_H */
